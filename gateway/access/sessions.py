"""Sessions of an application, which is asked who a token or a cookie belongs to, and what it grants."""

import math
import re
import time
from collections.abc import Callable
from typing import Any

import httpx
import msgspec
from msgspec import Struct

from gateway.access.grants import LONGEST_SUBJECT, Claims, InvalidGrant, is_name, parse_grant
from gateway.wire.problems import Unauthenticated, Unavailable

LONGEST = 8192
"""Bytes of a token or a cookie."""
_TIMEOUT_S = 5.0
_MOST_ANSWER = 2**20
_FRESH_S, _LONGEST_FRESH_S = 60.0, 3600.0
_MAX_AGE = re.compile(r"(?:^|[\s,])max-age=(\d{1,9})(?=$|[\s,])")


class _Answer(Struct):
    """The claims of a JSON Web Token, unsigned: nobody but the application can give this answer."""

    sub: str
    name: str | None = None
    exp: float | None = None
    yjs_gateway: Any = msgspec.field(default_factory=dict)


class ApplicationSessions:
    """Asks an application: `POST` with `{"token": …}` or `{"cookie": …}`; 200 with claims, 401 or 403 if unknown.

    Args:
        clock: seconds since 1970.
    """

    def __init__(
        self,
        url: str,
        *,
        clock: Callable[[], float] = time.time,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._url = url
        self._clock = clock
        self._transport = transport

    async def check(self, kind: str, value: str) -> Claims:
        """Return the claims of a token or a cookie. `expires` is when to ask again: after `Cache-Control: max-age`, or
        after a minute, and at `exp` at the latest.

        Raises:
            Unauthenticated: the application does not know the token or cookie.
            Unavailable: the application gives no valid answer.
        """
        if len(value) > LONGEST:
            raise Unauthenticated(f"a {kind} has at most {LONGEST} bytes")
        options: dict[str, Any] = {} if self._transport is None else {"transport": self._transport}
        try:
            async with httpx.AsyncClient(timeout=_TIMEOUT_S, **options) as client:
                answer = await client.post(self._url, json={kind: value}, headers={"Accept": "application/json"})
        except httpx.HTTPError as error:
            raise Unavailable(f"the application could not be asked: {type(error).__name__}") from error
        if answer.status_code in (401, 403):
            raise Unauthenticated(f"the application does not know the {kind}")
        if answer.status_code != 200 or len(answer.content) > _MOST_ANSWER:
            raise Unavailable(f"the application answered {answer.status_code}")
        return self._claims(answer)

    def _claims(self, answer: httpx.Response) -> Claims:
        try:
            told = msgspec.json.decode(answer.content, type=_Answer)
            grant = parse_grant(told.yjs_gateway)
        except (msgspec.DecodeError, UnicodeDecodeError, InvalidGrant) as error:
            raise Unavailable(f"the application's answer cannot be read: {error}") from None
        if not is_name(told.sub) or not (told.name is None or is_name(told.name)):
            raise Unavailable(f"the application named a subject that is not 1 to {LONGEST_SUBJECT} visible characters")
        now = self._clock()
        end = math.inf if told.exp is None else told.exp
        if end <= now:
            raise Unauthenticated("the session has expired")
        return Claims(told.sub, told.name, grant, min(end, now + _fresh(answer)), None)


def _fresh(answer: httpx.Response) -> float:
    """Return for how many seconds an answer stays valid."""
    told = _MAX_AGE.search(answer.headers.get("Cache-Control", "").lower())
    return _FRESH_S if told is None else min(max(float(told[1]), 1.0), _LONGEST_FRESH_S)
