"""Answers in one call: a whole one, one without a coroutine or a task, one for many requests, and requests that wait
without a task."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.asgi.outlets import Outlet

BODY_IS_HERE = "gateway.body_is_here"
"""The scope key of the body of a request that was received as a whole before the application was called; empty once it
was read."""
UNSENT = "gateway.unsent"
"""The scope key of how many bytes of its answer an application holds while it waits to send them: what a client does
not read takes memory there, too."""


class PreparedAnswer:
    """A whole answer that many requests get, with its `Content-Length`."""

    __slots__ = ("body", "headers", "lines", "status")

    def __init__(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.lines = encode_headers(headers)
        self.body = body


class DirectAnswers:
    """A server's side of a request that can send without a coroutine. Its method `send` is the ASGI `send`, and its
    method `receive` the ASGI `receive`."""

    __slots__ = ()

    def answer(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> bool:
        """Send a whole answer at once; False: nothing was sent, and `send` must be used."""
        return False

    def answer_encoded(self, status: int, lines: bytes, body: bytes) -> bool:
        """Send a whole answer at once; False: nothing was sent, and `send` must be used.

        Args:
            lines: the headers as `encode_headers` encodes them.
        """
        return False

    def answer_prepared(self, answer: PreparedAnswer) -> bool:
        """Send a whole answer at once, as `answer_encoded` does."""
        return self.answer_encoded(answer.status, answer.lines, answer.body)

    def hold(self, ended: Callable[[], None]) -> bool:
        """Let the application return before it has answered: a request that waits needs no task then.

        Args:
            ended: called once, when the answer is complete or the client has disconnected. It must not block.

        Returns:
            False: the body has not been received completely, the answer is complete, the client has disconnected, or
                the server cannot do this.
        """
        return False

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a part of the application in a task of the request, which the server treats as the application itself."""
        raise NotImplementedError

    def write_chunk(self, chunk: bytes) -> bool:
        """Send a part of a chunked answer that has begun, as `chunk` encodes it; False: nothing was sent, and `send`
        must be used."""
        return False

    def outlet(self) -> Outlet | None:
        """Return the outlet for the parts of a chunked answer that has begun; None: there is none."""
        return None

    def call(self, app: ASGIApp) -> None:
        """Run an application for the request, in a task. For a request that was taken on without one."""
        raise NotImplementedError


def chunk(part: bytes) -> bytes:
    """Return a part of an answer as it is sent in a chunked one (RFC 9112 §7.1); the part must not be empty."""
    return b"%x\r\n%b\r\n" % (len(part), part)


def encode_headers(headers: Sequence[tuple[bytes, bytes]]) -> bytes:
    """Return headers as they are sent, for answers that are sent many times.

    Raises:
        RuntimeError: a header has a line break in it.
    """
    lines = b"".join([b"%b: %b\r\n" % header for header in headers])
    if not lines.count(b"\r") == lines.count(b"\n") == len(headers) or b"\0" in lines:
        raise RuntimeError("a header has a line break in it")
    return lines


def server_of(send: Send) -> DirectAnswers | None:
    """Return the server's side of a request; None under another server, or if a middleware has wrapped `send`."""
    server = getattr(send, "__self__", None)
    return server if isinstance(server, DirectAnswers) else None


def holder_of(receive: Receive, send: Send) -> DirectAnswers | None:
    """Return the server's side of a request that the server can hold; None if a middleware has wrapped `receive` or
    `send`, since the request must not end for the middleware before the answer is complete."""
    server = server_of(send)
    return server if server is not None and getattr(receive, "__self__", None) is server else None


AnswerDirectly = Callable[[Scope, bytes, DirectAnswers], bool]
"""Answers a request whose whole body has been received, without a coroutine or a task: a poll that can be answered from
memory costs less than a task does, and so does a write until it is durable. True: the request is answered, or it was
taken on and will be, by `DirectAnswers.answer_encoded` or `call`. False: nothing was sent or counted, and the
application must be called.

An application that can do this has it as its method `answer_directly`. A middleware that has none stands between the
server and the applications behind it: its requests are all answered by calling it."""


def directly(app: ASGIApp) -> AnswerDirectly:
    """Return how an application answers directly; if it cannot, a function that never does."""
    answer: AnswerDirectly = getattr(app, "answer_directly", _never)
    return answer


def _never(scope: Scope, body: bytes, server: DirectAnswers) -> bool:
    return False


async def send_whole(send: Send, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    """Send a whole answer: in one call if the server offers that and no middleware has wrapped its `send`."""
    server = server_of(send)
    if server is not None and server.answer(status, headers, body):
        return
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
