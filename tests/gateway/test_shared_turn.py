"""Work for many clients shares the turns of the event loop."""

import asyncio
from collections import Counter

from gateway.shared_turn import Pieces, SharedTurn
from tests.support.clocks import TickingClock
from tests.support.iterations import Iterations
from tests.support.turns import until


def _pieces(name: str, count: int, done: list[str]) -> Pieces:
    for number in range(count):
        done.append(f"{name}{number}")
        yield 0.0
    return 0.0


def test_work_that_fits_into_the_turn_is_done_at_once_and_without_a_callback() -> None:
    async def work() -> None:
        done: list[str] = []
        turn = SharedTurn(TickingClock(0.0))
        for name in "abc":
            turn.run(_pieces(name, 2, done))
        await turn.take()
        assert done == ["a0", "a1", "b0", "b1", "c0", "c1"]
        assert not turn.is_over()
        await asyncio.sleep(0)
        assert done[6:] == []

    asyncio.run(work())


def test_what_does_not_fit_is_done_in_later_turns_and_each_work_in_turn() -> None:
    async def work() -> None:
        done: list[str] = []
        turn = SharedTurn(TickingClock(0.001))
        turn.run(_pieces("a", 20, done))
        turn.run(_pieces("b", 3, done))
        first = len(done)
        assert 0 < first < 20
        per_turn = []
        while len(done) < 23:
            before = len(done)
            await asyncio.sleep(0)
            per_turn.append(len(done) - before)
        assert all(0 < count <= 6 for count in per_turn)
        assert [each for each in done if each[0] == "a"] == [f"a{number}" for number in range(20)]
        assert done.index("b2") < done.index("a19")  # the shorter work does not wait for the longer one

    asyncio.run(work())


def test_work_that_leaves_much_to_tasks_is_begun_in_several_turns() -> None:
    def leaving(done: list[int]) -> Pieces:
        for number in range(20):
            done.append(number)
            yield 0.002
        return 0.0

    async def work() -> None:
        done: list[int] = []
        turn = SharedTurn(TickingClock(0.0))
        turn.run(leaving(done))
        while len(done) < 20:
            before = len(done)
            await asyncio.sleep(0)
            assert 0 < len(done) - before <= 3

    asyncio.run(work())


def test_tasks_go_on_in_the_order_in_which_they_came_and_not_all_in_one_turn() -> None:
    async def work() -> None:
        turn = SharedTurn(TickingClock(0.001))
        done: list[int] = []
        turns = 0

        async def task(number: int) -> None:
            await turn.take()
            done.append(number)
            turn.note()

        tasks = [asyncio.create_task(task(number)) for number in range(30)]
        while len(done) < 30:
            before = len(done)
            await asyncio.sleep(0)
            turns += 1
            assert len(done) - before <= 6
        assert done == list(range(30))
        await asyncio.gather(*tasks)

    asyncio.run(work())


def test_a_task_that_is_cancelled_while_it_waits_does_not_hold_up_the_others() -> None:
    async def work() -> None:
        turn = SharedTurn(TickingClock(0.001))
        turn.run(_pieces("a", 20, []))
        first, second = (asyncio.create_task(turn.take()) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        await second
        assert first.cancelled()

    asyncio.run(work())


def test_work_that_fails_does_not_hold_up_the_others() -> None:
    def failing() -> Pieces:
        yield 0.0
        raise RuntimeError("a fault")

    async def work() -> None:
        done: list[str] = []
        turn = SharedTurn(TickingClock(0.001))
        turn.run(_pieces("a", 10, done))
        turn.run(failing())
        turn.run(_pieces("b", 1, done))
        await until(lambda: len(done) == 11)

    asyncio.run(work())


def test_others_have_a_turn_while_much_is_done() -> None:
    async def work() -> None:
        done: list[str] = []
        turn = SharedTurn(TickingClock(0.001))
        turn.run(_pieces("a", 100, done))
        others = 0
        while len(done) < 100:
            await asyncio.sleep(0)
            others += 1
        assert others >= 100 / 6

    asyncio.run(work())


def test_long_work_and_short_work_share_each_turn() -> None:
    async def work() -> None:
        iterations = Iterations()
        turn = SharedTurn(TickingClock(0.0005))
        slices, pieces = Counter[int](), Counter[int]()

        async def long_work() -> None:
            for _ in range(20):
                await turn.next_slice()
                slices[iterations.count] += 1

        def short_work() -> Pieces:
            for _ in range(100):
                pieces[iterations.count] += 1
                yield 0.0
            return 0.0

        tasks = [asyncio.create_task(long_work()) for _ in range(2)]
        for _ in range(2):
            turn.run(short_work())
        await asyncio.gather(*tasks)
        assert max(slices.values()) == 1
        assert all(pieces[iteration] <= 2 for iteration in slices)  # the slice is assumed to take 3 ms of 4
        assert max(pieces.values()) <= 8
        assert pieces.total() > 40  # neither keeps the other one waiting
        await until(lambda: pieces.total() == 200)
        iterations.stop()

    asyncio.run(work())


def test_long_work_goes_on_however_much_short_work_waits() -> None:
    async def work() -> None:
        iterations = Iterations()
        turn = SharedTurn(TickingClock(0.0005))
        for _ in range(1000):
            turn.run(_pieces("a", 2, []))
        began = iterations.count
        for _ in range(20):
            await turn.next_slice()
        assert iterations.count - began <= 2 * 20 + 2  # in every other turn
        iterations.stop()

    asyncio.run(work())


def test_brief_work_is_done_in_a_turn_that_is_over_but_not_without_end() -> None:
    async def work() -> None:
        turn = SharedTurn(TickingClock(0.001))
        while not turn.is_over():
            pass
        assert [turn.admits_brief() for _ in range(40)] == [*[True] * 32, *[False] * 8]
        await asyncio.sleep(0)
        assert turn.admits_brief()

    asyncio.run(work())
