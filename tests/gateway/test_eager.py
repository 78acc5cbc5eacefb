"""A coroutine that is run at once ends as it would in a task, whatever it waits for."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from gateway.asgi.coroutines import run_at_once


class _Sends:
    """A `send` as servers have them, and what it has written."""

    def __init__(self) -> None:
        self.written: list[str] = []
        self.gate = asyncio.Event()

    async def at_once(self) -> None:
        self.written.append("all")

    async def before(self) -> None:
        await self.gate.wait()
        self.written.append("all")

    async def between(self) -> None:
        self.written.append("half")
        await asyncio.sleep(0)
        await self.gate.wait()
        self.written.append("all")

    async def in_a_task(self) -> None:
        self.written.append("half")
        await asyncio.wait_for(self.gate.wait(), 30)
        self.written.append("all")

    async def failing(self) -> None:
        await self.gate.wait()
        raise OSError("the client has left")


def test_what_does_not_wait_has_ended() -> None:
    async def run() -> None:
        sends = _Sends()
        assert run_at_once(sends.at_once()) is None
        assert sends.written == ["all"]

    asyncio.run(run())


@pytest.mark.parametrize("kind", [_Sends.before, _Sends.between, _Sends.in_a_task])
@pytest.mark.parametrize("early", [True, False], ids=["free before it is awaited", "free afterwards"])
def test_what_waits_is_finished(kind: Callable[[_Sends], Coroutine[Any, Any, None]], early: bool) -> None:
    async def run() -> None:
        sends = _Sends()
        rest = run_at_once(kind(sends))
        assert rest is not None
        assert "all" not in sends.written
        if early:
            sends.gate.set()
        else:
            asyncio.get_running_loop().call_soon(sends.gate.set)
        await rest
        assert sends.written[-1] == "all"

    asyncio.run(run())


def test_a_failure_is_told_to_who_waits_for_the_rest() -> None:
    async def run() -> None:
        async def fails_at_once() -> None:
            raise OSError("the client has left")

        for send in (fails_at_once, _Sends().failing):
            rest = run_at_once(send())
            assert rest is not None
            if send is not fails_at_once:
                send.__self__.gate.set()  # type: ignore[attr-defined]
            with pytest.raises(OSError, match="has left"):
                await rest

    asyncio.run(run())


def test_who_is_cancelled_while_it_waits_cancels_the_rest() -> None:
    async def run() -> None:
        ended: list[str] = []

        async def send() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                ended.append("cancelled")

        async def wait() -> None:
            rest = run_at_once(send())
            assert rest is not None
            await rest

        waiting = asyncio.create_task(wait())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        assert waiting.cancelled()
        assert ended == ["cancelled"]

    asyncio.run(run())


def test_any_awaitable_is_run() -> None:
    async def run() -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        rest = run_at_once(future)
        assert rest is not None
        future.set_result(None)
        await rest

    asyncio.run(run())
