"""The exchange of one HTTP request and its answer: implements ASGI's `receive` and `send`."""

import asyncio
from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Any, Protocol, cast

import structlog
from starlette.types import ASGIApp, Message, Scope

from gateway.asgi.answers import BODY_IS_HERE, UNSENT, AnswerDirectly, DirectAnswers, chunk, encode_headers
from gateway.asgi.outlets import PART_BYTES, Outlet
from gateway.pace import next_slice
from gateway.wire.problems import Problem, ShuttingDown

_log = structlog.get_logger("gateway.http")

BODY_HELD = 64 * 2**10
"""How many bytes of a body may wait for the application before reading from the socket pauses."""
_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}
_WITHOUT_BODY = (204, 304)
_READING = ("GET", "HEAD")
_OF_THE_CONNECTION = frozenset((b"connection", b"transfer-encoding"))
"""Headers that only the exchange itself writes."""


class _EncodedHeaders:
    """The headers that were encoded last: those of the server are one list for a second, then another one."""

    def __init__(self) -> None:
        self._headers: list[tuple[bytes, bytes]] = []
        self._lines = b""

    def __call__(self, headers: list[tuple[bytes, bytes]]) -> bytes:
        if headers is not self._headers:
            self._headers, self._lines = headers, encode_headers(headers)
        return self._lines


_encoded = _EncodedHeaders()


class Wire(Protocol):
    """What an exchange needs of its connection."""

    @property
    def default_headers(self) -> list[tuple[bytes, bytes]]:
        """The headers that the server adds to every answer, such as the date: a list that is never changed."""

    def write(self, data: bytes) -> None:
        """Send bytes, buffering what the client does not accept yet."""

    def outlet(self) -> Outlet:
        """Make an outlet for what `write` takes. From now on `Exchange.note_buffered` is called if something is
        buffered."""

    def writable(self) -> asyncio.Future[None] | None:
        """Return what to await before writing more; None if writing is possible now."""

    def run(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """Run a task, for which the server waits when it stops."""

    def wants_body(self) -> None:
        """The application has consumed what was received of the body."""

    def answered(self) -> None:
        """The answer has been sent completely."""

    def failed(self, problem: Problem, *, begun: bool) -> None:
        """The application failed: there will be no answer or, if `begun`, the answer will not be completed.

        Args:
            problem: what to answer, unless the answer has begun.
        """


class Exchange(DirectAnswers):
    """One request and its answer."""

    __slots__ = (
        "_answered",
        "_arrived",
        "_attended",
        "_chunked",
        "_ended",
        "_expects_continue",
        "_head",
        "_in_hand",
        "_left",
        "_outlet",
        "_scope",
        "_waiter",
        "_wire",
        "answered_bytes",
        "body",
        "complete",
        "keep_alive",
        "left",
        "more_body",
        "started",
    )

    def __init__(self, wire: Wire, scope: Scope, *, keep_alive: bool, expects_continue: bool) -> None:
        self._wire = wire
        self._scope = scope
        self._in_hand = 0
        """How many bytes are left of a part of the answer that is long."""
        self._expects_continue = expects_continue
        self.keep_alive = keep_alive
        """Whether the connection stays open for another request."""
        self.body = bytearray()
        """The received part of the body that the application has not consumed yet."""
        self.more_body = True
        """Whether the end of the body has not arrived yet."""
        self._arrived = False
        """Whether something arrived that the application has not received yet."""
        self._waiter: asyncio.Future[None] | None = None
        self._ended: Callable[[], None] | None = None
        """Called at the end of a request that the application has returned from, to answer later."""
        self._attended = False
        """Whether a task was started for the request."""
        self._answered: asyncio.Future[None] | None = None
        """What waits for the answer of a request that is answered without a task."""
        self.left = False
        """Whether the client has disconnected."""
        self.started = False
        """Whether the application has begun to answer."""
        self._head: bytes | None = None
        """The head of the answer, held until the first part of the body."""
        self._chunked = False
        self._left: int | None = None
        """How many bytes of the answer are missing; None if it has no Content-Length."""
        self._outlet: Outlet | None = None
        self.complete = False
        """Whether the answer has been sent completely."""
        self.answered_bytes = 0
        """The size of the last part of the answer, once it is complete."""

    # Called by the connection

    def feed(self, data: bytes) -> None:
        """Receive a part of the body."""
        self.body += data
        self._tell()

    def finish(self) -> None:
        """The body is complete."""
        self.more_body = False
        self._tell()

    @property
    def unsent(self) -> int:
        """How many bytes of the answer the application holds and has not sent yet."""
        return self._in_hand + cast(int, self._scope.get(UNSENT, 0))

    @property
    def method(self) -> str:
        """The method of the request."""
        return cast(str, self._scope["method"])

    def leave(self) -> None:
        """The client has disconnected, or must not be answered."""
        self.left = True
        self.close_outlet()
        self._tell()
        self._end()

    def attend(self) -> None:
        """Have a task wait for the answer if the request has none: a server that stops cancels the tasks that do not
        end in time, and their requests are answered then."""
        if not (self._attended or self.more_body or self.complete or self.left) and self._ended is None:
            self.start(self._await_answer())

    async def _await_answer(self) -> None:
        self._answered = asyncio.get_running_loop().create_future()
        if not (self.complete or self.left):
            await self._answered

    def note_buffered(self) -> None:
        """The client has not taken all that was sent."""
        if self._outlet is not None:
            self._outlet.close()

    def close_outlet(self) -> None:
        """Write nothing more past the transport."""
        if self._outlet is not None:
            self._outlet.end()

    def _tell(self) -> None:
        self._arrived = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _end(self) -> None:
        ended, self._ended = self._ended, None
        if ended is not None:
            ended()
        if self._answered is not None and not self._answered.done():
            self._answered.set_result(None)

    # Called by the application

    def run_directly(self, answer: AnswerDirectly) -> bool:
        """Have the application answer at once a request whose body is complete; False: it must be run."""
        try:
            return answer(self._scope, bytes(self.body), self)
        except Exception as error:
            self._note(error)
            self._fail()
            return True

    def call(self, app: ASGIApp) -> None:
        """See `DirectAnswers.call`."""
        self._attended = True
        self._wire.run(self.run(app))

    async def run(self, app: ASGIApp) -> None:
        """Run the application. If it fails, the connection is closed."""
        if not self.more_body:
            self._scope[BODY_IS_HERE] = self.body
        try:
            await app(self._scope, self.receive, self.send)
            if not self.complete and not self.left and self._ended is None:
                raise RuntimeError("the application returned before its answer was complete")
        except asyncio.CancelledError:
            self._stop()
            raise
        except Exception as error:
            self._note(error)
            self._fail()

    def hold(self, ended: Callable[[], None]) -> bool:
        """See `DirectAnswers.hold`."""
        if self.complete or self.left or self.more_body:
            return False
        if self.body:  # nobody will receive it
            self.body.clear()
            self._wire.wants_body()
        self._ended = ended
        return True

    def start(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """See `DirectAnswers.start`."""
        self._attended = True
        return self._wire.run(self._guard(work))

    async def _guard(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except asyncio.CancelledError:
            self._stop()
            raise
        except Exception as error:
            self._note(error)
            self._fail()

    def _stop(self) -> None:
        """End a request for which there is no time any more, as the server stops."""
        self._fail(ShuttingDown(certain=None if self.method in _READING else False))

    def _note(self, error: Exception) -> None:
        if not self.left:
            _log.error("no answer", method=self._scope["method"], path=self._scope["path"], exc_info=error)

    def _fail(self, problem: Problem | None = None) -> None:
        if not self.complete and not self.left:
            self.leave()
            problem = problem or Problem("the failure was logged; please report it")
            self._wire.failed(problem, begun=self.started and self._head is None)

    async def receive(self) -> Message:
        """ASGI: the next part of the body; then `http.disconnect` once the client leaves or the answer is complete."""
        if self._expects_continue:
            self._expects_continue = False
            if self.more_body and not self.started:
                self._wire.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if not (self._arrived or self.left or self.complete):
            self._wire.wants_body()
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        if self.left or self.complete:
            return {"type": "http.disconnect"}
        self._arrived = False
        body = bytes(self.body)
        if body:
            self.body.clear()  # the scope may have it
            if len(body) > BODY_HELD:  # reading is paused, and would stay so if this was the end of the body
                self._wire.wants_body()
        return {"type": "http.request", "body": body, "more_body": self.more_body}

    async def send(self, message: Message) -> None:
        """ASGI: the head of the answer, which is sent with the first part of the body, or a part of the body."""
        await self._until_writable()
        if self.left:
            return
        if message["type"] == "http.response.start" and not self.started:
            self.started = True
            self._begin(message["status"], message.get("headers", []))
        elif message["type"] == "http.response.body" and self.started and not self.complete:
            body, more = message.get("body", b""), message.get("more_body", False)
            if len(body) > PART_BYTES:
                body = await self._send_first_parts(body, more=more)
            if not self.left:
                self._continue(body, more=more)
        else:
            raise RuntimeError(f"{message['type']!r} is not expected here")

    async def _until_writable(self) -> None:
        while not self.left and (writable := self._wire.writable()) is not None:
            await writable

    async def _send_first_parts(self, body: bytes, *, more: bool) -> bytes:
        """Send a long part of the answer but for the last bytes, which are returned: the kernel copies each part while
        everybody else waits. If the task is cancelled, the rest is sent at once: the next bytes, such as those of the
        last event of a stream, must not stand in the middle of this part."""
        at = 0
        try:
            while len(body) - at > PART_BYTES and not self.left:
                self._continue(body[at : at + PART_BYTES], more=True)
                at += PART_BYTES
                self._in_hand = len(body) - at
                await next_slice()
                await self._until_writable()
        except asyncio.CancelledError:
            if not self.left:
                self._continue(body[at:], more=more)
            raise
        finally:
            self._in_hand = 0
        return body[at:]

    def answer(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> bool:
        """Send a whole answer at once. False, and nothing is sent, if it has begun or the client is not reading."""
        if self.started or self.left or self._wire.writable() is not None:
            return False
        self.started = True
        self._begin(status, headers)
        self._continue(body, more=False)
        return True

    def answer_encoded(self, status: int, lines: bytes, body: bytes) -> bool:
        """Send a whole answer at once, as `answer` does, with headers that are encoded already."""
        if self.started or self.left or self._wire.writable() is not None:
            return False
        self.started = True
        parts = [_STATUS_LINES[status], _encoded(self._wire.default_headers), lines]
        if not self.keep_alive:
            parts.append(b"connection: close\r\n")
        parts.append(b"\r\n")
        if self._scope["method"] != "HEAD":
            parts.append(body)
        self._complete(b"".join(parts))
        return True

    def write_chunk(self, chunk: bytes) -> bool:
        """Send an encoded part. False, and nothing is sent, if that is not the next thing to be sent, or must wait."""
        if not self._chunked or self._head is not None or self.complete or self.left:
            return False
        if self._wire.writable() is not None:
            return False
        self._wire.write(chunk)
        return True

    def outlet(self) -> Outlet | None:
        """See `DirectAnswers.outlet`."""
        if self._outlet is None and self._chunked and self._head is None and not self.complete and not self.left:
            self._outlet = self._wire.outlet()
        return self._outlet

    def _begin(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        all_headers = [*self._wire.default_headers, *headers]
        named = dict(all_headers)
        said = named.get(b"content-length")
        length = None if said is None else int(said)
        if not _OF_THE_CONNECTION.isdisjoint(named):
            if named.get(b"connection", b"").lower() == b"close":
                self.keep_alive = False
            all_headers = [each for each in all_headers if each[0] not in _OF_THE_CONNECTION]
        lines = [_STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status]
        if all_headers:
            lines.append(b"\r\n".join(map(b": ".join, all_headers)) + b"\r\n")
        if length is None and status not in _WITHOUT_BODY and self._scope["method"] != "HEAD":
            if self._scope["http_version"] == "1.1":
                self._chunked = True
                lines.append(b"transfer-encoding: chunked\r\n")
            else:
                self.keep_alive = False  # closing the connection marks the end of the body
        if not self.keep_alive:
            lines.append(b"connection: close\r\n")
        head = b"".join(lines)
        count = len(lines) + max(0, len(all_headers) - 1)
        if head.count(b"\n") != count or head.count(b"\r") != count or b"\0" in head:
            raise RuntimeError("a header has a line break in it")
        self._head = head + b"\r\n"
        self._left = 0 if status in _WITHOUT_BODY or self._scope["method"] == "HEAD" else length

    def _continue(self, body: bytes, *, more: bool) -> None:
        head, self._head = self._head, None
        if self._scope["method"] == "HEAD":
            body = b""
        if self._chunked:
            if body:
                body = chunk(body)
            if not more:
                body += b"0\r\n\r\n"
        elif self._left is not None:
            self._left -= len(body)
            if self._left < 0 or (self._left and not more):
                raise RuntimeError("the body is not as long as its Content-Length says")
        data = body if head is None else head + body
        if not more:
            self._complete(data)
        elif data:
            self._wire.write(data)

    def _complete(self, data: bytes) -> None:
        """Send the last bytes of the answer."""
        self.close_outlet()
        if data:
            self._wire.write(data)
        self.complete = True
        self.answered_bytes = len(data)
        self._tell()
        self._wire.answered()
        self._end()
