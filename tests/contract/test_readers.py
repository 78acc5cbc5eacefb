"""What storage promises of readers with a place of their own (`storage/contract.py`)."""

import sqlite3
from pathlib import Path

from msgspec.structs import replace

from storage import AppendUpdate, Milliseconds, Reader, ReaderFigures, ReaderStage, ReaderStep, Storage, Version
from storage.sqlite import SQLiteStorage
from tests.contract.conftest import Open, Run


def reader(name: str, project: str = "p", kind: str = "hook", revision: str = "r1") -> Reader:
    return Reader(project, kind, name, revision, '{"url":"\\u0000ä"}', "epoch.1", 1, "{}", None, "idle")


def step(of: Reader, looked: int, due: int | None = None, stage: ReaderStage = "idle") -> ReaderStep:
    return ReaderStep(
        of, f"epoch.{looked}", looked, '{"attempts":1}', None if due is None else Milliseconds(due), stage
    )


async def write(storage: Storage, project: str = "p") -> int:
    head = await storage.file_head(project, "a")
    version = Version(0) if head is None else head.version
    (committed,) = await storage.append(project, (AppendUpdate("a", version, b"update"),))
    return committed.project.sequence


def test_readers_are_kept_as_they_came_and_over_a_restart(open_storage: Open, run: Run) -> None:
    async def main() -> None:
        async with open_storage() as storage:
            assert not await storage.put_reader(reader("a"))  # there is no such project
            await write(storage)
            for name in ("b", "a", "c"):
                assert await storage.put_reader(reader(name))
            assert await storage.put_reader(reader("a", kind="push"))
            assert await storage.put_reader(replace(reader("b"), revision="r2", cursor="epoch.7"))
        async with open_storage() as storage:
            assert await storage.reader("p", "hook", "a") == reader("a")
            assert await storage.reader("p", "hook", "never") is None
            found = await storage.readers("p", "hook", limit=2)
            assert [each.name for each in found] == ["a", "b"]
            assert found[1].cursor == "epoch.7"
            assert [each.name for each in await storage.readers("p", "hook", after="b", limit=2)] == ["c"]
            assert await storage.reader_projects() == ["p"]
            assert (await storage.count_readers("p"), await storage.count_readers("q")) == (4, 0)
            assert await storage.delete_reader("p", "hook", "a")
            assert not await storage.delete_reader("p", "hook", "a")
            assert await storage.reader("p", "hook", "a") is None
            assert await storage.reader("p", "push", "a") == reader("a", kind="push")

    run(main())


def test_a_reader_is_to_be_looked_at_when_its_project_moves_on(open_storage: Open, run: Run) -> None:
    async def main() -> None:
        async with open_storage() as storage:
            for project in ("p", "q"):
                await write(storage, project)
                await storage.put_reader(reader("a", project))
            assert await storage.idle_readers(None, limit=10) == []
            sequence = await write(storage)
            (found,) = await storage.idle_readers(None, limit=10)
            assert found == reader("a")
            assert await storage.idle_readers("q", limit=10) == []
            assert await storage.reader_figures() == [ReaderFigures("hook", 2, 0, 1, 1)]
            await storage.note_steps([step(found, sequence)])
            assert await storage.idle_readers("p", limit=10) == []
            stored = await storage.reader("p", "hook", "a")
            assert stored is not None
            assert (stored.cursor, stored.looked, stored.state) == (f"epoch.{sequence}", sequence, '{"attempts":1}')

    run(main())


def test_readers_that_are_due_come_in_the_order_of_their_times(open_storage: Open, run: Run) -> None:
    async def main() -> None:
        async with open_storage() as storage:
            await write(storage)
            readers = [reader(name) for name in "abcd"]
            for each in readers:
                await storage.put_reader(each)
            assert await storage.next_due() is None
            stages: tuple[ReaderStage, ...] = ("retry", "pause", "sending")
            dues = [30, 20, 40]
            await storage.note_steps([step(*each) for each in zip(readers, [1, 1, 1], dues, stages, strict=False)])
            await storage.note_steps([step(readers[3], 1, None, "ended")])
            assert await storage.next_due() == 20
            now = Milliseconds(30)
            assert [each.name for each in await storage.due_readers(now, limit=10)] == ["b", "a"]
            assert [each.name for each in await storage.due_readers(now, limit=1)] == ["b"]
            assert await storage.hasten("sending", None, Milliseconds(25)) == 1
            assert await storage.hasten("pause", "p", Milliseconds(10)) == 0  # the project has not moved on
            await write(storage)
            assert await storage.hasten("pause", "q", Milliseconds(10)) == 0
            assert await storage.hasten("pause", "p", Milliseconds(10)) == 1
            assert [(each.name, each.due) for each in await storage.due_readers(now, limit=10)] == [
                ("b", 10),
                ("c", 25),
                ("a", 30),
            ]
            assert await storage.idle_readers(None, limit=10) == []
            assert await storage.reader_figures() == [ReaderFigures("hook", 4, 1, 3, 1)]
            assert await storage.bring_forward(Milliseconds(20)) == 2
            assert await storage.next_due() == 10
            assert [each.due for each in await storage.due_readers(Milliseconds(20), limit=10)] == [10, 20, 20]

    run(main())


def test_a_step_of_a_reader_that_was_put_again_is_none(open_storage: Open, run: Run) -> None:
    async def main() -> None:
        async with open_storage() as storage:
            await write(storage)
            await storage.put_reader(reader("a"))
            again = reader("a", revision="r2")
            await storage.put_reader(again)
            await storage.note_steps([step(reader("a"), 9, 9, "retry")])
            assert await storage.reader("p", "hook", "a") == again

    run(main())


def test_what_is_kept_is_the_first_that_came(open_storage: Open, run: Run) -> None:
    async def main() -> None:
        async with open_storage() as storage:
            assert await storage.keep("key", "one") == "one"
            assert await storage.keep("key", "two") == "one"
        async with open_storage() as storage:
            assert await storage.keep("key", "three") == "one"
            await storage.keep_newest("key", "four")
            await storage.keep_newest("other", "five")
            assert [await storage.keep(name, "six") for name in ("key", "other")] == ["four", "five"]

    run(main())


def test_a_reader_with_a_flipped_bit_says_so(tmp_path: Path, run: Run) -> None:
    async def main() -> None:
        storage = await SQLiteStorage.open(tmp_path / "a.db")
        await write(storage)
        for name in "abc":
            await storage.put_reader(reader(name))
        with sqlite3.connect(tmp_path / "a.db") as connection:
            connection.execute("UPDATE reader SET settings = '{}' WHERE name = 'a'")
            connection.execute("UPDATE reader SET cursor = 'epoch.0' WHERE name = 'b'")
        connection.close()
        found = await storage.readers("p", "hook", limit=10)
        assert [each.intact for each in found] == [False, False, True]
        await storage.close()

    run(main())
