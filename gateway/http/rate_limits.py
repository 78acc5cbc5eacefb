"""Rate limits on requests, written bytes and connections, by subject and by address (GATEWAY_RATE_…). Plain ASGI."""

import asyncio
import functools
import ipaddress
import math
import time
from collections import Counter
from collections.abc import Awaitable, Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.access.rates import ADDRESS_SHARE, Rate, RateLimits
from gateway.asgi.answers import DirectAnswers, directly
from gateway.http.request_metrics import RequestMetrics
from gateway.http.responses import send_problem
from gateway.wire.problems import RateLimited

_LONGEST_PAUSE_S = 5.0
"""The longest pause in seconds between reads from a WebSocket whose client writes too fast."""


class RateLimiter:
    """ASGI middleware behind authentication, which provides the subject."""

    def __init__(self, app: ASGIApp, limits: RateLimits, metrics: RequestMetrics) -> None:
        self._app = app
        self._answer_directly = directly(app)
        self._metrics = metrics
        self._requests = Limit(limits.requests) if limits.requests else None
        self._bytes = Limit(limits.bytes) if limits.bytes else None
        self._connections = limits.connections
        self._connected: Counter[str] = Counter()

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] not in ("http", "websocket"):
            return self._app(scope, receive, send)
        client, address = _keys(scope)
        refusal = self._refusal(scope, client, address)
        if refusal is not None:
            return self._refuse(refusal, scope, receive, send)
        if self._requests is not None:
            self._requests.take(client, address)
        stays = _stays(scope)
        if self._bytes is None and not (stays and self._connections):
            return self._app(scope, receive, send)
        return self._follow(client, address, stays, scope, receive, send)

    def answer_directly(self, scope: Scope, body: bytes, server: DirectAnswers) -> bool:
        """See `AnswerDirectly`."""
        client, address = _keys(scope)
        if self._refusal(scope, client, address) is not None or not self._answer_directly(scope, body, server):
            return False
        if self._requests is not None:
            self._requests.take(client, address)
        if body and self._bytes is not None:
            self._bytes.take(client, address, len(body))
        return True

    def _refusal(self, scope: Scope, client: str, address: str) -> RateLimited | None:
        for limit, what in ((self._requests, "requests"), (self._bytes if _writes(scope) else None, "bytes")):
            if limit is not None:
                wait, quota = limit.wait(client, address)
                if wait > 0:
                    return RateLimited(what, quota, math.ceil(wait))
        if self._connections and _stays(scope):
            for key, quota in ((client, self._connections), (address, self._connections * ADDRESS_SHARE)):
                if self._connected[key] >= quota:
                    return RateLimited("connections", quota, 5)
        return None

    async def _refuse(self, problem: RateLimited, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            self._metrics.count_problem(scope["method"], "none", problem)
            await send_problem(problem, send)
            return
        await receive()  # websocket.connect
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close", "code": 1013, "reason": problem.detail})

    async def _follow(self, client: str, address: str, stays: bool, scope: Scope, receive: Receive, send: Send) -> None:
        """Count received bytes, and a lasting connection while it is open."""

        async def receive_counted() -> Message:
            message = await receive()
            size = len(message.get("body") or message.get("bytes") or message.get("text") or b"")
            if size and self._bytes is not None:
                self._bytes.take(client, address, size)
                if scope["type"] == "websocket":
                    await asyncio.sleep(min(_LONGEST_PAUSE_S, self._bytes.wait(client, address)[0]))
            return message

        if not stays:
            await self._app(scope, receive_counted, send)
            return
        self._connected.update((client, address))
        try:
            await self._app(scope, receive_counted, send)
        finally:
            self._connected.subtract((client, address))
            self._connected += Counter()  # drop zero counts


class Limit:
    """A rate of each client, and one of each address.

    Args:
        quota: of a client per minute.
        clock: seconds, monotonic.
    """

    __slots__ = ("_of_address", "_of_client")

    def __init__(self, quota: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._of_client = Rate(quota, clock)
        self._of_address = Rate(quota * ADDRESS_SHARE, clock)

    def take(self, client: str, address: str, amount: float = 1) -> None:
        self._of_client.take(client, amount)
        self._of_address.take(address, amount)

    def wait(self, client: str, address: str) -> tuple[float, int]:
        """Return in how many seconds something may be taken, and the quota that says so."""
        wait = self._of_client.wait(client)
        if wait > 0:
            return wait, self._of_client.quota
        return self._of_address.wait(address), self._of_address.quota


def address_of(scope: Scope) -> str:
    """Return the address of the client, as it is counted: an IPv6 client has a whole network of 64 bits."""
    client = scope.get("client")
    if client is None:
        return ""
    address = str(client[0])
    return _network_of(address) if ":" in address else address


@functools.lru_cache(4096)
def _network_of(address: str) -> str:
    try:
        parsed = ipaddress.IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.IPv6Network((parsed, 64), strict=False))


def _keys(scope: Scope) -> tuple[str, str]:
    """Return the keys to count a client and its address by. Without a subject, a client is an address."""
    address = address_of(scope)
    access = scope.get("gateway.access")
    subject = None if access is None else access.subject
    return f"address {address}" if subject is None else f"subject {subject}", f"all of {address}"


def _writes(scope: Scope) -> bool:
    return scope["type"] == "websocket" or scope["method"] not in ("GET", "HEAD", "OPTIONS")


def _stays(scope: Scope) -> bool:
    if scope["type"] == "websocket" or (scope["path"].endswith("/events") and "/turns/" in scope["path"]):
        return True
    return any(name == b"accept" and b"text/event-stream" in value for name, value in scope["headers"])
