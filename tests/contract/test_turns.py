"""What storage promises of sessions, turns and blocks (`storage/contract.py`)."""

import asyncio
import random
from typing import Any

import pytest

from storage import (
    AppendUpdate,
    Commit,
    CommittedSession,
    CommittedTurn,
    CreateSession,
    CreateTurn,
    FileHead,
    GrownBlock,
    NewBlock,
    OutputPosition,
    Sequence,
    SessionMissing,
    Storage,
    StorageClosed,
    TurnConflict,
    TurnHead,
    TurnResult,
    UpdateTurn,
    Version,
)
from tests.contract.conftest import Clock, Open, Run


async def _turn(storage: Storage, session: str = "s", turn: str = "t", project: str = "p") -> TurnHead:
    if await storage.session(project, session) is None:
        await storage.create_session(project, CreateSession(session, None))
    return (await storage.write_turn(project, CreateTurn(session, turn, f"prompt of {turn}"))).turn


async def _update(storage: Storage, head: TurnHead, project: str = "p", **change: Any) -> TurnHead:
    change = {"status": "running", **change}
    update = UpdateTurn(head.session_id, head.turn_id, head.sequence, **change)
    return (await storage.write_turn(project, update)).turn


def _blocks(*contents: bytes) -> tuple[NewBlock, ...]:
    return tuple(NewBlock("text", content) for content in contents)


def test_a_turn_is_stored_with_its_prompt_and_its_blocks_as_they_are(open_storage: Open, run: Run) -> None:
    async def work() -> None:
        contents = (b"", b"\xff\x00", "é🎈".encode(), b"x" * 300_000)
        async with open_storage() as storage:
            head = await _turn(storage)
            head = await _update(storage, head, blocks=_blocks(*contents[:2]))
            head = await _update(storage, head, blocks=_blocks(*contents[2:]))
            for after in range(6):
                stored = await storage.read_turn("p", "s", "t", after_block=after)
                assert stored is not None
                assert (stored.head, stored.prompt) == (head, "prompt of t")
                assert [block.index for block in stored.blocks] == list(range(after, 4))
                assert tuple(block.content for block in stored.blocks) == contents[after:]
            page = await storage.read_blocks("p", "s", "t", after_block=1, limit=2, most_bytes=1000)
            assert tuple(block.content for block in page) == contents[1:3]
            assert (head.block_count, head.size) == (4, sum(map(len, contents)))
        async with open_storage() as storage:
            assert await storage.turn_head("p", "s", "t") == head
            stored = await storage.read_turn("p", "s", "t", after_block=2**70)
            assert stored is not None
            assert stored.blocks == ()

    run(work())


def test_a_block_that_grows_is_told_again_to_those_who_may_lack_some_of_it(open_storage: Open, run: Run) -> None:
    async def work() -> None:
        async with open_storage() as storage:

            async def told(after: int) -> list[tuple[int, bytes]]:
                stored = await storage.read_turn("p", "s", "t", after_block=after)
                assert stored is not None
                return [(block.index, block.content) for block in stored.blocks]

            head = await _update(storage, await _turn(storage), blocks=_blocks(b"first"))
            assert not head.grown
            head = await _update(storage, head, blocks=(NewBlock("text", b"a", told_from=1),))
            assert head.grown
            assert await told(2) == [(1, b"a")]
            head = await _update(storage, head, grown=(GrownBlock(1, b"abc"),))
            assert (head.block_count, head.size) == (2, 8)
            assert [await told(after) for after in (1, 2)] == [[(1, b"abc")]] * 2
            head = await _update(storage, head, blocks=(NewBlock("system", b"!", told_from=1),))
            head = await _update(storage, head, grown=(GrownBlock(1, b"ab"),), blocks=(NewBlock("tool_use", b"use"),))
            assert (head.block_count, head.size, head.grown) == (4, 11, False)
            whole = [(0, b"first"), (1, b"ab"), (2, b"!"), (3, b"use")]
            assert [await told(after) for after in range(5)] == [whole, whole[1:], whole[1:], whole[1:], []]
            few = await storage.read_turn("p", "s", "t", after_block=1, most_bytes=3)
            assert few is not None
            assert [block.index for block in few.blocks] == [1, 2]
            on = await storage.read_turn("p", "s", "t", after_block=2, most_bytes=0)
            assert on is not None
            assert [block.index for block in on.blocks] == [1, 2]  # one that the reader lacks is there
            for after, limit, indexes in (
                (0, 2, [0, 1]),
                (2, 1, [1, 2]),
                (3, 1, [1, 2, 3]),
                (0, 9, [0, 1, 2, 3]),
                (4, 1, []),
            ):
                page = await storage.read_turn("p", "s", "t", after_block=after, limit=limit)
                assert page is not None
                assert [block.index for block in page.blocks] == indexes  # those that may have grown do not count
            one = await storage.read_turn("p", "s", "t", after_block=0, most_bytes=0)
            assert one is not None
            assert [block.index for block in one.blocks] == [0]
        async with open_storage() as storage:
            assert await storage.turn_head("p", "s", "t") == head

    run(work())


def test_a_result_stays_until_there_is_another_one(open_storage: Open, run: Run) -> None:
    async def work() -> None:
        async with open_storage() as storage:
            head = await _update(storage, await _turn(storage), result=TurnResult("failed", "why"), settling=True)
            assert (head.status, head.result_status, head.result_error, head.settling) == (
                "running", "failed", "why", True,
            )  # fmt: skip
            head = await _update(storage, head, blocks=_blocks(b"more"))
            assert (head.result_status, head.result_error, head.settling) == ("failed", "why", False)
            head = await _update(storage, head, result=TurnResult("completed"))
            assert (head.result_status, head.result_error) == ("completed", None)
        async with open_storage() as storage:
            assert await storage.turn_head("p", "s", "t") == head

    run(work())


def test_a_listed_prompt_is_cut(open_storage: Open, run: Run) -> None:
    async def work() -> None:
        async with open_storage() as storage:
            await storage.create_session("p", CreateSession("s", None))
            for turn, prompt in (("a", "é" * 5), ("b", "é" * 6)):
                await storage.write_turn("p", CreateTurn("s", turn, prompt))
            listed = await storage.turns("p", "s", limit=9, prompt_length=5)
            assert [(turn.prompt, turn.prompt_cut) for turn in listed] == [("é" * 5, True), ("é" * 5, False)]

    run(work())


def test_what_is_not_there_is_none(open_storage: Open, run: Run) -> None:
    async def work() -> None:
        async with open_storage() as storage:
            assert await storage.sessions("p", limit=10) == []
            for session in ("absent", "s"):  # once without the project, once with the session but without the turn
                assert await storage.session("p", "x") is None
                assert await storage.turn_head("p", session, "x") is None
                assert await storage.read_turn("p", session, "x") is None
                assert await storage.read_blocks("p", session, "x", after_block=0, limit=9, most_bytes=1000) == []
                assert await storage.turns("p", session, limit=10, prompt_length=9) == []
                assert await storage.output_state("p", session, "x") == b""
                assert await storage.changes_since("q", 0) is None
                if session == "absent":
                    await storage.create_session("p", CreateSession("s", None))

    run(work())


def test_a_change_made_for_another_state_is_refused_and_stores_nothing(open_storage: Open, run: Run) -> None:
    async def work() -> None:
        async with open_storage() as storage:
            old = await _turn(storage)
            head = await _update(storage, old, blocks=_blocks(b"1"))
            for sequence in (0, old.sequence, head.sequence + 1):
                update = UpdateTurn("s", "t", Sequence(sequence), "failed", "no", _blocks(b"2"), OutputPosition(9))
                with pytest.raises(TurnConflict) as conflict:
                    await storage.write_turn("p", update)
                assert (conflict.value.expected, conflict.value.found) == (sequence, head.sequence)
            for change in (UpdateTurn("s", "other", Sequence(0), "failed"), CreateTurn("s", "t", "again")):
                with pytest.raises(TurnConflict):
                    await storage.write_turn("p", change)
            for project, session in (("p", "other"), ("other", "s")):
                with pytest.raises(SessionMissing):
                    await storage.write_turn(project, CreateTurn(session, "t", ""))
            with pytest.raises(TurnConflict):
                await storage.create_session("p", CreateSession("s", "again"))
            stored = await storage.read_turn("p", "s", "t")
            assert stored is not None
            assert (stored.head, stored.prompt, len(stored.blocks)) == (head, "prompt of t", 1)
            assert await storage.project_head("other") is None
            project = await storage.project_head("p")
            assert project is not None
            assert project.sequence == head.sequence

    run(work())


def test_of_many_changes_for_one_state_exactly_one_is_stored(open_storage: Open, run: Run) -> None:
    async def work() -> None:
        async with open_storage() as storage:
            head = await _turn(storage)
            tries = [_update(storage, head, blocks=_blocks(str(number).encode())) for number in range(20)]
            results = await asyncio.gather(*tries, return_exceptions=True)
            stored = [result for result in results if isinstance(result, TurnHead)]
            assert len(stored) == 1
            assert sum(isinstance(result, TurnConflict) for result in results) == 19
            assert await storage.turn_head("p", "s", "t") == stored[0]

    run(work())


def test_the_first_change_after_opening_may_be_of_a_turn(open_storage: Open, run: Run) -> None:
    async def work() -> None:
        async with open_storage() as storage:
            head = await _turn(storage)
        async with open_storage() as storage:
            head = await _update(storage, head)
        async with open_storage() as storage:
            await storage.write_turn("p", CreateTurn("s", "t2", ""))
        async with open_storage() as storage:
            await storage.create_session("p", CreateSession("s2", None))
            project = await storage.project_head("p")
            assert project is not None
            assert project.sequence == 5

    run(work())


def test_times_follow_the_status_and_never_run_backwards(open_storage: Open, run: Run, clock: Clock) -> None:
    async def work() -> None:
        async with open_storage(clock=clock) as storage:
            began = clock.now
            head = await _turn(storage)
            assert (head.created_at, head.started_at, head.completed_at) == (began, None, None)
            clock.now += 1000
            head = await _update(storage, head)
            assert (head.last_updated, head.started_at, head.completed_at) == (began + 1000, began + 1000, None)
            clock.now -= 10_000
            head = await _update(storage, head, blocks=_blocks(b"x"))
            assert (head.last_updated, head.started_at) == (began + 1000, began + 1000)
            clock.now += 20_000
            head = await _update(storage, head, status="failed", error="why")
            assert (head.completed_at, head.error) == (clock.now, "why")
            waited = await _turn(storage, turn="never ran")
            waited = await _update(storage, waited, status="cancelled")
            assert (waited.started_at, waited.completed_at) == (None, clock.now)

    run(work())


def test_pages_are_newest_first_and_complete(open_storage: Open, run: Run) -> None:
    async def work() -> None:
        async with open_storage() as storage:
            names = [f"{number * 37 % 11:02}" for number in range(11)]
            for name in names:
                await storage.create_session("p", CreateSession(name, f"title {name}"))
                await _turn(storage, "00", f"turn {name}")
            await _turn(storage, "01", "elsewhere")
            for limit in (1, 3, 11, 50):
                sessions, turns, after = [], [], None
                while page := await storage.sessions("p", after=after, limit=limit):
                    assert len(page) <= limit
                    sessions += [session.session_id for session in page]
                    after = sessions[-1]
                assert sessions == names[::-1]
                after = None
                while turn_page := await storage.turns("p", "00", after=after, limit=limit, prompt_length=99):
                    turns += [(turn.head.turn_id, turn.prompt) for turn in turn_page]
                    after = turns[-1][0]
                assert turns == [(f"turn {name}", f"prompt of turn {name}") for name in names[::-1]]
            assert await storage.sessions("p", after="unknown", limit=5) == []

    run(work())


def test_turns_and_files_are_one_sequence_without_holes(open_storage: Open, run: Run) -> None:
    async def work() -> None:
        async with open_storage() as storage:
            batches: list[tuple[Commit, ...]] = []
            storage.listen(batches.append)
            shuffle = random.Random(4)
            turns = [await _turn(storage, turn=f"t{number}") for number in range(4)]
            versions = dict.fromkeys("abc", 0)
            newest: dict[str, int] = {turn.turn_id: turn.sequence for turn in turns}
            for _ in range(60):
                if shuffle.random() < 0.5:
                    path = shuffle.choice("abc")
                    (committed,) = await storage.append("p", (AppendUpdate(path, Version(versions[path]), b"u"),))
                    versions[path] += 1
                    newest[path] = committed.head.sequence
                else:
                    place = shuffle.randrange(4)
                    turns[place] = await _update(storage, turns[place], blocks=_blocks(b"x"))
                    newest[turns[place].turn_id] = turns[place].sequence
            heard = [committed.project.sequence for batch in batches for committed in batch]
            assert heard == list(range(1, len(heard) + 1))
            for since in (0, 1, 30, len(heard) - 1, len(heard), len(heard) + 9):
                for limit in (None, 1, 3, 100):
                    answer = await storage.changes_since("p", since, limit=limit)
                    assert answer is not None
                    head, changes = answer
                    assert head.sequence == len(heard)
                    found = {_name(change): change.sequence for change in changes}
                    expected = sorted((sequence, name) for name, sequence in newest.items() if sequence > since)
                    assert list(found.items()) == [(name, sequence) for sequence, name in expected][:limit]

    run(work())


def _name(change: FileHead | TurnHead) -> str:
    return change.turn_id if isinstance(change, TurnHead) else change.path


def test_listeners_hear_of_sessions_and_turns_before_the_writer(open_storage: Open, run: Run) -> None:
    async def work() -> None:
        async with open_storage() as storage:
            heard: list[Commit] = []
            storage.listen(heard.extend)
            session = await storage.create_session("p", CreateSession("s", "title"))
            assert heard == [session]
            turn = await storage.write_turn("p", CreateTurn("s", "t", "prompt"))
            assert heard == [session, turn]
            assert [type(commit) for commit in heard] == [CommittedSession, CommittedTurn]
            assert turn.turn.sequence == turn.project.sequence == 2
            assert await storage.session("p", "s") == session.session

    run(work())


def test_the_state_of_output_is_kept_until_the_next_one(open_storage: Open, run: Run) -> None:
    async def work() -> None:
        async with open_storage() as storage:
            head = await _turn(storage)
            large = b"the beginning of a long line" * 10_000
            for offset, state in ((5, b"half"), (7, b"other half" * 1000), (8, large), (9, b""), (11, b"-")):
                head = await _update(storage, head, output=OutputPosition(offset, state))
                assert (head.output_offset, await storage.output_state("p", "s", "t")) == (offset, state)
            head = await _update(storage, head, blocks=_blocks(b"x"))
            assert (head.output_offset, await storage.output_state("p", "s", "t")) == (11, b"-")

    run(work())


def test_the_running_turns_of_all_projects_are_known_after_opening(open_storage: Open, run: Run) -> None:
    async def work() -> None:
        running = {}
        async with open_storage() as storage:
            for number in range(25):
                project = f"p{number % 3}"
                head = await _turn(storage, turn=f"t{number}", project=project)
                if number % 5:
                    head = await _update(storage, head, project)
                    running[project, head.turn_id] = head
                if number % 5 == 4:
                    await _update(storage, head, project, status="completed")
                    del running[project, head.turn_id]
        async with open_storage() as storage:
            found = {(project, head.turn_id): head async for project, head in storage.running_turns()}
            assert found == running

    run(work())


def test_one_project_never_sees_the_turns_of_another(open_storage: Open, run: Run) -> None:
    async def work() -> None:
        async with open_storage() as storage:
            for project in ("p", "q"):
                head = await _turn(storage, project=project)
                await _update(storage, head, project, blocks=_blocks(project.encode()))
            for project in ("p", "q"):
                stored = await storage.read_turn(project, "s", "t")
                assert stored is not None
                assert [block.content for block in stored.blocks] == [project.encode()]
                answer = await storage.changes_since(project, 0)
                assert answer is not None
                assert (answer[0].name, len(answer[1])) == (project, 1)

    run(work())


def test_a_closed_storage_takes_no_turn(open_storage: Open, run: Run) -> None:
    async def work() -> None:
        async with open_storage() as storage:
            head = await _turn(storage)
        with pytest.raises(StorageClosed):
            await _update(storage, head)
        with pytest.raises(StorageClosed):
            await storage.create_session("p", CreateSession("s2", None))

    run(work())
