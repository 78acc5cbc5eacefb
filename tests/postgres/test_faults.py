"""What holds when the connection to PostgreSQL, or another gateway, is not what it should be."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import asyncpg
import pytest

from storage import (
    AppendUpdate,
    Commit,
    Committed,
    CreateSession,
    CreateTurn,
    DeleteFile,
    NotAGatewayDatabase,
    SchemaTooNew,
    Snapshot,
    StorageUnavailable,
    UpdateTurn,
    Version,
    VersionConflict,
)
from storage.migrations import migrations
from storage.postgres import PostgresStorage, writer
from storage.postgres import batch as batches
from storage.postgres import database as database_module
from storage.postgres.database import Connection, project_id
from tests.support.cutting_proxy import CuttingProxy
from tests.support.postgres import PATIENCE_S, PostgresServer

Run = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture
def run() -> Run:
    return lambda work: asyncio.run(asyncio.wait_for(work, 120))


@contextlib.asynccontextmanager
async def _opened(url: str, **options: Any) -> AsyncIterator[PostgresStorage]:
    storage = await PostgresStorage.open(url, **{"patience": PATIENCE_S, **options})
    try:
        yield storage
    finally:
        await storage.close()


@contextlib.asynccontextmanager
async def _behind_a_proxy(
    server: PostgresServer, url: str, **options: Any
) -> AsyncIterator[tuple[PostgresStorage, CuttingProxy]]:
    async with (
        CuttingProxy(server.port) as proxy,
        _opened(url.replace(f":{server.port}/", f":{proxy.port}/"), **options) as storage,
    ):
        yield storage, proxy


async def _append(storage: PostgresStorage, path: str, version: int, body: bytes = b"x") -> Committed:
    (committed,) = await storage.append("p", (AppendUpdate(path, Version(version), body),))
    return committed


async def _append_at_last(storage: PostgresStorage, path: str, version: int) -> None:
    """Append the same again and again, as a client does that is told to repeat."""
    while True:
        try:
            await _append(storage, path, version)
        except StorageUnavailable:
            continue
        except VersionConflict as conflict:
            assert conflict.found == version + 1  # noqa: PT017 - an attempt before had been stored
        return


async def _until(holds: Callable[[], Coroutine[Any, Any, bool]]) -> None:
    """Ask until something holds in the database, where there is no event for it."""
    while not await holds():  # noqa: ASYNC110
        await asyncio.sleep(0.01)


def test_a_batch_whose_answer_was_lost_is_found_and_not_stored_twice(
    postgres: PostgresServer, database: str, run: Run
) -> None:
    async def work() -> None:
        async with _opened(database) as other, _behind_a_proxy(postgres, database) as (storage, proxy):
            heard: list[Commit] = []
            storage.listen(heard.extend)
            await _append(storage, "a", 0)
            for version in range(2, 12, 2):
                await _append(storage, "a", version - 1)  # so that the next one is a statement that is known
                proxy.swallowing = True
                storing = asyncio.ensure_future(_append(storage, "a", version))

                async def stored(version: int = version) -> bool:
                    head = await other.file_head("p", "a")
                    return head is not None and head.version == version + 1

                await _until(stored)
                proxy.cut()
                proxy.swallowing = False
                assert (await storing).head.version == version + 1
            assert [update.version async for update in other.updates("p", "a")] == list(range(1, 12))
            assert [commit.project.sequence for commit in heard] == list(range(1, 12))

    run(work())


@pytest.mark.parametrize("stored", [True, False], ids=["stored", "not-stored"])
def test_a_connection_whose_client_has_lost_its_place_is_given_up(
    database: str, run: Run, monkeypatch: pytest.MonkeyPatch, stored: bool
) -> None:
    """asyncpg raises this where a backend ends or cancels a statement at the wrong moment."""
    store, lost = batches.store, ["write", "read"]

    def fail(what: str) -> None:
        if what in lost:
            lost.remove(what)
            raise asyncpg.InternalClientError("cannot switch to state 12; another operation (2) is in progress")

    async def store_and_fail(*values: Any) -> bool:
        if not stored:
            fail("write")
        done = await store(*values)
        fail("write")
        return done

    async def read(connection: Connection) -> Any:
        fail("read")
        return await connection.fetchval("SELECT 1")

    async def work() -> None:
        async with _opened(database) as storage:
            monkeypatch.setattr(batches, "store", store_and_fail)
            assert (await _append(storage, "a", 0)).head.version == 1
            assert [update.version async for update in storage.updates("p", "a")] == [1]
            assert await storage._database.read(read) == 1
            assert lost == []

    run(work())


def test_a_turn_among_busy_gateways_whose_commit_was_not_answered_is_found_and_not_stored_twice(
    postgres: PostgresServer, database: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "_CONTENDED_S", 1e6)

    async def work() -> None:
        async with _opened(database) as other, _behind_a_proxy(postgres, database) as (storage, proxy):
            heard: list[Commit] = []
            await _append(storage, "a", 0)
            storage.listen(heard.extend)
            for version in range(1, 6, 2):
                await _append(other, "a", version)
                await storage.catch_up("p")  # so that the row is locked first
                proxy.swallow_after = b"COMMIT"
                storing = asyncio.ensure_future(_append(storage, "a", version + 1))

                async def stored(version: int = version) -> bool:
                    head = await other.file_head("p", "a")
                    return head is not None and head.version == version + 2

                await _until(stored)
                proxy.swallow_after = b""
                assert proxy.swallowing
                proxy.cut()
                proxy.swallowing = False
                assert (await storing).head.version == version + 2
                await other.catch_up("p")
            assert [update.version async for update in other.updates("p", "a")] == list(range(1, 8))
            assert [commit.project.sequence for commit in heard] == list(range(2, 8))

    run(work())


def test_what_could_not_be_sent_waits_for_the_database_and_is_stored(
    postgres: PostgresServer, database: str, run: Run
) -> None:
    async def work() -> None:
        async with _behind_a_proxy(postgres, database) as (storage, proxy):
            await _append(storage, "a", 0)
            proxy.refusing = True
            proxy.cut()
            storing = asyncio.ensure_future(_append(storage, "a", 1))
            await proxy.refused.wait()
            assert not storing.done()
            proxy.refusing = False
            assert (await storing).head.version == 2
            assert await storage.file_head("p", "a") == (await storing).head

    run(work())


def test_a_write_that_was_never_sent_certainly_is_not_stored(postgres: PostgresServer, database: str, run: Run) -> None:
    async def work() -> None:
        async with _behind_a_proxy(postgres, database, patience=0.3) as (storage, proxy):
            await _append_at_last(storage, "a", 0)
            proxy.refusing = True
            proxy.cut()
            with pytest.raises(StorageUnavailable):  # on the connection that was there
                await _append(storage, "a", 1)
            with pytest.raises(StorageUnavailable) as failed:
                await _append(storage, "a", 1)
            assert failed.value.certain
            with pytest.raises(StorageUnavailable):
                await storage.file_head("p", "a")
            proxy.refusing = False
            await _append_at_last(storage, "a", 1)
            assert [update.version async for update in storage.updates("p", "a")] == [1, 2]

    run(work())


def test_a_write_that_was_sent_may_be_stored_and_the_listeners_hear_of_it(
    postgres: PostgresServer, database: str, run: Run
) -> None:
    async def work() -> None:
        async with _opened(database) as other, _behind_a_proxy(postgres, database, patience=0.3) as (storage, proxy):
            heard: list[Commit] = []
            storage.listen(heard.extend)
            await _append_at_last(storage, "a", 0)
            await _append_at_last(storage, "a", 1)
            proxy.swallowing = True
            storing = asyncio.ensure_future(_append(storage, "a", 2))

            async def stored() -> bool:
                head = await other.file_head("p", "a")
                return head is not None and head.version == 3

            await _until(stored)
            proxy.refusing = True
            proxy.cut()
            with pytest.raises(StorageUnavailable) as failed:
                await storing
            assert not failed.value.certain
            proxy.refusing = proxy.swallowing = False
            found = None
            while found is None:
                try:
                    await _append(storage, "a", 2)
                except VersionConflict as conflict:
                    found = conflict.found
                except StorageUnavailable:  # it has little patience
                    continue
            assert found == 3
            assert [commit.project.sequence for commit in heard] == [1, 2, 3]

    run(work())


def test_a_silent_connection_is_noticed_and_what_was_missed_is_heard(
    postgres: PostgresServer, database: str, run: Run
) -> None:
    async def work() -> None:
        async with _opened(database) as other, _behind_a_proxy(postgres, database) as (storage, proxy):
            heard: list[int] = []
            news = asyncio.Event()

            def hear(batch: tuple[Commit, ...]) -> None:
                heard.extend(commit.project.sequence for commit in batch)
                news.set()

            storage.listen(hear)
            await _append(other, "a", 0)
            assert (await storage.follow("p")) == await other.project_head("p")
            await _append(other, "a", 1)
            await news.wait()

            async def fresh() -> bool:
                return storage.fresh

            async def stale() -> bool:
                return not storage.fresh

            await _until(fresh)
            proxy.block()

            await _until(stale)
            assert storage.lag > 1
            with pytest.raises(StorageUnavailable):
                await storage.ready()
            for version in range(2, 12):
                await _append(other, "a", version)
            assert heard == [2]
            proxy.unblock()
            while heard[-1] < 12:
                news.clear()
                await news.wait()
            assert heard == list(range(2, 13))
            await _until(fresh)
            await storage.ready()

    run(work())


def test_connections_that_are_cut_again_and_again_lose_and_double_nothing(
    postgres: PostgresServer, database: str, run: Run
) -> None:
    async def work() -> None:
        async with _behind_a_proxy(postgres, database) as (storage, proxy), _opened(database) as other:
            heard: list[int] = []
            other.listen(lambda batch: heard.extend(commit.project.sequence for commit in batch))
            await other.follow("p")
            done, stored = False, asyncio.Event()

            async def cut() -> None:
                while not done:
                    stored.clear()
                    await stored.wait()  # however long that takes: new connections have to be made
                    await asyncio.sleep(0.03)
                    proxy.swallowing = True
                    await asyncio.sleep(0.01)
                    proxy.cut()
                    proxy.swallowing = False

            async def write(path: str, node: PostgresStorage) -> int:
                version = 0
                for _ in range(40):
                    try:
                        version = (await _append(node, path, version)).head.version
                        if node is storage:
                            stored.set()
                    except StorageUnavailable:  # too many cuts in a row
                        assert node is storage
                        head = await other.file_head("p", path)
                        version = 0 if head is None else head.version
                return version

            cutting = asyncio.create_task(cut())
            paths = [(f"{number}", storage if number % 2 else other) for number in range(6)]
            versions = await asyncio.gather(*(write(path, node) for path, node in paths))
            done = True
            stored.set()
            await cutting
            await other.catch_up("p")
            for (path, _), version in zip(paths, versions, strict=True):
                assert [update.version async for update in other.updates("p", path)] == list(range(1, version + 1))
            head = await other.project_head("p")
            assert head is not None
            assert head.sequence == sum(versions)
            assert heard == list(range(1, head.sequence + 1))

    run(work())


def test_of_two_gateways_that_write_at_one_moment_each_hears_the_same(
    postgres: PostgresServer, database: str, run: Run
) -> None:
    async def work() -> None:
        async with _opened(database) as first, _opened(database) as second:
            heard: tuple[list[Any], list[Any]] = ([], [])
            for node, mine in zip((first, second), heard, strict=True):
                node.listen(lambda batch, mine=mine: mine.extend((c.head.path, c.head.version) for c in batch))  # type: ignore[misc]
                await node.follow("p")
            await _append(first, "a", 0)
            await second.catch_up("p")
            blocker = await asyncpg.connect(database)
            for version in range(1, 15):
                # Both are about to store when neither has heard of the other.
                transaction = blocker.transaction()
                await transaction.start()
                await blocker.execute("SELECT 1 FROM project WHERE id = $1 FOR UPDATE", project_id("p"))
                storing = [
                    asyncio.ensure_future(node.append("p", (AppendUpdate("a", Version(version), b"x"),)))
                    for node in (first, second)
                ]
                other = asyncio.ensure_future(_append(second, f"of {version}", 0))

                async def waiting() -> bool:
                    return bool(
                        await blocker.fetchval(
                            "SELECT count(*) >= 2 FROM pg_locks WHERE NOT granted AND locktype <> ''"
                        )
                    )

                await _until(waiting)
                await transaction.rollback()
                results = await asyncio.gather(*storing, return_exceptions=True)
                assert sorted(isinstance(result, VersionConflict) for result in results) == [False, True]
                assert (await other).head.version == 1
                await first.catch_up("p")
                await second.catch_up("p")
            await blocker.close()
            assert heard[0] == heard[1]
            assert len(heard[0]) == len(set(heard[0])) == 29

    run(work())


def test_time_does_not_run_backwards_where_the_clocks_of_gateways_differ(
    postgres: PostgresServer, database: str, run: Run
) -> None:
    hour = 3_600_000
    now = 1_700_000_000_000

    async def work() -> None:
        async with (
            _opened(database, clock=lambda: now + hour) as ahead,
            _opened(database, clock=lambda: now - hour) as behind,
        ):
            times = []
            for version in range(10):
                node = (behind, ahead)[version % 2]
                times.append((await _append(node, "a", version)).head.last_modified)
            assert times == sorted(times)
            await ahead.create_session("p", CreateSession("s", None))
            turn = (await ahead.write_turn("p", CreateTurn("s", "t", ""))).turn
            await ahead.write_turn("p", UpdateTurn("s", "t", turn.sequence, "running"))
            assert await behind.due_turns(60, 60) == []  # whatever the clocks say
            assert [head.turn_id for _, head in await behind.due_turns(0, 0)] == ["t"]

    run(work())


def test_one_gateway_holds_a_job_until_it_is_gone(postgres: PostgresServer, database: str, run: Run) -> None:
    async def work() -> None:
        async with _opened(database) as first:
            async with _opened(database) as second:
                assert await second.hold("job", 60)
                assert not await first.hold("job", 60)
                assert await second.hold("job", 60)
                assert await first.hold("other", 60)
            assert await first.hold("job", 60)

    run(work())


def test_gateways_that_start_at_one_moment_make_one_schema(postgres: PostgresServer, database: str, run: Run) -> None:
    async def work() -> None:
        opened = await asyncio.gather(*(PostgresStorage.open(database, patience=PATIENCE_S) for _ in range(4)))
        for version, node in enumerate(opened):
            await _append(node, "a", version)
        for node in opened:
            await node.close()

    run(work())


def test_a_database_of_a_newer_release_is_refused_and_left_as_it_is(
    postgres: PostgresServer, database: str, run: Run
) -> None:
    async def work() -> None:
        async with _opened(database) as storage:
            await _append(storage, "a", 0)
        connection = await asyncpg.connect(database)
        await connection.execute("UPDATE cluster SET schema = 999")
        with pytest.raises(SchemaTooNew) as refused:
            await PostgresStorage.open(database, patience=PATIENCE_S)
        assert refused.value.found == 999
        with pytest.raises(SchemaTooNew):
            await PostgresStorage.open_read_only(database)
        assert await connection.fetchval("SELECT count(*) FROM file") == 1
        await connection.execute("DROP TABLE cluster")
        with pytest.raises(NotAGatewayDatabase):
            await PostgresStorage.open(database, patience=PATIENCE_S)
        await connection.close()

    run(work())


def test_a_server_that_takes_no_more_connections_is_waited_for(
    postgres: PostgresServer, database: str, run: Run
) -> None:
    schema = database.rpartition("=")[2]
    url = database.replace("//postgres@", f"//of_{schema}@")

    async def work() -> None:
        admin = await asyncpg.connect(database)
        await admin.execute(f"CREATE ROLE of_{schema} LOGIN; GRANT ALL ON SCHEMA {schema} TO of_{schema}")
        async with _opened(url, patience=0.3) as storage:
            await storage.follow("p")
            await _append_at_last(storage, "a", 0)
            await admin.execute(f"ALTER ROLE of_{schema} CONNECTION LIMIT 0")
            await admin.execute(
                "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE usename = $1", f"of_{schema}"
            )
            refused = []
            while not (refused and refused[-1].certain):  # the first was perhaps sent on a connection that was there
                try:
                    await _append(storage, "a", 1)
                except StorageUnavailable as error:
                    refused.append(error)
            with pytest.raises(StorageUnavailable):
                await storage.file_head("p", "a")
            await admin.execute(f"ALTER ROLE of_{schema} CONNECTION LIMIT -1")
            await _append_at_last(storage, "a", 1)
            while not storage.fresh:  # noqa: ASYNC110 - a heartbeat is on its way
                await asyncio.sleep(0.01)
        await admin.close()

    run(work())


def test_two_gateways_that_hold_one_job_do_no_harm(database: str, run: Run) -> None:
    async def work() -> None:
        async with _opened(database) as first, _opened(database) as second:
            for version in range(6):
                await _append(first, "a", version)
            await first.append("p", (AppendUpdate("b", Version(0), b"x"),))
            await first.append("p", (DeleteFile("b", Version(1)),))
            both = (first, second)
            squashed = await asyncio.gather(*(node.squash("p", "a", 4, b"xxxx") for node in both))
            assert sorted(squashed) == [False, True]
            await asyncio.gather(*(node.put_snapshot("p", "a", Snapshot(Version(6), b"whole")) for node in both))
            forgotten = await asyncio.gather(*(node.forget_tombstones(2**60) for node in both))
            assert {each for told in forgotten for each in told} == {("p", "b")}
            assert [await node.tombstone_floor("p") for node in both] == [8, 8]
            document = await second.read_document("p", "a")
            assert document is not None
            assert document.snapshot is not None
            assert (document.snapshot.version, document.snapshot.body) == (6, b"whole")
            assert await second.dangling() == []

    run(work())


def test_gateways_of_two_releases_serve_one_database(database: str, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A release upgrades the schema while gateways of the one before it serve: migrations only add."""
    here = migrations("postgres")
    added = (
        "ALTER TABLE project ADD COLUMN added text; ALTER TABLE file ADD COLUMN added text NOT NULL DEFAULT 'x';"
        " ALTER TABLE change ADD COLUMN added bigint; ALTER TABLE turn ADD COLUMN added bigint;"
        " CREATE TABLE added (a int)"
    )

    async def work() -> None:
        async with _opened(database) as old:
            heard: list[Commit] = []
            old.listen(heard.extend)
            await old.follow("p")
            await _append(old, "a", 0)
            await old.create_session("p", CreateSession("s", None))
            turn = (await old.write_turn("p", CreateTurn("s", "t", ""))).turn
            await old.read_document("p", "a")
            await old.turn_head("p", "s", "t")
            with monkeypatch.context() as newer:
                newer.setattr(database_module, "migrations", lambda backend: [*here, (len(here) + 1, added)])
                new = await PostgresStorage.open(database, patience=PATIENCE_S)
            for version in range(1, 9, 2):
                await _append(old, "a", version)
                await _append(new, "a", version + 1)
                for node in (old, new):
                    await node.catch_up("p")
                    document = await node.read_document("p", "a")
                    assert document is not None
                    assert document.version == version + 2
                    assert (await node.turn_head("p", "s", "t")) is not None
            await old.write_turn("p", UpdateTurn("s", "t", turn.sequence, "running"))
            assert [commit.project.sequence for commit in heard] == list(range(1, 13))
            with pytest.raises(SchemaTooNew, match="run a newer yjs-gateway"):
                await PostgresStorage.open(database, patience=PATIENCE_S)
            assert await old.dangling() == []
            await new.close()

    run(work())
