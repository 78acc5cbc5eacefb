"""Snapshots are stored compressed: what is read is the same, of both databases, and damage is told."""

import asyncio
import contextlib
import random
import tracemalloc
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pycrdt
import pytest

from gateway.app import create_app
from gateway.files.documents import Documents
from gateway.maintenance.retention import Retainer
from gateway.maintenance.snapshots import Maintenance
from gateway.maintenance.verify import verify_storage
from gateway.settings import RetentionPolicy, Settings
from gateway.yjs import snapshots
from gateway.yjs.lib0 import var_uint
from gateway.yjs.snapshots import SnapshotDamaged, compress, decompress, is_compressed, update_size
from gateway.yjs.updates import build_document, build_update, merge
from storage import AppendUpdate, Snapshot, Storage, Version
from storage.opening import open_storage, sqlite_url
from storage.portable import Record
from tests.support.postgres import PostgresServer

_OCTETS = {"Content-Type": "application/octet-stream"}
_VERSIONS = 6
_PREFIX = b"\xff" * 7 + b"\xfe"


@contextlib.asynccontextmanager
async def _running(url: str) -> AsyncIterator[httpx.AsyncClient]:
    gateway = create_app(Settings(database=url))
    async with gateway.running():
        transport = httpx.ASGITransport(app=gateway, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway/api/projects/") as client:
            yield client


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database. A gateway on it may take snapshots at any time: a test that counts them opens the
    storage alone."""
    if request.param == "sqlite":
        return sqlite_url(tmp_path / "gateway.db")
    server: PostgresServer = request.getfixturevalue("postgres")
    return server.schema_url()


def _words(count: int, seed: int = 0) -> str:
    chance = random.Random(seed)
    return " ".join(chance.choice(("a", "file", "of", "words", "which", "nobody", "reads")) for _ in range(count))


def _updates() -> list[bytes]:
    """Of a document so large that its snapshots are decompressed in a thread."""
    document: pycrdt.Doc[Any] = pycrdt.Doc()
    text = document.get("content", type=pycrdt.Text)
    updates = []
    for number in range(_VERSIONS):
        before = document.get_state()
        text.insert(0, _words(10 if number else 40_000, number))
        updates.append(document.get_update(before))
    return updates


async def _fill(storage: Storage, updates: list[bytes]) -> None:
    for version, update in enumerate(updates):
        await storage.append("demo", (AppendUpdate("a.md", Version(version), update),))


def _expected(updates: list[bytes]) -> list[bytes]:
    """What `_read` returns."""
    whole = build_update(updates)
    text = str(build_document([whole]).get("content", type=pycrdt.Text))
    versions = [build_update(updates[:version]) for version in range(1, _VERSIONS + 1)]
    return [*versions, whole, text.encode(), merge(updates[3:])]


async def _read(client: httpx.AsyncClient, project: str = "demo") -> list[bytes]:
    queries = [*(f"at_version={version}" for version in range(1, _VERSIONS + 1)), "", "format=text", "from_version=3"]
    answers = [await client.get(f"{project}/files/a.md?{query}") for query in queries]
    return [answer.raise_for_status().content for answer in answers]


async def _faults(storage: Storage) -> list[str]:
    told: list[str] = []
    faults = await verify_storage(storage, told.append)
    assert len(told) == faults + 1
    return told[:-1]


@pytest.mark.parametrize("form", ["compressed", "plain, as they were stored before"])
def test_what_is_read_with_a_snapshot_is_what_the_log_says(database: str, form: str) -> None:
    async def work() -> None:
        updates = _updates()
        expected = _expected(updates)
        async with open_storage(database) as storage:
            await _fill(storage, updates)
            maintenance = Maintenance(storage, Documents(storage, memory_limit=2**20))
            for version in (2, 4, _VERSIONS):
                if form == "compressed":
                    assert await maintenance.take_snapshot("demo", "a.md", Version(version))
                else:
                    body = build_update(updates[:version])
                    await storage.put_snapshot("demo", "a.md", Snapshot(Version(version), body))
            snapshots = await storage.snapshots("demo", "a.md")
            assert [each.version for each in snapshots] == [2, 4, _VERSIONS]
            for each in snapshots:
                assert each.intact
                assert decompress(each.body) == build_update(updates[: each.version])
                assert is_compressed(each.body) == (form == "compressed")
                assert not is_compressed(each.body) or len(each.body) < update_size(each.body) / 2
            stored = await storage.read_document("demo", "a.md", at_version=4)
            assert stored is not None
            assert stored.snapshot is not None
            assert (stored.snapshot.body, stored.updates) == (snapshots[1].body, ())
            records: list[Record] = []
            await storage.export_project("demo", records.append)
            await storage.import_project("moved", records)
            assert await _faults(storage) == []
        async with _running(database) as client:
            assert await _read(client) == expected
            assert await _read(client, "moved") == expected
        async with _running(database) as client:
            later: pycrdt.Doc[Any] = pycrdt.Doc()
            later.get("content", type=pycrdt.Text).insert(0, "later ")
            # The document is opened from its snapshot for this.
            answer = await client.patch("demo/files/a.md", content=later.get_update(), headers=_OCTETS)
            assert answer.raise_for_status().json()["version"] == _VERSIONS + 1
            written = build_update([*updates, later.get_update()])
            assert (await client.get("demo/files/a.md")).content == written
        async with open_storage(database) as storage:
            assert await _faults(storage) == []
            squashed = await Retainer(storage, RetentionPolicy(versions=1)).squash_all()
            assert squashed.files == 2
            assert await _faults(storage) == []
        async with _running(database) as client:
            assert (await client.get("demo/files/a.md")).content == written

    asyncio.run(work())


def test_a_snapshot_that_cannot_be_decompressed_is_told_and_nothing_is_lost(database: str) -> None:
    async def work() -> None:
        updates = _updates()
        async with open_storage(database) as storage:
            await _fill(storage, updates)
            broken = compress(build_update(updates[:4]))[:-1]
            await storage.put_snapshot("demo", "a.md", Snapshot(Version(4), broken))
            assert await _faults(storage) == ["demo: a.md: the snapshot at version 4 differs from the log"]
        async with _running(database) as client:
            for query in ("", "at_version=4", "at_version=5", "format=text"):
                answer = await client.get(f"demo/files/a.md?{query}")
                assert (answer.status_code, answer.json()["code"]) == (500, "data_damaged")
                assert "version 4 of 'a.md'" in answer.json()["detail"]
            refused = await client.patch("demo/files/a.md", content=updates[-1], headers=_OCTETS)
            assert (refused.status_code, refused.json()["code"]) == (500, "data_damaged")
            assert (await client.get("demo/files/a.md?at_version=3")).content == build_update(updates[:3])
        async with open_storage(database) as storage:
            assert await storage.drop_snapshots() >= 1
            assert await _faults(storage) == []
        async with _running(database) as client:
            assert await _read(client) == _expected(updates)

    asyncio.run(work())


def test_what_compression_does_not_make_smaller_stays_as_it_is() -> None:
    for update in (b"", b"a" * 1024, random.Random(0).randbytes(50_000)):
        assert compress(update) is update
        assert decompress(update) is update
        assert update_size(update) == len(update)
    for update in (b"a" * 1025, _words(50_000).encode()):
        body = compress(update)
        assert is_compressed(body)
        assert len(body) <= len(update) * 0.9
        assert update_size(body) == len(update)
        assert decompress(body) == update


def _broken() -> dict[str, bytes]:
    update = _words(2_000).encode()
    packed, size = zlib.compress(update), len(update)
    return {
        "nothing after the prefix": _PREFIX,
        "no end of the length": _PREFIX + b"\xff",
        "a length of more than 53 bits": _PREFIX + b"\xff" * 9 + b"\x01" + packed,
        "a length of none": _PREFIX + var_uint(0) + packed,
        "a length too small": _PREFIX + var_uint(size - 1) + packed,
        "a length too large": _PREFIX + var_uint(size + 1) + packed,
        "a length that no memory has": _PREFIX + var_uint(2**53 - 1) + packed,
        "no body": _PREFIX + var_uint(size),
        "cut short": _PREFIX + var_uint(size) + packed[:-10],
        "without its checksum": _PREFIX + var_uint(size) + packed[:-4],
        "something behind it": _PREFIX + var_uint(size) + packed + b"\0",
        "in another format": _PREFIX + var_uint(size) + packed[2:-4],
        "a flipped bit of the checksum": _PREFIX + var_uint(size) + packed[:-1] + bytes([packed[-1] ^ 1]),
        "a flipped bit": _PREFIX + var_uint(size) + packed[:500] + bytes([packed[500] ^ 1]) + packed[501:],
    }


@pytest.mark.parametrize("kind", _broken())
def test_what_is_no_whole_snapshot_is_not_taken_for_one(kind: str) -> None:
    with pytest.raises(SnapshotDamaged):
        decompress(_broken()[kind])


def test_no_more_is_decompressed_than_the_snapshot_says() -> None:
    bomb = _PREFIX + var_uint(2_000) + zlib.compress(bytes(2**24))
    tracemalloc.start()
    try:
        with pytest.raises(SnapshotDamaged):
            decompress(bomb)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("size", [2**18 - 1, 2**18, 2**18 + 1, 3 * 2**18, 1_000_003])
def test_a_long_update_is_decompressed_in_pieces(size: int) -> None:
    for update in (b"a" * size, bytes(random.Random(size).choices(b"abcdefgh", k=size))):
        body = compress(update)
        assert is_compressed(body)
        assert decompress(body) == update
        start = snapshots._read_size(body)[1]
        pieces = [*snapshots._pieces_in(memoryview(body)[start:], zlib.decompressobj())]
        assert b"".join(pieces) == update
        assert max(map(len, pieces)) <= snapshots._PIECE
        for wrong in (body[:-1], body + b"x", body + b"x" * 2**17):
            with pytest.raises(SnapshotDamaged):
                decompress(wrong)
