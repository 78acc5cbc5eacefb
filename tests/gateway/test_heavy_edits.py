"""Heavy edits are prepared in worker processes, and taken in in turns: counted by jobs and slices."""

import asyncio
import json
import os
import random
import signal
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pycrdt
import pytest

from gateway.files import open_document, reader
from gateway.files.documents import Documents
from gateway.files.preconditions import Preconditions
from gateway.files.store import Files
from gateway.watch.hub import Hub
from gateway.wire.problems import DocumentTooLarge, InvalidUpdateBody
from gateway.workers.pool import Lane, Workers, worker_processes
from gateway.yjs import elsewhere
from gateway.yjs.admission import in_order
from gateway.yjs.document import LiveDocument
from gateway.yjs.halves import Halves
from gateway.yjs.lib0 import var_uint
from gateway.yjs.preparation import MOST_ROOTS, prepare
from gateway.yjs.roots import read_roots
from gateway.yjs.scan import TooMuch, scan
from gateway.yjs.slices import STEP_WORK, SliceWork, slices_of
from gateway.yjs.stored_form import to_wire
from gateway.yjs.updates import build_document, build_update
from storage.sqlite import SQLiteStorage
from tests.support.iterations import Iterations
from tests.support.processes import worker_pids

T = TypeVar("T")

_ANY = Preconditions()
_HEAVY = 20_000
"""So many structs are not taken in in one step."""


def _typed_backwards(count: int, client: int = 5) -> bytes:
    """A document of so many structs: none joins its neighbour."""
    document = pycrdt.Doc[Any](client_id=client)
    text = document.get("content", type=pycrdt.Text)
    with document.transaction():
        for number in range(count):
            text.insert(0, "abcdefghij"[number % 10])
    return document.get_update()


def _served(folder: Path, work: Any) -> None:
    """Run `work(files, workers)` with a storage and worker processes."""

    async def run() -> None:
        storage = await SQLiteStorage.open(folder / "gateway.db")
        async with worker_processes(processes=2, queue=16, seconds=600) as workers:
            files = Files(storage, Documents(storage, memory_limit=2**28), Hub(storage))
            await work(files, workers)
        await storage.close()

    asyncio.run(run())


async def _turns_during(work: Coroutine[Any, Any, T]) -> tuple[T, int]:
    done = asyncio.create_task(work)
    turns = 0
    while not done.done():
        await asyncio.sleep(0)
        turns += 1
    return done.result(), turns


async def _until(holds: Callable[[], bool]) -> None:
    while not holds():  # noqa: ASYNC110 - no event tells that a job has begun
        await asyncio.sleep(0)


def _jobs(workers: Workers) -> int:
    return workers.metrics[Lane.DOCUMENTS].jobs


async def _text(files: Files) -> str:
    return (await files.text_of(await files.read_whole("p", "a.md"), "content")).decode()


def test_an_update_of_many_structs_is_prepared_in_a_worker_and_is_one_version(tmp_path: Path) -> None:
    update = _typed_backwards(_HEAVY)

    async def work(files: Files, workers: Workers) -> None:
        written = await files.append("p", "a.md", update, _ANY)
        assert (written.head.version, written.changed, _jobs(workers)) == (1, True, 1)
        again = await files.append("p", "a.md", update, _ANY)
        assert (again.head.version, again.changed) == (1, False)
        assert (await files.read_whole("p", "a.md")).update == update

    _served(tmp_path, work)


def test_a_long_text_of_one_struct_takes_no_worker(tmp_path: Path) -> None:
    document = pycrdt.Doc[Any]()
    document["content"] = pycrdt.Text("words " * 100_000)

    async def work(files: Files, workers: Workers) -> None:
        await files.append("p", "a.md", document.get_update(), _ANY)
        await files.put_text("p", "b.md", "short", "content", _ANY)
        await files.put_text("p", "b.md", "shorter", "content", _ANY)
        assert _jobs(workers) == 0

    _served(tmp_path, work)


@pytest.mark.skipif(sys.platform != "linux", reason="finds the process in /proc")
def test_writes_of_one_file_keep_their_order_while_one_is_heavy(tmp_path: Path) -> None:
    first, second = ("\n".join(random.Random(seed).choices("abcdefgh", k=100_000)) for seed in (1, 2))
    late = pycrdt.Doc[Any](client_id=9)
    late["content"] = pycrdt.Text("late")

    async def work(files: Files, workers: Workers) -> None:
        await files.put_text("p", "a.md", first, "content", _ANY)
        (worker,) = worker_pids(os.getpid(), "documents")
        os.kill(worker, signal.SIGSTOP)  # so that it works for as long as the test wants
        jobs = _jobs(workers)
        heavy = asyncio.create_task(files.put_text("p", "a.md", second, "content", _ANY))
        await _until(lambda: _jobs(workers) > jobs)
        other = asyncio.create_task(files.append("p", "a.md", late.get_update(), _ANY))
        deleted = asyncio.create_task(files.delete("p", "a.md", _ANY))
        elsewhere, _ = await _turns_during(files.put_text("p", "b.md", "not held up", "content", _ANY))
        assert not heavy.done()
        os.kill(worker, signal.SIGCONT)
        assert elsewhere.head.version == 1
        assert [(await each).head.version for each in (heavy, other)] == [2, 3]
        assert (await deleted).version == 4
        at_2 = await files.read_at("p", "a.md", 2)
        assert await files.text_of(at_2, "content") == second.encode()

    _served(tmp_path, work)


def test_a_heavy_restore_is_one_version_and_exact(tmp_path: Path) -> None:
    update = _typed_backwards(_HEAVY)

    async def work(files: Files, workers: Workers) -> None:
        await files.append("p", "a.md", update, _ANY)
        before = await _text(files)
        await files.put_text("p", "a.md", "x", "content", _ANY)
        old = await files.read_at("p", "a.md", 1)
        jobs = _jobs(workers)
        written, turns = await _turns_during(files.restore("p", "a.md", old.update, _ANY))
        assert (written.head.version, await _text(files)) == (3, before)
        assert _jobs(workers) > jobs
        assert turns > 2

    _served(tmp_path, work)


def test_a_writer_who_leaves_changes_nothing_and_holds_nobody_up(tmp_path: Path) -> None:
    async def work(files: Files, workers: Workers) -> None:
        await files.put_text("p", "a.md", "before", "content", _ANY)
        heavy = asyncio.create_task(files.append("p", "a.md", _typed_backwards(10 * _HEAVY), _ANY))
        await _until(lambda: _jobs(workers) > 0)
        heavy.cancel()
        with pytest.raises(asyncio.CancelledError):
            await heavy
        written = await files.put_text("p", "a.md", "after", "content", _ANY)
        assert (written.head.version, await _text(files)) == (2, "after")

    _served(tmp_path, work)


def test_slices_are_bounded_and_hold_the_whole(tmp_path: Path) -> None:
    """Also of clients who build on each other, and on what is there; parting counts for more."""
    documents = [pycrdt.Doc[Any](client_id=client) for client in (3, 2, 7)]
    drawn = random.Random(1)
    for _ in range(60):
        document = drawn.choice(documents)
        text = document.get("content", type=pycrdt.Text)
        length = len(str(text))
        for _ in range(10):
            text.insert(drawn.randint(0, length), drawn.choice("abc") * 3)
        if length > 20:
            del text[5:9]
        for other in documents:
            other.apply_update(document.get_update(other.get_state()))
    whole = documents[0].get_update()
    scanned = scan(whole)
    slices = slices_of(whole, scanned, {}, SliceWork(50, 3, 0))
    assert len(slices) > len(scanned.structs) // 50
    taken: list[bytes] = []
    for each in slices:
        found = scan(each)
        assert len(found.structs) + len(found.deletes) <= 50
        before = scan(build_update(taken or [b"\0\0"]))
        clocks = {client: end for client, _, end in before.runs}
        assert len(list(in_order(found.structs, clocks))) == len(found.structs)
        taken.append(each)
    assert build_document(slices).get_update() == build_document([whole]).get_update()


_LONG = 30_000
_ROOT = b"\1\4root"
_LARGE_STRUCTS = {
    "values": b"\x08" + _ROOT + var_uint(_LONG) + b"\x7e" * _LONG,
    "texts": b"\x08" + _ROOT + var_uint(_LONG) + b"\x77\1a" * _LONG,
    "lists": b"\x08" + _ROOT + var_uint(_LONG // 100) + (b"\x75\x32" + b"\x7e" * 50) * (_LONG // 100),
    "objects": b"\x08" + _ROOT + var_uint(_LONG // 10) + b"\x76\2\1a\x7e\1b\x7d\1" * (_LONG // 10),
    "JSON": b"\2" + _ROOT + var_uint(_LONG) + b"\1\x31" * _LONG,
    "a text": b"\4" + _ROOT + var_uint(10 * _LONG) + b"a" * (10 * _LONG),
    "a text of pairs": b"\4" + _ROOT + var_uint(8 * _LONG) + "\U0001f600".encode() * 2 * _LONG,
    "a text of all kinds": b"\4" + _ROOT + var_uint(10 * _LONG) + "a\u00e9\u4e00\U0001f600".encode() * _LONG,
}


@pytest.mark.parametrize("name", _LARGE_STRUCTS)
def test_one_struct_of_very_much_is_taken_in_by_parts(name: str) -> None:
    """Each part is a bounded amount of bytes; together they are the same document."""
    update = b"\1\1\5\0" + _LARGE_STRUCTS[name] + b"\0"
    before = build_document([])
    prepared = prepare(update, {}, Halves(), slice_work=SliceWork(1_000, 0, 0))
    assert len(prepared.slices) > 1
    for each in prepared.slices:
        assert len(each) < 130_000 + 50
        emitted: list[bytes] = []
        subscription = before.observe(lambda event, emitted=emitted: emitted.append(event.update))
        before.apply_update(each)
        before.unobserve(subscription)
        assert emitted == [each]
    assert before.get_update() == prepared.update
    assert to_wire(before.get_update()) == update


def test_the_parts_of_a_struct_keep_what_it_stands_between() -> None:
    """Two clients insert very much at the same place, into what a third has."""
    first = pycrdt.Doc[Any](client_id=1)
    first["content"] = pycrdt.Text("before, after")
    inserted = []
    for client in (7, 3):
        other = pycrdt.Doc[Any](client_id=client)
        other.apply_update(first.get_update())
        other.get("content", type=pycrdt.Text).insert(6, f"{client} \U0001f600" * _LONG)
        inserted.append(other.get_update(first.get_state()))
    whole = build_document([first.get_update(), *inserted])
    parts = build_document([first.get_update()])
    for each in inserted:
        slices = prepare(each, {1: 13}, Halves(), slice_work=SliceWork(500, 0, 0)).slices
        assert len(slices) > 1
        for part in slices:
            parts.apply_update(part)
    assert parts.get_update() == whole.get_update()
    assert str(parts.get("content", type=pycrdt.Text)) == str(whole.get("content", type=pycrdt.Text))


@pytest.mark.parametrize("value", [b"\x75", b"\x75\1\x75"])
def test_one_value_of_very_many_values_is_held_as_bytes(value: bytes) -> None:
    """yrs would make a value of each, in one step."""
    update = b"\1\1\5\0\x08" + _ROOT + b"\1" + value + var_uint(_LONG) + b"\x7e" * _LONG + b"\0"
    prepared = prepare(update, {}, Halves())
    document = build_document([prepared.update])
    assert isinstance(document.get("root", type=pycrdt.Array)[0], dict)
    assert to_wire(document.get_update()) == update
    assert read_roots(update) == {"root": [[None] * _LONG] if value == b"\x75" else [[[None] * _LONG]]}


@pytest.mark.parametrize("kind", ["structs", "values", "nested values", "deletes", "clients", "JSON", "pairs"])
def test_work_is_counted_before_it_is_done(kind: str) -> None:
    many = 100_000
    array = b"\1\5array"
    updates = {
        "structs": _typed_backwards(2_000),
        "values": b"\1\1\1\0\x08" + array + var_uint(many) + b"\x7e" * many + b"\0",
        "nested values": b"\1\1\1\0\x08" + array + b"\1\x75" + var_uint(many) + b"\x7e" * many + b"\0",
        "deletes": b"\0\1\1" + var_uint(many) + b"".join(var_uint(2 * each) + b"\1" for each in range(many)),
        "clients": var_uint(many) + b"".join(b"\0" + var_uint(each) + b"\0" for each in range(many)) + b"\0",
        "JSON": b"\1\1\1\0\5" + array + var_uint(2 * many + 1) + b"[" + b"1," * (many - 1) + b"1]\0",
        "pairs": b"\1\1\1\0\4" + array + var_uint(4 * many) + "\U0001f600".encode() * many + b"\0",
    }
    scan(updates[kind])
    with pytest.raises(TooMuch):
        scan(updates[kind], 1_000)


def test_a_large_document_is_never_encoded_in_the_event_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What others need of the whole document comes from what is stored."""
    update = _typed_backwards(_HEAVY)
    encoded: list[bytes | None] = []
    encode = LiveDocument.encode

    def counted(self: LiveDocument, state_vector: bytes | None = None) -> bytes:
        encoded.append(state_vector)
        return encode(self, state_vector)

    monkeypatch.setattr(LiveDocument, "encode", counted)
    monkeypatch.setattr(open_document, "_LIGHT_ENCODED", 10_000)
    monkeypatch.setattr(open_document, "_LIGHT_LACKING", 1_000)

    async def work(files: Files, workers: Workers) -> None:
        await files.append("p", "a.md", update, _ANY)
        assert (await files.read_whole("p", "a.md")).update == update
        assert (await files.read_lacking("p", "a.md", b"\0")).update == update
        text = await _text(files)
        longer = text + "the end" * 10_000
        await files.put_text("p", "a.md", longer, "content", _ANY)
        assert await _text(files) == longer
        old = await files.read_at("p", "a.md", 1)
        await files.restore("p", "a.md", old.update, _ANY)
        assert await _text(files) == text
        assert encoded == []
        vector = await files.state_vector("p", "a.md")
        nothing = (await files.read_lacking("p", "a.md", vector)).update
        assert nothing[:1] == b"\0"
        assert encoded == []  # nearly nothing is missing there, but yrs looks at all structs for what is deleted
        monkeypatch.setattr(open_document, "_LIGHT_LACKING", 100_000)
        assert (await files.read_lacking("p", "a.md", vector)).update == nothing
        assert encoded == [vector]

    _served(tmp_path, work)


@pytest.mark.parametrize("kind", ["structs", "clients", "bytes"])
def test_a_document_is_encoded_in_the_event_loop_by_its_structs_clients_and_bytes(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clients = range(600, 0, -1)
    update = {
        "structs": _typed_backwards(1_100),
        "clients": b"\xd8\4" + b"".join(b"\1" + var_uint(each) + b"\0\x08\1\1a\1\x7e" for each in clients) + b"\0",
        "bytes": b"\1\1\1\0\4\1\7content" + var_uint(2**17) + b"a" * 2**17 + b"\0",
    }[kind]

    async def work(files: Files, workers: Workers) -> None:
        await files.append("p", "a.md", update, _ANY)
        document = files._documents.peek("p", "a.md")
        assert document is not None
        monkeypatch.setattr(open_document, "_LIGHT_ENCODED", 1_000)
        assert not document.encodes_in_step
        assert (await files.read_whole("p", "a.md")).update == update
        monkeypatch.setattr(open_document, "_LIGHT_ENCODED", 3_000)
        assert document.encodes_in_step

    _served(tmp_path, work)


@pytest.mark.parametrize("by_vector", [False, True])
def test_a_document_that_is_not_small_is_encoded_in_a_slice_of_its_own(
    by_vector: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the request did before is in another step, and what another writer stored meanwhile is in the answer."""
    structs = open_document._BRIEFLY_ENCODED + 1
    longer = _typed_backwards(structs)

    async def read(files: Files) -> bytes:
        found = files.read_lacking("p", "a.md", b"\0") if by_vector else files.read_whole("p", "a.md")
        return (await found).update

    async def work(files: Files, workers: Workers) -> None:
        slices = list[int]()

        async def next_slice() -> None:
            slices.append(1)
            if len(slices) == 1:
                await files.append("p", "a.md", longer, _ANY)

        monkeypatch.setattr(reader, "next_slice", next_slice)
        await files.append("p", "a.md", _typed_backwards(structs // 4), _ANY)
        await read(files)
        assert not slices  # a small one
        await files.append("p", "a.md", _typed_backwards(structs - 1), _ANY)
        assert await read(files) == longer
        assert len(slices) == 1

    _served(tmp_path, work)


def test_the_json_of_a_large_document_is_written_by_a_worker(tmp_path: Path) -> None:
    """The event loop would be held as long by the values as by the document."""

    async def work(files: Files, workers: Workers) -> None:
        await files.append("p", "a.md", _typed_backwards(_HEAVY), _ANY)
        whole = await files.read_whole("p", "a.md")
        before = _jobs(workers)
        text = await files.text_of(whole, "content")
        assert json.loads(await files.json_of(whole)) == {"content": text.decode()}
        assert _jobs(workers) - before == 2

    _served(tmp_path, work)


def test_a_document_near_its_largest_size_is_measured_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open_document, "_LIGHT_ENCODED", 0)
    monkeypatch.setattr(LiveDocument, "encode", None)
    second = "x" * 40_000

    async def work() -> None:
        storage = await SQLiteStorage.open(tmp_path / "gateway.db")
        async with worker_processes(processes=1, queue=16, seconds=600):
            documents = Documents(storage, memory_limit=2**28, size_limit=50_000)
            files = Files(storage, documents, Hub(storage))
            await files.put_text("p", "a.md", "y" * 20_000, "content", _ANY)
            for number in range(4):  # each time, as much is deleted as is written: only the first seems to fit
                await files.put_text("p", "a.md", second + str(number), "content", _ANY)
                await files.put_text("p", "a.md", "", "content", _ANY)
            written = await files.put_text("p", "a.md", second, "content", _ANY)
            with pytest.raises(DocumentTooLarge):
                await files.append("p", "a.md", _typed_backwards(8_000, 9), _ANY)
            assert (await files.head("p", "a.md")).version == written.head.version
            assert await _text(files) == second
        await storage.close()

    asyncio.run(work())


def test_a_document_has_a_bounded_number_of_roots(tmp_path: Path) -> None:
    def named(first: int, count: int, client: int) -> bytes:
        roots = b"".join(b"\x08\1\7" + b"%07d" % number + b"\1\x7e" for number in range(first, first + count))
        return b"\1" + var_uint(count) + bytes([client]) + b"\0" + roots + b"\0"

    async def work(files: Files, workers: Workers) -> None:
        with pytest.raises(InvalidUpdateBody, match="at most 10000 roots"):
            await files.append("p", "a.md", named(0, MOST_ROOTS + 1, 1), _ANY)
        await files.append("p", "a.md", named(0, MOST_ROOTS - 1, 1), _ANY)
        await files.append("p", "a.md", named(0, MOST_ROOTS - 1, 2), _ANY)  # the same ones
        with pytest.raises(InvalidUpdateBody, match="at most 10000 roots"):
            await files.append("p", "a.md", named(MOST_ROOTS, 2, 3), _ANY)
        await files.put_text("p", "a.md", "the last", "last", _ANY)
        with pytest.raises(InvalidUpdateBody, match="at most 10000 roots"):
            await files.put_text("p", "a.md", "one more", "more", _ANY)
        await files.put_text("p", "a.md", "the last!", "last", _ANY)
        assert (await files.head("p", "a.md")).version == 4

    _served(tmp_path, work)


def test_who_has_written_may_still_write_to_a_document_of_the_most_clients(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.yjs.preparation.MOST_CLIENTS", 3)

    def typed(client: int, clock: int) -> bytes:
        return b"\1\1" + bytes([client, clock]) + b"\4\1\7content\1x\0"

    async def work(files: Files, workers: Workers) -> None:
        for client in (1, 2, 3):
            await files.append("p", "a.md", typed(client, 0), _ANY)
        with pytest.raises(InvalidUpdateBody, match="no more than 3 clients"):
            await files.append("p", "a.md", typed(4, 0), _ANY)
        await files.append("p", "a.md", typed(2, 1), _ANY)
        monkeypatch.setattr(open_document, "_LIGHT_BYTES", 0)  # the text is edited elsewhere
        await files.put_text("p", "a.md", "by the gateway", "content", _ANY)
        with pytest.raises(InvalidUpdateBody, match="no more than 3 clients"):
            await files.append("p", "a.md", typed(5, 0), _ANY)
        await files.append("p", "a.md", typed(3, 1), _ANY)
        assert (await files.head("p", "a.md")).version == 6

    _served(tmp_path, work)


def _competing(count: int) -> bytes:
    """A letter of each of so many clients, all at the beginning of the text."""
    clients = range(count + 10, 10, -1)
    letters = b"".join(b"\1" + var_uint(client) + b"\0\4\1\7content\1z" for client in clients)
    return var_uint(count) + letters + b"\0"


def test_an_update_that_takes_very_long_is_refused_and_leaves_the_document_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open_document, "STEP_WORK", 64)
    monkeypatch.setattr("gateway.yjs.preparation._LIGHT_WALKED", 10_000)

    async def work(files: Files, workers: Workers) -> None:
        await files.append("p", "a.md", _typed_backwards(400), _ANY)
        for name in ("_MOST_SECONDS", "_SLICE_SECONDS", "_BYTE_SECONDS"):
            monkeypatch.setattr(elsewhere, name, 0)
        before = await _text(files)
        with pytest.raises(InvalidUpdateBody, match="compete for their places"):
            await files.append("p", "a.md", _competing(50), _ANY)
        assert await _text(files) == before
        await files.append("p", "a.md", _competing(1), _ANY)
        assert (await files.head("p", "a.md")).version == 2

    _served(tmp_path, work)


def test_heavy_updates_that_are_taken_in_at_once_share_the_turns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply, taken_in = LiveDocument.apply, list[tuple[int, int]]()

    async def work(files: Files, workers: Workers) -> None:
        iterations = Iterations()

        def noted(document: LiveDocument, update: bytes) -> bytes | None:
            taken_in.append((iterations.count, len(scan(update).structs)))
            return apply(document, update)

        monkeypatch.setattr(LiveDocument, "apply", noted)
        await asyncio.gather(*(files.append("p", path, _typed_backwards(_HEAVY), _ANY) for path in ("a.md", "b.md")))
        iterations.stop()

    _served(tmp_path, work)
    assert sum(structs for _, structs in taken_in) == 2 * _HEAVY
    assert max(structs for _, structs in taken_in) <= STEP_WORK
    slices = -(-_HEAVY // STEP_WORK)
    assert len({iteration for iteration, _ in taken_in}) >= 2 * slices - 2  # the first of each waits for no other


def test_a_small_document_of_many_structs_is_built_elsewhere(tmp_path: Path) -> None:
    """By its bytes it is small; its structs may compete, which takes the square of their number."""

    async def work(files: Files, workers: Workers) -> None:
        await files.append("p", "a.md", _competing(1_000), _ANY)
        await files.append("p", "b.md", _competing(10), _ANY)
        done = _jobs(workers)
        for path in ("a.md", "b.md"):
            await files.text_of(await files.read_whole("p", path), "content")
        assert _jobs(workers) == done + 1
        files._documents.close()
        for path in ("a.md", "b.md"):
            await files._documents.open("p", path)
        assert _jobs(workers) == done + 2

    _served(tmp_path, work)


@pytest.mark.parametrize("structs", [1, 20])
def test_very_many_short_json_texts_are_too_much_for_one_step(structs: int) -> None:
    """Each is parsed by itself, however few bytes it has."""
    each = b"\2" + _ROOT + var_uint(5_000 // structs) + b"\1\x31" * (5_000 // structs)
    update = b"\1" + var_uint(structs) + b"\5\0" + each * structs + b"\0"
    assert len(scan(update).structs) == structs
    with pytest.raises(TooMuch):
        scan(update, 4_096)
