"""Documents that are too large for the gateway's process: a worker process takes in their updates and keeps them."""

import asyncio
import os
import random
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pycrdt
import pytest

from gateway.files import open_document
from gateway.files.documents import Documents
from gateway.files.preconditions import Preconditions
from gateway.files.store import Files
from gateway.watch.hub import Hub
from gateway.wire.problems import InvalidUpdateBody, MissingPredecessors
from gateway.workers import kept_documents
from gateway.workers.kept_documents import take_in_kept, take_in_stored
from gateway.workers.pool import Lane, Workers, run_in_worker, worker_processes
from gateway.yjs import document, elsewhere
from gateway.yjs.elsewhere import PER_CLIENT, PER_ROOT, TimeAllowed, Update
from gateway.yjs.footprint import STRUCT, of_update
from gateway.yjs.heavy_edits import open_stored
from gateway.yjs.lib0 import var_uint
from gateway.yjs.scan import scan
from gateway.yjs.slices import MOST_WHOLE
from gateway.yjs.updates import EMPTY_UPDATE, InvalidUpdate, build_document, build_update
from storage import AppendDone, StorageUnavailable
from storage.sqlite import SQLiteStorage
from tests.support.documents import typed_backwards
from tests.support.processes import worker_pids

_ANY = Preconditions()
_MOST = 200


class _Scene:
    """Files with worker processes; a document of more than `_MOST` structs is elsewhere."""

    def __init__(self, storage: SQLiteStorage, workers: Workers) -> None:
        self.storage = storage
        self.documents = Documents(storage, memory_limit=2**28)
        self.files = Files(storage, self.documents, Hub(storage))
        self._workers = workers

    @property
    def jobs(self) -> int:
        return self._workers.metrics[Lane.DOCUMENTS].jobs

    async def append(self, update: bytes) -> bool:
        return (await self.files.append("p", "a", update, _ANY)).changed

    async def whole(self) -> bytes:
        return (await self.files.read_whole("p", "a")).update

    async def held(self) -> bytes:
        """What this process holds of the document."""
        return (await self.documents.open("p", "a"))._document.document.get_update()


def _served(
    folder: Path, monkeypatch: pytest.MonkeyPatch, work: Callable[[_Scene], Awaitable[None]], processes: int = 1
) -> None:
    for module in (document, elsewhere):
        monkeypatch.setattr(module, "MOST_STRUCTS", _MOST)

    async def run() -> None:
        storage = await SQLiteStorage.open(folder / "gateway.db")
        async with worker_processes(processes=processes, queue=16, seconds=600) as workers:
            await work(_Scene(storage, workers))
        await storage.close()

    asyncio.run(run())


def _with_a_type_in_a_type() -> pycrdt.Doc[Any]:
    """A document whose shared types are counted."""
    made = pycrdt.Doc[Any](client_id=5)
    made["list"] = pycrdt.Array([pycrdt.Map({"key": 1})])
    return made


def _same(left: bytes, right: bytes) -> bool:
    """Whether two updates are the same document."""
    return build_update([left]) == build_update([right])


def test_a_document_that_becomes_too_large_leaves_this_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(scene: _Scene) -> None:
        made = typed_backwards(_MOST // 2)
        await scene.append(made.get_update())
        assert _same(await scene.held(), made.get_update())
        behind = made.get_state()
        text = made.get("content", type=pycrdt.Text)
        for number in range(_MOST):
            text.insert(0, str(number % 10))
        await scene.append(made.get_update(behind))
        assert await scene.held() == EMPTY_UPDATE
        assert _same(await scene.whole(), made.get_update())
        assert await scene.files.state_vector("p", "a") == made.get_state()

    _served(tmp_path, monkeypatch, work)


@pytest.mark.parametrize("kind", ["clients", "roots"])
def test_many_new_clients_or_roots_are_too_large_at_once(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is as much work as several structs, in every transaction or when the document is freed."""
    several = _MOST // (PER_CLIENT if kind == "clients" else PER_ROOT)
    names = [b"r%d" % number for number in range(several)] if kind == "roots" else [b"r0"] * several
    clients = range(several, 0, -1) if kind == "clients" else [1]
    structs = [b"\x08\1" + var_uint(len(name)) + name + b"\1\x7e" for name in names]
    if kind == "clients":
        sections = b"".join(
            b"\1" + var_uint(client) + b"\0" + struct for client, struct in zip(clients, structs, strict=True)
        )
    else:
        sections = var_uint(several) + b"\1\0" + b"".join(structs)
    update = var_uint(len(clients)) + sections + b"\0"

    async def work(scene: _Scene) -> None:
        await scene.append(update)
        assert await scene.held() == EMPTY_UPDATE
        assert _same(await scene.whole(), update)

    _served(tmp_path, monkeypatch, work)


@pytest.mark.parametrize("kind", ["entries", "types"])
def test_entries_of_maps_and_types_weigh_more_than_their_memory(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """yrs takes longer to free them: a document that has many is elsewhere, as it is taken in and as it is stored."""
    made = pycrdt.Doc[Any](client_id=5)
    if kind == "entries":
        made["map"] = pycrdt.Map({str(number): number for number in range(_MOST // 3)})
    else:
        made["xml"] = pycrdt.XmlFragment([pycrdt.XmlElement("p") for _ in range(_MOST // 3)])
    update = made.get_update()
    assert of_update(update, scan(update)) < _MOST * STRUCT

    async def work(scene: _Scene) -> None:
        await scene.append(update)
        assert await scene.held() == EMPTY_UPDATE
        assert open_stored([update], _MOST).elsewhere is not None
        assert _same(await scene.whole(), update)

    _served(tmp_path, monkeypatch, work)


def test_a_document_of_one_very_large_value_is_elsewhere_while_it_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """yrs takes in, and emits, binary data or JSON in one step. A smaller text it takes in in parts."""
    size = MOST_WHOLE + 1
    binary = b"\1\1\1\0\3\1\1a" + var_uint(size) + b"x" * size + b"\0"

    async def work(scene: _Scene) -> None:
        await scene.append(binary)
        assert await scene.held() == EMPTY_UPDATE
        assert _same(await scene.whole(), binary)
        for _ in range(2):  # as it was taken in, and as it is stored
            await scene.append(typed_backwards(1).get_update())
            assert await scene.held() == EMPTY_UPDATE
            scene.documents.close()
        await scene.append(b"\0\1\1\1\0\1")
        scene.documents.close()
        await scene.append(_text(2, 0, size // 2))
        assert len(await scene.held()) > size // 2
        scene.documents.close()
        assert len(await scene.held()) > size // 2

    _served(tmp_path, monkeypatch, work)


def _text(client: int, clock: int, size: int) -> bytes:
    """What a client appends to the text `t`."""
    place = b"\4\1\1t" if clock == 0 else b"\x84" + var_uint(client) + var_uint(clock - 1)
    return b"\1\1" + var_uint(client) + var_uint(clock) + place + var_uint(size) + b"x" * size + b"\0"


def test_a_very_long_text_is_elsewhere_also_where_it_grew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """yrs joins what a client appends to one struct, and walks through all of it with each addition."""
    part = MOST_WHOLE // 3 + 1
    parts = [_text(2, number * part, part) for number in range(3)]

    async def work(scene: _Scene) -> None:
        for each in parts[:2]:
            await scene.append(each)
            assert len(await scene.held()) > part
        await scene.append(parts[2])
        assert await scene.held() == EMPTY_UPDATE
        whole = build_update(parts)
        assert _same(await scene.whole(), whole)
        scene.documents.close()  # it is opened as it is stored
        assert await scene.held() == EMPTY_UPDATE
        await scene.append(typed_backwards(1).get_update())
        assert _same(await scene.whole(), build_update([whole, typed_backwards(1).get_update()]))

    _served(tmp_path, monkeypatch, work)


def test_long_texts_of_several_clients_stay_in_this_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """yrs joins no structs of different clients, so none is long."""
    part = MOST_WHOLE // 2

    async def work(scene: _Scene) -> None:
        for client in (2, 3, 4):
            await scene.append(_text(client, 0, part))
        assert len(await scene.held()) > 3 * part

    _served(tmp_path, monkeypatch, work)


def test_a_text_that_is_typed_stays_in_this_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """yrs joins the structs of what is typed one after another, and the gateway counts them anew."""

    async def work(scene: _Scene) -> None:
        made = pycrdt.Doc[Any](client_id=5)
        text = made.get("content", type=pycrdt.Text)
        for number in range(3 * _MOST):
            behind = made.get_state()
            text += str(number % 10)
            await scene.append(made.get_update(behind))
            counting = (await scene.documents.open("p", "a"))._counting
            if counting is not None:
                await counting
        assert _same(await scene.held(), made.get_update())
        assert scene.jobs <= 3 * _MOST // (_MOST // 8)
        assert (await scene.documents.open("p", "a"))._document.most_structs < _MOST

    _served(tmp_path, monkeypatch, work)


def test_a_stored_document_that_is_too_large_is_not_built_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(scene: _Scene) -> None:
        made = typed_backwards(3 * _MOST)
        await scene.append(made.get_update())
        scene.documents.close()
        assert not await scene.append(made.get_update())
        assert await scene.held() == EMPTY_UPDATE
        assert await scene.files.state_vector("p", "a") == made.get_state()
        assert scene.documents.memory < 3 * _MOST * 200

    _served(tmp_path, monkeypatch, work)


def test_each_update_of_a_document_elsewhere_is_one_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(scene: _Scene) -> None:
        made = typed_backwards(3 * _MOST)
        await scene.append(made.get_update())
        text = made.get("content", type=pycrdt.Text)
        for letter in "hello":
            behind, before = made.get_state(), scene.jobs
            text += letter
            assert await scene.append(made.get_update(behind))
            assert scene.jobs == before + 1
        assert _same(await scene.whole(), made.get_update())

    _served(tmp_path, monkeypatch, work)


def test_each_document_stays_in_its_process_whatever_else_the_processes_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In another process the document would be built again."""

    async def work(scene: _Scene) -> None:
        both = {"a": typed_backwards(3 * _MOST), "b": typed_backwards(3 * _MOST)}
        for path, made in both.items():
            await scene.files.append("p", path, made.get_update(), _ANY)

        async def write(path: str, letter: str) -> None:
            made = both[path]
            behind = made.get_state()
            text = made.get("content", type=pycrdt.Text)
            text += letter
            assert (await scene.files.append("p", path, made.get_update(behind), _ANY)).changed

        await asyncio.gather(write("a", "0"), write("b", "0"))  # at once: each in a process of its own
        for number in range(6):
            other = run_in_worker(build_update, [EMPTY_UPDATE])
            await (asyncio.gather(other, run_in_worker(build_update, [EMPTY_UPDATE])) if number % 2 else other)
            before = scene.jobs
            await asyncio.gather(*(write(path, str(number)) for path in (("a", "b"), ("b", "a"))[number % 2]))
            await write("ab"[number % 2], "z")
            assert scene.jobs == before + 3
        for path, made in both.items():
            assert _same((await scene.files.read_whole("p", path)).update, made.get_update())

    _served(tmp_path, monkeypatch, work, processes=2)


@pytest.mark.skipif(sys.platform != "linux", reason="finds the process in /proc")
def test_a_worker_that_is_killed_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(scene: _Scene) -> None:
        made = typed_backwards(3 * _MOST)
        await scene.append(made.get_update())
        text = made.get("content", type=pycrdt.Text)
        for letter in "ab":
            for process in worker_pids(os.getpid(), "documents"):
                os.kill(process, signal.SIGKILL)
            behind = made.get_state()
            text += letter
            assert await scene.append(made.get_update(behind))
        assert _same(await scene.whole(), made.get_update())

    _served(tmp_path, monkeypatch, work)


def test_what_cannot_be_stored_is_in_no_later_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(scene: _Scene) -> None:
        made = typed_backwards(3 * _MOST)
        await scene.append(made.get_update())
        lost, kept = (pycrdt.Doc[Any](client_id=client) for client in (8, 9))
        for each, words in ((lost, "lost"), (kept, "kept")):
            each["content"] = pycrdt.Text(words)

        def fail(project: str, changes: object, done: AppendDone) -> None:
            asyncio.get_running_loop().call_soon(done, StorageUnavailable("the disk is gone"))

        with monkeypatch.context() as patch:
            patch.setattr(scene.storage, "append_and_call", fail)
            with pytest.raises(StorageUnavailable):
                await scene.append(lost.get_update())
        assert await scene.append(kept.get_update())
        assert await scene.held() == EMPTY_UPDATE
        made.apply_update(kept.get_update())
        assert _same(await scene.whole(), made.get_update())
        assert await scene.append(lost.get_update())

    _served(tmp_path, monkeypatch, work)


def test_what_does_not_fit_is_refused_and_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(scene: _Scene) -> None:
        made = typed_backwards(3 * _MOST)
        await scene.append(made.get_update())
        other = pycrdt.Doc[Any](client_id=9)
        text = other.get("content", type=pycrdt.Text)
        text += "before"
        behind = other.get_state()
        text += "after"
        with pytest.raises(MissingPredecessors):
            await scene.append(other.get_update(behind))
        with pytest.raises(InvalidUpdateBody):
            await scene.append(b"\1\1\\9\0\5")
        assert not await scene.append(made.get_update())
        assert _same(await scene.whole(), made.get_update())

    _served(tmp_path, monkeypatch, work)


def test_writers_at_once_and_texts_and_restores_meet_in_one_document(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(scene: _Scene) -> None:
        made = typed_backwards(3 * _MOST)
        await scene.append(made.get_update())
        others = []
        for client in range(10, 16):
            other = pycrdt.Doc[Any](client_id=client)
            other["content"] = pycrdt.Text(f"<{client}>")
            others.append(other.get_update())
        assert all(await asyncio.gather(*map(scene.append, others)))
        text = (await scene.files.text_of(await scene.files.read_whole("p", "a"), "content")).decode()
        assert all(f"<{client}>" in text for client in range(10, 16))
        await scene.files.put_text("p", "a", text.replace("<12>", "[\U0001f389]"), "content", _ANY)
        old = await scene.files.read_at("p", "a", 1)
        await scene.files.restore("p", "a", old.update, _ANY)
        read = await scene.files.read_whole("p", "a")
        assert await scene.files.text_of(read, "content") == str(made["content"]).encode()
        lacking = await scene.files.read_lacking("p", "a", made.get_state())
        made.apply_update(lacking.update)
        assert _same(made.get_update(), read.update)
        assert await scene.held() == EMPTY_UPDATE

    _served(tmp_path, monkeypatch, work)


@pytest.mark.parametrize("seed", range(3))
def test_the_log_is_the_same_as_of_a_document_in_this_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    updates = _mixed(random.Random(seed))

    async def rows(scene: _Scene) -> list[bytes | None]:
        for update in updates:
            await scene.append(update)
            if scene.jobs % 7 == 3:
                scene.documents.close()  # it is opened again, and no worker keeps it under the new name
        return [row.body async for row in scene.storage.updates("p", "a")]

    found: list[list[bytes | None]] = []

    async def work(scene: _Scene) -> None:
        found.append(await rows(scene))

    for name, most in (("here", 10**9), ("elsewhere", 20)):
        (tmp_path / name).mkdir()
        monkeypatch.setattr(f"{__name__}._MOST", most)
        _served(tmp_path / name, monkeypatch, work)
    assert found[0] == found[1]


def _mixed(chance: random.Random) -> list[bytes]:
    """Updates of three clients who write texts with surrogate pairs, nested types and deletions, some sent twice."""
    clients = [pycrdt.Doc[Any](client_id=each) for each in (1, 2, 3)]
    emoji = pycrdt.Doc[Any]({"content": pycrdt.Text("\U0001f389")}, client_id=7)
    sent = [emoji.get_update()]
    for each in clients:
        each.get("content", type=pycrdt.Text)
        each.get("map", type=pycrdt.Map)
    for _ in range(60):
        writer = chance.choice(clients)
        behind = writer.get_state()
        text, entries = writer.get("content", type=pycrdt.Text), writer.get("map", type=pycrdt.Map)
        letters = str(text)
        start, end = sorted(len(letters[: chance.randrange(len(letters) + 1)].encode()) for _ in range(2))
        kind = chance.randrange(5)
        if kind == 0:
            with writer.transaction():
                del text[start:end]
        elif kind == 1:
            entries[chance.choice("abc")] = pycrdt.Array([1, "two", pycrdt.Map({"three": 3})])
        elif kind == 2 and "a" in entries:
            with writer.transaction():
                del entries["a"]
        else:
            text.insert(start, chance.choice(["x", "long words", "\U0001f389", "y\U0001f389z"]))
        update = writer.get_update(behind)
        sent += [update] * chance.choice((1, 1, 1, 2))
        for other in clients:
            if chance.random() < 0.7:
                other.apply_update(writer.get_update(other.get_state()))
    return [*sent, b"\0\1\7\1\1\1"]  # the second half of a surrogate pair is deleted


def test_a_process_keeps_few_documents_and_none_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = kept_documents._Kept()
    monkeypatch.setattr(kept_documents, "_kept", kept)
    monkeypatch.setattr(kept_documents, "_KEPT_BYTES", 10 * STRUCT)

    def update(state: str, structs: int, size: int = 0) -> Update:
        made = pycrdt.Doc[Any]({"content": pycrdt.Text("x")})
        return Update([made.get_update()], (), structs, size, state)

    take_in_stored([], update("a", 4))
    take_in_stored([], update("b", 4))
    assert kept.states == ["a", "b"]
    taken = take_in_kept("a", update("c", 5))
    assert taken is not None
    assert taken.emitted is None  # exactly what was given is not sent back
    assert kept.states == ["b", "c"]
    assert take_in_kept("a", update("d", 5)) is None
    take_in_stored([], update("e", 9))
    assert kept.states == ["e"]
    take_in_stored([], update("f", 1000))
    assert kept.states == ["f"]
    take_in_stored([], update("h", 1, size=kept_documents._KEPT_BYTES))
    assert kept.states == ["h"]
    take_in_stored([], update("f", 1000))
    with pytest.raises(InvalidUpdate):
        take_in_kept("f", Update([b"\1\1"], (), 1, 0, "g"))
    assert kept.states == []


def test_documents_of_which_no_update_comes_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = kept_documents._Kept()
    later: list[Callable[[], None]] = []

    class Timer:
        def cancel(self) -> None:
            later.clear()

    def after(seconds: float, work: Callable[[], None]) -> Timer:
        later.append(work)
        return Timer()

    monkeypatch.setattr(kept_documents, "_after", after)
    kept.keep("a", build_document([]), 1)
    kept.keep("b", build_document([]), 1)
    assert kept.states == ["a", "b"]
    (forget,) = later
    forget()
    assert kept.states == []


def test_types_are_counted_beside_the_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a bound of 600, types must be counted again after 100 structs: they are, and no write does it."""
    for module in ("gateway.yjs.document", "gateway.files.open_document"):
        monkeypatch.setattr(f"{module}.MOST_HELD", 600)
    waited = 0
    count = open_document.count_types

    def counted(*arguments: Any) -> Any:
        nonlocal waited
        waited += 1
        return count(*arguments)

    monkeypatch.setattr(open_document, "count_types", counted)
    monkeypatch.setattr(f"{__name__}._MOST", 10**9)

    async def work(scene: _Scene) -> None:
        made = _with_a_type_in_a_type()
        await scene.append(made.get_update())
        text = made.get("content", type=pycrdt.Text)
        for _ in range(30):
            behind = made.get_state()
            with made.transaction():
                for _ in range(20):
                    text.insert(0, "x")
            await scene.append(made.get_update(behind))
            opened = await scene.documents.open("p", "a")
            if opened._counting is not None:
                await opened._counting
            assert opened._document.knows_types
        assert opened._document.types.total > 0

    _served(tmp_path, monkeypatch, work)
    assert waited == 0


@pytest.mark.skipif(sys.platform != "linux", reason="finds the process in /proc")
def test_nobody_waits_for_types_that_are_counted_beside_the_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("gateway.yjs.document", "gateway.files.open_document"):
        monkeypatch.setattr(f"{module}.MOST_HELD", 600)
    monkeypatch.setattr(open_document, "count_types", None)  # a write that counted would fail
    monkeypatch.setattr(open_document, "LIGHT_UNITS", 0)
    monkeypatch.setattr(f"{__name__}._MOST", 10**9)

    async def work(scene: _Scene) -> None:
        made = _with_a_type_in_a_type()
        await scene.append(made.get_update())
        text = made.get("content", type=pycrdt.Text)
        opened = await scene.documents.open("p", "a")
        for _ in range(5):  # 55 structs of 100: one count begins
            behind = made.get_state()
            with made.transaction():
                for _ in range(11):
                    text.insert(0, "x")
            await scene.append(made.get_update(behind))
        counting = opened._counting
        assert counting is not None
        while not (counters := worker_pids(os.getpid(), "upkeep")):  # noqa: ASYNC110 - no event tells of it
            await asyncio.sleep(0)
        for process in counters:
            os.kill(process, signal.SIGSTOP)
        for letter in "abc":
            behind = made.get_state()
            text += letter
            assert await scene.append(made.get_update(behind))
            assert (await scene.files.read_whole("p", "a")).version
        await scene.files.put_text("p", "b", "another file", "content", _ANY)
        assert not counting.done()
        for process in counters:
            os.kill(process, signal.SIGCONT)
        await counting
        assert opened._document.types.total > 0

    _served(tmp_path, monkeypatch, work)


def test_a_large_document_may_take_longer_in_a_worker() -> None:
    """To delete a map takes the square of its keys."""
    allowed = TimeAllowed([b"\0\1\5\1\0\1"], 540_000)
    allowed.spend(6.0)
    allowed.spend(6.0)
    with pytest.raises(InvalidUpdate):
        allowed.spend(6.0)
    with pytest.raises(InvalidUpdate):
        TimeAllowed([b"\0\1\5\1\0\1"]).spend(2.1)
