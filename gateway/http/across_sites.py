"""What the pages of other sites may do: nothing, unless their origin is configured. Asked before anything else.

A browser sends requests of any page to any address, a gateway on loopback included, and for some of them asks nobody.
It says in `Origin` whose page it is, and in `Host` by what name the page knows the gateway.
"""

import re
from collections.abc import Awaitable, Iterable

from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.asgi import named_headers
from gateway.http.request_metrics import RequestMetrics
from gateway.http.responses import send_problem
from gateway.wire.problems import HostNotAllowed, MalformedRequest, OriginNotAllowed, Problem

ANY = "*"
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_READS = frozenset(("GET", "HEAD", "OPTIONS"))
_AUTHORITY = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\s:@/?#\\\[\],]+))(?::([0-9]{0,5}))?")
_OF_THE_GATEWAY = (b"same-origin", b"none")
"""What `Sec-Fetch-Site` says of a request of the gateway's own page, or of the person at the browser."""
_REMEMBERED = 1000


class AcrossSites:
    """ASGI in front of the application.

    Args:
        hosts: the names of the gateway; `*` for any. Those of loopback, and the address that a connection came to, are
            always allowed.
        origins: the origins whose pages may call it; `*` for any.
    """

    def __init__(self, app: ASGIApp, metrics: RequestMetrics, hosts: Iterable[str], origins: Iterable[str]) -> None:
        self._app = app
        self._metrics = metrics
        names = tuple(hosts)
        self._any_host = ANY in names
        self._hosts = {host.lower().strip("[]").rstrip(".") for host in (*names, *_LOOPBACK)}
        self._origins = {origin.lower().rstrip("/") for origin in origins}
        self._known: dict[bytes, bool] = {}
        """Values of `Host` that were found to be allowed."""

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        named = named_headers(scope)
        host, origin, site = named.get(b"host"), named.get(b"origin"), named.get(b"sec-fetch-site")
        problem = None if host in self._known else self._fault_of_host(scope, host)  # two of them make no known one
        if problem is None and (origin is not None or site is not None):
            problem = self._fault_of_origin(scope, host, origin, site)
        if problem is None:
            return self._app(scope, receive, send)
        return self._refuse(problem, scope, receive, send)

    def _fault_of_host(self, scope: Scope, host: bytes | None) -> Problem | None:
        """RFC 9112 §3.2: a request has one `Host`; one of HTTP/1.0 may have none, and no browser sends such."""
        count = sum(name == b"host" for name, _ in scope["headers"])
        if count != 1 or host is None:
            return None if count == 0 and scope.get("http_version") == "1.0" else MalformedRequest()
        if self._any_host:
            return None
        authority = _AUTHORITY.fullmatch(host.decode("latin-1"))
        name = (authority[1] or authority[2]).lower().removesuffix(".") if authority else None
        if name in self._hosts:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[host] = True
            return None
        server = scope.get("server")
        if name is not None and server is not None and name == server[0]:  # an address cannot be made to mean another
            return None
        return HostNotAllowed(host.decode("latin-1"))

    def _fault_of_origin(
        self, scope: Scope, host: bytes | None, origin: bytes | None, site: bytes | None
    ) -> Problem | None:
        """What reads may be asked by any page: the browser does not show it the answer."""
        if scope["type"] == "http" and scope["method"] in _READS:
            return None
        if site in _OF_THE_GATEWAY or ANY in self._origins:
            return None
        if origin is None:
            return OriginNotAllowed("another one") if site is not None else None
        text = origin.decode("latin-1").lower()
        if text in self._origins:
            return None
        scheme, _, own = text.partition("://")
        if own and _without_port(own, scheme) == _without_port((host or b"").decode("latin-1").lower(), scheme):
            return None
        return OriginNotAllowed(text)

    async def _refuse(self, problem: Problem, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            self._metrics.count(scope["method"], "none", problem.status, 0.0)
            await send_problem(problem, send)
            return
        await receive()  # websocket.connect
        if "websocket.http.response" in (scope.get("extensions") or {}):
            await send_problem(problem, send, prefix="websocket.http.response")
        else:
            await send({"type": "websocket.close", "code": 1008})


def _without_port(authority: str, scheme: str) -> str:
    """An authority without the port of its scheme, which browsers leave out and proxies may add."""
    return authority.removesuffix(":443" if scheme == "https" else ":80").removesuffix(".")
