"""Limits on request bodies in progress: their total size in memory, and the minimum speed of each. Plain ASGI.

A body is in progress from its first byte until its request is answered, waits or ends, since it is kept meanwhile, or
what was decoded of it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from functools import partial

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.asgi.answers import BODY_IS_HERE, directly
from gateway.asgi.coroutines import Rest
from gateway.asgi.requests import named_headers
from gateway.http.request_metrics import RequestMetrics
from gateway.http.responses import send_problem
from gateway.settings import BodyLimits
from gateway.wire.json import MOST_VALUES, marks_within
from gateway.wire.media_types import MSGPACK
from gateway.wire.problems import Overloaded, Problem, RequestTimeout

WAITS = "gateway.waits"
"""Key of the scope: what to call once the request waits, without its body."""
_SMALL_BYTES = 2048
"""A body that has arrived as a whole and has no more than this is not counted: connections are, and what is decoded
of it is little."""
_VALUE_BYTES = 100
"""About what a decoded value takes, beyond the bytes of its text."""


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
        here = scope.get(BODY_IS_HERE)
        is_small = here is not None and len(here) <= _SMALL_BYTES
        if is_small or scope["type"] != "http" or not _is_bounded(scope):
            return self._app(scope, receive, send)
        body = _Body(self, _bytes_of_values(scope), receive, send)
        if here is not None:  # the server can hold the request, if nothing is put between the two
            return self._answer(body, scope, receive, send)
        return self._answer(body, scope, body.receive, body.send)

    async def _answer(self, body: "_Body", scope: Scope, receive: Receive, send: Send) -> None:
        scope[WAITS] = partial(self.release, body)
        try:
            if BODY_IS_HERE in scope:
                body.count(scope[BODY_IS_HERE])
            await self._app(scope, receive, send)
        except Problem as problem:  # raised here, or by middleware that reads the body
            if body.answering:
                raise
            self._metrics.count_problem(scope["method"], "none", problem)
            await send_problem(problem, send)
        finally:
            self.release(body)
            scope.pop(WAITS, None)  # a cycle, with the server's side of the request

    def take(self, body: "_Body", size: int, decoded: int = 0) -> None:
        """Count received bytes, and what is decoded of them. The latter never refuses a request that is alone.

        Raises:
            Overloaded: all bodies together are too large.
        """
        alone = self._held == body.held
        if (body.size if alone else self._held + size + decoded) > self._limits.bytes:
            raise self.refusal(Overloaded("too many bodies are in progress; try again in a moment"))
        self._held += size + decoded
        body.held += size + decoded

    def release(self, body: "_Body") -> None:
        """Stop counting a body of a request that is answered, waits or has ended."""
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
        yield GaugeMetricFamily(
            "gateway_body_bytes",
            "Bytes of request bodies in progress, and of what is decoded of them.",
            value=self._held,
        )
        refused = CounterMetricFamily(
            "gateway_refused_bodies",
            "Request bodies refused: too many bytes in progress, or too slow.",
            labels=["code"],
        )
        for code, count in self._refused.items():
            refused.add_metric([code], count)
        yield refused


def _is_bounded(scope: Scope) -> bool:
    method: str = scope["method"]
    if method == "PATCH":
        return BODY_IS_HERE not in scope  # most updates are taken in at once
    if method == "POST" and not scope["path"].endswith("/output"):
        # A stream of GraphQL lasts long after its short query.
        return not (BODY_IS_HERE in scope and b"text/event-stream" in named_headers(scope).get(b"accept", b""))
    return method == "PUT"


def _bytes_of_values(scope: Scope) -> Callable[[bytes | bytearray], int] | None:
    """Return what estimates the memory of the values that are decoded of a part of a body; None: it is not decoded."""
    media_type = named_headers(scope).get(b"content-type", b"").partition(b";")[0].strip().lower()
    if media_type == b"application/json":
        return _of_json
    return _of_msgpack if media_type == MSGPACK.encode() else None


def _of_json(part: bytes | bytearray) -> int:
    return len(part) + _VALUE_BYTES * marks_within(part, 0, len(part))


def _of_msgpack(part: bytes | bytearray) -> int:
    return len(part) + _VALUE_BYTES * len(part)


class _Body:
    """A request body in progress."""

    __slots__ = (
        "_bodies",
        "_bytes_of_values",
        "_complete",
        "_decoded",
        "_receive",
        "_send",
        "_started",
        "answering",
        "held",
        "size",
    )

    def __init__(
        self,
        bodies: BoundedBodies,
        bytes_of_values: Callable[[bytes | bytearray], int] | None,
        receive: Receive,
        send: Send,
    ) -> None:
        self._bodies = bodies
        self._bytes_of_values = bytes_of_values
        self._decoded = 0
        """About how many bytes are decoded of what has arrived."""
        self._receive = receive
        self._send = send
        self._started: float | None = None
        self.size = 0
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
            async with asyncio.timeout_at(self._bodies.deadline(self._started, now, self.size)):
                return await receiving
        except TimeoutError:
            raise self._bodies.refusal(RequestTimeout("the body did not come in time")) from None

    def _count(self, message: Message) -> None:
        if message["type"] != "http.request":
            self._complete = True
            self._bodies.release(self)
            return
        self._complete = not message.get("more_body", False)
        self.count(message.get("body", b""))

    def count(self, part: bytes | bytearray) -> None:
        """Count a part of the body, and what is decoded of it.

        Raises:
            Overloaded: all bodies together are too large.
        """
        self.size += len(part)
        decoded = 0
        if self._bytes_of_values is not None:  # a body of more values is refused, or decoded in a worker process
            before, most = self._decoded, self.size + _VALUE_BYTES * MOST_VALUES
            self._decoded = min(before + self._bytes_of_values(part), most)
            decoded = self._decoded - before
        self._bodies.take(self, len(part), decoded)

    async def send(self, message: Message) -> None:
        if not self.answering:
            self.answering = True
            self._bodies.release(self)
        await self._send(message)
