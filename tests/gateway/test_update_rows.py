"""The two tables of the log in SQLite: where updates of many files are stored, and when they are moved."""

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from storage import AppendUpdate, DeleteFile, Retention, StorageUnavailable, Version
from storage.sqlite import SQLiteStorage, update_rows

_MANY = update_rows.MANY_FILES + 1


@contextlib.asynccontextmanager
async def _opened(database: Path) -> AsyncIterator[SQLiteStorage]:
    storage = await SQLiteStorage.open(database)
    try:
        yield storage
    finally:
        await storage.close()


def _count(database: Path, table: str) -> int:
    with sqlite3.connect(database) as connection:
        (count,) = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
    connection.close()
    return int(count)


async def _write(storage: SQLiteStorage, files: int, version: int, body: bytes = b"update") -> None:
    """Append the next version of each file, in one batch."""
    await asyncio.gather(
        *(storage.append("p", (AppendUpdate(f"{file}.md", Version(version), body),)) for file in range(files))
    )


async def _log_of(storage: SQLiteStorage, path: str) -> list[tuple[int, bytes | None]]:
    return [(update.version, update.body) async for update in storage.updates("p", path)]


def test_only_short_updates_of_many_files_are_recent(tmp_path: Path) -> None:
    database = tmp_path / "recent.db"

    async def work() -> None:
        async with _opened(database) as storage:
            await _write(storage, _MANY - 1, 0)
            assert (_count(database, "file_update"), _count(database, "recent_update")) == (_MANY - 1, 0)
            await _write(storage, _MANY - 1, 1)
            assert _count(database, "recent_update") == 0
            await _write(storage, _MANY - 1, 2, b"x" * 2000)
            await asyncio.gather(
                *(storage.append("p", (AppendUpdate(f"new {file}", Version(0), b"x"),)) for file in range(_MANY - 1)),
                storage.append("p", (AppendUpdate("long", Version(0), b"x" * 2000),)),
                storage.append("p", (DeleteFile("0.md", Version(3)),)),
            )
            assert _count(database, "recent_update") == _MANY  # all of that batch but the long one

    asyncio.run(work())


def test_recent_updates_are_moved_in_the_order_of_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(update_rows, "MOVED_TOGETHER", 3 * _MANY)
    database = tmp_path / "moved.db"

    async def work() -> None:
        async with _opened(database) as storage:
            for version in range(4):
                await _write(storage, _MANY, version, b"%d" % version)
            assert (_count(database, "file_update"), _count(database, "recent_update")) == (3 * _MANY, _MANY)
            await _write(storage, 1, 4, b"4")  # this one is in the log at once, behind one that is not yet
            assert await _log_of(storage, "0.md") == [(version + 1, b"%d" % version) for version in range(5)]
            document = await storage.read_document("p", "0.md")
            assert document is not None
            assert document.updates == (b"0", b"1", b"2", b"3", b"4")
            increment = await storage.read_increment("p", "0.md", Version(2), most_bytes=100)
            assert increment is not None
            assert increment.updates == (b"2", b"3", b"4")
        with sqlite3.connect(database) as connection:
            moved = [row[0] for row in connection.execute("SELECT file FROM file_update WHERE version < 4 ORDER BY id")]
        connection.close()
        assert moved == sorted(moved)

    asyncio.run(work())


def test_a_gateway_that_is_started_again_counts_its_recent_updates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(update_rows, "MOVED_TOGETHER", 2 * _MANY)
    database = tmp_path / "again.db"

    async def work() -> None:
        for version in range(5):
            async with _opened(database) as storage:
                await _write(storage, _MANY, version, b"%d" % version)
                assert _count(database, "recent_update") == (1 + version % 2) * _MANY
                assert len(await _log_of(storage, "3.md")) == version + 1

    asyncio.run(work())


def test_a_move_that_is_rolled_back_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(update_rows, "MOVED_TOGETHER", 2 * _MANY)
    database = tmp_path / "back.db"
    move = update_rows.move_recent

    def fail_after_move(connection: sqlite3.Connection) -> None:
        move(connection)
        raise sqlite3.OperationalError("the disk says no")

    async def work() -> None:
        async with _opened(database) as storage:
            await _write(storage, _MANY, 0)
            await _write(storage, _MANY, 1)
            monkeypatch.setattr(update_rows, "move_recent", fail_after_move)
            with pytest.raises(StorageUnavailable):
                await _write(storage, _MANY, 2)
            monkeypatch.setattr(update_rows, "move_recent", move)
            assert _count(database, "recent_update") == 2 * _MANY
            await _write(storage, _MANY, 2)
            assert (_count(database, "file_update"), _count(database, "recent_update")) == (2 * _MANY, _MANY)
            assert [version for version, _ in await _log_of(storage, "1.md")] == [1, 2, 3]

    asyncio.run(work())


def test_what_squashes_or_erases_finds_recent_updates(tmp_path: Path) -> None:
    database = tmp_path / "squashed.db"

    async def work() -> None:
        async with _opened(database) as storage:
            for version in range(4):
                await _write(storage, _MANY, version)
            points = [point async for point in storage.squash_points(Retention(versions=2, since=None), worth=1)]
            assert {(point.path, point.version) for point in points} == {(f"{file}.md", 3) for file in range(_MANY)}
            assert await storage.squash("p", "0.md", Version(3), b"whole")
            assert _count(database, "recent_update") == 0
            assert await storage.purge("p", "0.md") == 2
            assert await _log_of(storage, "0.md") == [(3, b"whole"), (4, b"update")]
            await _write(storage, _MANY, 4)
            assert _count(database, "recent_update") == _MANY
            await storage.erase_project("p")
            assert (_count(database, "file_update"), _count(database, "recent_update")) == (0, 0)

    asyncio.run(work())


def test_a_batch_of_many_files_changes_few_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages of the write-ahead log for batches of updates of 64 files that have a page of the index each."""

    async def pages(database: Path) -> int:
        async with _opened(database) as storage:
            for file in range(64):
                updates = (AppendUpdate(f"{file}.md", Version(version), b"update") for version in range(500))
                await storage.append("p", tuple(updates))
        async with _opened(database) as storage:  # with an empty write-ahead log
            for version in range(500, 508):
                await _write(storage, 64, version)
            return database.with_name(database.name + "-wal").stat().st_size // 4096

    few = asyncio.run(pages(tmp_path / "recent.db"))
    monkeypatch.setattr(update_rows, "MANY_FILES", 64)
    many = asyncio.run(pages(tmp_path / "direct.db"))
    assert few < 0.5 * many
