"""What a gateway asks of PostgreSQL: how many statements, and how each finds its rows."""

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import httpx
import pytest

from gateway.app import Gateway
from gateway.settings import Settings
from storage import (
    AppendUpdate,
    CreateSession,
    CreateTurn,
    DeleteFile,
    Milliseconds,
    NewBlock,
    Once,
    Retention,
    Snapshot,
    Storage,
    UpdateTurn,
    Version,
)
from storage.opening import StorageLimits
from storage.postgres import PostgresStorage, writer
from tests.support.postgres import PATIENCE_S

_LARGE = ("change", "file", "past_life", "snapshot", "turn", "prompt", "block", "session", "done", "project", "writer")
_DANGLING = re.compile(r"^SELECT r\.project, count\(\*\) FROM ")
"""Of `verify`, which reads whole tables to find what belongs nowhere."""
_WHOLE = re.compile(r"^(DELETE FROM snapshot$|UPDATE cluster)")

Statements = list[tuple[str, tuple[Any, ...]]]


@contextlib.asynccontextmanager
async def _opened(url: str) -> AsyncIterator[tuple[PostgresStorage, Statements]]:
    statements: Statements = []
    storage = await PostgresStorage.open(
        url, patience=PATIENCE_S, trace=lambda query, values: statements.append((query, values))
    )
    try:
        yield storage, statements
    finally:
        await storage.close()


async def _use_everything(storage: PostgresStorage) -> None:
    """Every call of the contract that reads or writes rows of projects."""
    for version in range(4):
        await storage.append("p", (AppendUpdate("a", Version(version), b"x", "ann"),))
    await storage.append("p", (DeleteFile("a", Version(4)), AppendUpdate("b", Version(0), b"y")))
    await storage.append("p", (AppendUpdate("a", Version(5), b"x"),))
    await storage.put_snapshot("p", "a", Snapshot(Version(6), b"whole"))
    await storage.create_session("p", CreateSession("s", None, Once("k", b"")))
    turn = (await storage.write_turn("p", CreateTurn("s", "t", "prompt"))).turn
    blocks = (NewBlock("text", b"1"),)
    await storage.write_turn("p", UpdateTurn("s", "t", turn.sequence, "running", blocks=blocks))
    for read in (
        storage.project_head("p"),
        storage.file_head("p", "a"),
        storage.file_heads("p", ["a", "b"]),
        storage.list_files("p", prefix="a", limit=10),
        storage.list_files("p", limit=10),
        storage.list_tombstones("p", limit=10),
        storage.files_changed_since("p", 2, limit=5),
        storage.files_changed_since("p", 0),
        storage.changes_since("p", 3, limit=5),
        storage.existed_at("p", "a", 2),
        storage.read_increment("p", "a", 6, most_bytes=100),
        storage.read_document("p", "a"),
        storage.read_document("p", "a", at_version=3),
        storage.past_incarnations("p", "a", limit=5),
        storage.read_history("p", "a", limit=5),
        storage.read_version("p", "a", 2),
        storage.tombstone_floor("p"),
        storage.base_version("p", "a"),
        storage.done("p", "k"),
        storage.session("p", "s"),
        storage.sessions("p", limit=5),
        storage.turn_head("p", "s", "t"),
        storage.turns("p", "s", limit=5, prompt_length=10),
        storage.read_turn("p", "s", "t"),
        storage.read_blocks("p", "s", "t", after_block=0, limit=5, most_bytes=100),
        storage.output_state("p", "s", "t"),
        storage.due_turns(10, 10),
        storage.catch_up("p"),
        storage.snapshots("p", "a"),
        storage.squash("p", "a", 6, b"whole"),
        storage.purge("p", "a"),
        storage.forget_tombstones(0),
        storage.hold("job", 1),
    ):
        await read
    for rows in (
        storage.projects(),
        storage.files("p"),
        storage.updates("p", "a"),
        storage.running_turns(),
        storage.turn_rows("p"),
        storage.squash_points(Retention(versions=1, since=Milliseconds(1)), worth=1),
    ):
        async for _ in rows:
            pass


def test_no_statement_reads_a_whole_table(database: str) -> None:
    async def work() -> list[str]:
        async with _opened(database) as (storage, statements):
            await _use_everything(storage)
            connection = await asyncpg.connect(database)
            # Tables are small here: what could be searched by an index is, where nothing else is allowed.
            await connection.execute("SET enable_seqscan = off")
            found = []
            for query, values in list(statements):
                if not query.startswith(("SELECT", "WITH", "INSERT", "UPDATE", "DELETE")) or _WHOLE.match(query):
                    continue
                plan = "\n".join(row[0] for row in await connection.fetch(f"EXPLAIN {query}", *values))
                if any(f"Seq Scan on {table} " in plan for table in _LARGE):
                    found.append(f"{query}\n{plan}")
            await connection.close()
            assert len({query for query, _ in statements}) > 40
            return found

    assert asyncio.run(work()) == []


def test_a_batch_is_one_statement_and_an_unheard_change_is_read_by_one(database: str) -> None:
    async def work() -> None:
        async with _opened(database) as (storage, statements), _opened(database) as (other, theirs):
            await storage.append("p", (AppendUpdate("a", Version(0), b"x"),))
            await other.follow("p")
            for version in range(1, 20):
                statements.clear()
                await storage.append("p", (AppendUpdate("a", Version(version), b"x"),))
                assert [query[:4] for query, _ in statements] == ["WITH"]
            statements.clear()
            waiting = [storage.append("p", (AppendUpdate(f"{n}", Version(0), b"x"),)) for n in range(200)]
            await asyncio.gather(*waiting)
            assert sum(query.startswith("WITH") for query, _ in statements) <= 3
            await other.catch_up("p")
            heard = asyncio.Event()
            other.listen(lambda batch: heard.set())
            theirs.clear()
            await storage.append("p", (AppendUpdate("a", Version(20), b"x"),))
            await heard.wait()
            assert len(theirs) == 1

    asyncio.run(asyncio.wait_for(work(), 120))


def test_an_unchanged_poll_runs_no_statement(database: str) -> None:
    async def work() -> None:
        async with _opened(database) as (storage, statements):

            @contextlib.asynccontextmanager
            async def opened(url: str, limits: StorageLimits) -> AsyncIterator[Storage]:
                yield storage

            app = Gateway(Settings(database="sqlite:///unused.db"), opened)
            transport = httpx.ASGITransport(app=app)
            async with (
                app.running(),
                httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1/api/projects/p") as client,
            ):
                plain = {"Content-Type": "text/plain"}
                receipt = (await client.put("/files/a.md", content="x", headers=plain)).raise_for_status().json()
                tag = (await client.get("/files/a.md")).headers["ETag"]
                question = {"since": receipt["cursor"], "versions": {"a.md": 1}}
                await client.post("/files/status", json=question)
                while not storage.fresh:  # noqa: ASYNC110 - the heartbeat is on its way
                    await asyncio.sleep(0.01)
                reads, fresh = [""], False
                while not fresh or reads:  # where the database was not heard for a second, it has to be asked
                    assert not fresh, reads
                    fresh = True
                    statements.clear()
                    for _ in range(20):
                        started, fresh = time.monotonic(), fresh and storage.lag < 0.5
                        answer = await client.get("/files/a.md", headers={"If-None-Match": tag})
                        assert answer.status_code == 304
                        assert (await client.post("/files/status", json=question)).json()["changes"] == []
                        fresh = fresh and time.monotonic() - started < 0.5
                    queries = [query for query, _ in statements if "upkeep" not in query and "cluster" not in query]
                    reads = [each for each in queries if "written_ms" not in each and each[:6] in ("SELECT", "WITH")]
                    await asyncio.sleep(0)

    asyncio.run(asyncio.wait_for(work(), 120))


def test_a_crowd_that_asks_at_once_what_is_new_is_answered_by_two_reads(database: str) -> None:
    async def work() -> None:
        async with _opened(database) as (storage, statements), _opened(database) as (other, _):
            await storage.append("p", (AppendUpdate("a", Version(0), b"x"),))
            await storage.catch_up("p")
            await other.append("p", (AppendUpdate("a", Version(1), b"x"),))
            statements.clear()
            first = [asyncio.create_task(storage.catch_up("p")) for _ in range(500)]
            await asyncio.sleep(0)
            await other.append("p", (AppendUpdate("a", Version(2), b"x"),))
            heads = await asyncio.gather(*first, *(storage.catch_up("p") for _ in range(500)))
            assert {head.sequence for head in heads[500:] if head is not None} == {3}
            assert len(statements) <= 2

    asyncio.run(asyncio.wait_for(work(), 120))


def test_writers_that_wait_for_their_receipts_share_batches(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first of them that writes again does not begin a batch of its own."""
    monkeypatch.setattr(writer, "_GATHER_PART", 1e6)
    monkeypatch.setattr(writer, "_MOST_GATHER_S", 60.0)

    async def work() -> None:
        async with _opened(database) as (storage, _):

            async def write(name: str) -> None:
                for version in range(20):
                    await storage.append("p", (AppendUpdate(name, Version(version), b"x"),))
                    for _ in range(int(name)):  # one comes back after the other
                        await asyncio.sleep(0)

            await asyncio.gather(*(write(str(number)) for number in range(10)))
            statistics = storage.statistics()
            assert statistics.changes == 200
            assert statistics.commits <= 21

    asyncio.run(asyncio.wait_for(work(), 120))


@pytest.mark.parametrize("contended", [False, True], ids=["a race is lost", "the others are busy"])
def test_what_is_queued_while_another_gateway_writes_is_stored_together(
    database: str, monkeypatch: pytest.MonkeyPatch, *, contended: bool
) -> None:
    monkeypatch.setattr(writer, "_CONTENDED_BATCHES", 3 if contended else 0)
    monkeypatch.setattr(writer, "_CONTENDED_S", 1e6)

    async def work() -> None:
        async with _opened(database) as (storage, statements), _opened(database) as (other, _):
            names = [str(number) for number in range(10)]
            await storage.append("p", tuple(AppendUpdate(name, Version(0), b"x") for name in names))
            await other.append("p", (AppendUpdate("b", Version(0), b"x"),))
            await storage.catch_up("p")
            statements.clear()
            holder = await asyncpg.connect(database)
            transaction = holder.transaction()
            await transaction.start()
            await holder.fetchval("SELECT 1 FROM project FOR NO KEY UPDATE")
            faster = other.append("p", (AppendUpdate("b", Version(1), b"y"),))
            await _until_wait(holder, 1)
            waiting = [storage.append("p", (AppendUpdate("0", Version(1), b"y"),))]
            await _until_wait(holder, 2)
            waiting += [storage.append("p", (AppendUpdate(name, Version(1), b"y"),)) for name in names[1:]]
            await transaction.rollback()
            await holder.close()
            assert (await faster)[0].project.sequence == 12
            committed = [(await each)[0] for each in waiting]
            assert [each.project.sequence for each in committed] == list(range(13, 23))
            assert storage.statistics().commits == 2
            queries = [query.lstrip() for query, _ in statements]
            lost = [] if contended else ["WITH "]
            assert [query[:5] for query in queries] == [*lost, "BEGIN", "SELEC", "WITH ", "COMMI"]

    asyncio.run(asyncio.wait_for(work(), 120))


async def _until_wait(connection: asyncpg.Connection, count: int) -> None:
    """Wait until so many others wait for a lock."""
    waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
    while await connection.fetchval(waiting) < count:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
