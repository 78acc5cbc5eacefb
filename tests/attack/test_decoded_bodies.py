"""What is decoded of bodies is counted until their requests are answered, wait or end."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from starlette.types import Message, Receive, Scope, Send

from gateway.http.bodies import BoundedBodies
from gateway.http.request_metrics import RequestMetrics
from gateway.settings import BodyLimits
from tests.support.turns import until

_LIMIT = 1_000_000
_PATHS = b'{"paths":[' + b'"a.md",' * 2_000 + b'"b.md"]}'
"""The body of a question that takes 14 kB on the wire, and some 200 kB decoded."""


def _held(bodies: BoundedBodies) -> float:
    (held, _) = bodies.collect()
    return float(held.samples[0].value)


class _Request:
    """A request whose handler reads the body and works until it may go on."""

    def __init__(self, bodies: BoundedBodies, body: bytes, kind: bytes) -> None:
        self.status = 0
        self._body = [body[: len(body) // 2], body[len(body) // 2 :]]
        scope: Scope = {"type": "http", "method": "POST", "path": "/status", "headers": [(b"content-type", kind)]}
        self.done = asyncio.ensure_future(bodies(scope, self._receive, self._send))

    async def _receive(self) -> Message:
        body = self._body.pop(0)
        return {"type": "http.request", "body": body, "more_body": bool(self._body)}

    async def _send(self, message: Message) -> None:
        self.status = message.get("status", self.status)


class _Handlers:
    """The application: handlers that read a whole body, and then do what they are told."""

    def __init__(self, then: Callable[[Send], Awaitable[None]]) -> None:
        self.working = 0
        self.goes_on = asyncio.Event()
        self._then = then

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive())["more_body"]:
            pass
        self.working += 1
        await self.goes_on.wait()
        await self._then(send)


async def _answer(send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


async def _wait(send: Send) -> None:
    """The server holds the request, which waits."""


async def _fail(send: Send) -> None:
    raise ZeroDivisionError


async def _stream(send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await asyncio.Event().wait()


def _run(work: Awaitable[None]) -> None:
    async def patiently() -> None:
        await asyncio.wait_for(work, 60)

    asyncio.run(patiently())


@pytest.mark.parametrize("then", [_answer, _wait, _fail, _stream])
def test_many_large_questions_at_once_are_refused_beyond_a_bound(then: Callable[[Send], Awaitable[None]]) -> None:
    async def work() -> None:
        handlers = _Handlers(then)
        bodies = BoundedBodies(handlers, BodyLimits(_LIMIT, 60), RequestMetrics())
        requests = [_Request(bodies, _PATHS, b"application/json; charset=utf-8") for _ in range(30)]
        await until(lambda: handlers.working + sum(each.status == 503 for each in requests) == len(requests))
        assert 2 <= handlers.working <= 5
        assert 100 * 2_000 * handlers.working <= _held(bodies) <= _LIMIT
        handlers.goes_on.set()
        await until(lambda: not _held(bodies))
        for each in requests:
            each.done.cancel()
        await asyncio.gather(*(each.done for each in requests), return_exceptions=True)
        assert _held(bodies) == 0

    _run(work())


@pytest.mark.parametrize("kind", [b"application/json", b"application/msgpack"])
def test_a_question_that_is_alone_is_never_refused_for_what_it_decodes_to(kind: bytes) -> None:
    async def work() -> None:
        handlers = _Handlers(_answer)
        handlers.goes_on.set()
        bodies = BoundedBodies(handlers, BodyLimits(20_000, 60), RequestMetrics())
        request = _Request(bodies, _PATHS, kind)
        await request.done
        assert request.status == 200
        assert _held(bodies) == 0

    _run(work())


def test_a_text_is_counted_by_its_bytes() -> None:
    async def work() -> None:
        handlers = _Handlers(_answer)
        bodies = BoundedBodies(handlers, BodyLimits(_LIMIT, 60), RequestMetrics())
        request = _Request(bodies, b"," * 50_000, b"text/plain")
        await until(lambda: handlers.working == 1)
        assert _held(bodies) == 50_000
        handlers.goes_on.set()
        await request.done

    _run(work())
