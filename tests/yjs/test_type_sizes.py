"""How much is deleted together with shared types is never estimated too low, and is deleted as Yjs does it."""

import asyncio
import os
import random
from pathlib import Path
from typing import Any

import pycrdt
import pytest

from gateway.files import open_document
from gateway.files.documents import Documents
from gateway.files.preconditions import Preconditions
from gateway.files.store import Files
from gateway.watch.hub import Hub
from gateway.yjs import document, heavy_edits, preparation
from gateway.yjs.document import LiveDocument
from gateway.yjs.lib0 import var_uint
from gateway.yjs.preparation import prepare
from gateway.yjs.scan import TooMuch, scan
from gateway.yjs.slices import SliceWork
from gateway.yjs.state_vectors import read_state_vector
from gateway.yjs.type_sizes import NO_TYPES, type_sizes
from gateway.yjs.updates import build_document
from storage.sqlite import SQLiteStorage

_SEED = os.environ.get("YJS_SEED", "1")
_ROOTS = {"array": pycrdt.Array, "map": pycrdt.Map, "text": pycrdt.Text, "xml": pycrdt.XmlFragment}


def _types(document: pycrdt.Doc[Any]) -> list[Any]:
    """All shared types that are reachable."""
    found = [document.get(name, type=kind) for name, kind in _ROOTS.items()]
    for each in found:
        if isinstance(each, pycrdt.Array):
            found += [item for item in each if isinstance(item, pycrdt.Array | pycrdt.Map | pycrdt.Text)]
        elif isinstance(each, pycrdt.Map):
            found += [item for item in each.values() if isinstance(item, pycrdt.Array | pycrdt.Map | pycrdt.Text)]
        elif isinstance(each, pycrdt.XmlFragment | pycrdt.XmlElement):
            found += list(each.children)
    return found


def _edit(document: pycrdt.Doc[Any], chance: random.Random) -> None:
    target = chance.choice(_types(document))
    new = chance.choice([lambda: "x", lambda: 1.5, pycrdt.Array, pycrdt.Map, pycrdt.Text])
    if isinstance(target, pycrdt.Array):
        if len(target) and chance.random() < 0.3:
            del target[chance.randrange(len(target))]
        else:
            target.insert(chance.randint(0, len(target)), new())
    elif isinstance(target, pycrdt.Map):
        key = chance.choice("abc")
        if key in target and chance.random() < 0.3:
            del target[key]
        else:
            target[key] = new()
    elif isinstance(target, pycrdt.Text | pycrdt.XmlText):
        if len(target) and chance.random() < 0.3:
            del target[chance.randrange(len(target))]
        else:
            target.insert(chance.randint(0, len(target)), chance.choice(["a", "bcd"]))
    elif len(target.children) and chance.random() < 0.3:
        del target.children[chance.randrange(len(target.children))]
    else:
        kind = chance.choice([lambda: pycrdt.XmlElement("p", {"k": "v"}), lambda: pycrdt.XmlText("t")])
        target.children.insert(chance.randint(0, len(target.children)), kind())


def _content(document: pycrdt.Doc[Any]) -> dict[str, Any]:
    found = {name: document.get(name, type=kind) for name, kind in _ROOTS.items()}
    return {name: str(each) if name == "xml" else each.to_py() for name, each in found.items()}


def _replica(whole: bytes, client: int) -> pycrdt.Doc[Any]:
    made: pycrdt.Doc[Any] = pycrdt.Doc(client_id=client)
    made.apply_update(whole)
    return made


def _concurrent(chance: random.Random) -> tuple[bytes, bytes]:
    """A document, and an update of another replica, which has not seen all of it."""
    ours, theirs = pycrdt.Doc[Any](client_id=chance.randrange(1, 9)), pycrdt.Doc[Any](client_id=chance.randrange(9, 20))
    for _ in range(chance.randint(1, 40)):
        _edit(ours, chance)
    theirs.apply_update(ours.get_update())
    for each in (ours, theirs):
        for _ in range(chance.randint(1, 30)):
            _edit(each, chance)
    return ours.get_update(), theirs.get_update(ours.get_state())


def _covered(ranges: list[tuple[int, int, int]], client: int, clock: int) -> bool:
    return any(owner == client and start <= clock < end for owner, start, end in ranges)


@pytest.mark.parametrize("part", range(2))
def test_what_types_hold_is_never_estimated_too_low(part: int) -> None:
    for number in range(60):
        whole, update = _concurrent(random.Random(f"{_SEED} {part} {number}"))
        scanned, added = scan(whole), scan(update)
        document = build_document([whole])
        emitted: list[bytes] = []
        document.observe(lambda event, emitted=emitted: emitted.append(event.update))
        document.apply_update(update)
        deleted = scan(emitted[0]).deletes if emitted else []
        together = sum(
            _covered(deleted, each.client, each.clock) and not _covered(added.deletes, each.client, each.clock)
            for each in scanned.structs
            if not _covered(scanned.deletes, each.client, each.clock)
        )
        replaced = len(added.structs)  # each may itself take the place of one
        assert together <= type_sizes(whole, scanned).held(update, added) + replaced


@pytest.mark.parametrize("part", range(2))
def test_large_types_are_deleted_elsewhere_as_yrs_does_it(
    part: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (document, heavy_edits, preparation, open_document):
        monkeypatch.setattr(module, "MOST_HELD", 2)

    async def work() -> None:
        storage = await SQLiteStorage.open(tmp_path / "gateway.db")
        documents = Documents(storage, memory_limit=2**28)
        files = Files(storage, documents, Hub(storage))
        for number in range(12):
            path, chance = f"{number}.md", random.Random(f"{_SEED} {part} {number}")
            whole, update = _concurrent(chance)
            expected = _replica(whole, 1)
            expected.apply_update(update)
            more = _replica(expected.get_update(), 77)
            before = more.get_state()
            for _ in range(5):
                _edit(more, chance)
            expected.apply_update(more.get_update(before))
            for each in (whole, update, more.get_update(before)):
                await files.append("p", path, each, Preconditions())
            read = build_document([(await files.read_whole("p", path)).update])
            assert _content(read) == _content(expected), number
            assert read_state_vector(read.get_state()) == read_state_vector(expected.get_state())
            documents.discard(await documents.open("p", path))
            again = await documents.open("p", path)
            assert _content(build_document([again.encode()])) == _content(expected), number
        await storage.close()

    asyncio.run(work())


def _nested(children: int, kind: str) -> bytes:
    """A type in an array, or under a key, that holds so many structs."""
    made: pycrdt.Doc[Any] = pycrdt.Doc(client_id=5)
    with made.transaction():
        if kind == "array":
            root = made.get("root", type=pycrdt.Array)
            root.append(pycrdt.Array())
            for number in range(children):
                root[0].insert(0, str(number % 10))
        else:
            root = made.get("root", type=pycrdt.Map)
            root["key"] = inner = pycrdt.Map()
            for number in range(children):
                inner[str(number)] = 1.5
    return made.get_update()


_DELETION = b"\0\1\5\1\0\1"
_REPLACEMENT = b"\1\1\x09\0\xa8\5\0\1\x7e\0"
"""A new entry beside the one at clock 0 of client 5."""
_CONCURRENT = b"\1\1\x09\0\x28\1\4root\3key\1\x7e\0"
"""A new entry of a client that has not seen the other one."""


@pytest.mark.parametrize(
    ("kind", "update"),
    [("array", _DELETION), ("map", _DELETION), ("map", _REPLACEMENT), ("map", _CONCURRENT)],
)
def test_yrs_never_deletes_much_in_one_step_of_the_open_document(
    kind: str, update: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither when the deletion comes, nor when the document is opened again, nor where both come in one update."""
    for module in (document, heavy_edits, preparation, open_document):
        monkeypatch.setattr(module, "MOST_HELD", 100)
    most = 0
    apply = LiveDocument.apply

    def counted(self: LiveDocument, part: bytes) -> bytes | None:
        nonlocal most
        emitted = apply(self, part)
        if emitted is not None:
            most = max(most, sum(end - start for _, start, end in scan(emitted).deletes))
        return emitted

    monkeypatch.setattr(LiveDocument, "apply", counted)
    whole = _nested(2_000, kind)

    async def work() -> None:
        storage = await SQLiteStorage.open(tmp_path / "gateway.db")
        documents = Documents(storage, memory_limit=2**28)
        files = Files(storage, documents, Hub(storage))
        expected = _replica(whole, 1)
        expected.apply_update(update)
        for path in ("live.md", "cold.md"):
            await files.append("p", path, whole, Preconditions())
            if path == "cold.md":
                documents.discard(await documents.open("p", path))
            written = await files.append("p", path, update, Preconditions())
            assert written.changed
            kind_ = pycrdt.Array if kind == "array" else pycrdt.Map
            document_ = await documents.open("p", path)
            read = build_document([document_.encode()])
            assert read.get("root", type=kind_).to_py() == expected.get("root", type=kind_).to_py()
            assert len(document_.encode()) < 100
            assert document_._document.most_structs < 100
        await storage.close()

    asyncio.run(work())
    assert most < 100


def test_small_documents_and_keystrokes_are_taken_in_at_once() -> None:
    made = LiveDocument(build_document([]))
    typed: pycrdt.Doc[Any] = pycrdt.Doc(client_id=5)
    text = typed.get("content", type=pycrdt.Text)
    updates: list[bytes] = []
    typed.observe(lambda event: updates.append(event.update))
    for _ in range(50):
        text.insert(0, "x")
    for update in updates:
        assert made.take_in(made.prepare(update, most=4096), walk=True).row is not None
    assert made.types is NO_TYPES


def test_a_plain_text_is_never_counted_and_one_with_a_type_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(document, "MOST_HELD", 60)
    made = LiveDocument(build_document([]))
    typed: pycrdt.Doc[Any] = pycrdt.Doc(client_id=5)
    updates: list[bytes] = []
    typed.observe(lambda event: updates.append(event.update))
    for _ in range(100):
        typed.get("content", type=pycrdt.Text).insert(0, "x")
    for update in updates:
        assert made.take_in(made.prepare(update, most=4096), walk=True).row is not None
    assert made.knows_types
    typed.get("root", type=pycrdt.Map)["key"] = pycrdt.Array([])
    made.take_in(made.prepare(updates[-1], most=4096), walk=True)
    assert not made.knows_types
    typed.get("content", type=pycrdt.Text).insert(0, "x")
    assert made.take_in_keystroke(updates[-1]) is None
    with pytest.raises(TooMuch):
        made.take_in(made.prepare(updates[-1], most=4096), walk=True)


def test_an_update_that_adds_to_a_type_and_deletes_it_counts_what_it_adds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preparation, "MOST_HELD", 100)
    whole = _nested(200, "array")
    scanned = scan(whole)
    own = prepare(
        whole[: scanned.delete_set] + _DELETION[1:], {}, preparation._NO_HALVES, slice_work=SliceWork(64, 0, 0)
    )
    assert own.held >= 200
    few = type_sizes(_nested(3, "array"), scan(_nested(3, "array")))
    added = b"".join(b"\x84\5" + var_uint(2) + b"\1x" for _ in range(150))
    update = b"\1" + var_uint(150) + b"\x09\0" + added + _DELETION[1:]
    clocks = {5: 4}
    assert prepare(update, clocks, preparation._NO_HALVES, slice_work=SliceWork(64, 0, 0), types=few).held >= 150


def test_a_new_key_or_item_beside_a_large_type_takes_the_place_of_nothing() -> None:
    whole = _nested(2_000, "map")
    types = type_sizes(whole, scan(whole))
    made = _replica(whole, 77)
    before = made.get_state()
    with made.transaction():
        for number in range(10):
            made.get("root", type=pycrdt.Map)[f"new {number}"] = 1.5
            made.get("other", type=pycrdt.Map)[f"new {number}"] = 1.5
        made.get("list", type=pycrdt.Array).append("key")
        made.get("root", type=pycrdt.Map)["key"]["new"] = 1.5
    update = made.get_update(before)
    assert types.held(update, scan(update)) == 0
    for each in (_CONCURRENT, _REPLACEMENT):
        assert types.held(each, scan(each)) >= 2_000
    padded = _CONCURRENT.replace(b"\1\4root\3key", b"\x81\0\x84\0root\x83\0key")  # numbers longer than necessary
    assert types.held(padded, scan(padded)) >= 2_000


def test_many_new_entries_delete_no_more_than_there_is() -> None:
    whole = _nested(2_000, "map")
    types = type_sizes(whole, scan(whole))
    update = b"\1\x0a\x09\0" + b"\x28\1\4root\3key\1\x7e" * 10 + b"\0"
    assert types.held(update, scan(update)) == types.total
