"""Documents that are large beside the memory for open documents: none is built again for each update."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pycrdt
import pytest

from gateway.files.documents import Documents
from gateway.files.open_document import OpenDocument
from gateway.files.preconditions import Preconditions
from gateway.files.store import Files
from gateway.watch.hub import Hub
from gateway.wire.problems import InvalidUpdateBody, MissingPredecessors
from gateway.yjs.elsewhere import PER_CLIENT
from gateway.yjs.footprint import CLIENT, STRUCT
from gateway.yjs.lib0 import var_uint
from gateway.yjs.preparation import MOST_CLIENTS
from gateway.yjs.state_vectors import read_state_vector
from gateway.yjs.updates import EMPTY_UPDATE, build_document, build_update
from storage import NOBODY
from storage.sqlite import SQLiteStorage
from tests.support.documents import typed_backwards

_ANY = Preconditions()


class _Scene:
    """Files, and how many times a document of each was built."""

    def __init__(self, storage: SQLiteStorage, memory_limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.documents = Documents(storage, memory_limit=memory_limit)
        self.files = Files(storage, self.documents, Hub(storage))
        self.built: list[str] = []
        read = self.documents._read

        async def count(project: str, path: str) -> OpenDocument:
            self.built.append(path)
            return await read(project, path)

        monkeypatch.setattr(self.documents, "_read", count)

    async def append(self, path: str, update: bytes) -> bool:
        return (await self.files.append("p", path, update, _ANY)).changed

    async def held(self, path: str) -> bytes:
        """What this process holds of a document."""
        return (await self.documents.open("p", path))._document.document.get_update()


def _served(
    folder: Path, memory_limit: int, monkeypatch: pytest.MonkeyPatch, work: Callable[[_Scene], Awaitable[None]]
) -> None:
    async def run() -> None:
        storage = await SQLiteStorage.open(folder / "gateway.db")
        await work(_Scene(storage, memory_limit, monkeypatch))
        await storage.close()

    asyncio.run(run())


def _long(size: int) -> bytes:
    """A text of so many bytes in one struct."""
    return b"\1\1\5\0\4\1\7content" + var_uint(size) + b"x" * size + b"\0"


def test_a_document_over_the_budget_is_not_closed_by_the_writes_to_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(scene: _Scene) -> None:
        large, small = _long(2**20), typed_backwards(1, client=6)
        await scene.append("large", large)
        for number in range(10):
            await scene.append("small", typed_backwards(1, client=10 + number).get_update())
            assert await scene.append("large", typed_backwards(1, client=30 + number).get_update())
        assert scene.built == ["large", "small"]
        assert scene.documents.memory > 2**20
        await scene.append("other", _long(2**19))  # another large one takes its place
        await scene.append("small", small.get_update())
        assert scene.documents.peek("p", "large") is None
        assert scene.documents.peek("p", "small") is not None

    _served(tmp_path, 2**20, monkeypatch, work)


def test_of_large_documents_the_one_that_was_used_last_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(scene: _Scene) -> None:
        for path in ("first", "second"):
            await scene.append(path, _long(2**18))
        await scene.append("first", typed_backwards(1, client=7).get_update())
        grown = b"\1\1\5" + var_uint(2**18) + b"\x84\5" + var_uint(2**18 - 1) + var_uint(2**18) + b"y" * 2**18 + b"\0"
        await scene.append("first", grown)
        await scene.append("small", typed_backwards(1).get_update())
        assert scene.documents.peek("p", "second") is None
        assert scene.documents.peek("p", "first") is not None

    _served(tmp_path, 2**20, monkeypatch, work)


def test_a_document_of_very_many_structs_for_the_budget_is_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A quarter of the memory is the most that this process holds of one document, also of one that grew."""
    limit = 2**20
    most = limit // 4 // STRUCT

    async def work(scene: _Scene) -> None:
        made = typed_backwards(most // 2)
        await scene.append("a", made.get_update())
        assert await scene.held("a") != EMPTY_UPDATE
        behind = made.get_state()
        text = made.get("content", type=pycrdt.Text)
        with made.transaction():
            for _ in range(most):
                text.insert(0, "z")
        await scene.append("a", made.get_update(behind))
        assert await scene.held("a") == EMPTY_UPDATE
        scene.documents.close()
        assert await scene.held("a") == EMPTY_UPDATE
        assert (await scene.files.read_whole("p", "a")).update == build_update([made.get_update()])
        assert scene.documents.memory < limit // 16

    _served(tmp_path, limit, monkeypatch, work)


def _clients(first: int, count: int) -> bytes:
    sections = [b"\1" + var_uint(each) + b"\0\x08\1\1a\1\x7e" for each in range(first + count, first, -1)]
    return var_uint(count) + b"".join(sections) + b"\0"


@pytest.mark.parametrize("how", ["append", "together", "atomically"])
def test_a_refused_update_does_not_have_the_document_built_again(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.yjs.preparation.MOST_CLIENTS", 100)
    assert MOST_CLIENTS > 100
    malformed, too_many = b"\1\1\\9\0\5", _clients(50, 51)

    async def work(scene: _Scene) -> None:
        await scene.append("a", _clients(0, 50))
        for refused in (malformed, too_many):
            for _ in range(3):
                if how == "append":
                    with pytest.raises(InvalidUpdateBody):
                        await scene.append("a", refused)
                elif how == "together":
                    together = await scene.files.append_together("p", "a", [refused], _ANY, NOBODY)
                    assert together.refused is not None
                else:
                    _, problems = await scene.files.append_all("p", {"a": refused}, NOBODY)
                    assert list(problems) == ["a"]
        assert scene.built == ["a"]
        assert scene.documents.memory >= 50 * CLIENT
        assert await scene.append("a", _clients(50, 50))
        whole = (await scene.files.read_whole("p", "a")).update
        assert whole == build_update([_clients(0, 50), _clients(50, 50)])

    _served(tmp_path, 2**24, monkeypatch, work)


def test_what_is_refused_after_a_part_was_taken_in_has_the_document_built_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(scene: _Scene) -> None:
        made = typed_backwards(20)
        await scene.append("a", made.get_update())
        updates = [typed_backwards(1, client=8).get_update(), b"\1\1\\9\0\5", typed_backwards(1, client=9).get_update()]
        together = await scene.files.append_together("p", "a", updates, _ANY, NOBODY)
        assert together.refused is not None
        assert together.refused[0] == 1
        assert (await scene.files.read_whole("p", "a")).update == made.get_update()
        lacking = b"\1\1\7\5\4\1\7content\1x\0"  # begins at a clock that is not there yet
        both = pycrdt.merge_updates(typed_backwards(1, client=8).get_update(), lacking)
        _, problems = await scene.files.append_all("p", {"a": both}, NOBODY)
        assert list(problems) == ["a"]
        assert (await scene.files.read_whole("p", "a")).update == made.get_update()

    _served(tmp_path, 2**24, monkeypatch, work)


def _served_with_limits(
    folder: Path, monkeypatch: pytest.MonkeyPatch, work: Callable[[_Scene], Awaitable[None]]
) -> list[int]:
    """Documents of more than 20 clients are elsewhere; return the lengths of the state vectors that were read here."""
    monkeypatch.setattr("gateway.yjs.elsewhere.MOST_STRUCTS", 20 * PER_CLIENT)
    monkeypatch.setattr("gateway.yjs.document.MOST_IN_STEP", 30)
    monkeypatch.setattr("gateway.files.documents._LIGHT_BYTES", 0)
    read: list[int] = []

    def counting(data: bytes) -> dict[int, int]:
        clocks = read_state_vector(data)
        read.append(len(clocks))
        return clocks

    monkeypatch.setattr("gateway.yjs.document.read_state_vector", counting)
    _served(folder, 2**24, monkeypatch, work)
    return read


def test_the_clocks_of_very_many_clients_are_not_read_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    everything = [_clients(0, 50), _clients(50, 1), _clients(51, 3), typed_backwards(3, client=99).get_update()]

    async def work(scene: _Scene) -> None:
        await scene.append("a", everything[0])
        assert await scene.held("a") == EMPTY_UPDATE
        assert scene.documents.memory < 50 * CLIENT
        assert not await scene.append("a", everything[0])
        for update in everything[1:3]:
            assert await scene.append("a", update)
        scene.documents.close()
        assert await scene.append("a", everything[3])
        assert not await scene.append("a", everything[2])
        assert scene.built == ["a", "a"]
        whole = build_document([build_update(everything)])
        assert (await scene.files.read_whole("p", "a")).update == whole.get_update()
        assert await scene.files.state_vector("p", "a") == (await scene.documents.open("p", "a")).state_vector()
        assert read_state_vector(await scene.files.state_vector("p", "a")) == read_state_vector(whole.get_state())
        together = await scene.files.append_together("p", "a", [_clients(60, 2), _clients(62, 2)], _ANY, NOBODY)
        assert together.version is not None
        with pytest.raises(MissingPredecessors):
            await scene.append("a", b"\1\1\7\5\4\1\7content\1x\0")

    assert max(_served_with_limits(tmp_path, monkeypatch, work)) <= 30


def test_a_keystroke_in_a_small_document_elsewhere_does_not_have_it_built_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has few structs, and is elsewhere because of its many clients, or of one large value."""
    typed = typed_backwards(1, client=99)
    text = typed.get("content", type=pycrdt.Text)

    async def work(scene: _Scene) -> None:
        await scene.append("a", _clients(0, 25))
        await scene.append("a", typed.get_update())
        for letter in "hello":
            behind = typed.get_state()
            text.insert(len(text), letter)
            done: list[object] = []
            keystroke = typed.get_update(behind)
            assert not scene.files.append_at_once("p", "a", keystroke, NOBODY, done.append)
            assert await scene.append("a", keystroke)
        assert scene.built == ["a"]
        read = await scene.files.text_of(await scene.files.read_whole("p", "a"), "content")
        assert read.decode() == str(text)

    assert max(_served_with_limits(tmp_path, monkeypatch, work)) <= 26


def test_structs_that_build_on_each_other_in_a_circle_are_refused_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    circle = b"\2\1\x6b\0\xc4\x6c\0\x6c\0\1x\1\x6c\0\xc4\x6b\0\x6b\0\1y\0"  # of the clients 107 and 108

    async def work(scene: _Scene) -> None:
        await scene.append("a", _clients(0, 50))
        before = (await scene.files.read_whole("p", "a")).update
        for _ in range(2):
            with pytest.raises((InvalidUpdateBody, MissingPredecessors)):
                await scene.append("a", circle)
        assert (await scene.files.read_whole("p", "a")).update == before
        assert await scene.append("a", _clients(60, 1))

    _served_with_limits(tmp_path, monkeypatch, work)
