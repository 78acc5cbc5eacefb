"""What storage promises of whole projects: their list, and that an erased one is gone (`storage/contract.py`)."""

import asyncio

import pytest

from storage import (
    AppendUpdate,
    Commit,
    CreateSession,
    CreateTurn,
    DeleteFile,
    ErasedProject,
    Line,
    NewBlock,
    Once,
    ProjectHead,
    SessionMissing,
    Snapshot,
    Storage,
    StorageError,
    UpdateTurn,
    Version,
    VersionConflict,
)
from storage.portable import Record
from tests.contract.conftest import Open, Run
from tests.contract.test_readers import reader


async def fill(storage: Storage, project: str, updates: int = 3) -> None:
    """Store something of every kind in a project."""
    for version in range(updates):
        await storage.append(project, (AppendUpdate("a", Version(version), b"update"),))
    await storage.append(project, (AppendUpdate("b", Version(0), b"four"), AppendUpdate("c", Version(0), b"x")))
    await storage.append(project, (DeleteFile("c", Version(1)),))
    await storage.append(project, (AppendUpdate("c", Version(2), b"again"),))
    await storage.put_snapshot(project, "a", Snapshot(Version(2), b"whole"))
    await storage.create_session(project, CreateSession("s", "Title", Once("key", b"digest")))
    made = await storage.write_turn(project, CreateTurn("s", "t", "Do it."))
    blocks = (NewBlock("text", b"{}"),)
    await storage.write_turn(project, UpdateTurn("s", "t", made.turn.sequence, "running", None, blocks))
    await storage.put_reader(reader("hook", project))


def test_projects_are_listed_with_their_sizes(open_storage: Open, run: Run) -> None:
    async def main() -> None:
        async with open_storage() as storage:
            assert await storage.list_projects(limit=10) == []
            for project in ("q", "p", "shop-2", "shop-1"):
                await fill(storage, project)
            found = await storage.list_projects(limit=10)
            assert [(each.head.name, each.files, each.size) for each in found] == [
                (name, 3, 3 * 6 + 4 + 5) for name in ("p", "q", "shop-1", "shop-2")
            ]
            assert [each.head for each in found] == [await storage.project_head(each.head.name) for each in found]

            async def names(**of: object) -> list[str]:
                return [each.head.name for each in await storage.list_projects(**{"limit": 10, **of})]  # type: ignore[arg-type]

            assert await names(after="p", limit=2) == ["q", "shop-1"]
            assert await names(prefix="shop-") == ["shop-1", "shop-2"]
            assert await names(prefix="shop-", after="shop-1") == ["shop-2"]
            assert await names(names=["shop-2", "never", "p"]) == ["p", "shop-2"]
            assert await names(names=[]) == []

    run(main())


def test_nothing_of_an_erased_project_is_left(open_storage: Open, run: Run) -> None:
    async def main() -> None:
        async with open_storage() as storage:
            await fill(storage, "other")
            other = await storage.project_head("other")
            assert await storage.erase_project("p") is None
            await fill(storage, "p")
            before = await storage.project_head("p")
            assert await storage.erase_project("p") == before
            await _require_gone(storage)
            assert await storage.erase_project("p") is None
            assert await storage.project_head("other") == other
            assert len((await storage.list_files("other", limit=10) or (None, []))[1]) == 3
            assert [head async for _, head in storage.running_turns()] != []
            assert await storage.dangling() == []
        async with open_storage() as storage:
            await _require_gone(storage)
            assert await storage.count_readers("other") == 1

    run(main())


async def _require_gone(storage: Storage) -> None:
    assert await storage.project_head("p") is None
    assert [each.head.name for each in await storage.list_projects(limit=10)] == ["other"]
    assert await storage.file_head("p", "a") is None
    assert await storage.read_document("p", "a") is None
    assert await storage.read_document("p", "a", at_version=2) is None
    assert await storage.read_version("p", "a", 1) is None
    assert await storage.read_history("p", "a", limit=10) is None
    assert await storage.list_tombstones("p", limit=10) is None
    assert await storage.session("p", "s") is None
    assert await storage.turn_head("p", "s", "t") is None
    assert await storage.done("p", "key") is None
    assert await storage.reader("p", "hook", "hook") is None
    assert [project async for project, _ in storage.running_turns()] == ["other"]
    records: list[Record] = []
    await storage.export_project("p", records.append)
    assert records == []


def test_a_later_project_of_the_name_begins_anew(open_storage: Open, run: Run) -> None:
    async def main() -> None:
        async with open_storage() as storage:
            await fill(storage, "p")
            first = await storage.erase_project("p")
            await fill(storage, "p", updates=4)
            second = await storage.project_head("p")
            assert first is not None
            assert second is not None
            assert second.epoch != first.epoch
            assert second.sequence == first.sequence + 1
            stored = await storage.read_document("p", "a")
            assert stored is not None
            assert (stored.version, len(stored.updates)) == (4, 2)
            assert stored.snapshot is not None
            assert stored.snapshot.version == 2
            assert await storage.done("p", "key") is not None
            third = await storage.erase_project("p")
            assert third == second
            await fill(storage, "p")
            last = await storage.project_head("p")
            assert last is not None
            assert last.epoch not in (first.epoch, second.epoch)

    run(main())


def test_listeners_hear_of_an_erasure_in_order(open_storage: Open, run: Run) -> None:
    async def main() -> None:
        async with open_storage() as storage:
            heard: list[Commit] = []
            storage.listen(heard.extend)
            await storage.follow("p")
            await storage.append("p", (AppendUpdate("a", Version(0), b"1"),))
            head = await storage.erase_project("p")
            assert head is not None
            assert heard[-1] == ErasedProject(head)
            (committed,) = await storage.append("p", (AppendUpdate("a", Version(0), b"2"),))
            await storage.catch_up("p")
            assert [each.project.epoch for each in heard] == [head.epoch, head.epoch, committed.project.epoch]

    run(main())


def test_changes_made_for_an_erased_project_are_refused(open_storage: Open, run: Run) -> None:
    async def main() -> None:
        async with open_storage() as storage:
            line = Line()
            await storage.append("p", (AppendUpdate("a", Version(0), b"1", line=line),))
            head = await storage.file_head("p", "a")
            assert head is not None
            await storage.create_session("p", CreateSession("s", None))
            erased = asyncio.ensure_future(storage.erase_project("p"))
            await asyncio.sleep(0)
            assert await erased is not None
            with pytest.raises(VersionConflict):
                await storage.append(
                    "p", (AppendUpdate("a", Version(1), b"2", line=line, incarnation=head.incarnation),)
                )
            with pytest.raises(StorageError):
                await storage.append("p", (AppendUpdate("a", Version(2), b"3", line=line),))
            with pytest.raises(SessionMissing):
                await storage.write_turn("p", CreateTurn("s", "t", ""))
            assert await storage.project_head("p") is None

    run(main())


def test_work_on_an_erased_project_does_not_reach_the_next_one(open_storage: Open, run: Run) -> None:
    async def main() -> None:
        async with open_storage() as storage:

            async def write() -> ProjectHead:
                for version in range(4):
                    (committed,) = await storage.append("p", (AppendUpdate("a", Version(version), b"update"),))
                return committed.project

            old = await write()
            await storage.erase_project("p")
            head = await write()
            await storage.put_snapshot("p", "a", Snapshot(Version(3), b"of the old one"), old.epoch)
            assert not await storage.squash("p", "a", 2, b"of the old one", old.epoch)
            stored = await storage.read_document("p", "a")
            assert stored is not None
            assert (stored.snapshot, len(stored.updates)) == (None, 4)
            await storage.put_snapshot("p", "a", Snapshot(Version(3), b"whole"), head.epoch)
            assert await storage.squash("p", "a", 2, b"whole", head.epoch)

    run(main())


def test_writes_and_erasures_at_once_leave_no_rows_behind(open_storage: Open, run: Run) -> None:
    async def main() -> None:
        async with open_storage() as storage:

            async def write(path: str) -> None:
                for _ in range(20):
                    head = await storage.file_head("p", path)
                    version = Version(0) if head is None else head.version
                    try:
                        await storage.append("p", (AppendUpdate(path, version, b"update"),))
                        await storage.put_snapshot("p", path, Snapshot(version, b"whole"))
                    except StorageError:
                        pass

            async def erase() -> None:
                for _ in range(10):
                    await storage.erase_project("p")

            await asyncio.gather(*(write(path) for path in "abcd"), erase())
            assert await storage.dangling() == []
            await storage.erase_project("p")
            assert await storage.project_head("p") is None
            for version in range(2):
                await storage.append("p", (AppendUpdate("a", Version(version), b"update"),))
            stored = await storage.read_document("p", "a")
            assert stored is not None
            assert (stored.snapshot, len(stored.updates)) == (None, 2)
            assert (await storage.project_head("p")).sequence == 2  # type: ignore[union-attr]

    run(main())
