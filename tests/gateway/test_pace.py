"""Slices of long work: one per iteration of the event loop, whoever has work to do."""

import asyncio
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.pace import join_parts, next_slice, with_turns
from tests.support.iterations import Iterations


def test_of_all_long_work_one_slice_is_done_per_iteration_and_each_work_in_its_turn() -> None:
    async def main() -> None:
        iterations = Iterations()
        done: list[tuple[int, str]] = []

        async def work(name: str) -> None:
            for _ in range(20):
                await next_slice()
                done.append((iterations.count, name))

        async with asyncio.TaskGroup() as group:
            for name in "abc":
                group.create_task(work(name))
        iterations.stop()
        assert set(Counter(iteration for iteration, _ in done).values()) == {1}
        order = [name for _, name in done]
        assert all(set(order[start : start + 3]) == set("abc") for start in range(0, 60, 3))

    asyncio.run(main())


def test_work_that_is_alone_goes_on_in_the_next_iteration() -> None:
    async def main() -> None:
        iterations = Iterations()
        await next_slice()
        began = iterations.count
        async for _ in with_turns(range(100), 10):
            pass
        iterations.stop()
        assert iterations.count - began == 10

    asyncio.run(main())


def test_who_is_cancelled_in_line_keeps_nobody_waiting() -> None:
    async def main() -> None:
        waiting = [asyncio.create_task(next_slice()) for _ in range(5)]
        await asyncio.sleep(0)
        for each in waiting[1:4]:
            each.cancel()
        async with asyncio.timeout(60):
            await waiting[4]
            await next_slice()
        assert [each.cancelled() for each in waiting] == [False, True, True, True, False]

    asyncio.run(main())


def test_each_event_loop_has_its_own_line() -> None:
    async def leave_somebody() -> None:
        asyncio.get_running_loop().create_task(_forever())
        await asyncio.sleep(0)

    async def _forever() -> None:
        while True:
            await next_slice()

    for _ in range(3):
        asyncio.run(leave_somebody())
    asyncio.run(next_slice())


def test_a_slice_ends_after_some_time_however_few_items_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("gateway.pace.time", SimpleNamespace(perf_counter=lambda: now))

    async def main() -> None:
        nonlocal now
        iterations, slices = Iterations(), list[int]()
        async for _ in with_turns(range(32)):
            slices.append(iterations.count)
            now += 0.0004
        iterations.stop()
        assert Counter(Counter(slices).values()) == {4: 8}

    asyncio.run(main())


class _Counting(ThreadPoolExecutor):
    """Counts what it is given to do."""

    jobs = 0

    def submit(self, *given: Any, **named: Any) -> Any:
        self.jobs += 1
        return super().submit(*given, **named)


def test_much_is_joined_in_another_thread() -> None:
    parts = [b"first", b"a" * 2**22, b"", b"b" * 2**22, b"last"]

    async def work() -> None:
        executor = _Counting(1)
        asyncio.get_running_loop().set_default_executor(executor)
        assert await join_parts(parts) == b"".join(parts)
        assert executor.jobs == 1
        assert await join_parts([b"a", b"b"]) == b"ab"
        assert await join_parts([]) == b""
        assert executor.jobs == 1

    asyncio.run(work())
