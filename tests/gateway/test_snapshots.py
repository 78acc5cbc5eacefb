"""Snapshots are a cache: what an old version costs to read is bounded, and without any of them nothing is lost."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pycrdt

from gateway.yjs.updates import build_update
from storage import Snapshot, Storage
from tests.gateway.test_retention import running

_OCTETS = {"Content-Type": "application/octet-stream"}


async def _type(client: httpx.AsyncClient, count: int) -> None:
    document: pycrdt.Doc[Any] = pycrdt.Doc()
    text = document.get("content", type=pycrdt.Text)
    updates: list[bytes] = []
    subscription = document.observe(lambda event: updates.append(event.update))
    for number in range(count):
        with document.transaction():
            text.insert(0, f"{number} and some more words of a line\n")
            if len(text) > 4_000:
                del text[1_000:]
        answer = await client.patch("/files/a.md", content=updates[-1], headers=_OCTETS)
        answer.raise_for_status()
    document.unobserve(subscription)


async def _until_snapshots(storage: Storage, more_than: int) -> list[int]:
    found: list[Snapshot] = []
    while len(found) <= more_than:
        found = await storage.snapshots("demo", "a.md")
    return [snapshot.version for snapshot in found]


def test_snapshots_are_spaced_by_what_they_save(tmp_path: Path) -> None:
    async def work() -> None:
        async with running(tmp_path) as (storage, client):
            await _type(client, 3_000)
            versions = await _until_snapshots(storage, 1)
            snapshots = await storage.snapshots("demo", "a.md")
            log = (await client.get("/files")).json()["files"][0]["size"]
            assert versions == sorted(set(versions))
            assert sum(len(snapshot.body) for snapshot in snapshots) <= 4 * log

    asyncio.run(work())


def test_an_old_version_that_took_long_is_remembered(tmp_path: Path) -> None:
    async def work() -> None:
        async with running(tmp_path) as (storage, client):
            await _type(client, 3_000)
            expected = (await client.get("/files/a.md?at_version=2000")).content
            await storage.drop_snapshots()
            assert (await client.get("/files/a.md?at_version=2000")).content == expected
            assert 2_000 in await _until_snapshots(storage, 0)
            stored = await storage.read_document("demo", "a.md", at_version=2_000)
            assert stored is not None
            assert stored.updates == ()
            assert (await client.get("/files/a.md?at_version=2000")).content == expected
            near = await storage.read_document("demo", "a.md", at_version=2_010)
            assert near is not None
            assert len(near.updates) == 10
            log = [update.body or b"" async for update in storage.updates("demo", "a.md")]
            assert build_update(log[:2_010]) == (await client.get("/files/a.md?at_version=2010")).content

    asyncio.run(work())
