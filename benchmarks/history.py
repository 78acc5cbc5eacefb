"""(i) What it costs to keep every version of a file, and to have an old one.

A file of 250,000 keystrokes, with snapshots where the gateway takes them. Time: a version at each of ten points of its
history, as a function without HTTP (`Files.read_at`); against building it from the log from the start, with pycrdt, of
updates that lie in memory; and against `pycrdt-store`'s `SQLiteYStore`, which reads its log from the start.

Bytes: what the database takes on the disk for one update, snapshots included, of keystrokes, of sentences put here and
there, and of pieces that were pasted; against `SQLiteYStore` with its default options, and against npm's `y-leveldb`,
where there is npm to install it, on the same updates. `y-leveldb` merges what it has from 500 updates on: it keeps no
versions.
"""

import asyncio
import logging
import shutil
import sqlite3
import statistics
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing
from functools import partial
from pathlib import Path

import uvloop
from pycrdt.store import SQLiteYStore

from benchmarks.documents import PROJECT, fill, keystrokes, pasted, scattered
from benchmarks.harness import Aim, Plan, Row, compare, folder, take_turns
from benchmarks.servers import SERVER_CORE, node_packages, on_core
from gateway.files.documents import Documents
from gateway.files.open_document import is_snapshot_due
from gateway.files.store import Files
from gateway.watch.hub import Hub
from gateway.yjs.snapshots import compress
from gateway.yjs.updates import build_document, build_update
from storage import Snapshot, Version
from storage.sqlite import SQLiteStorage

_PATH = "typed.md"
_POINTS = 10
_QUIET = logging.Logger("a store that is read in part takes that for a failure", logging.CRITICAL)


def run(plan: Plan) -> Iterator[Row]:
    """Measure."""
    typed = keystrokes(plan.size(250_000, 3_000))
    with folder() as data, on_core(SERVER_CORE):
        database = data / "gateway.db"
        fill(database, {_PATH: typed})
        asyncio.run(_take_snapshots(database, _PATH, typed))
        store = data / "ystore.db"
        asyncio.run(_fill_store(store, typed))
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop:
            storage = loop.run(SQLiteStorage.open(database))
            try:
                yield from _times(plan, loop, storage, store, typed)
            finally:
                loop.run(storage.close())
    few = plan.size(20_000, 1_000)
    size = plan.size(1024, 50) * 1024
    yield from _bytes("keystrokes", keystrokes(few))
    yield from _bytes("sentences", scattered(size, 100))
    yield from _bytes("pasted", pasted(size, 100))


async def _take_snapshots(database: Path, path: str, updates: Sequence[bytes]) -> int:
    """The snapshots that the gateway takes while a file is written; returns their bytes."""
    storage = await SQLiteStorage.open(database)
    try:
        document, tail, last, total = build_document([]), 0, 0, 0
        for version, update in enumerate(updates, 1):
            document.apply_update(update)
            tail += len(update)
            if is_snapshot_due(tail, last):
                body = document.get_update()
                stored = compress(body)
                await storage.put_snapshot(PROJECT, path, Snapshot(Version(version), stored))
                tail, last, total = 0, len(body), total + len(stored)
        return total
    finally:
        await storage.close()


def _store(database: Path) -> SQLiteYStore:
    class Store(SQLiteYStore):
        db_path = str(database)

    return Store(_PATH, metadata_callback=lambda: b"", log=_QUIET)


async def _fill_store(database: Path, updates: Sequence[bytes]) -> None:
    """As the store writes them, but in one transaction: one each would take minutes."""
    async with _store(database) as store:
        assert store.db_initialized is not None
        await store.db_initialized.wait()
        await store.write(updates[0])
    with sqlite3.connect(database) as connection:
        path, _, metadata, timestamp = connection.execute("SELECT * FROM yupdates").fetchone()
        rows = ((path, update, metadata, timestamp + number / 1e3) for number, update in enumerate(updates[1:], 1))
        connection.executemany("INSERT INTO yupdates VALUES (?, ?, ?, ?)", rows)
    connection.close()


def _times(
    plan: Plan, loop: asyncio.Runner, storage: SQLiteStorage, store: Path, updates: Sequence[bytes]
) -> Iterator[Row]:
    files = Files(storage, Documents(storage, memory_limit=2**28), Hub(storage))

    async def ours(version: int) -> bytes:
        return (await files.read_at(PROJECT, _PATH, version)).update

    async def replayed(version: int) -> bytes:
        return build_update(updates[:version])

    async def stored(version: int) -> bytes:
        document, count = build_document([]), 0
        async with _store(store) as opened, aclosing(opened.read()) as rows:
            async for update, _, _ in rows:
                document.apply_update(update)
                count += 1
                if count == version:
                    break
        return document.get_update()

    versions = [len(updates) * point // _POINTS for point in range(1, _POINTS + 1)]
    for version in versions[:: _POINTS // 2]:
        if not loop.run(ours(version)) == loop.run(replayed(version)) == loop.run(stored(version)):
            raise RuntimeError(f"version {version} is not the same everywhere")

    def timed(read: Callable[[int], Awaitable[bytes]], version: int) -> float:
        return loop.run(_time(read, version, plan.size(3, 1)))

    candidates = {
        (name, version): partial(timed, read, version)
        for name, read in (("ours", ours), ("replay", replayed), ("store", stored))
        for version in versions
    }
    taken = take_turns(plan, candidates)
    for version in versions:
        times = taken["ours", version]
        yield compare(f"version {version:,}", "ms", times, "replay", taken["replay", version], inverse=True)
        yield compare("", "ms", times, "SQLiteYStore", taken["store", version], inverse=True)
    middle = versions[0]
    yield compare(
        "the newest beside an early one", "ms", taken["ours", versions[-1]], f"{middle:,}", taken["ours", middle]
    )
    of_all = [statistics.median(each) for each in zip(*(taken["ours", version] for version in versions), strict=True)]
    whole = taken["replay", versions[-1]]
    yield compare("a version, on the median", "ms", of_all, "whole replay", whole, inverse=True, aim=Aim(">=", 10))


async def _time(read: Callable[[int], Awaitable[bytes]], version: int, times: int) -> float:
    """In milliseconds."""
    taken = []
    for _ in range(times):
        started = time.perf_counter()
        await read(version)
        taken.append(time.perf_counter() - started)
    return statistics.median(taken) * 1e3


def _bytes(what: str, updates: Sequence[bytes]) -> Iterator[Row]:
    raw = sum(map(len, updates)) / len(updates)
    with folder() as data:
        fill(data / "gateway.db", {_PATH: updates})
        alone = _size(data / "gateway.db")
        snapshots = asyncio.run(_take_snapshots(data / "gateway.db", _PATH, updates))
        ours = _size(data / "gateway.db") / len(updates)
        asyncio.run(_fill_store(data / "ystore.db", updates))
        theirs = _size(data / "ystore.db") / len(updates)
        about = {"updates": len(updates), "without_snapshots": alone / len(updates), "snapshots": snapshots}
        yield compare(f"an update, {what}", "B", [ours], "its bytes", [raw], details=about)
        yield compare("", "B", [ours], "SQLiteYStore", [theirs], aim=Aim("<=", 4))
        yield compare("  without snapshots", "B", [alone / len(updates)], "SQLiteYStore", [theirs])
        if shutil.which("npm") is not None:
            level = _in_leveldb(data / "level", updates) / len(updates)
            yield compare("", "B", [ours], "y-leveldb", [level])


def _size(database: Path) -> float:
    """Of a file without what is free in it."""
    with sqlite3.connect(database) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    return float(database.stat().st_size)


def _in_leveldb(target: Path, updates: Sequence[bytes]) -> float:
    told = b"".join(len(update).to_bytes(4) + update for update in updates)
    command = ["node", str(node_packages() / "leveldb.mjs"), str(target)]
    done = subprocess.run(command, input=told, stdout=subprocess.PIPE, check=True)
    return float(done.stdout)
