"""Equal reads that are asked for at the same time: how often they run, and what each caller is told."""

import asyncio

import pytest

from storage.shared_reads import SharedReads


class _Reads:
    """Reads that last until they are let go; each returns its number."""

    def __init__(self) -> None:
        self.shared = SharedReads()
        self.begun = 0
        self.begin = asyncio.Event()
        self.end = asyncio.Event()

    async def _read(self) -> int:
        self.begun += 1
        number = self.begun
        self.begin.set()
        await self.end.wait()
        if number == 3:
            raise ValueError(number)
        return number

    def ask(self, question: str = "q") -> asyncio.Task[int]:
        return asyncio.create_task(self.shared.read(question, self._read))


def test_who_asks_during_a_read_gets_the_next_one() -> None:
    async def work() -> None:
        reads = _Reads()
        first = [reads.ask() for _ in range(100)]
        await reads.begin.wait()
        second = [reads.ask() for _ in range(100)]
        reads.end.set()
        assert await asyncio.gather(*first) == [1] * 100
        assert await asyncio.gather(*second) == [2] * 100
        with pytest.raises(ValueError, match="3"):
            await reads.ask()
        assert await reads.ask() == 4

    asyncio.run(asyncio.wait_for(work(), 60))


def test_other_questions_do_not_wait() -> None:
    async def work() -> None:
        reads = _Reads()
        first = reads.ask("a")
        await reads.begin.wait()
        reads.begin.clear()
        second = reads.ask("b")
        await reads.begin.wait()
        reads.end.set()
        assert (await first, await second) == (1, 2)

    asyncio.run(asyncio.wait_for(work(), 60))


def test_a_caller_who_leaves_takes_no_read_from_the_others() -> None:
    async def work() -> None:
        reads = _Reads()
        leaves, stays = reads.ask(), reads.ask()
        await reads.begin.wait()
        later, latest = reads.ask(), reads.ask()
        await asyncio.sleep(0)
        leaves.cancel()
        later.cancel()
        await asyncio.wait([leaves, later])
        reads.end.set()
        assert (await stays, await latest) == (1, 2)
        assert leaves.cancelled()
        assert later.cancelled()

    asyncio.run(asyncio.wait_for(work(), 60))
