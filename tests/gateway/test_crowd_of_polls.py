"""Identical long polls that are woken together, with a database that takes its time: one of them asks it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx

from gateway.app import Gateway
from gateway.settings import Settings
from storage import Storage, StorageUnavailable
from storage.opening import StorageLimits
from storage.sqlite import SQLiteStorage

_CROWD = 50
_PLAIN = {"Content-Type": "text/plain"}


class _SlowReads:
    """Holds the reads of changes of a storage until it is told to go on; the first `failing` of them fail then."""

    def __init__(self, storage: SQLiteStorage) -> None:
        self._read = storage.changes_since
        self.count = 0
        self.failing = 0
        self.begun = asyncio.Event()
        self.go_on = asyncio.Event()
        setattr(storage, "changes_since", self._changes_since)  # noqa: B010

    async def _changes_since(self, project: str, sequence: int, *, limit: int | None = None) -> Any:
        self.count += 1
        number = self.count
        self.begun.set()
        await self.go_on.wait()
        if number <= self.failing:
            raise StorageUnavailable("it is not there")
        return await self._read(project, sequence, limit=limit)


@contextlib.asynccontextmanager
async def _crowd(path: Path) -> AsyncIterator[tuple[_SlowReads, list[asyncio.Task[httpx.Response]]]]:
    """Long polls that have been woken, of which those that ask the database wait for it."""
    async with contextlib.AsyncExitStack() as stack:
        storage = await SQLiteStorage.open(path / "crowd.db")
        stack.push_async_callback(storage.close)

        @contextlib.asynccontextmanager
        async def opened(url: str, limits: StorageLimits) -> AsyncIterator[Storage]:
            yield storage

        app = Gateway(Settings(database="sqlite:///unused.db"), opened)
        transport = httpx.ASGITransport(app=app)
        unlimited = httpx.Limits(max_connections=None)
        async with (
            app.running(),
            httpx.AsyncClient(transport=transport, base_url="http://localhost", limits=unlimited, timeout=60) as client,
        ):
            project = "/api/projects/p"
            first = await client.put(f"{project}/files/a.md", content="a", headers=_PLAIN)
            parameters = {"since": first.json()["cursor"], "wait": "55"}
            polls = [asyncio.create_task(client.get(f"{project}/changes", params=parameters)) for _ in range(_CROWD)]
            while f"gateway_waiters {_CROWD}.0" not in (await client.get("/metrics")).text:  # noqa: ASYNC110
                await asyncio.sleep(0)
            slow = _SlowReads(storage)
            await client.put(f"{project}/files/b.md", content="b", headers=_PLAIN)
            await slow.begun.wait()
            for _ in range(20):  # the others are woken meanwhile
                await asyncio.sleep(0)
            yield slow, polls


def test_the_others_wait_for_the_answer_of_the_first(tmp_path: Path) -> None:
    async def work() -> None:
        async with _crowd(tmp_path) as (slow, polls):
            slow.go_on.set()
            answers = await asyncio.gather(*polls)
            assert {answer.status_code for answer in answers} == {200}
            assert len({answer.content for answer in answers}) == 1
            assert answers[0].json()["changes"][0]["path"] == "b.md"
            assert slow.count == 1

    asyncio.run(asyncio.wait_for(work(), 60))


def test_the_others_go_on_without_a_first_that_fails(tmp_path: Path) -> None:
    async def work() -> None:
        async with _crowd(tmp_path) as (slow, polls):
            slow.failing = 1
            slow.go_on.set()
            answers = await asyncio.gather(*polls)
            assert sorted(answer.status_code for answer in answers) == [*[200] * (_CROWD - 1), 503]
            assert slow.count == 2

    asyncio.run(asyncio.wait_for(work(), 60))
