"""The access log: one line for each request and each WebSocket, or for those that went wrong, with an id for each.

The id is that of the header `X-Request-ID`, if a proxy has sent a valid one. It is in the answer, and in every other
line that is logged on behalf of the request.
"""

import re
import secrets
import time
from urllib.parse import quote

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_log = structlog.get_logger("gateway.access")

_HEADER = b"x-request-id"
_REQUEST_ID = re.compile(rb"[A-Za-z0-9_.:+/=-]{1,128}")
_ABANDONED = 499
"""What is logged if the client disconnected before an answer began."""
_USUAL_CLOSES = frozenset({1000, 1001, 1005, 1006, 1012})
"""The client left, its connection broke, or the gateway restarts."""


class AccessLog:
    """ASGI middleware around the whole application.

    Args:
        errors_only: log only answers of 400 and above, and WebSockets that the gateway closed because of an error.
    """

    def __init__(self, app: ASGIApp, *, errors_only: bool) -> None:
        self._app = app
        self._errors_only = errors_only

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        request_id = _id_of(scope)
        exchange = _Exchange(receive, send, request_id)
        started = time.perf_counter()
        with structlog.contextvars.bound_contextvars(request_id=request_id.decode()):
            try:
                await self._app(scope, exchange.receive, exchange.send)
            finally:
                self._note(scope, exchange, time.perf_counter() - started)

    def _note(self, scope: Scope, exchange: "_Exchange", seconds: float) -> None:
        of_socket = scope["type"] == "websocket" and not exchange.status
        status = exchange.status or _ABANDONED
        if self._errors_only and (exchange.code in _USUAL_CLOSES if of_socket else status < 400):
            return
        access = scope.get("gateway.access")
        told = {
            "path": quote(scope["path"], errors="replace"),  # no control characters; the query may hold credentials
            "route": scope.get("gateway.route"),
            "seconds": round(seconds, 6),
            "client": (scope.get("client") or [None])[0],
            "subject": None if access is None else access.subject,
        }
        told = {name: value for name, value in told.items() if value is not None}
        if of_socket:
            _log.info("websocket", code=exchange.code, **told)
        elif status < 500:
            _log.info("request", method=scope.get("method", "GET"), status=status, bytes=exchange.sent, **told)
        else:
            _log.warning("request", method=scope.get("method", "GET"), status=status, bytes=exchange.sent, **told)


class _Exchange:
    """One request or WebSocket: notes how it is answered, and adds the id to the answer."""

    __slots__ = ("_id", "_receive", "_send", "code", "sent", "status")

    def __init__(self, receive: Receive, send: Send, request_id: bytes) -> None:
        self._receive = receive
        self._send = send
        self._id = request_id
        self.status = 0
        """Of the answer, also of a refused WebSocket; 0: there was none."""
        self.code = 1006
        """With which the WebSocket was closed, by whoever closed it first."""
        self.sent = 0
        """Bytes of the body, before compression by the server."""

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "websocket.disconnect" and self.code == 1006:
            self.code = message.get("code") or 1005
        return message

    async def send(self, message: Message) -> None:
        kind = message["type"]
        if kind in ("http.response.start", "websocket.http.response.start"):
            self.status = message["status"]
        if kind in ("http.response.start", "websocket.http.response.start", "websocket.accept"):
            message = {**message, "headers": [*message.get("headers", ()), (_HEADER, self._id)]}
        elif kind == "http.response.body":
            self.sent += len(message.get("body", b""))
        elif kind == "websocket.close":
            self.code = message.get("code", 1000)
        await self._send(message)


def _id_of(scope: Scope) -> bytes:
    given = [value for name, value in scope["headers"] if name == _HEADER]
    if len(given) == 1 and _REQUEST_ID.fullmatch(given[0]):
        return bytes(given[0])
    return secrets.token_hex(8).encode()
