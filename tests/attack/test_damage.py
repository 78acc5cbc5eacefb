"""Bits that flip in the database: what is served is what was written, or it is said that it is damaged."""

import asyncio
import logging
import os
import random
import sqlite3
from pathlib import Path
from typing import Any

import httpx
import pycrdt
import pytest
import structlog

from gateway.app import create_app
from gateway.maintenance.retention import Retainer
from gateway.maintenance.verify import verify_storage
from gateway.settings import RetentionPolicy, Settings
from gateway.yjs.snapshots import compress, is_compressed
from storage import Snapshot, StorageError, Version
from storage.opening import open_storage_read_only, sqlite_url

_FLIPS = int(os.environ.get("FLIPS", "150"))
_OCTETS = {"Content-Type": "application/octet-stream"}
_VERSIONS = 40

Texts = dict[tuple[str, int], str | None]
"""By path and version; None: deleted."""


class _Served:
    """A gateway in this process on a database."""

    def __init__(self, database: Path) -> None:
        self._gateway = create_app(Settings(database=f"sqlite:///{database}", same_database=True))

    async def __aenter__(self) -> httpx.AsyncClient:
        self._running = self._gateway.running()
        self.storage = await self._running.__aenter__()
        transport = httpx.ASGITransport(app=self._gateway, raise_app_exceptions=False)
        self.client = httpx.AsyncClient(transport=transport, base_url="http://gateway/api/projects/demo")
        return self.client

    async def __aexit__(self, *_: object) -> None:
        await self.client.aclose()
        await self._running.__aexit__(None, None, None)


class _Author:
    def __init__(self, path: str, randomness: random.Random) -> None:
        self.path = path
        self._random = randomness
        self.version = 0
        self.renew()

    def renew(self) -> None:
        self.document: pycrdt.Doc[Any] = pycrdt.Doc()
        self._text = self.document.get("content", type=pycrdt.Text)

    def write(self) -> bytes:
        before = self.document.get_state()
        self._text.insert(self._random.randrange(len(str(self._text).encode()) + 1), self._random.randbytes(60).hex())
        return self.document.get_update(before)

    @property
    def text(self) -> str:
        return str(self._text)


async def _fill(database: Path, randomness: random.Random) -> Texts:
    """Files with histories: with snapshots, squashed, deleted and created again."""
    texts: Texts = {}
    served = _Served(database)
    async with served as client:
        for name in ("a", "b", "c"):
            author = _Author(f"{name}.md", randomness)
            for number in range(_VERSIONS):
                author.version += 1
                if name == "c" and number == _VERSIONS // 2:
                    (await client.delete(f"/files/{author.path}")).raise_for_status()
                    author.renew()
                    texts[author.path, author.version] = None
                    continue
                update = author.write()
                answer = await client.patch(f"/files/{author.path}", content=update, headers=_OCTETS)
                assert answer.raise_for_status().json()["version"] == author.version
                texts[author.path, author.version] = author.text
        for version in (10, 30):
            content = (await client.get("/files/a.md", params={"at_version": version})).content
            body = content if version == 10 else compress(content)
            assert is_compressed(body) == (version == 30)
            await served.storage.put_snapshot("demo", "a.md", Snapshot(Version(version), body))
        await Retainer(served.storage, RetentionPolicy(versions=_VERSIONS - 15)).squash_all()
    return texts


async def _ask(client: httpx.AsyncClient, path: str, **parameters: Any) -> httpx.Response:
    answer = await client.get(f"/files/{path}", params=parameters)
    if answer.status_code >= 500:
        assert answer.json()["code"] in ("data_damaged", "storage_unavailable", "internal"), answer.text
    return answer


async def _check(client: httpx.AsyncClient, texts: Texts, randomness: random.Random) -> list[str]:
    """What was served and nobody wrote."""
    wrong = []
    for path in ("a.md", "b.md", "c.md"):
        base = randomness.randrange(16, _VERSIONS)
        asked: list[dict[str, Any]] = [
            {"format": "text"},
            *({"format": "text", "at_version": v} for v in (12, 31, base)),
        ]
        for parameters in asked:
            answer = await _ask(client, path, **parameters)
            version = parameters.get("at_version", _VERSIONS)
            if answer.status_code == 200 and answer.text != texts[path, version]:
                wrong.append(f"{path} {parameters}: {answer.headers['X-Version']}")
        old = await _ask(client, path, at_version=base)
        added = await _ask(client, path, from_version=base)
        same_life = old.headers.get("X-Incarnation") == added.headers.get("X-Incarnation")
        if old.status_code == added.status_code == 200 and same_life:
            document: pycrdt.Doc[Any] = pycrdt.Doc()
            for each in (old, added):
                document.apply_update(each.content)
            if str(document.get("content", type=pycrdt.Text)) != texts[path, _VERSIONS]:
                wrong.append(f"{path} from {base}: {added.headers['X-Version']}")
    return wrong


def _remove(database: Path) -> None:
    for each in database.parent.glob(f"{database.name}*"):
        each.unlink()


async def _verify(database: Path) -> int:
    try:
        async with open_storage_read_only(sqlite_url(database)) as storage:
            return await verify_storage(storage, lambda line: None)
    except (StorageError, TypeError, ValueError):  # it cannot even be read
        return 1


@pytest.fixture
def _quiet() -> Any:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.reset_defaults()


@pytest.mark.usefixtures("_quiet")
def test_no_flipped_bit_makes_a_text_that_nobody_wrote(tmp_path: Path) -> None:
    seed = int(os.environ.get("SEED", "1"))  # whether a change passes does not depend on chance
    print(f"SEED={seed}")
    randomness = random.Random(seed)
    original = tmp_path / "original.db"

    async def work() -> None:
        texts = await _fill(original, randomness)
        async with _Served(original) as client:
            assert await _check(client, texts, randomness) == []
        content = original.read_bytes()
        refused = served = 0
        for number in range(_FLIPS):
            flipped = tmp_path / f"{number}.db"
            place, bit = randomness.randrange(100, len(content)), randomness.randrange(8)
            flipped.write_bytes(content[:place] + bytes([content[place] ^ 1 << bit]) + content[place + 1 :])
            try:
                async with _Served(flipped) as client:
                    wrong = await _check(client, texts, randomness)
                    assert wrong == [], f"byte {place}, bit {bit}, of {original}: {wrong}"
                    served += 1
            except StorageError:
                refused += 1
            _remove(flipped)
        print(f"{served} served, {refused} refused at the start")
        assert served

    asyncio.run(work())


def _damage(database: Path, statement: str) -> None:
    with sqlite3.connect(database, isolation_level=None) as connection:
        assert connection.execute(statement).rowcount > 0
    connection.close()


_FLIP_BODY = "UPDATE {table} SET body = CAST(substr(body, 1, 20) || x'ff' || substr(body, 22) AS BLOB) WHERE {where}"


@pytest.mark.usefixtures("_quiet")
def test_a_damaged_version_is_named_and_never_built_upon(tmp_path: Path) -> None:
    async def work() -> None:
        database = tmp_path / "gateway.db"
        texts = await _fill(database, random.Random(1))
        where = "version = 20 AND file = (SELECT id FROM file WHERE path = 'b.md')"
        _damage(database, _FLIP_BODY.format(table="file_update", where=where))
        served = _Served(database)
        async with served as client:
            for parameters in ({}, {"format": "text"}, {"at_version": 25}, {"from_version": 18}):
                answer = await _ask(client, "b.md", **parameters)
                assert answer.status_code == 500, parameters
                assert answer.json()["code"] == "data_damaged"
                assert "version 20 of 'b.md'" in answer.json()["detail"]
            refused = await client.put("/files/b.md", content="x", headers={"Content-Type": "text/plain"})
            assert refused.json()["code"] == "data_damaged"
            assert (await _ask(client, "b.md", from_version=20)).status_code == 200
            assert (await _ask(client, "b.md", at_version=19, format="text")).text == texts["b.md", 19]
            assert (await _ask(client, "a.md", format="text")).text == texts["a.md", _VERSIONS]
            retainer = Retainer(served.storage, RetentionPolicy(versions=1))
            await retainer.squash_all()
            assert retainer.job.failures == 1
            assert await served.storage.base_version("demo", "b.md") <= 20
            with pytest.raises(StorageError, match="damaged"):
                await served.storage.export_project("demo", lambda record: None)
        assert await _verify(database)

    asyncio.run(work())


@pytest.mark.usefixtures("_quiet")
def test_a_damaged_snapshot_is_replaced_by_what_the_log_says(tmp_path: Path) -> None:
    async def work() -> None:
        database = tmp_path / "gateway.db"
        texts = await _fill(database, random.Random(1))
        _damage(database, _FLIP_BODY.format(table="snapshot", where="version = 30"))
        served = _Served(database)
        async with served as client:
            assert (await _ask(client, "a.md", format="text")).text == texts["a.md", _VERSIONS]
            assert [each.version for each in await served.storage.snapshots("demo", "a.md")] == []
        assert await _verify(database) == 0

    asyncio.run(work())


@pytest.mark.usefixtures("_quiet")
def test_what_lies_below_a_version_that_is_no_whole_document_is_not_swept(tmp_path: Path) -> None:
    async def work() -> None:
        database = tmp_path / "gateway.db"
        texts = await _fill(database, random.Random(1))
        _damage(database, "UPDATE file SET base_version = 30 WHERE path = 'b.md'")
        served = _Served(database)
        async with served as client:
            assert (await _ask(client, "b.md")).json()["code"] == "data_damaged"
            await Retainer(served.storage, RetentionPolicy(versions=30)).squash_all()
        _damage(database, "UPDATE file SET base_version = 16 WHERE path = 'b.md'")
        async with _Served(database) as client:
            assert (await _ask(client, "b.md", format="text")).text == texts["b.md", _VERSIONS]

    asyncio.run(work())


def _flip_in_index(database: Path, index: str, entry: bytes) -> None:
    """Flip the lowest bit of the first byte of an entry in the only page of an index."""
    with sqlite3.connect(database) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (page,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (index,)).fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    connection.close()
    content = bytearray(database.read_bytes())
    place = content.index(entry, (page - 1) * size, page * size)
    content[place] ^= 1
    database.write_bytes(content)


@pytest.mark.usefixtures("_quiet")
@pytest.mark.parametrize("index", ["file_by_path", "live_file_by_path"])
def test_a_file_that_an_index_does_not_name_is_not_missing_and_none_takes_its_place(tmp_path: Path, index: str) -> None:
    async def work() -> None:
        database = tmp_path / "gateway.db"
        async with _Served(database) as client:
            for path in ("deleted.md", "lost.md", "other.md"):
                answer = await client.put(f"/files/{path}", content=path, headers={"Content-Type": "text/plain"})
                assert answer.status_code == 201
            await client.delete("/files/deleted.md")
        flipped = ["lost.md"] if index.startswith("live") else ["lost.md", "deleted.md"]
        for path in flipped:
            _flip_in_index(database, index, path.encode())
        async with _Served(database) as client:
            for path in flipped if index == "file_by_path" else ():
                assert (await _ask(client, path)).json()["code"] == "data_damaged"
                for answer in (
                    await client.put(f"/files/{path}", content="new", headers={"Content-Type": "text/plain"}),
                    await client.delete(f"/files/{path}"),
                ):
                    assert answer.json().get("code") == "data_damaged", answer.text
            assert (await _ask(client, "other.md", format="text")).text == "other.md"
            answer = await client.put("/files/new.md", content="new", headers={"Content-Type": "text/plain"})
            assert answer.status_code == 201

    asyncio.run(work())


@pytest.mark.usefixtures("_quiet")
def test_no_project_takes_the_place_of_one_that_the_index_does_not_name(tmp_path: Path) -> None:
    async def work() -> None:
        database = tmp_path / "gateway.db"
        async with _Served(database) as client:
            await client.put("/files/a.md", content="old", headers={"Content-Type": "text/plain"})
        _flip_in_index(database, "sqlite_autoindex_project_1", b"demo")
        async with _Served(database) as client:
            answer = await client.put("/files/a.md", content="new", headers={"Content-Type": "text/plain"})
            assert answer.json()["code"] == "data_damaged"

    asyncio.run(work())
