"""What storage promises of changes that bear a key (`storage/contract.py`)."""

import asyncio

import pytest

from storage import (
    AlreadyDone,
    Commit,
    CreateSession,
    CreateTurn,
    Done,
    NewBlock,
    Once,
    SessionMissing,
    Storage,
    TurnConflict,
    UpdateTurn,
)
from tests.contract.conftest import Clock, Open, Run

_DAY_MS = 24 * 3600 * 1000


async def _refused(storage: Storage, change: CreateSession | CreateTurn | UpdateTurn, project: str = "p") -> Done:
    create = isinstance(change, CreateSession)
    made = storage.create_session(project, change) if create else storage.write_turn(project, change)
    with pytest.raises(AlreadyDone) as refused:
        await made
    return refused.value.done


def test_a_change_with_a_key_is_made_once(open_storage: Open, run: Run, clock: Clock) -> None:
    async def main() -> None:
        async with open_storage(clock=clock) as storage:
            heard: list[Commit] = []
            storage.listen(heard.extend)
            assert await storage.done("p", "a") is None
            session = await storage.create_session("p", CreateSession("s", None, Once("a", b"1")))
            turn = (await storage.write_turn("p", CreateTurn("s", "t", "", Once("b", b"2")))).turn
            blocks = (NewBlock("text", b"1"), NewBlock("text", b"2"))
            update = UpdateTurn("s", "t", turn.sequence, "running", blocks=blocks, once=Once("c", b"3"))
            updated = (await storage.write_turn("p", update)).turn
            await storage.write_turn("p", UpdateTurn("s", "t", updated.sequence, "completed"))
            done = [Done(b"1", "s", None, 0, session.session.created_at), Done(b"2", "s", "t", 0, turn.created_at)]
            done.append(Done(b"3", "s", "t", 2, updated.last_updated))
            assert [await storage.done("p", key) for key in "abc"] == done
            clock.now += _DAY_MS - 1
            assert await _refused(storage, CreateSession("s2", None, Once("a", b"1"))) == done[0]
            assert await _refused(storage, CreateTurn("none", "t2", "", Once("b", b"another"))) == done[1]
            assert await _refused(storage, update) == done[2]
            assert len(heard) == 4
            assert await storage.session("p", "s2") is None
            assert await storage.done("other", "a") is None
            await storage.create_session("other", CreateSession("s", None, Once("a", b"1")))

    run(main())


def test_of_many_changes_with_one_key_exactly_one_is_made(open_storage: Open, run: Run) -> None:
    async def main() -> None:
        async with open_storage() as storage:
            changes = [CreateSession(f"s{number}", None, Once("k", b"")) for number in range(50)]
            asked = [storage.create_session("p", change) for change in changes]
            results = await asyncio.gather(*asked, return_exceptions=True)
            made = [result for result in results if not isinstance(result, BaseException)]
            assert len(made) == 1
            refused = {result.done.session_id for result in results if isinstance(result, AlreadyDone)}
            assert refused == {made[0].session.session_id}
            assert len(await storage.sessions("p", limit=100)) == 1

    run(main())


def test_a_key_outlives_the_process_and_is_free_again_after_a_day(open_storage: Open, run: Run, clock: Clock) -> None:
    async def main() -> None:
        async with open_storage(clock=clock) as storage:
            await storage.create_session("p", CreateSession("s", None, Once("k", b"")))
        async with open_storage(clock=clock) as storage:
            assert (await _refused(storage, CreateSession("s2", None, Once("k", b"")))).session_id == "s"
            clock.now += _DAY_MS
            assert await storage.done("p", "k") is None
            await storage.create_session("p", CreateSession("s2", None, Once("k", b"new")))
            done = await storage.done("p", "k")
            assert done is not None
            assert done.session_id == "s2"

    run(main())


def test_a_change_that_was_refused_leaves_its_key_free(open_storage: Open, run: Run) -> None:
    async def main() -> None:
        async with open_storage() as storage:
            once = Once("k", b"")
            with pytest.raises(SessionMissing):
                await storage.write_turn("p", CreateTurn("s", "t", "", once))
            await storage.create_session("p", CreateSession("s", None))
            with pytest.raises(TurnConflict):
                await storage.create_session("p", CreateSession("s", None, once))
            assert await storage.done("p", "k") is None
            await storage.write_turn("p", CreateTurn("s", "t", "", once))

    run(main())
