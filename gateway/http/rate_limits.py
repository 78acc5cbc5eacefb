"""Rate limits on requests, written bytes and connections, by subject or address (GATEWAY_RATE_…). Plain ASGI."""

import asyncio
import math
from collections import Counter
from collections.abc import Awaitable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.access.rates import Rate, RateLimits
from gateway.http.request_metrics import RequestMetrics
from gateway.http.responses import send_problem
from gateway.wire.problems import RateLimited

_LONGEST_PAUSE_S = 5.0
"""The longest pause in seconds between reads from a WebSocket whose client writes too fast."""


class RateLimiter:
    """ASGI middleware behind authentication, which provides the subject."""

    def __init__(self, app: ASGIApp, limits: RateLimits, metrics: RequestMetrics) -> None:
        self._app = app
        self._metrics = metrics
        self._requests = Rate(limits.requests) if limits.requests else None
        self._bytes = Rate(limits.bytes) if limits.bytes else None
        self._connections = limits.connections
        self._connected: Counter[str] = Counter()

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] not in ("http", "websocket"):
            return self._app(scope, receive, send)
        keys = _keys(scope)
        refusal = self._refusal(scope, keys)
        if refusal is not None:
            return self._refuse(refusal, scope, receive, send)
        if self._requests is not None:
            for key in keys:
                self._requests.take(key)
        stays = _stays(scope)
        if self._bytes is None and not (stays and self._connections):
            return self._app(scope, receive, send)
        return self._follow(keys, stays, scope, receive, send)

    def _refusal(self, scope: Scope, keys: list[str]) -> RateLimited | None:
        for rate, what in ((self._requests, "requests"), (self._bytes if _writes(scope) else None, "bytes")):
            wait = 0.0 if rate is None else max(rate.wait(key) for key in keys)
            if rate is not None and wait > 0:
                return RateLimited(what, rate.quota, math.ceil(wait))
        if self._connections and _stays(scope) and any(self._connected[key] >= self._connections for key in keys):
            return RateLimited("connections", self._connections, 5)
        return None

    async def _refuse(self, problem: RateLimited, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            self._metrics.count(scope["method"], "none", problem.status, 0.0)
            await send_problem(problem, send)
            return
        await receive()  # websocket.connect
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close", "code": 1013, "reason": problem.detail})

    async def _follow(self, keys: list[str], stays: bool, scope: Scope, receive: Receive, send: Send) -> None:
        """Count received bytes, and a lasting connection while it is open."""

        async def receive_counted() -> Message:
            message = await receive()
            size = len(message.get("body") or message.get("bytes") or message.get("text") or b"")
            if size and self._bytes is not None:
                for key in keys:
                    self._bytes.take(key, size)
                if scope["type"] == "websocket":
                    await asyncio.sleep(min(_LONGEST_PAUSE_S, max(self._bytes.wait(key) for key in keys)))
            return message

        if not stays:
            await self._app(scope, receive_counted, send)
            return
        self._connected.update(keys)
        try:
            await self._app(scope, receive_counted, send)
        finally:
            self._connected.subtract(keys)
            self._connected += Counter()  # drop zero counts


def address_of(scope: Scope) -> str:
    """Return the address of the client or, behind a proxy, that of the proxy."""
    client = scope.get("client")
    return "" if client is None else str(client[0])


def _keys(scope: Scope) -> list[str]:
    """Return the keys to count a client by: its subject or, without one, its address."""
    access = scope.get("gateway.access")
    if access is not None and access.subject is not None:
        return [f"subject {access.subject}"]
    return [f"address {address_of(scope)}"]


def _writes(scope: Scope) -> bool:
    return scope["type"] == "websocket" or scope["method"] not in ("GET", "HEAD", "OPTIONS")


def _stays(scope: Scope) -> bool:
    return scope["type"] == "websocket" or any(
        name == b"accept" and b"text/event-stream" in value for name, value in scope["headers"]
    )
