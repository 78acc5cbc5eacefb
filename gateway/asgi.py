"""Additions to ASGI: sending without a task, one frame for many clients, headers by name, whether a path was UTF-8,
whether a body has been received already, a whole answer in one call, one answer for many requests, an answer without a
task, a request that waits without a task, and a message received twice.

ASGI's `send` is a coroutine: sending the same message to a thousand clients would take a task and a turn of the loop
for each. `send` nearly always ends without suspending, except when a client is slow. So a coroutine is run immediately
until it suspends, and only the rest of it, if any, is awaited.
"""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Coroutine, Generator, Sequence
from struct import pack
from types import CoroutineType
from typing import Any, Generic, NoReturn, TypeVar
from urllib.parse import unquote_to_bytes

from starlette.types import ASGIApp, Message, Receive, Scope, Send

T = TypeVar("T")

BODY_IS_HERE = "gateway.body_is_here"
"""The scope key that marks a request whose whole body was received before the application was called."""


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

    def start(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """Run a part of the application in a task of the request, which the server treats as the application itself."""
        raise NotImplementedError

    def write_chunk(self, chunk: bytes) -> bool:
        """Send a part of a chunked answer that has begun, as `chunk` encodes it; False: nothing was sent, and `send`
        must be used."""
        return False

    def outlet(self) -> "Outlet | None":
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


NAMED_HEADERS = "gateway.headers"
"""The scope key of the cached headers by name, set on first use. Do not keep them while a request waits."""


def named_headers(scope: Scope) -> dict[bytes, bytes]:
    """Return the headers of a request by lower-case name; lines of the same name are joined by commas."""
    named: dict[bytes, bytes] | None = scope.get(NAMED_HEADERS)
    if named is None:
        lines: list[tuple[bytes, bytes]] = scope["headers"]
        named = dict(lines)
        if len(named) != len(lines):
            named.clear()
            for name, line in lines:
                named[name] = named[name] + b", " + line if name in named else line
        scope[NAMED_HEADERS] = named
    return named


FRAMES = "yjs-gateway.frames"
"""An ASGI extension of the gateway's WebSocket protocol: `{"write": WriteFrame, "outlet": Outlet}`. A message to a room
is encoded as one frame for all clients, and is sent without a coroutine per client."""

WriteFrame = Callable[[bytes], bool]
"""Writes a whole frame at once; False: nothing was written, as the client is not reading or has disconnected."""


class Outlet:
    """The way to the socket of a WebSocket for whole frames, or of a stream for whole chunks, past the transport.

    Writing to a thousand clients takes half the time then, since nothing else of each has to come into the processor's
    cache.

    The way is open only while nothing is buffered for the client, so that no frame overtakes another. The server closes
    it when the client does not take all that it is sent, and the room when it queues other messages for the client.

    Args:
        finish: sends the rest of a frame that was written in part.
        is_empty: whether nothing is buffered for the client.
        socket: the number of the socket; -1: there is no way past the transport.
    """

    __slots__ = ("_is_empty", "_socket", "fd", "finish")

    def __init__(self, finish: Callable[[bytes], None], is_empty: Callable[[], bool], socket: int) -> None:
        self.fd = -1
        """The number of the socket while the way is open, else -1."""
        self.finish = finish
        self._is_empty = is_empty
        self._socket = socket

    def write(self, frame: bytes) -> bool:
        """Write a frame; False: nothing was written."""
        if self.fd < 0:
            return False
        try:
            sent = os.write(self.fd, frame)
        except OSError:  # the client is not reading, or has left: the transport will notice as well
            sent = 0
        if sent == len(frame):
            return True
        self.fd = -1
        if sent:
            self.finish(frame[sent:])
        return sent > 0

    def open(self) -> None:
        """Open the way if nothing is buffered."""
        if self._socket >= 0 and self._is_empty():
            self.fd = self._socket

    def close(self) -> None:
        """Close the way until it is opened again."""
        self.fd = -1

    def end(self) -> None:
        """Close the way for good: the number of the socket may soon be that of another one."""
        self.fd = self._socket = -1


def write_to_all(outlets: dict[Outlet, T], frame: bytes) -> list[T]:
    """Write a frame to all outlets that are open; return what belongs to the others, which have not got it."""
    write, size = os.write, len(frame)
    others: list[T] = []
    for outlet in outlets:
        if outlet.fd >= 0:
            try:  # as `Outlet.write`, without a call for each
                sent = write(outlet.fd, frame)
            except OSError:
                sent = 0
            if sent == size:
                continue
            outlet.fd = -1
            if sent:
                outlet.finish(frame[sent:])
                continue
        others.append(outlets[outlet])
    return others


_FINAL_TEXT, _FINAL_BINARY = 0x81, 0x82


def frame_writer(scope: Scope) -> WriteFrame | None:
    """Return the frame writer of a WebSocket; None under another server, where `send` must be used."""
    offered = (scope.get("extensions") or {}).get(FRAMES)
    return None if offered is None else offered["write"]


def outlet_of(scope: Scope) -> Outlet | None:
    """Return the outlet of a WebSocket; None under another server."""
    offered = (scope.get("extensions") or {}).get(FRAMES)
    return None if offered is None else offered["outlet"]


def binary_frame(message: bytes) -> bytes:
    """Return a server's frame of a binary message (RFC 6455 §5.2): unmasked, without extensions."""
    return _frame(_FINAL_BINARY, message)


def text_frame(message: str) -> bytes:
    """Return a server's frame of a text message."""
    return _frame(_FINAL_TEXT, message.encode())


def _frame(kind: int, data: bytes) -> bytes:
    length = len(data)
    if length < 126:
        return bytes((kind, length)) + data
    if length < 2**16:
        return pack("!BBH", kind, 126, length) + data
    return pack("!BBQ", kind, 127, length) + data


class Replay:
    """An ASGI `receive` that first replays a message that was already received."""

    __slots__ = ("_message", "_receive")

    def __init__(self, message: Message, receive: Receive) -> None:
        self._message: Message | None = message
        self._receive = receive

    async def __call__(self) -> Message:
        message, self._message = self._message, None
        return message if message is not None else await self._receive()


def run_at_once(work: Awaitable[None]) -> Awaitable[None] | None:
    """Run a coroutine in the running loop until it suspends.

    Returns None if the coroutine has ended; else an awaitable that runs the rest of it or raises its exception.
    """
    coroutine = work if isinstance(work, CoroutineType) else _awaited(work)
    if sys.version_info >= (3, 12):
        task = asyncio.Task(coroutine, loop=asyncio.get_running_loop(), eager_start=True)
        return None if task.done() and not task.cancelled() and task.exception() is None else task
    try:
        waits_for = coroutine.send(None)
    except StopIteration:
        return None
    except Exception as error:
        return _Failed(error)
    return Rest(coroutine, waits_for)


async def _awaited(work: Awaitable[None]) -> None:
    await work


class _Failed:
    """Raises an exception when it is awaited."""

    __slots__ = ("_error",)

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __await__(self) -> NoReturn:
        raise self._error


class Rest(Generic[T]):
    """The rest of a suspended coroutine.

    Args:
        work: the coroutine, or the iterator of an awaitable.
        waits_for: the value that it yielded last.
    """

    __slots__ = ("_waits_for", "_work")

    def __init__(self, work: Coroutine[Any, Any, T] | Generator[Any, Any, T], waits_for: Any) -> None:
        self._work = work
        self._waits_for = waits_for

    def __await__(self) -> Generator[Any, Any, T]:
        waits_for = self._waits_for
        while True:
            try:
                try:
                    came = yield waits_for
                except BaseException as error:
                    waits_for = self._work.throw(error)
                else:
                    waits_for = self._work.send(came)
            except StopIteration as end:
                result: T = end.value
                return result


def encoding_fault(scope: Scope, path: str) -> str | None:
    """Return the fault of a path that is not UTF-8. The server decodes invalid bytes to U+FFFD, which is also allowed
    in a path itself, so the raw path decides."""
    if "\ufffd" not in path:
        return None
    try:
        unquote_to_bytes(scope.get("raw_path", b"")).decode()
    except UnicodeDecodeError:
        return "it is not UTF-8"
    return None
