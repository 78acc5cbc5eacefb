"""Sessions of an application, which is asked who a token or a cookie belongs to, and what it grants."""

import asyncio
import math
import re
import time
from collections.abc import Callable
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from msgspec import Struct

from gateway.access.grants import (
    LONGEST_SUBJECT,
    Claims,
    Grant,
    InvalidGrant,
    Need,
    Paths,
    Scope,
    View,
    is_name,
    parse_grant,
    parse_scopes,
)
from gateway.access.reading import TooLarge, read_at_most
from gateway.wire.problems import Unavailable

if TYPE_CHECKING:
    import httpx

LONGEST = 8192
"""Bytes of a token or a cookie."""
_TIMEOUT_S = 5.0
_MOST_AT_ONCE = 100
_MOST_ANSWER = 2**20
_FRESH_S, _LEAST_S, _MOST_S = 60.0, 1.0, 3600.0
_MAX_AGE = re.compile(r"(?:^|[\s,])max-age=(\d{1,9})(?=$|[\s,])")
_NOT_KEPT = re.compile(r"(?:^|[\s,])(?:no-store|no-cache)(?=$|[\s,=])")

Kind = Literal["token", "cookie"]


class Question(Struct, frozen=True):
    """The request that the application is asked about."""

    project: str | None = None
    """None: the URL does not name one."""
    path: str | None = None
    """None: the URL does not name one; the request may concern any file of the project."""
    actions: tuple[Need, ...] = ("read",)
    """Most permissive first: the first that the application allows counts."""


class Answer(Struct, frozen=True):
    """An answer of the application."""

    claims: Claims | None
    """None: refused."""
    whole: bool
    """Whether the claims hold the whole grant of the credential, not only what was asked."""
    until: float
    """Seconds since 1970 until when the answer may be cached; 0: not at all."""
    unknown: bool = False
    """Whether the application does not know the token or cookie at all."""


class _Body(Struct):
    """The claims of a JSON Web Token, unsigned: nobody but the application can give this answer."""

    sub: str
    name: str | None = None
    exp: float | None = None
    yjs_gateway: Any = None
    allow: bool = False


class ApplicationSessions:
    """Asks an application: `POST` with `{"token" or "cookie", "project", "path", "action"}`.

    It answers 200 with claims, 401 if it does not know the token or cookie, or 403 if the action is not allowed.

    Args:
        clock: seconds since 1970.
        timeout: seconds for a whole answer.
    """

    def __init__(
        self,
        url: str,
        *,
        clock: Callable[[], float] = time.time,
        timeout: float = _TIMEOUT_S,
        transport: "httpx.AsyncBaseTransport | None" = None,
    ) -> None:
        import httpx  # here, so that a gateway which asks no application starts without it

        self._url = url
        self._clock = clock
        self._timeout = timeout
        self._transport = transport
        self._client: httpx.AsyncClient | None = None

    async def ask(self, kind: Kind, value: str, project: str | None, path: str | None, action: Need) -> Answer:
        """Ask whether an action is allowed. In the claims of the answer, `expires` is when to ask again: after
        `Cache-Control: max-age`, or after a minute, and at `exp` at the latest.

        Raises:
            Unavailable: the application gives no valid answer.
        """
        if len(value) > LONGEST:
            return Answer(None, whole=False, until=0.0, unknown=True)
        scope: Scope = "read" if action == "read turns" else action
        question = {kind: value, "project": project, "path": path, "action": scope}
        status, cache, body = await self._send(question)
        now = self._clock()
        fresh = _fresh(cache)
        if status in (401, 403):
            until = now + fresh if fresh else 0.0
            return Answer(None, whole=False, until=until, unknown=status == 401)
        if status != 200:
            raise Unavailable(f"the application answered {status}")
        return _answer(body, project, path, scope, now, _FRESH_S if fresh is None else fresh)

    async def _send(self, question: dict[str, str | None]) -> tuple[int, str, bytes]:
        """Return the status, `Cache-Control` and body of the answer."""
        import httpx

        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        try:
            async with (
                asyncio.timeout(self._timeout),
                self._open().stream("POST", self._url, json=question, headers=headers) as answer,
            ):
                body = await read_at_most(answer, _MOST_ANSWER) if answer.status_code == 200 else b""
                return answer.status_code, answer.headers.get("Cache-Control", "").lower(), body
        except (httpx.HTTPError, TimeoutError) as error:
            raise Unavailable(f"the application could not be asked: {type(error).__name__}") from error
        except TooLarge as error:
            raise Unavailable(f"the application's answer cannot be read: {error}") from error

    def _open(self) -> "httpx.AsyncClient":
        if self._client is None:
            import httpx

            options: dict[str, Any] = {} if self._transport is None else {"transport": self._transport}
            self._client = httpx.AsyncClient(
                timeout=self._timeout,
                limits=httpx.Limits(max_connections=_MOST_AT_ONCE),
                # No cookie of one answer may be sent with the question about somebody else.
                cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
                **options,
            )
        return self._client

    async def close(self) -> None:
        """Close the connections to the application."""
        if self._client is not None:
            await self._client.aclose()


def _answer(body: bytes, project: str | None, path: str | None, scope: Scope, now: float, fresh: float) -> Answer:
    try:
        told = msgspec.json.decode(body, type=_Body)
        grant = None if told.yjs_gateway is None else parse_grant(told.yjs_gateway)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, InvalidGrant) as error:
        raise Unavailable(f"the application's answer cannot be read: {error}") from None
    if not is_name(told.sub) or not (told.name is None or is_name(told.name)):
        raise Unavailable(f"the application named a subject that is not 1 to {LONGEST_SUBJECT} visible characters")
    end = math.inf if told.exp is None else told.exp
    if not end > now:
        return Answer(None, whole=False, until=0.0, unknown=True)
    whole = grant is not None or not told.allow
    if grant is None:
        grant = _grant_of(project, path, scope) if told.allow else Grant({})
    claims = Claims(told.sub, told.name, grant, min(end, now + max(fresh, _LEAST_S)), None)
    return Answer(claims, whole, min(end, now + fresh) if fresh else 0.0)


def _grant_of(project: str | None, path: str | None, scope: Scope) -> Grant:
    """Return the grant of exactly what was asked."""
    if project is None:
        return Grant({})
    return Grant({project: View(parse_scopes(scope), None if path is None else Paths((), (path,)))})


def _fresh(cache_control: str) -> float | None:
    """Return for how many seconds an answer may be cached; None: its header does not say."""
    if _NOT_KEPT.search(cache_control):
        return 0.0
    told = _MAX_AGE.search(cache_control)
    return None if told is None else min(float(told[1]), _MOST_S)
