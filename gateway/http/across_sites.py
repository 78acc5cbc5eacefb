"""Cross-site protection: pages of other sites may do nothing unless their origin is configured. Checked first.

A browser lets any page send requests to any address, including a gateway on loopback, some of them without a preflight.
`Origin` tells where the page comes from, and `Host` by which name the page addressed the gateway.
"""

import re
from collections.abc import Awaitable, Iterable

from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.asgi.answers import DirectAnswers, directly
from gateway.asgi.requests import named_headers
from gateway.http.request_metrics import RequestMetrics
from gateway.http.responses import send_problem
from gateway.wire.problems import HostNotAllowed, MalformedRequest, OriginNotAllowed, Problem

ANY = "*"
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_READS = frozenset(("GET", "HEAD", "OPTIONS"))
_AUTHORITY = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\s:@/?#\\\[\],]+))(?::([0-9]{0,5}))?")
_OF_THE_GATEWAY = (b"same-origin", b"none")
"""Values of `Sec-Fetch-Site` for requests from the gateway's own pages or directly from the user."""
_REMEMBERED = 1000
_OF_ANY_SITE = "gateway.of_any_site"


class AcrossSites:
    """ASGI middleware in front of the application.

    Args:
        hosts: the host names of the gateway; `*` for any. The names of loopback, and the local address of the
            connection, are always allowed.
        origins: the origins whose pages may call the gateway; `*` for any.
    """

    def __init__(self, app: ASGIApp, metrics: RequestMetrics, hosts: Iterable[str], origins: Iterable[str]) -> None:
        self._app = app
        self._answer_directly = directly(app)
        self._metrics = metrics
        names = tuple(hosts)
        self._any_host = ANY in names
        self._hosts = {host.lower().strip("[]").rstrip(".") for host in (*names, *_LOOPBACK)}
        self._origins = {origin.lower().rstrip("/") for origin in origins}
        self._known: dict[bytes, bool] = {}
        """Cache of `Host` values that are allowed."""

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        problem = self._fault(scope)
        if problem is None:
            return self._app(scope, receive, send)
        return self._refuse(problem, scope, receive, send)

    def answer_directly(self, scope: Scope, body: bytes, server: DirectAnswers) -> bool:
        """See `AnswerDirectly`."""
        return self._fault(scope) is None and self._answer_directly(scope, body, server)

    def _fault(self, scope: Scope) -> Problem | None:
        named = named_headers(scope)
        host, origin, site = named.get(b"host"), named.get(b"origin"), named.get(b"sec-fetch-site")
        problem = None if host in self._known else self._fault_of_host(scope, host)  # joined lines are never known
        if problem is None and (origin is not None or site is not None):
            problem = self._fault_of_origin(scope, host, origin, site)
        return problem

    def _fault_of_host(self, scope: Scope, host: bytes | None) -> Problem | None:
        """RFC 9112 §3.2: a request has one `Host`. HTTP/1.0 allows none, but no browser sends HTTP/1.0."""
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
        if name is not None and server is not None and name == server[0]:  # unlike a name, an address cannot be rebound
            return None
        return HostNotAllowed(host.decode("latin-1"))

    def _fault_of_origin(
        self, scope: Scope, host: bytes | None, origin: bytes | None, site: bytes | None
    ) -> Problem | None:
        """Any page may send reads, since the browser does not show it the answer."""
        if scope["type"] == "http" and scope["method"] in _READS:
            return None
        if site in _OF_THE_GATEWAY:
            return None
        text = "another one"
        if origin is None:
            if site is None:
                return None
        else:
            text = origin.decode("latin-1").lower()
            if text in self._origins:
                return None
            scheme, _, own = text.partition("://")
            if own and _without_port(own, scheme) == _without_port((host or b"").decode("latin-1").lower(), scheme):
                return None
        if ANY not in self._origins:
            return OriginNotAllowed(text)
        scope[_OF_ANY_SITE] = True
        return None

    async def _refuse(self, problem: Problem, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            self._metrics.count_problem(scope["method"], "none", problem)
            await send_problem(problem, send)
            return
        await receive()  # websocket.connect
        if "websocket.http.response" in (scope.get("extensions") or {}):
            await send_problem(problem, send, prefix="websocket.http.response")
        else:
            await send({"type": "websocket.close", "code": 1008})


def is_of_any_site(scope: Scope) -> bool:
    """Whether a request that may change something comes from a page that is allowed only because every page is. Its
    cookies do not count: the browser adds them without the user's knowledge."""
    return _OF_ANY_SITE in scope


def _without_port(authority: str, scheme: str) -> str:
    """Strip the default port of the scheme from an authority: browsers omit it, but proxies may add it."""
    return authority.removesuffix(":443" if scheme == "https" else ":80").removesuffix(".")
