"""A document has a largest size, and large documents leave the others open."""

import asyncio
import base64
import random
import string
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pycrdt
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from gateway.files.documents import Documents
from gateway.files.preconditions import Preconditions
from gateway.files.store import Files
from gateway.watch.hub import Hub
from gateway.yjs.messages import sync_update
from storage import NOBODY
from storage.sqlite import SQLiteStorage
from tests.support.server import GatewayProcess

LIMIT = 4096
OCTETS = {"Content-Type": "application/octet-stream"}
PLAIN = {"Content-Type": "text/plain"}


@pytest.fixture(scope="module")
def bounded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    with GatewayProcess(tmp_path_factory.mktemp("size") / "a.db", GATEWAY_DOCUMENT_BYTES=LIMIT) as gateway:
        yield gateway


def _noise(length: int) -> str:
    return "".join(random.choices(string.ascii_letters, k=length))


class _Client:
    """A Yjs client of a file."""

    def __init__(self) -> None:
        self.document: pycrdt.Doc[pycrdt.Text] = pycrdt.Doc()
        self.text = self.document.get("content", type=pycrdt.Text)

    def insert(self, length: int) -> bytes:
        before = self.document.get_state()
        self.text.insert(0, _noise(length))
        return self.document.get_update(before)

    def delete(self, length: int) -> bytes:
        emitted: list[bytes] = []
        subscription = self.document.observe(lambda event: emitted.append(event.update))
        del self.text[:length]
        self.document.unobserve(subscription)
        return emitted[0]


def test_a_document_that_would_become_too_large_is_refused_until_something_is_deleted(bounded: GatewayProcess) -> None:
    with bounded.client("p") as client:
        mine = _Client()
        for _ in range(3):
            assert client.patch("files/a.md", content=mine.insert(1000), headers=OCTETS).is_success
        stored = str(mine.text)
        too_much = mine.insert(2000)
        for _ in range(2):
            answer = client.patch("files/a.md", content=too_much, headers=OCTETS)
            assert (answer.status_code, answer.json()["code"]) == (413, "document_too_large")
            assert "a.md" in answer.json()["detail"]
        assert client.get("files/a.md?format=text").text == stored
        assert client.patch("files/b.md", content=_Client().insert(3000), headers=OCTETS).is_success

        other = _Client()
        other.document.apply_update(client.get("files/a.md").content)
        assert client.patch("files/a.md", content=other.delete(2500), headers=OCTETS).is_success
        assert client.patch("files/a.md", content=too_much, headers=OCTETS).is_success
        assert len(client.get("files/a.md?format=text").text) == 2500


def test_what_was_replaced_does_not_count(bounded: GatewayProcess) -> None:
    with bounded.client("p") as client:
        for _ in range(10):
            assert client.put("files/put.md", content=_noise(3000).encode(), headers=PLAIN).is_success
        answer = client.put("files/put.md", content=_noise(LIMIT + 1).encode(), headers=PLAIN)
        assert (answer.status_code, answer.json()["code"]) == (413, "document_too_large")


def test_a_sync_refuses_what_is_too_large_for_itself_and_an_atomic_one_as_a_whole(bounded: GatewayProcess) -> None:
    updates = {
        path: base64.b64encode(_Client().insert(length)).decode() for path, length in (("x.md", 10), ("y.md", 5000))
    }
    with bounded.client("sync") as client:
        answer = client.post("sync", json={"updates": updates, "atomic": True})
        assert (answer.status_code, answer.json()["code"]) == (409, "sync_refused")
        assert answer.json()["results"]["y.md"]["code"] == "document_too_large"
        results = client.post("sync", json={"updates": updates}).raise_for_status().json()["results"]
        assert results["x.md"]["version"] == 1
        assert results["y.md"]["code"] == "document_too_large"


def test_a_room_is_closed_for_good_to_who_makes_a_document_too_large(bounded: GatewayProcess) -> None:
    url = bounded.project("rooms").replace("http", "ws", 1) + "/ws/a.md"
    with connect(url, open_timeout=120) as socket:
        socket.send(sync_update(_Client().insert(5000)))
        with pytest.raises(ConnectionClosed) as closed:
            _read_to_the_end(socket)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 4413


def _read_to_the_end(socket: ClientConnection) -> None:
    while True:
        socket.recv(timeout=120)


def test_large_documents_close_only_large_ones(tmp_path: Path) -> None:
    async def main() -> None:
        storage = await SQLiteStorage.open(tmp_path / "a.db")
        documents = Documents(storage, memory_limit=2**18)
        files = Files(storage, documents, Hub(storage))
        small, large = [f"small{number}" for number in range(20)], [f"large{number}" for number in range(3)]
        for path in small:
            await files.put_text("p", path, "x", "content", Preconditions())
        for _ in range(3):
            for path in large:  # each alone takes most of the memory
                await files.put_text("p", path, _noise(160_000), "content", Preconditions())
                documents.release("p", path)
                await files.put_text("p", path, _noise(160_000), "content", Preconditions())
                assert all(documents.peek("p", other) for other in small)
                assert sum(documents.peek("p", other) is not None for other in large) <= 1
        await storage.close()

    asyncio.run(main())


def test_documents_that_grow_after_they_were_opened_close_others(tmp_path: Path) -> None:
    async def main() -> None:
        storage = await SQLiteStorage.open(tmp_path / "a.db")
        documents = Documents(storage, memory_limit=2**20)
        files = Files(storage, documents, Hub(storage))
        for size, most in ((50_000, 13), (800_000, 1)):
            for number in range(30):  # each is opened empty
                path = f"{size}-{number}"
                await files.put_text("p", path, _noise(size), "content", Preconditions())
                assert documents.memory <= 2**20 * 3 // 2
            kept = [number for number in range(30) if documents.peek("p", f"{size}-{number}")]
            assert kept == list(range(30 - len(kept), 30))
            assert most // 2 <= len(kept) <= most + 7
        grown = {f"{number}": _Client().insert(80_000) for number in range(30)}
        written, refused = await files.append_all("p", grown, NOBODY)  # together: all of them wait for the disk
        assert (len(written), refused) == (30, {})
        for path in grown:
            assert (await files.read_since("p", path, 0)).version == 1
        await storage.close()

    asyncio.run(main())


def test_one_large_document_can_be_written_while_others_are_waiting_for_the_disk(tmp_path: Path) -> None:
    async def main() -> None:
        storage = await SQLiteStorage.open(tmp_path / "a.db")
        documents = Documents(storage, memory_limit=2**20)
        files = Files(storage, documents, Hub(storage))
        for _ in range(2):
            writes: list[Any] = [
                files.put_text("p", f"{number}", _noise(100), "content", Preconditions()) for number in range(40)
            ]
            await asyncio.gather(*writes, files.put_text("p", "large", _noise(800_000), "content", Preconditions()))
            documents.release("p", "large")
        await storage.close()

    asyncio.run(main())


def test_a_new_limit_lets_older_documents_be_read(tmp_path: Path) -> None:
    with GatewayProcess(tmp_path / "a.db") as gateway, gateway.client("p") as client:
        client.put("files/a.md", content=_noise(20_000).encode(), headers=PLAIN)
    with GatewayProcess(tmp_path / "a.db", GATEWAY_DOCUMENT_BYTES=LIMIT) as gateway, gateway.client("p") as client:
        assert len(client.get("files/a.md?format=text").text) == 20_000
        mine = _Client()
        mine.document.apply_update(client.get("files/a.md").content)
        answer: httpx.Response = client.patch("files/a.md", content=mine.insert(10), headers=OCTETS)
        assert answer.status_code == 413
        assert client.put("files/a.md", content=b"short", headers=PLAIN).is_success
