"""What a request that waits keeps: its connection, and a place among those who wait."""

import asyncio
import gc
import weakref
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from gateway.http.long_poll import LongPolls
from gateway.http.request_metrics import RequestMetrics
from gateway.http.waits import OpenStream, WaitForChange
from gateway.watch.answers import AnswerBudget
from gateway.watch.filter import ChangeFilter
from gateway.watch.project import WatchedProject
from gateway.watch.waiters import Waiters


class _OfAHandler:
    """Something that a handler has while it looks."""


async def _kept_while_waiting(kind: str) -> list[Any]:
    """Let a request wait; what is alive then of what its handler had."""
    project = WatchedProject(AnswerBudget(0, 0))
    held, left, alive = asyncio.Event(), asyncio.Event(), list[weakref.ref[_OfAHandler]]()

    async def handler(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        mine = _OfAHandler()
        alive.append(weakref.ref(mine))
        if kind == "long poll":
            raise WaitForChange(project, None, ChangeFilter(), 60)
        raise OpenStream("demo", project, ChangeFilter(), None)

    messages: list[Message] = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> Message:
        if messages:
            return messages.pop()
        held.set()
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        pass

    feed: Any = SimpleNamespace(events=None)
    presence: Any = SimpleNamespace()
    turns: Any = SimpleNamespace()
    waiting = LongPolls(handler, Waiters(), feed, presence, RequestMetrics(), turns=turns, heartbeat=60)
    scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "query_string": b""}
    request = asyncio.create_task(waiting(scope, receive, send))
    await held.wait()
    gc.collect()
    kept = [each for each in (reference() for reference in alive) if each is not None]
    left.set()
    await request
    return kept


@pytest.mark.parametrize("kind", ["long poll", "event stream"])
def test_nothing_of_the_handlers_is_alive_while_a_request_waits(kind: str) -> None:
    assert asyncio.run(_kept_while_waiting(kind)) == []
