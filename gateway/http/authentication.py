"""Authentication: finds the credential of a request and checks it once, before any other work for the request.

The result is in the scope: `gateway.access` is the `Access`, or None if there was no credential. A request with an
invalid credential is answered here; for a WebSocket, `gateway.refusal` holds the problem, and the endpoint closes the
connection. `gateway.check` is a `gateway.access.access.Check`, for WebSocket protocols whose messages hold credentials.
"""

import contextlib
import math
from collections.abc import Awaitable, Callable, Iterator
from urllib.parse import unquote_to_bytes

from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.access.access import Access
from gateway.access.audit import Audit
from gateway.access.guard import Guard
from gateway.access.rates import Rate
from gateway.access.sessions import Question
from gateway.access.tickets import Credential, Tickets
from gateway.asgi.answers import DirectAnswers, directly
from gateway.asgi.requests import named_headers
from gateway.http.across_sites import is_of_any_site
from gateway.http.rate_limits import address_of
from gateway.http.request_metrics import RequestMetrics
from gateway.http.responses import send_problem
from gateway.wire.problems import Forbidden, Problem, RateLimited, Unauthenticated, problem_from_storage
from storage import StorageError

_SCHEME = b"bearer "
_BEARER = "bearer."


class _Checker:
    """Checks credentials of one connection, with the same rate limit and audit as for requests."""

    __slots__ = ("_authentication", "_own", "_scope")

    def __init__(self, authentication: "Authentication", scope: Scope, own: Credential | None) -> None:
        self._authentication = authentication
        self._scope = scope
        self._own = own

    async def __call__(self, credential: bytes | None, question: Question | None) -> Access:
        """See `Check`."""
        found = self._own if credential is None else Credential(credential)
        try:
            access = await self._authentication.access(found, self._scope, question or Question())
        except Unauthenticated as problem:
            self._authentication.note_refusal(self._scope, problem)
            raise
        if access is None:
            raise self._scope.get("gateway.refusal") or Unauthenticated
        return access


class Authentication:
    """ASGI middleware in front of the application.

    Args:
        question_of: what an application is asked about a request; None: nothing, as the request needs no credential, or
            as its endpoint will ask.
    """

    def __init__(
        self,
        app: ASGIApp,
        guard: Guard,
        tickets: Tickets,
        audit: Audit,
        metrics: RequestMetrics,
        question_of: Callable[[Scope], Question | None],
        *,
        failures: int = 0,
    ) -> None:
        self._app = app
        self._answer_directly = directly(app)
        self._guard = guard
        self._tickets = tickets
        self._audit = audit
        self._failures = Rate(failures) if failures else None
        self._metrics = metrics
        self._question_of = question_of

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] not in ("http", "websocket"):
            return self._app(scope, receive, send)
        scope["gateway.audit"] = self._audit
        if scope["type"] == "http" and self._is_known(scope):
            return self._app(scope, receive, send)
        credential = None
        for name, value in scope["headers"]:
            if name == b"authorization":
                if credential is not None:
                    return self._refuse(Unauthenticated("there are several credentials"), scope, receive, send)
                credential = value
        return self._authenticate(credential, scope, receive, send)

    def answer_directly(self, scope: Scope, body: bytes, server: DirectAnswers) -> bool:
        """See `AnswerDirectly`: for credentials that were checked before."""
        scope["gateway.audit"] = self._audit
        return self._is_known(scope) and self._answer_directly(scope, body, server)

    def _is_known(self, scope: Scope) -> bool:
        """Whether the credential of a request was checked before; its access is then in the scope."""
        credential = named_headers(scope).get(b"authorization")  # several, joined by a comma, are none that is known
        if credential is None or credential[:7].lower() != _SCHEME:
            return False
        access = self._guard.known(credential[7:])
        if access is None:
            return False
        scope["gateway.access"] = access
        return True

    async def _authenticate(self, header: bytes | None, scope: Scope, receive: Receive, send: Send) -> None:
        given = _take_from_query(scope) if scope["query_string"] else {}
        found: Credential | None = None
        try:
            if header is None and b"ticket" in given:
                found = await self._take_ticket(given[b"ticket"], scope)
            else:
                found = self._find(header, given, scope)
            question = self._question_of(scope) if found is not None and self._is_of_application(found) else None
            access = await self.access(found, scope, question)
        except Problem as problem:
            if scope["type"] == "websocket":
                scope["gateway.check"] = _Checker(self, scope, None)
            await self._refuse(problem, scope, receive, send)
            return
        scope["gateway.access"] = access
        if scope["type"] == "websocket":
            scope["gateway.check"] = _Checker(self, scope, found)
        await self._app(scope, receive, send)

    def _find(self, header: bytes | None, given: dict[bytes, bytes], scope: Scope) -> Credential | None:
        """Return the credential of a request."""
        if header is not None:
            return Credential(_of_header(header))
        if scope["type"] == "websocket":
            for protocol in scope.get("subprotocols", ()):
                if protocol.startswith(_BEARER):
                    return Credential(str(protocol).removeprefix(_BEARER).encode("latin-1", "replace"))
            if b"token" in given:
                return Credential(given[b"token"])
        return None if not self._guard.knows_cookies or is_of_any_site(scope) else _cookies(scope)

    def _is_of_application(self, found: Credential) -> bool:
        return found.is_cookie or self._guard.is_of_application(found.text.decode("latin-1"))

    async def access(self, found: Credential | None, scope: Scope, question: Question | None) -> Access | None:
        """Return the access of a credential; None if there is none, or if only the application knows whose it is and
        there is no question.

        Raises:
            Unauthenticated, Forbidden, Unavailable
            RateLimited: too many credentials from the address were refused lately. Known ones are accepted.
        """
        if found is None:
            return None
        is_cookie, credential = found.is_cookie, found.text
        if self._is_of_application(found):
            if question is None:
                return None
            text = credential.decode("latin-1")
            known = self._guard.known_session("cookie" if is_cookie else "token", text, question)
        else:
            question, known = Question(), self._guard.known(credential)
        if known is not None:
            return known
        with self._counting_failures(scope):
            if is_cookie:
                return await self._guard.check_cookie(credential, question)
            return await self._guard.check(credential, question)

    @contextlib.contextmanager
    def _counting_failures(self, scope: Scope) -> Iterator[None]:
        """Check a credential in the context, unless too many from the address were refused lately."""
        address = address_of(scope)
        if self._failures is not None and (wait := self._failures.wait(address)) > 0:
            raise RateLimited("refused credentials", self._failures.quota, math.ceil(wait))
        try:
            yield
        except StorageError as error:
            raise problem_from_storage(error) from error
        except Unauthenticated:
            if self._failures is not None:
                self._failures.take(address)
            raise

    async def _take_ticket(self, ticket: bytes, scope: Scope) -> Credential:
        parts = scope["path"].split("/", 4)
        project = parts[3] if len(parts) == 5 and scope["path"].startswith("/api/projects/") else ""
        with self._counting_failures(scope):
            found = await self._tickets.take(ticket.decode("latin-1"), project)
            if found is None:
                raise Unauthenticated("the ticket was used already, is too old, or is of another project")
        return found

    def note_refusal(self, scope: Scope, problem: Problem) -> None:
        """Note in the audit that a credential was refused."""
        self._audit.note_refusal(None, None, f"{problem.detail}; from {address_of(scope) or 'somewhere'}")

    async def _refuse(self, problem: Problem, scope: Scope, receive: Receive, send: Send) -> None:
        if isinstance(problem, Unauthenticated | Forbidden):
            self.note_refusal(scope, problem)
        if scope["type"] == "http":
            self._metrics.count_problem(scope["method"], "none", problem)
            await send_problem(problem, send)
            return
        scope["gateway.access"], scope["gateway.refusal"] = None, problem
        await self._app(scope, receive, send)


def credential_of(scope: Scope) -> Credential | None:
    """Return the credential in the headers of a request that was authenticated; None: the gateway requires none."""
    if scope.get("gateway.access") is None:
        return None
    header = next((value for name, value in scope["headers"] if name == b"authorization"), None)
    return _cookies(scope) if header is None else Credential(_of_header(header))


def _cookies(scope: Scope) -> Credential | None:
    cookies = [value for name, value in scope["headers"] if name == b"cookie"]
    return Credential(b"; ".join(cookies), is_cookie=True) if cookies else None


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
