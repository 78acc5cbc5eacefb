"""The bearer token of a client: a fixed token, or a function that is called whenever a new token is needed."""

import asyncio
import base64
import binascii
import inspect
import json
import math
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from typing import TypeAlias

import httpx

Token: TypeAlias = str | Callable[[], str | Awaitable[str]]
"""A token, or a function that returns one: called at first, before a JSON Web Token expires, and after a refusal."""

_BEFORE_END_S = 30.0
"""How long before its expiry a token is replaced. A short-lived token is used for at least half of its lifetime."""


class BearerToken(httpx.Auth):
    """Adds the token to each request. A request refused with 401 is resent once with a new token."""

    def __init__(self, token: Token, clock: Callable[[], float] = time.time) -> None:
        self._token = token
        self._clock = clock
        self._known: str | None = token if isinstance(token, str) else None
        self._until = math.inf
        self._asking = asyncio.Lock()

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        sent = await self._usable()
        request.headers["Authorization"] = f"Bearer {sent}"
        response = yield request
        if response.status_code != 401 or isinstance(self._token, str) or _is_streamed(request):
            return
        another = await self._other_than(sent)
        if another != sent:
            request.headers["Authorization"] = f"Bearer {another}"
            yield request

    def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        raise RuntimeError("the client is asynchronous")

    async def _usable(self) -> str:
        if self._known is None or self._clock() >= self._until:
            await self._other_than(self._known)
        assert self._known is not None
        return self._known

    async def _other_than(self, refused: str | None) -> str:
        """Request a new token, unless another task has done so in the meantime."""
        async with self._asking:
            if (self._known is None or self._known == refused) and not isinstance(self._token, str):
                try:
                    given = self._token()
                    self._known = await given if inspect.isawaitable(given) else given
                except Exception as error:  # like an unreachable gateway: a retry may get the token
                    raise httpx.ConnectError(f"the token could not be had: {error!r}") from error
                now, end = self._clock(), expiry_of(self._known)
                self._until = max(end - _BEFORE_END_S, now + 0.5 * (end - now)) if end - now > 0 else math.inf
        assert self._known is not None
        return self._known


def expiry_of(token: str) -> float:
    """Return the expiry of a JSON Web Token in seconds since 1970; infinity if it has none. Nothing is verified."""
    parts = token.split(".")
    if len(parts) != 3:
        return math.inf
    try:
        end = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))["exp"]
        return float(end)
    except (binascii.Error, ValueError, TypeError, KeyError):
        return math.inf


def _is_streamed(request: httpx.Request) -> bool:
    """Whether the body of a request cannot be sent again."""
    return not isinstance(request.stream, httpx.ByteStream)
