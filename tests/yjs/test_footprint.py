"""The memory of open documents is counted by what yrs holds, not by bytes alone, and always the same."""

import asyncio
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pycrdt
import pytest

from gateway.files.documents import Documents
from gateway.files.preconditions import Preconditions
from gateway.files.store import Files
from gateway.watch.hub import Hub
from gateway.yjs import footprint
from gateway.yjs.heavy_edits import open_stored
from gateway.yjs.lib0 import var_uint
from gateway.yjs.scan import scan
from storage.sqlite import SQLiteStorage

_ANY = Preconditions()


def _typed_backwards(count: int) -> bytes:
    document: pycrdt.Doc[Any] = pycrdt.Doc(client_id=5)
    text = document.get("content", type=pycrdt.Text)
    with document.transaction():
        for number in range(count):
            text.insert(0, "abcdefgh"[number % 8])
    return document.get_update()


def _map(count: int) -> bytes:
    document: pycrdt.Doc[Any] = pycrdt.Doc(client_id=5)
    document["map"] = pycrdt.Map({f"key {number}": number for number in range(count)})
    return document.get_update()


def _types(count: int) -> bytes:
    document: pycrdt.Doc[Any] = pycrdt.Doc(client_id=5)
    document["array"] = pycrdt.Array([pycrdt.Map({"id": number}) for number in range(count)])
    return document.get_update()


def _clients(count: int) -> bytes:
    sections = (b"\1" + var_uint(1000 + client) + b"\0\4\1\1t\1x" for client in range(count))
    return var_uint(count) + b"".join(sections) + b"\0"


def _values(value: bytes) -> Callable[[int], bytes]:
    return lambda count: b"\1\1\5\0\x08\1\5array" + var_uint(count) + value * count + b"\0"


@pytest.mark.parametrize(
    ("make", "each"),
    [
        (_typed_backwards, 200),
        (_map, 200 + 160 + 24),
        (_types, 200 + 330 + 200 + 160 + 24),
        (_clients, 200 + 200),
        (_values(b"\x7e"), 24),
        (_values(b"\x76\1\1a\x7e"), 24 + 24 + 310),
        (_values(b"\x75\1\x7e"), 24 + 24 + 32),
    ],
    ids=["text", "map", "types", "clients", "values", "objects", "arrays"],
)
def test_memory_is_counted_by_the_parts_of_a_document(tmp_path: Path, make: Callable[[int], bytes], each: int) -> None:
    update = make(1000)

    async def main() -> None:
        storage = await SQLiteStorage.open(tmp_path / "a.db")
        documents = Documents(storage, memory_limit=2**28)
        files = Files(storage, documents, Hub(storage))
        await files.append("p", "a", update, _ANY)
        live = documents.memory
        assert each * 1000 <= live - len(update) <= each * 1000 + 8000
        documents.release("p", "a")
        assert documents.memory == 0
        await files.put_text("p", "a", "x", "other", _ANY)  # opens the document again
        assert 0 <= documents.memory - live <= 1000
        documents.close()
        assert documents.memory == 0
        await storage.close()

    asyncio.run(main())


def test_what_splits_structs_is_counted(tmp_path: Path) -> None:
    text = "x" * 2000
    deletes = b"".join(var_uint(2 * number) + b"\1" for number in range(1000))

    async def main() -> None:
        storage = await SQLiteStorage.open(tmp_path / "a.db")
        documents = Documents(storage, memory_limit=2**28)
        files = Files(storage, documents, Hub(storage))
        document: pycrdt.Doc[Any] = pycrdt.Doc(client_id=5)
        document["content"] = pycrdt.Text(text)
        await files.append("p", "a", document.get_update(), _ANY)
        await files.append("p", "a", b"\0\1\5" + var_uint(1000) + deletes, _ANY)
        assert documents.memory >= 2000 * 200
        await storage.close()

    asyncio.run(main())


@pytest.mark.parametrize("seed", range(3))
def test_a_log_is_counted_as_no_less_than_its_document(seed: int) -> None:
    chance = random.Random(seed)
    document: pycrdt.Doc[Any] = pycrdt.Doc(client_id=5)
    rows: list[bytes] = []
    document.observe(lambda event: rows.append(event.update))
    text = document.get("content", type=pycrdt.Text)
    for _ in range(300):
        place = chance.randint(0, len(text))
        if chance.random() < 0.3 and place < len(text):
            del text[place : min(place + chance.randint(1, 3), len(text))]
        else:
            text.insert(place, chance.choice(["a", "bc", "z" * 200]))
    whole = document.get_update()
    assert open_stored(rows).footprint == footprint.of_update(whole, scan(whole))
    assert footprint.of_rows(rows) >= footprint.of_update(whole, scan(whole))


def test_documents_of_many_small_structs_are_closed_at_the_limit(tmp_path: Path) -> None:
    update = _typed_backwards(500)

    async def main() -> None:
        storage = await SQLiteStorage.open(tmp_path / "a.db")
        documents = Documents(storage, memory_limit=2**20)
        files = Files(storage, documents, Hub(storage))
        for number in range(30):
            await files.append("p", f"{number}", update, _ANY)
            assert documents.memory <= 2**20
        assert documents.count <= 2**20 // (500 * 200)
        await storage.close()

    asyncio.run(main())
