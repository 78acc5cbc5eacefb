"""A replica's state vector of very many clients is read in a worker process, also for a small document."""

import asyncio
from pathlib import Path

import pytest

from gateway.files import reader
from gateway.files.documents import Documents
from gateway.files.preconditions import Preconditions
from gateway.files.store import Files
from gateway.watch.hub import Hub
from gateway.workers.pool import Lane, worker_processes
from gateway.yjs.lib0 import var_uint
from gateway.yjs.updates import build_document
from storage.sqlite import SQLiteStorage


def _vector(count: int) -> bytes:
    return var_uint(count) + b"".join(var_uint(client) + b"\1" for client in range(1, count + 1))


@pytest.mark.parametrize(("clients", "jobs"), [(5, 0), (6, 1)])
def test_who_knows_very_many_clients_is_answered_by_a_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clients: int, jobs: int
) -> None:
    monkeypatch.setattr(reader, "MOST_IN_STEP", 5)

    async def main() -> None:
        storage = await SQLiteStorage.open(tmp_path / "gateway.db")
        async with worker_processes(processes=1, queue=16, seconds=600) as workers:
            files = Files(storage, Documents(storage, memory_limit=2**20), Hub(storage))
            await files.put_text("p", "a", "a smile: \U0001f642", "content", Preconditions())
            lacking = await files.read_lacking("p", "a", _vector(clients))
            assert workers.metrics[Lane.DOCUMENTS].jobs == jobs
            whole = await files.read_whole("p", "a")
            assert build_document([lacking.update]).get_update() == whole.update
        await storage.close()

    asyncio.run(main())
