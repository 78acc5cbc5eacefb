"""(c) How many updates a second are acknowledged after they are durable.

Over HTTP, by 1, 16 and 64 writers of which each waits for its receipt before it sends the next keystroke; each in a
file of its own, and all in four files. Compared with a raw ASGI callable on the same uvicorn that reads the same body
and gives the same receipt without doing anything, with the gateway's class for HTTP/1.1 and with uvicorn's own; and
with one that stores the body by `pycrdt-store`'s `SQLiteYStore` with its default options before it gives that receipt.
It neither checks an update nor counts versions. It is asked in both ways: with a store for each file, on one database,
as the rooms of y-websocket servers in Python have it; and with one store for all, which is its best, as stores beside
each other wait for the database by sleeping.

The storage alone, without HTTP and without Yjs: `SQLiteStorage.append` by 1, 16 and 64 writers that wait, and by 1,024
so that the queue is deep. Compared with sqlite3 by itself, on the same file system, in one thread: a log with a row id
and a unique (file, version), one commit for each row, and one for each 64 or 1,024 of them.

Everything is `synchronous = FULL`. sqlite3 by itself and the gateway use a write-ahead log; `SQLiteYStore` by default
uses a rollback journal. The server has one core, threads and all; so has the storage alone.
"""

import asyncio
import itertools
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import uvloop

from benchmarks.documents import PROJECT, keystrokes
from benchmarks.harness import Aim, Plan, Row, compare, folder, take_turns
from benchmarks.load import Answer, Load, compare_rates, fetch, put_under_load, request
from benchmarks.servers import SERVER_CORE, Server, baseline, gateway, on_core
from storage import AppendUpdate, Version
from storage.sqlite import SQLiteStorage

_WRITERS = (1, 16, 64)
_FEW_FILES = 4
_DEEP = 1024
_MOST_PER_SECOND = 40_000
"""More than anything here can do, so that no writer runs out of updates."""
_RAW_AIM = Aim(">=", 0.4)
_YSTORE_AIM = Aim(">=", 15)


def run(plan: Plan) -> Iterator[Row]:
    """Measure."""
    yield from _over_http(plan)
    with on_core(SERVER_CORE):
        yield from _storage_alone(plan)


def _over_http(plan: Plan) -> Iterator[Row]:
    with folder() as data, gateway(data / "gateway.db") as ours:
        (update,) = keystrokes(1)
        fetch(ours, request("PATCH", f"/api/projects/{PROJECT}/files/first.md", update))
        receipt = fetch(ours, request("PATCH", f"/api/projects/{PROJECT}/files/first.md", keystrokes(2)[1]))
        answer = _prepared(receipt)
        with (
            baseline("replay", status=receipt.status, **answer) as raw,
            baseline("replay", of_uvicorn=True, status=receipt.status, **answer) as of_uvicorn,
            baseline("ystore", database=str(data / "ystore.db"), **answer) as ystore,
        ):
            for writers in plan.size(_WRITERS, (1, 8)):
                yield from _writers_compared(plan, writers, ours, raw, of_uvicorn, ystore)


def _prepared(receipt: Answer) -> dict[str, object]:
    headers = [(name, value) for name, value in receipt.headers if name != "date"]
    return {"headers": headers, "body": receipt.body.decode()}


def _writers_compared(
    plan: Plan, writers: int, ours: Server, raw: Server, of_uvicorn: Server, ystore: Server
) -> Iterator[Row]:
    typed = _typed_by(writers, plan)
    turns = itertools.count()

    def load(server: Server, files: int) -> Load:
        # What was written once adds nothing the next time: the gateway gets new files in each turn.
        turn = next(turns) if server is ours else 0
        paths = [f"/api/projects/{PROJECT}/files/{writers}-{turn}-{writer % files}.md" for writer in range(writers)]
        streams = [
            [request("PATCH", path, update) for update in updates] for path, updates in zip(paths, typed, strict=True)
        ]
        return put_under_load(server, streams, seconds=plan.seconds, statuses=(200, 201))

    few = min(_FEW_FILES, writers)
    taken = take_turns(
        plan,
        {
            "ours": partial(load, ours, writers),
            "ours, few files": partial(load, ours, few),
            "raw": partial(load, raw, writers),
            "uvicorn": partial(load, of_uvicorn, writers),
            "ystore, one": partial(load, ystore, 1),
            "ystore, many": partial(load, ystore, writers),
        },
    )
    raw_aim, ystore_aim = (_RAW_AIM, _YSTORE_AIM) if writers == _WRITERS[-1] else (None, None)
    for name, where in {"ours": "a file each", "ours, few files": f"{few} files"}.items():
        what = f"over HTTP, {writers} writer{'s' if writers > 1 else ''}, {where}"
        yield compare_rates(what, taken[name], "raw ASGI", taken["raw"], aim=raw_aim)
        yield compare_rates("", taken[name], "raw ASGI, uvicorn's own class", taken["uvicorn"])
        yield compare_rates("", taken[name], "SQLiteYStore, one store", taken["ystore, one"], aim=ystore_aim)
        yield compare_rates("", taken[name], "SQLiteYStore, a store each", taken["ystore, many"], aim=ystore_aim)
        if few == writers:
            return


def _typed_by(writers: int, plan: Plan) -> list[list[bytes]]:
    """What each writer sends: each is a replica of its own, which has seen nothing of the others."""
    each = int(_MOST_PER_SECOND * plan.seconds / writers) + 2
    return [keystrokes(each, seed=writer + 1) for writer in range(writers)]


def _storage_alone(plan: Plan) -> Iterator[Row]:
    body = keystrokes(1)[0]
    with folder() as data, asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop:
        databases = (data / f"{number}.db" for number in itertools.count())

        def append(writers: int) -> float:
            return loop.run(_appended_per_second(next(databases), writers, body, plan.seconds))

        def insert(batch: int) -> float:
            return _inserted_per_second(next(databases), batch, body, plan.seconds)

        candidates: dict[tuple[str, int], Callable[[], float]] = {}
        for writers in (*_WRITERS, _DEEP):
            candidates["storage", writers] = partial(append, writers)
        for batch in (1, 16, 64, _DEEP):
            candidates["sqlite3", batch] = partial(insert, batch)
        taken = take_turns(plan, candidates)
    for writers, batch in ((1, 1), (16, 16), (64, 64), (_DEEP, 64), (_DEEP, _DEEP)):
        what = f"storage alone, {writers:,} waiting" if (writers, batch) != (_DEEP, _DEEP) else ""
        against = "bare sqlite3, each alone" if batch == 1 else f"bare sqlite3, batches of {batch:,}"
        aim = Aim(">=", 0.6) if writers >= 64 and batch == 64 else None
        yield compare(what, "updates/s", taken["storage", writers], against, taken["sqlite3", batch], aim=aim)


async def _appended_per_second(database: Path, writers: int, body: bytes, seconds: float) -> float:
    """Writers, each with a file of its own, that append and wait until that is durable."""
    storage = await SQLiteStorage.open(database)

    async def append(writer: int, version: int) -> None:
        await storage.append(PROJECT, (AppendUpdate(f"{writer}.md", Version(version), body),))

    async def write(writer: int, until: float) -> int:
        version = 0
        while time.perf_counter() < until:
            version += 1
            await append(writer, version)
        return version

    try:
        await asyncio.gather(*(append(writer, 0) for writer in range(writers)))
        started = time.perf_counter()
        written = await asyncio.gather(*(write(writer, started + seconds) for writer in range(writers)))
        return sum(written) / (time.perf_counter() - started)
    finally:
        await storage.close()


def _inserted_per_second(database: Path, batch: int, body: bytes, seconds: float) -> float:
    """The same rows without a gateway around them: as many files as a batch has rows."""
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(
            "CREATE TABLE log (id INTEGER PRIMARY KEY, file INTEGER NOT NULL, version INTEGER NOT NULL,"
            " body BLOB NOT NULL, UNIQUE (file, version))"
        )
        started, version = time.perf_counter(), 0
        while time.perf_counter() < started + seconds:
            version += 1
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(
                "INSERT INTO log (file, version, body) VALUES (?, ?, ?)",
                [(file, version, body) for file in range(batch)],
            )
            connection.execute("COMMIT")
        return version * batch / (time.perf_counter() - started)
