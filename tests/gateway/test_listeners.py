"""A part of the gateway that fails over what was committed harms nobody else, and does not stay behind."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.files.documents import Documents
from gateway.files.preconditions import Preconditions
from gateway.files.store import Files
from gateway.watch.filter import ChangeFilter
from gateway.watch.hub import Hub
from gateway.watch.project import WatchedProject
from storage import AppendUpdate, Commit, Committed, StorageUnavailable, Version
from storage.sqlite import SQLiteStorage
from storage.sqlite.database import Database

_NOW = Preconditions()


def failing_once(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that raises the first time."""
    calls = 0

    def called(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise RuntimeError("a fault")
        return function(*arguments)

    return called


def test_a_listener_that_fails_keeps_nobody_from_hearing_nor_writes_from_being_stored(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def work() -> None:
        storage = await SQLiteStorage.open(tmp_path / "gateway.db")
        heard: list[int] = []
        missed: list[int] = []

        def fail(batch: tuple[Commit, ...]) -> None:
            raise RuntimeError("a fault")

        def note(versions: list[int]) -> Callable[[tuple[Commit, ...]], None]:
            return lambda batch: versions.extend(each.head.version for each in batch if isinstance(each, Committed))

        storage.listen(fail, note(missed))
        storage.listen(fail, fail)
        storage.listen(note(heard))
        for version in range(3):
            (committed,) = await storage.append("p", (AppendUpdate("f", Version(version), b"\0\0"),))
            assert committed.head.version == version + 1
        assert heard == missed == [1, 2, 3]
        await storage.ready()
        await storage.close()

    with caplog.at_level(logging.ERROR):
        asyncio.run(work())
    assert len(caplog.records) == 9


def test_what_failed_to_hear_of_a_change_reads_it_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        storage = await SQLiteStorage.open(tmp_path / "gateway.db")
        hub, documents = Hub(storage), Documents(storage, memory_limit=2**20)
        files = Files(storage, documents, hub)
        await files.put_text("p", "f", "one", "content", _NOW)
        assert (await files.head("p", "f")).version == 1
        project = await hub.project("p")
        assert project is not None
        woken = asyncio.Event()
        hub.waiters.enter(project)
        hub.waiters.add(project, ChangeFilter(turns=False, paths=frozenset(["other"])), 60, woken.set)
        with monkeypatch.context() as patch:
            patch.setattr(WatchedProject, "advance", failing_once(WatchedProject.advance))
            await files.put_text("p", "f", "two", "content", _NOW)
        await asyncio.wait_for(woken.wait(), 60)  # to look again, on what is known now
        hub.waiters.leave(project)
        assert (await files.head("p", "f")).version == 2
        assert await files.text_of(await files.read_whole("p", "f"), "content") == b"two"
        assert (await files.delete("p", "f", _NOW)).version == 3
        await storage.close()

    asyncio.run(work())


def test_one_who_cannot_be_woken_keeps_nobody_else_asleep(tmp_path: Path) -> None:
    async def work() -> None:
        storage = await SQLiteStorage.open(tmp_path / "gateway.db")
        hub = Hub(storage)
        await storage.append("p", (AppendUpdate("f", Version(0), b"\0\0"),))
        project = await hub.project("p")
        assert project is not None
        hub.waiters.enter(project)
        woken = [asyncio.Event() for _ in range(250)]

        def fail() -> None:
            raise RuntimeError("a fault")

        for place, event in enumerate(woken):
            if place in (0, 1, 150):
                hub.waiters.add(project, ChangeFilter(turns=False, paths=frozenset(["f"])), 60, fail)
            hub.waiters.add(project, ChangeFilter(turns=False, paths=frozenset(["f"])), 60, event.set)
        await storage.append("p", (AppendUpdate("f", Version(1), b"\0\0"),))
        await asyncio.wait_for(asyncio.gather(*(event.wait() for event in woken)), 60)
        await storage.close()

    asyncio.run(work())


def test_a_storage_that_writes_no_more_is_not_ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        storage = await SQLiteStorage.open(tmp_path / "gateway.db")
        await storage.ready()

        def fail(*arguments: object) -> None:
            raise RuntimeError("a fault")

        monkeypatch.setattr(Database, "write_and_call", fail)
        monkeypatch.setattr("storage.sqlite.writer.break_lines", fail)  # and what follows a failure fails as well
        waiting = storage.append("p", (AppendUpdate("f", Version(0), b"\0\0"),))
        with pytest.raises(StorageUnavailable):
            await waiting
        with pytest.raises(StorageUnavailable):
            await storage.ready()
        with pytest.raises(StorageUnavailable):
            storage.append("p", (AppendUpdate("f", Version(0), b"\0\0"),))
        await storage.close()

    asyncio.run(work())
