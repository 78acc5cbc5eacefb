"""Limits on request bodies in transit: their total size in memory, and the minimum speed of each. Plain ASGI."""

import asyncio
from collections.abc import Awaitable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.asgi.answers import BODY_IS_HERE, directly
from gateway.asgi.coroutines import Rest
from gateway.http.request_metrics import RequestMetrics
from gateway.http.responses import send_problem
from gateway.settings import BodyLimits
from gateway.wire.problems import Overloaded, Problem, RequestTimeout


class BoundedBodies(Collector):
    """ASGI middleware in front of everything that reads a body. An agent's output is not limited here: it is read as a
    stream, and may pause for as long as the lease of its turn. What is kept of it has a limit of its own."""

    def __init__(self, app: ASGIApp, limits: BodyLimits, metrics: RequestMetrics) -> None:
        self._app = app
        self.answer_directly = directly(app)
        """See `AnswerDirectly`: a body that is here is not in transit."""
        self._metrics = metrics
        self._limits = limits
        self._held = 0
        self._refused = {Overloaded.code: 0, RequestTimeout.code: 0}

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] != "http" or BODY_IS_HERE in scope or not _is_bounded(scope["method"], scope["path"]):
            return self._app(scope, receive, send)
        return self._read(scope, receive, send)

    async def _read(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = _Body(self, receive, send)
        try:
            await self._app(scope, body.receive, body.send)
        except Problem as problem:  # raised by middleware that reads the body
            if body.answering:
                raise
            self._metrics.count_problem(scope["method"], "none", problem)
            await send_problem(problem, send)
        finally:
            self.release(body)

    def take(self, body: "_Body", size: int) -> None:
        """Count received bytes.

        Raises:
            Overloaded: all bodies together are too large.
        """
        if self._held + size > self._limits.bytes:
            raise self.refusal(Overloaded("too many bodies are coming in; try again in a moment"))
        self._held += size
        body.held += size

    def release(self, body: "_Body") -> None:
        """Stop counting a body that is complete or was abandoned."""
        self._held -= body.held
        body.held = 0

    def refusal(self, problem: Problem) -> Problem:
        """Count a refusal and return its problem."""
        self._refused[problem.code] += 1
        return problem

    def deadline(self, started: float, now: float, size: int) -> float:
        """Return when the next bytes of a body must have arrived."""
        limits = self._limits
        return min(now + limits.seconds, started + limits.seconds + size / limits.rate)

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics."""
        yield GaugeMetricFamily("gateway_body_bytes", "Bytes of request bodies in progress.", value=self._held)
        refused = CounterMetricFamily(
            "gateway_refused_bodies",
            "Request bodies refused: too many bytes in progress, or too slow.",
            labels=["code"],
        )
        for code, count in self._refused.items():
            refused.add_metric([code], count)
        yield refused


def _is_bounded(method: str, path: str) -> bool:
    return method in ("PATCH", "PUT") or (method == "POST" and not path.endswith("/output"))


class _Body:
    """A request body in transit."""

    __slots__ = ("_bodies", "_complete", "_receive", "_send", "_size", "_started", "answering", "held")

    def __init__(self, bodies: BoundedBodies, receive: Receive, send: Send) -> None:
        self._bodies = bodies
        self._receive = receive
        self._send = send
        self._started: float | None = None
        self._size = 0
        self._complete = False
        self.held = 0
        self.answering = False

    async def receive(self) -> Message:
        receiving = self._receive().__await__()
        try:
            waits_for = next(receiving)
        except StopIteration as received:  # most bodies have already arrived, and need no timer
            message: Message = received.value
        else:
            rest = Rest(receiving, waits_for)
            message = await (rest if self._complete else self._in_time(rest))
        if not self._complete:
            self._count(message)
        return message

    async def _in_time(self, receiving: Awaitable[Message]) -> Message:
        now = asyncio.get_running_loop().time()
        if self._started is None:
            self._started = now
        try:
            async with asyncio.timeout_at(self._bodies.deadline(self._started, now, self._size)):
                return await receiving
        except TimeoutError:
            raise self._bodies.refusal(RequestTimeout("the body did not come in time")) from None

    def _count(self, message: Message) -> None:
        if message["type"] != "http.request" or not message.get("more_body", False):
            self._complete = True
            self._bodies.release(self)
        else:
            size = len(message.get("body", b""))
            self._size += size
            self._bodies.take(self, size)

    async def send(self, message: Message) -> None:
        self.answering = True
        await self._send(message)
