"""What holds when PostgreSQL goes on from an earlier state: no number that a client knows means anything else."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from storage import AppendUpdate, DeleteFile, Incarnation, StorageUnavailable, Version, VersionConflict
from storage.postgres import PostgresStorage
from storage.postgres.generations import generation_of, split_name, stored_name
from tests.support.postgres import PATIENCE_S


@contextlib.asynccontextmanager
async def _opened(url: str, **options: Any) -> AsyncIterator[PostgresStorage]:
    storage = await PostgresStorage.open(url, **{"patience": PATIENCE_S, **options})
    try:
        yield storage
    finally:
        await storage.close()


async def _append(storage: PostgresStorage, version: int, incarnation: str | None = None) -> Incarnation:
    change = AppendUpdate(
        "a", Version(version), b"x", incarnation=None if incarnation is None else Incarnation(incarnation)
    )
    (committed,) = await storage.append("p", (change,))
    return committed.head.incarnation


_LOSE = """
BEGIN;
DELETE FROM change WHERE sequence > 3;
UPDATE file SET (version, sequence, last_modified, size, row_check)
    = (SELECT version, sequence, last_modified, size, row_check FROM kept_file);
UPDATE project SET (sequence, last_modified, row_check)
    = (SELECT sequence, last_modified, row_check FROM kept_project);
COMMIT;
"""


async def _keep(database: str) -> None:
    connection = await asyncpg.connect(database)
    await connection.execute("CREATE TABLE kept_file AS TABLE file; CREATE TABLE kept_project AS TABLE project")
    await connection.close()


async def _lose(database: str, *statements: str) -> None:
    """Lose everything after the third change, as a volume that was set back does."""
    connection = await asyncpg.connect(database)
    for statement in (_LOSE, *statements):
        await connection.execute(statement)
    await connection.close()


def test_a_name_is_another_one_in_every_generation() -> None:
    stored, seen = stored_name("abc", ""), []
    for generation in ("", "@1", "@2"):
        read = stored + generation
        assert generation_of(read) == generation
        seen.append(split_name(read)[1])
        stored = stored_name(seen[-1], generation)
        assert split_name(stored + generation) == (stored, seen[-1])
    assert seen == ["abc", "abcg1", "abcg2"]
    drawn = stored_name("abc", "@1")
    assert [split_name(drawn + generation)[1] for generation in ("@1", "@2")] == ["abc", "abcg2"]


@pytest.mark.parametrize("other_server", [False, True])
def test_lost_commits_begin_a_new_generation(database: str, other_server: bool) -> None:
    async def work() -> None:
        async with _opened(database) as first, _opened(database) as second:
            missed: list[object] = []
            for storage in (first, second):
                storage.listen(lambda commits: None, missed.extend)
            old = ""
            for version in range(5):
                old = await _append(first, version)
                if version == 2:
                    await _keep(database)
            for storage in (first, second):
                await storage.follow("p")
            before = await first.project_head("p")
            assert before is not None
            await _lose(database, "UPDATE cluster SET server = 'another'" if other_server else "SELECT 1")
            if other_server:  # noticed with the next connection
                async with _opened(database):
                    pass
            while len(missed) < 2:  # noqa: ASYNC110 - a heartbeat is on its way
                await asyncio.sleep(0.01)
            for storage in (first, second):
                head, file = await storage.project_head("p"), await storage.file_head("p", "a")
                assert head is not None
                assert file is not None
                assert head.sequence == 3
                assert head.epoch != before.epoch
                assert file.incarnation != old
            # The numbers are given again, and what was made for the lost ones is not taken for them.
            await _append(second, 3)
            await _append(second, 4)
            with pytest.raises(VersionConflict):
                await _append(first, 5, old)
            now = await _append(first, 5)
            document = await second.read_document("p", "a")
            assert document is not None
            assert (document.incarnation, document.updates) == (now, (b"x",) * 6)
            assert await second.dangling() == []

    asyncio.run(asyncio.wait_for(work(), 120))


def test_a_write_that_waits_while_commits_are_lost_is_not_stored_on_what_came_after(database: str) -> None:
    async def work() -> None:
        async with _opened(database) as first, _opened(database) as second:
            for version in range(3):
                await _append(first, version)
            await first.follow("p")
            await _keep(database)
            await _append(first, 3)
            blocker = await asyncpg.connect(database)
            await blocker.execute("BEGIN; LOCK TABLE project, file, change IN ACCESS EXCLUSIVE MODE")
            deleting = first.append("p", (DeleteFile("a", Version(4)),))
            await asyncio.sleep(0)
            for statement in _LOSE.strip().split(";\n")[1:-1]:
                await blocker.execute(statement)
            await blocker.execute("UPDATE cluster SET server = 'another', generation = '@123456'; COMMIT")
            await _append(second, 3)  # with the number of what was lost
            with contextlib.suppress(StorageUnavailable):
                await deleting
                raise AssertionError("a file was deleted that nobody has seen")
            assert len([update async for update in second.updates("p", "a")]) == 4
            await blocker.close()

    asyncio.run(asyncio.wait_for(work(), 120))


def test_a_database_that_goes_on_as_the_same_keeps_its_names(database: str) -> None:
    async def work() -> None:
        async with _opened(database) as storage:
            name = await _append(storage, 0)
        connection = await asyncpg.connect(database)
        server = await connection.fetchval("UPDATE cluster SET server = 'another' RETURNING server")
        async with _opened(database, same=True) as storage:
            assert await _append(storage, 1) == name
        assert await connection.fetchval("SELECT server FROM cluster") != server
        async with _opened(database) as storage:
            assert await _append(storage, 2) == name
        await connection.execute("UPDATE cluster SET server = 'another'")
        async with _opened(database) as storage:
            assert await _append(storage, 3) != name
        await connection.close()

    asyncio.run(asyncio.wait_for(work(), 120))
