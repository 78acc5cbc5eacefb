"""Finds the credential of a request and asks the guard once, before anything else is done for the request.

What it finds stands in the scope: `gateway.access` is the `Access`, None where there was no credential. A request whose
credential does not count is answered here; of a WebSocket `gateway.refusal` says why, and its endpoint closes it.
"""

from collections.abc import Awaitable
from urllib.parse import unquote

from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.access.guard import Guard
from gateway.http.request_metrics import RequestMetrics
from gateway.http.responses import send_problem
from gateway.wire.problems import Problem, Unauthenticated

_SCHEME = b"bearer "
_BEARER = "bearer."
_QUERY_NAMES = ("token",)


class Authentication:
    """ASGI in front of the application."""

    def __init__(self, app: ASGIApp, guard: Guard, metrics: RequestMetrics) -> None:
        self._app = app
        self._guard = guard
        self._metrics = metrics

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] not in ("http", "websocket"):
            return self._app(scope, receive, send)
        credential = None
        for name, value in scope["headers"]:
            if name == b"authorization":
                if credential is not None:
                    return self._refuse(Unauthenticated("there are several credentials"), scope, receive, send)
                credential = value
        if credential is not None and credential[:7].lower() == _SCHEME:
            access = self._guard.known(credential[7:])
            if access is not None:
                scope["gateway.access"] = access
                return self._app(scope, receive, send)
        return self._authenticate(credential, scope, receive, send)

    async def _authenticate(self, header: bytes | None, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            credential = _credential(header, scope)
            scope["gateway.access"] = None if credential is None else await self._guard.check(credential)
        except Problem as problem:
            await self._refuse(problem, scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _refuse(self, problem: Problem, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            self._metrics.count(scope["method"], "none", problem.status, 0.0)
            await send_problem(problem, send)
            return
        scope["gateway.access"], scope["gateway.refusal"] = None, problem
        await self._app(scope, receive, send)


def _credential(header: bytes | None, scope: Scope) -> bytes | None:
    """The credential of a request that the guard does not know yet. Taken out of the query, where it is there: nothing
    that comes after may show it.

    Raises:
        Unauthenticated
    """
    if scope["type"] == "http":
        return None if header is None else _of_header(header)
    of_query = _take_from_query(scope)
    if header is not None:
        return _of_header(header)
    for protocol in scope.get("subprotocols", ()):
        if protocol.startswith(_BEARER):
            return str(protocol).removeprefix(_BEARER).encode("latin-1", "replace")
    return of_query


def _of_header(header: bytes) -> bytes:
    if header[:7].lower() != _SCHEME:
        raise Unauthenticated("the credential is not one of the scheme Bearer")
    return header[7:].strip()


def _take_from_query(scope: Scope) -> bytes | None:
    found, rest = None, []
    for part in scope["query_string"].split(b"&"):
        name, _, value = part.partition(b"=")
        if unquote(name.decode("latin-1")) in _QUERY_NAMES:
            found = unquote(value.decode("latin-1")).encode("utf-8", "replace")
        else:
            rest.append(part)
    scope["query_string"] = b"&".join(rest)
    return found
