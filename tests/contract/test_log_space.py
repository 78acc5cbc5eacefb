"""The write-ahead log has its space before it is needed, and nobody takes the space for content."""

import asyncio
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from storage import AppendUpdate, LeftoverLog, Version
from storage.sqlite import SQLiteStorage

_SPACE = 2**20


def _log(folder: Path) -> Path:
    return folder / "gateway.db-wal"


async def _opened(folder: Path, space: int = _SPACE) -> SQLiteStorage:
    return await SQLiteStorage.open(folder / "gateway.db", log_space=space)


async def _append(storage: SQLiteStorage, version: int, body: bytes = b"\0\0") -> None:
    await storage.append("p", (AppendUpdate("a.md", Version(version), body),))


async def _versions(storage: SQLiteStorage) -> int:
    head = await storage.file_head("p", "a.md")
    return 0 if head is None else head.version


def test_commits_do_not_make_the_log_longer(tmp_path: Path) -> None:
    async def work() -> None:
        storage = await _opened(tmp_path)
        for version in range(20):
            await _append(storage, version)
            assert _log(tmp_path).stat().st_size == _SPACE
        await storage.close()
        assert not _log(tmp_path).exists()
        storage = await _opened(tmp_path)
        assert await _versions(storage) == 20
        await storage.close()

    asyncio.run(work())


def test_a_log_that_is_longer_keeps_its_length_and_a_small_space_is_outgrown(tmp_path: Path) -> None:
    async def work() -> None:
        storage = await _opened(tmp_path, 5000)
        for version in range(5):
            await _append(storage, version, bytes(50_000))
        assert _log(tmp_path).stat().st_size > 250_000
        await storage.close()

    asyncio.run(work())


_STORE_AND_WAIT = """
import asyncio, sys
from pathlib import Path
from tests.contract.test_log_space import _append, _opened
async def work():
    storage = await _opened(Path(sys.argv[1]))
    for version in range(int(sys.argv[2])):
        await _append(storage, version)
    await storage.ready()
    await storage._database.write(lambda connection: None)  # the space is allocated before
    print("stored", flush=True)
    await asyncio.sleep(3600)
asyncio.run(work())
"""


def _killed(folder: Path, versions: int) -> None:
    """Store versions, and leave as `kill -9` leaves it."""
    command = [sys.executable, "-c", _STORE_AND_WAIT, str(folder), str(versions)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"stored\n"
        process.send_signal(signal.SIGKILL)


@pytest.mark.parametrize("versions", [0, 10])
def test_after_kill_9_the_log_is_what_was_stored(tmp_path: Path, versions: int) -> None:
    _killed(tmp_path, versions)
    assert _log(tmp_path).stat().st_size == _SPACE

    async def work() -> None:
        storage = await _opened(tmp_path)
        assert await _versions(storage) == versions
        await _append(storage, versions)
        await storage.close()

    asyncio.run(work())
    with sqlite3.connect(tmp_path / "gateway.db") as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)


@pytest.mark.parametrize("versions", [0, 10])
def test_a_log_of_space_alone_may_stay_beside_another_database(tmp_path: Path, versions: int) -> None:
    (tmp_path / "other").mkdir()

    async def make_another() -> None:
        await (await _opened(tmp_path / "other")).close()

    async def open_in_its_place() -> None:
        shutil.copy(tmp_path / "other" / "gateway.db", tmp_path / "gateway.db")
        await (await _opened(tmp_path)).close()

    _killed(tmp_path, versions)
    asyncio.run(make_another())
    if versions:
        with pytest.raises(LeftoverLog):
            asyncio.run(open_in_its_place())
    else:
        asyncio.run(open_in_its_place())


def test_a_disk_that_is_full_leaves_the_log_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pwrite, written = os.pwrite, list[int]()

    def full(descriptor: int, data: bytes, offset: int) -> int:
        if len(data) < 2**16:
            return pwrite(descriptor, data, offset)
        written.append(pwrite(descriptor, data[: len(data) // 2], offset))
        monkeypatch.setattr(os, "pwrite", no_more)
        return written[-1]

    def no_more(descriptor: int, data: bytes, offset: int) -> int:
        raise OSError(28, "No space left on device")

    async def work() -> None:
        monkeypatch.setattr(os, "pwrite", full)
        storage = await _opened(tmp_path)
        await storage._database.write(lambda connection: None)
        assert written == [_SPACE // 2]
        assert _log(tmp_path).stat().st_size == 0
        monkeypatch.setattr(os, "pwrite", pwrite)
        await _append(storage, 0)
        assert await _versions(storage) == 1
        await storage.close()

    asyncio.run(work())


def test_who_reads_meanwhile_reads_what_is_stored(tmp_path: Path) -> None:
    async def work() -> None:
        storage = await _opened(tmp_path)
        for version in range(10):
            await _append(storage, version)
        reading = await SQLiteStorage.open_read_only(tmp_path / "gateway.db")
        assert await _versions(reading) == 10
        await _append(storage, 10)
        assert await _versions(reading) == 11
        await reading.close()
        await storage.close()

    asyncio.run(work())
