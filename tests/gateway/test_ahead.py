"""A reader may be ahead of what the gateway has heard of: what it read was durable already."""

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

from gateway.changes.status import Changes
from gateway.files.documents import Documents
from gateway.files.store import Files
from gateway.watch.hub import Hub
from gateway.wire.changes import StatusQuestion
from storage import AppendUpdate, Commit, Committed, Version
from storage.sqlite import SQLiteStorage

T = TypeVar("T")


def at_once(work: Coroutine[Any, Any, T]) -> T:
    """The result of what has nothing to wait for."""
    try:
        work.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    raise AssertionError("it waits")


def test_who_reads_between_a_commit_and_its_being_heard_of_is_not_told_to_start_over(tmp_path: Path) -> None:
    async def work() -> None:
        storage = await SQLiteStorage.open(tmp_path / "gateway.db")
        looked: list[tuple[int, int]] = []

        def look(batch: tuple[Commit, ...]) -> None:
            """The first to hear: the hub does not know yet."""
            (committed,) = batch
            assert isinstance(committed, Committed)
            version = committed.head.version
            if version < 2:
                return
            known = hub.get("p")
            assert known is not None
            assert known.head is not None
            assert known.head.sequence == version - 1
            first = at_once(files.read_since("p", "a.md", version - 1))
            again = at_once(files.read_since("p", "a.md", version))
            looked.append((first.version, again.version))
            assert (again.builds_on, at_once(files.head("p", "a.md", version)).version) == (version, version)
            status = at_once(changes.status("p", StatusQuestion(versions={"a.md": version})))
            assert status.changes == []

        storage.listen(look)
        hub = Hub(storage)
        files = Files(storage, Documents(storage, memory_limit=2**20), hub)
        changes = Changes(storage, hub, paths_limit=10)
        for version in range(4):
            await storage.append("p", (AppendUpdate("a.md", Version(version), b"\0\0"),))
            await files.head("p", "a.md")  # the hub watches the project from now on
        assert looked == [(2, 2), (3, 3), (4, 4)]
        await storage.close()

    asyncio.run(work())
