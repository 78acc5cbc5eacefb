"""The results of a large batch are handed out in several turns of the event loop, in order."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest

from storage import AppendUpdate, StorageError, Version, VersionConflict
from storage.results import HandingOut, hand_out_in_turns
from tests.contract.conftest import Open, Run
from tests.support.iterations import Iterations
from tests.support.turns import until

_MOST_TOGETHER = 128
_Result = tuple[Any, ...] | StorageError


def test_a_large_batch_is_answered_in_turns(open_storage: Open, run: Run) -> None:
    async def work() -> None:
        async with open_storage() as storage:
            told: list[tuple[int, int]] = []
            iterations = Iterations()

            def note(number: int, result: _Result) -> None:
                assert not isinstance(result, StorageError)
                told.append((number, iterations.count))

            for number in range(600):
                change = AppendUpdate(f"{number}", Version(0), b"x")
                storage.append_and_call("p", (change,), partial(note, number))
            await until(lambda: len(told) == 600)
            iterations.stop()
            assert [number for number, _ in told] == list(range(600))
            # Two portions may come between two counts of a turn.
            assert max(Counter(turn for _, turn in told).values()) <= 2 * _MOST_TOGETHER

    run(work())


def test_a_storage_that_closes_hands_out_everything_first(open_storage: Open, run: Run) -> None:
    async def work() -> None:
        told: list[_Result] = []
        async with open_storage() as storage:
            for number in range(300):
                storage.append_and_call("p", (AppendUpdate(f"{number}", Version(0), b"x"),), told.append)
        assert len(told) == 300

    run(work())


async def _by_calls(results: list[_Result], waiting: list[Callable[[_Result], None]]) -> None:
    done = asyncio.Event()
    if not HandingOut(done.set).add(results, waiting):
        await done.wait()


@pytest.mark.parametrize("hand_out", [_by_calls, hand_out_in_turns])
def test_with_an_error_all_hear_at_once(
    hand_out: Callable[[list[_Result], list[Callable[[_Result], None]]], Awaitable[None]],
) -> None:
    async def work() -> None:
        told: list[tuple[int, int]] = []
        iterations = Iterations()
        results: list[_Result] = [(number,) for number in range(299)]
        results.append(VersionConflict("p", "a", 0, 1))
        waiting = [
            partial(lambda number, result: told.append((number, iterations.count)), number) for number in range(300)
        ]
        await hand_out(results, list(waiting))
        iterations.stop()
        assert [number for number, _ in told] == list(range(300))
        assert len({turn for _, turn in told}) == 1

    asyncio.run(work())


def test_batches_are_handed_out_one_after_another() -> None:
    async def work() -> None:
        told: list[int] = []
        done: list[int] = []
        out = HandingOut(lambda: done.append(len(told)))
        for start in (0, 300, 600):
            waiting = [partial(lambda number, result: told.append(number), start + each) for each in range(300)]
            out.add([()] * 300, list(waiting))
        assert len(told) == _MOST_TOGETHER
        await until(lambda: bool(done))
        assert told == list(range(900))
        assert done == [900]

    asyncio.run(work())
