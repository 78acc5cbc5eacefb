"""Jobs in the background: a failure is seen, and ends nothing."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.files.documents import Documents
from gateway.maintenance import jobs
from gateway.maintenance.jobs import Job
from gateway.maintenance.retention import Retainer
from gateway.maintenance.snapshots import Maintenance
from gateway.settings import RetentionPolicy
from gateway.yjs.updates import build_update
from storage import AppendUpdate, StorageUnavailable, Version
from storage.sqlite import SQLiteStorage
from tests.support.server import GatewayProcess

_PATHS = ("a.md", "b.md")


def _update(text: str) -> bytes:
    import pycrdt

    document: pycrdt.Doc[Any] = pycrdt.Doc()
    document.get("content", type=pycrdt.Text).insert(0, text)
    return build_update([document.get_update()])


async def _stored(folder: Path, versions: int = 1) -> SQLiteStorage:
    """A storage in which `a.md` cannot be read."""
    storage = await SQLiteStorage.open(folder / "jobs.db")
    for version in range(versions):
        for path in _PATHS:
            await storage.append("p", (AppendUpdate(path, Version(version), _update(f"{path} {version}")),))
    read = storage.read_document

    async def read_document(project: str, path: str, **options: Any) -> Any:
        if path == "a.md":
            raise LookupError("of a kind that nobody has thought of")
        return await read(project, path, **options)

    storage.read_document = read_document  # type: ignore[method-assign]
    return storage


def test_a_file_whose_snapshot_fails_does_not_end_the_snapshots_of_others(tmp_path: Path) -> None:
    async def work() -> None:
        storage = await _stored(tmp_path)
        documents = Documents(storage, memory_limit=2**20)
        maintenance = Maintenance(storage, documents)
        taken = asyncio.Event()
        put_snapshot = storage.put_snapshot

        async def put(*arguments: Any) -> None:
            await put_snapshot(*arguments)
            taken.set()

        storage.put_snapshot = put  # type: ignore[method-assign]
        for path in _PATHS:
            documents.due["p", path] = None
        documents.due_event.set()
        job = asyncio.create_task(maintenance.job.supervise(maintenance.run))
        await taken.wait()
        assert len(await storage.snapshots("p", "b.md")) == 1
        assert (maintenance.job.failures, maintenance.job.stopped) == (1, None)
        job.cancel()
        await storage.close()

    asyncio.run(work())


def test_a_file_that_cannot_be_squashed_does_not_keep_others_from_it(tmp_path: Path) -> None:
    async def work() -> None:
        storage = await _stored(tmp_path, versions=3)
        retainer = Retainer(storage, RetentionPolicy(versions=1))
        squashed = await retainer.squash_all()
        assert (squashed.files, squashed.versions, retainer.job.failures) == (1, 2, 1)
        assert await storage.base_version("p", "a.md") == 1
        await storage.close()

    asyncio.run(work())


def test_a_job_that_ends_is_begun_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "_FIRST_PAUSE_S", 0)

    async def work() -> None:
        job, seen, at_work = Job("tests"), list[str | None](), asyncio.Event()

        async def fail_twice() -> None:
            seen.append(job.stopped)
            if len(seen) == 1:
                raise StorageUnavailable("the database failed")
            if len(seen) == 3:
                at_work.set()
                await asyncio.Event().wait()

        task = asyncio.create_task(job.supervise(fail_twice))
        await at_work.wait()
        assert (job.failures, job.stopped, seen) == (2, None, [None] * 3)
        task.cancel()

    asyncio.run(work())


def test_readiness_tells_of_a_job_that_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from gateway.app import create_app
    from gateway.presence.presence import Presence
    from gateway.settings import Settings

    async def fail(presence: Presence) -> None:
        raise LookupError("no such room")

    monkeypatch.setattr(Presence, "expire", fail)
    monkeypatch.setattr(jobs, "_FIRST_PAUSE_S", 3600)  # it is not tried again while the test looks

    async def work() -> None:
        gateway = create_app(Settings(database=f"sqlite:///{tmp_path / 'gateway.db'}"))
        async with (
            gateway.running(),
            httpx.AsyncClient(transport=httpx.ASGITransport(app=gateway), base_url="http://gateway") as client,
        ):
            await asyncio.sleep(0)
            answer = await client.get("/readyz")
            assert answer.status_code == 200
            assert answer.json()["status"] == "degraded"
            fault = "stopped by LookupError: no such room; tried again after 3600 s"
            assert answer.json()["checks"] == {
                "database": "ok",
                "readers": "ok",
                "clock": "ok",
                "silent_turns": "ok",
                "snapshots": "ok",
                "memory": "ok",
                "awareness": fault,
            }
            metrics = (await client.get("/metrics")).text
            assert 'gateway_background_running{job="awareness"} 0.0' in metrics
            assert 'gateway_background_failures_total{job="awareness"} 1.0' in metrics

    asyncio.run(work())


def test_readiness_names_what_was_looked_at(shared_gateway: GatewayProcess) -> None:
    with shared_gateway.client() as client:
        health = client.get(f"{shared_gateway.url}/readyz").json()
    assert health["status"] == "ok"
    assert set(health["checks"].values()) == {"ok"}
