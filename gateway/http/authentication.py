"""Authentication: finds the credential of a request and checks it once, before any other work for the request.

The result is in the scope: `gateway.access` is the `Access`, or None if there was no credential. A request with an
invalid credential is answered here; for a WebSocket, `gateway.refusal` holds the problem, and the endpoint closes the
connection. `gateway.check` checks a credential that a WebSocket protocol carries in a message.
"""

import functools
import math
from collections.abc import Awaitable, Coroutine
from typing import Any, TypeVar
from urllib.parse import unquote_to_bytes

from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.access.audit import Audit
from gateway.access.guard import Access, Guard
from gateway.access.rates import Rate
from gateway.access.tickets import Tickets
from gateway.http.rate_limits import address_of
from gateway.http.request_metrics import RequestMetrics
from gateway.http.responses import send_problem
from gateway.wire.problems import Problem, RateLimited, Unauthenticated

T = TypeVar("T")

_SCHEME = b"bearer "
_BEARER = "bearer."


class Authentication:
    """ASGI middleware in front of the application."""

    def __init__(
        self, app: ASGIApp, guard: Guard, tickets: Tickets, audit: Audit, metrics: RequestMetrics, *, failures: int = 0
    ) -> None:
        self._app = app
        self._guard = guard
        self._tickets = tickets
        self._audit = audit
        self._failures = Rate(failures) if failures else None
        self._metrics = metrics

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] not in ("http", "websocket"):
            return self._app(scope, receive, send)
        scope["gateway.audit"] = self._audit
        if scope["type"] == "websocket":
            scope["gateway.check"] = functools.partial(self._check, address_of(scope))
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
            scope["gateway.access"] = await self._access(header, scope)
        except Problem as problem:
            await self._refuse(problem, scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _check(self, address: str, credential: bytes) -> Access:
        """Return the access of a credential from a message, with the same rate limit and audit as for requests.

        Raises:
            Unauthenticated, RateLimited, Unavailable
        """
        try:
            return await self._bounded(address, self._guard.check(credential))
        except Unauthenticated as problem:
            self._note_refusal(address, problem)
            raise

    async def _access(self, header: bytes | None, scope: Scope) -> Access | None:
        return await self._bounded(address_of(scope), self._find_access(header, scope))

    async def _bounded(self, address: str, check: Coroutine[Any, Any, T]) -> T:
        """Check a credential, unless too many credentials from the address were refused lately."""
        if self._failures is not None and (wait := self._failures.wait(address)) > 0:
            check.close()
            raise RateLimited("refused credentials", self._failures.quota, math.ceil(wait))
        try:
            return await check
        except Unauthenticated:
            if self._failures is not None:
                self._failures.take(address)
            raise

    async def _find_access(self, header: bytes | None, scope: Scope) -> Access | None:
        given = _take_from_query(scope) if scope["query_string"] else {}
        if header is not None:
            return await self._guard.check(_of_header(header))
        if b"ticket" in given:
            return self._of_ticket(given[b"ticket"], scope)
        if scope["type"] == "http":
            return await self._of_cookie(scope)
        for protocol in scope.get("subprotocols", ()):
            if protocol.startswith(_BEARER):
                return await self._guard.check(str(protocol).removeprefix(_BEARER).encode("latin-1", "replace"))
        if b"token" in given:
            return await self._guard.check(given[b"token"])
        return await self._of_cookie(scope)

    async def _of_cookie(self, scope: Scope) -> Access | None:
        """Return the access that the application grants for the cookies, if the gateway is configured to ask it."""
        if not self._guard.knows_cookies:
            return None
        cookies = [value for name, value in scope["headers"] if name == b"cookie"]
        return await self._guard.check_cookie(b"; ".join(cookies)) if cookies else None

    def _of_ticket(self, ticket: bytes, scope: Scope) -> Access:
        parts = scope["path"].split("/", 4)
        project = parts[3] if len(parts) == 5 and scope["path"].startswith("/api/projects/") else ""
        access = self._tickets.take(ticket.decode("latin-1"), project)
        if access is None:
            raise Unauthenticated("the ticket was used already, is too old, or is of another project")
        return access

    def _note_refusal(self, address: str, problem: Problem) -> None:
        self._audit.note_refusal(None, None, f"{problem.detail}; from {address or 'somewhere'}")

    async def _refuse(self, problem: Problem, scope: Scope, receive: Receive, send: Send) -> None:
        if isinstance(problem, Unauthenticated):
            self._note_refusal(address_of(scope), problem)
        if scope["type"] == "http":
            self._metrics.count(scope["method"], "none", problem.status, 0.0)
            await send_problem(problem, send)
            return
        scope["gateway.access"], scope["gateway.refusal"] = None, problem
        await self._app(scope, receive, send)


def _of_header(header: bytes) -> bytes:
    if header[:7].lower() != _SCHEME:
        raise Unauthenticated("the credential is not one of the scheme Bearer")
    return header[7:].strip()


def _take_from_query(scope: Scope) -> dict[bytes, bytes]:
    """Remove the credentials from the query and return them, so that nothing further in can leak them. `token` is a
    credential only for WebSockets."""
    names = (b"ticket",) if scope["type"] == "http" else (b"ticket", b"token")
    found, rest = {}, []
    for part in scope["query_string"].split(b"&"):
        name, _, value = part.partition(b"=")
        name = unquote_to_bytes(name)
        if name in names:
            found[name] = unquote_to_bytes(value)
        else:
            rest.append(part)
    scope["query_string"] = b"&".join(rest)
    return found
