"""HTTP/1.1 on the wire: the head of a request is bounded, and what never reaches the application is a problem too."""

from http import HTTPStatus
from typing import Any, cast

from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gateway import immediate
from gateway.conditional import CACHE_HEADERS
from gateway.problems import HeadTooLarge, MalformedRequest, Problem

_HEAD_LIMIT = 256 * 2**10
"""uvicorn reads a head of any length into memory. The bound is this, and what one read from the socket brings."""
_LINGER_S = 2.0
"""How long what still comes is read and dropped: closing a socket on unread bytes takes the answer with it."""


class HttpProtocol(HttpToolsProtocol):
    """uvicorn's, armed against clients that mean harm or do not speak HTTP, and able to write without waiting."""

    _open_head: Any = None
    """The request whose head has not come to its end."""
    _head_size = 0
    _refused = False
    _running: Any = None
    """The request that is being answered."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        immediate.offer(cast(Scope, self.scope), self)

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def connection_lost(self, exc: Exception | None) -> None:
        # uvicorn tells the newest request, which may be one that was sent behind the one that waits for this.
        running = self._running
        if running is not None and not running.response_complete:
            running.disconnected = True
            running.message_event.set()
        super().connection_lost(exc)

    def write_now(self, scope: Scope, data: bytes) -> bool:
        """Write a chunk of an answer whose head is out and says that chunks follow."""
        cycle: Any = self.cycle
        if (
            not data  # an empty chunk ends the body
            or cycle.scope is not scope
            or not cycle.chunked_encoding
            or cycle.disconnected
            or cycle.response_complete
            or cycle.flow.write_paused
        ):
            return False
        self.transport.write(b"%x\r\n%b\r\n" % (len(data), data))
        return True

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        super().data_received(data)
        scope: Any = self.scope
        if scope is None or "method" in scope:  # the head is complete
            return
        if scope is not self._open_head:
            self._open_head, self._head_size = scope, 0
        else:
            self._head_size += len(data)
            if self._head_size > _HEAD_LIMIT:
                self._refuse(HeadTooLarge(_HEAD_LIMIT))

    def send_400_response(self, msg: str) -> None:
        self._refuse(MalformedRequest())

    def _refuse(self, problem: Problem) -> None:
        """Answer the request that is coming in with a problem, after those before it, and end the connection."""
        self._refused = True
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            if not cycle.more_body:  # it came in whole: its answer is the last
                cycle.keep_alive = False
                return
            cycle.disconnected = True
            cycle.message_event.set()
            if cycle.response_started or self.pipeline:
                self.transport.close()
                return
        self.transport.write(_answer(problem))
        self.transport.write_eof()
        self.loop.call_later(_LINGER_S, self.transport.close)


def _answer(problem: Problem) -> bytes:
    status, body = HTTPStatus(problem.status), problem.body()
    headers = {
        "Content-Type": "application/problem+json",
        "Content-Length": len(body),
        "Connection": "close",
        **CACHE_HEADERS,
    }
    lines = [f"HTTP/1.1 {status} {status.phrase}", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode() + body
