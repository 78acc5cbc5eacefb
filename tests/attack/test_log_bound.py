"""Another process that reads an old state of the database for long: the log grows to its bound and no further."""

import asyncio
import re
import sqlite3
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
import pytest

from gateway.yjs.lib0 import var_uint
from storage import AppendUpdate, Committed, Version
from storage.errors import LogHeld
from storage.portable import Record
from storage.sqlite import SQLiteStorage
from storage.sqlite.log_bound import LogBound
from tests.support.server import GatewayProcess

_LIMIT = 4 * 2**20
_READER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN")
connection.execute("SELECT count(*) FROM file_update").fetchone()
print("reads", flush=True)
sys.stdin.read()
"""


def _put(project: httpx.Client, number: int) -> httpx.Response:
    text = f"{number:09}" * 10_000
    return project.put(f"/files/{number % 7}.md", content=text, headers={"Content-Type": "text/plain"})


def test_a_reader_in_another_process_does_not_let_the_log_grow_without_a_bound(tmp_path: Path) -> None:
    gateway = GatewayProcess(tmp_path / "gateway.db", GATEWAY_LOG_BYTES=_LIMIT)
    log = tmp_path / "gateway.db-wal"
    with gateway, gateway.client() as project:
        ready = f"{gateway.url}/readyz"
        _put(project, 0).raise_for_status()
        command = [sys.executable, "-c", _READER, str(gateway.database)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as reader:
            assert reader.stdout is not None
            assert reader.stdout.readline() == b"reads\n"
            number = 1
            while (answer := _put(project, number)).is_success:
                number += 1
            assert (answer.status_code, answer.json()["code"]) == (503, "storage_unavailable")
            assert "another process" in answer.json()["detail"]
            assert int(answer.headers["Retry-After"]) > 0
            assert log.stat().st_size < _LIMIT + 2**20
            health = project.get(ready)
            assert health.status_code == 503
            assert "gateway.db-wal" in health.json()["detail"]
            assert project.get("/files/0.md?format=text").is_success
            reader.kill()
        while (answer := _put(project, number)).status_code == 503:
            pass
        answer.raise_for_status()
        assert log.stat().st_size < _LIMIT // 4
        assert project.get(ready).json()["checks"]["database"] == "ok"


def test_it_is_told_that_the_log_is_held_before_writes_are_refused(tmp_path: Path) -> None:
    gateway = GatewayProcess(tmp_path / "gateway.db", GATEWAY_LOG_BYTES=_LIMIT)
    with gateway, gateway.client() as project:
        _put(project, 0).raise_for_status()
        command = [sys.executable, "-c", _READER, str(gateway.database)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as reader:
            assert reader.stdout is not None
            assert reader.stdout.readline() == b"reads\n"
            number = 1
            while (tmp_path / "gateway.db-wal").stat().st_size <= _LIMIT // 2:
                _put(project, number).raise_for_status()
                number += 1
            health = project.get(f"{gateway.url}/readyz").json()
            assert health["status"] == "degraded"
            assert "another process" in health["checks"]["database"]
            reader.kill()
        while project.get(f"{gateway.url}/readyz").json()["status"] != "ok":  # though nobody writes
            pass
        metrics = project.get(f"{gateway.url}/metrics").text
        bound = re.search(r'^gateway_setting{name="GATEWAY_LOG_BYTES"} (.+)$', metrics, re.M)
        assert bound is not None
        assert float(bound[1]) == _LIMIT


_UPDATE = b"\1\1\5\0\4\1\1t" + var_uint(100_000) + b"x" * 100_000 + b"\0"


def _beside_a_gateway(folder: Path, work: Callable[[SQLiteStorage, SQLiteStorage], Awaitable[None]]) -> None:
    """Run `work(served, copied)`: the storage of a gateway with 20 files, and the same as a command reads it."""

    async def run() -> None:
        served = await SQLiteStorage.open(folder / "gateway.db", log_bytes=_LIMIT)
        for number in range(20):
            await _write(served, number)
        copied = await SQLiteStorage.open_read_only(folder / "gateway.db", log_bytes=_LIMIT)
        try:
            await work(served, copied)
        finally:
            await copied.close()
            await served.close()

    asyncio.run(run())


async def _write(storage: SQLiteStorage, number: int) -> tuple[Committed, ...]:
    head = await storage.file_head("p", f"{number % 20}.md")
    version = Version(0) if head is None else head.version
    return await storage.append("p", (AppendUpdate(f"{number % 20}.md", version, _UPDATE),))


async def _emptied(storage: SQLiteStorage, folder: Path) -> None:
    """Write until the log has been emptied, which is tried at most once a second."""
    number = 0
    while (folder / "gateway.db-wal").stat().st_size > _LIMIT // 4:
        await _write(storage, number)
        number += 1


def test_an_export_gives_up_before_writes_are_refused(tmp_path: Path) -> None:
    async def work(served: SQLiteStorage, copied: SQLiteStorage) -> None:
        loop, written, records = asyncio.get_running_loop(), 0, list[Record]()

        def take(record: Record) -> None:
            nonlocal written
            records.append(record)
            for _ in range(5):  # much is written while little is read
                asyncio.run_coroutine_threadsafe(_write(served, written), loop).result()
                written += 1

        with pytest.raises(LogHeld, match=r"gateway\.db-wal has grown to 2 MiB.*GATEWAY_LOG_BYTES"):
            await copied.export_project("p", take)
        assert 0 < len(records) < 20
        assert (tmp_path / "gateway.db-wal").stat().st_size < _LIMIT
        await _emptied(served, tmp_path)
        records.clear()
        await copied.export_project("p", records.append)  # as soon as less is written
        assert len(records) > 20

    _beside_a_gateway(tmp_path, work)


def test_a_backup_gives_up_before_writes_are_refused(tmp_path: Path) -> None:
    async def work(served: SQLiteStorage, copied: SQLiteStorage) -> None:
        with sqlite3.connect(tmp_path / "gateway.db") as reader:  # holds the log as a backup does
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM file_update").fetchone()
            number = 0
            while (tmp_path / "gateway.db-wal").stat().st_size <= _LIMIT // 2:
                await _write(served, number)
                number += 1
            with pytest.raises(LogHeld, match="given up"):
                await copied.back_up(tmp_path / "copy.db")
        reader.close()
        await _emptied(served, tmp_path)
        (tmp_path / "copy.db").unlink(missing_ok=True)
        await copied.back_up(tmp_path / "copy.db")
        assert (tmp_path / "copy.db").stat().st_size > 20 * len(_UPDATE)

    _beside_a_gateway(tmp_path, work)


def test_a_log_that_was_just_seen_to_be_small_is_not_looked_at_again(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(bytes(_LIMIT))
    with sqlite3.connect(tmp_path / "gateway.db") as database:
        bound = LogBound(log, _LIMIT - 1)
        bound.held = "it was held"
        bound.require_room(database, _LIMIT // 4 - 1)
        assert bound.held is None
        for seen in (None, _LIMIT // 4, _LIMIT):
            with pytest.raises(LogHeld):
                bound.require_room(database, seen)
