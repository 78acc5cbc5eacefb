"""(b) What it costs to fetch the last ten updates of a file.

Documents of 1 KB, 100 KB and 1 MB, written by edits here and there and then by keystrokes; one of 1 MB that was pasted
in large pieces, which is the cheapest to load; one of 260,000 keystrokes. Nobody has them open in the gateway.

Over HTTP, the time that a server kept busy takes for one increment. It should follow what was added, so each document
is compared with the one of 1 KB; then with the gateway's own answer to a state vector, to a client that lacks the same
ten updates; and with a raw ASGI callable on the same uvicorn that does for every request what a server does that keeps
documents as bytes in a database: load, diff against the client's state vector, answer. For those two the database holds
a snapshot of the newest version, the best that can be there for them. All but the first of these requests are answered
from memory, as for the clients that follow a file together: they are at the same version and ask for the same.

As functions, without HTTP: `Files.read_since` of the gateway, for the first time, again, and after each write, as a
client asks that follows the file, against reading the stored document, building it with pycrdt and encoding the
difference.

Bytes: the increment against the ten updates as they were sent, and against the state-vector difference.
"""

import asyncio
import base64
import itertools
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import pycrdt
import uvloop

from benchmarks.documents import PROJECT, document_of, fill, keystrokes, pasted, scattered
from benchmarks.harness import Aim, Plan, Row, compare, folder, take_turns
from benchmarks.load import Load, compare_times, fetch, put_under_load, request
from benchmarks.servers import SERVER_CORE, Server, baseline, gateway, on_core
from gateway.files.documents import Documents, stored_rows
from gateway.files.preconditions import UNCONDITIONAL
from gateway.files.store import Files
from gateway.watch.hub import Hub
from gateway.yjs.surrogates import updates_of
from gateway.yjs.updates import build_document
from storage.sqlite import SQLiteStorage

_BEHIND = 10
_CONNECTIONS = 8
_TYPED = 100
"""Keystrokes at the end of every document."""
_FOLLOWED = "1-MB-followed"
"""A copy of the document of 1 MB, to which somebody writes."""


_TIME_AIMS = {"1-MB": Aim("<=", 1.15)}
_LOAD_AIMS = {"1-MB": Aim(">=", 300)}


class _Document:
    """A document to fetch from, and what a client has that lacks its last updates."""

    def __init__(self, path: str, updates: Sequence[bytes]) -> None:
        self.path = path
        self.updates = updates
        self.raw_bytes = sum(map(len, updates[-_BEHIND:]))
        self.seen = len(updates) - _BEHIND
        behind = document_of(updates[: self.seen])
        self.state_vector = behind.get_state()
        for update in updates[self.seen :]:
            behind.apply_update(update)
        self.size = len(behind.get_update())

    def increment(self) -> bytes:
        """The request for what was added."""
        return request("GET", f"/api/projects/{PROJECT}/files/{self.path}?from_version={self.seen}")

    def difference(self) -> bytes:
        """The request for what the state vector lacks."""
        vector = base64.urlsafe_b64encode(self.state_vector).decode().rstrip("=")
        return request("GET", f"/api/projects/{PROJECT}/files/{self.path}?state_vector={vector}")

    def raw_difference(self) -> bytes:
        """The same for the baseline."""
        return request("GET", f"/{self.path}?state_vector={self.state_vector.hex()}")


def run(plan: Plan) -> Iterator[Row]:
    """Measure."""
    documents = [
        _Document("1-KB", scattered(1024, _TYPED)),
        _Document("100-KB", scattered(plan.size(100, 10) * 1024, _TYPED)),
        _Document("1-MB", scattered(plan.size(1024, 100) * 1024, _TYPED)),
        _Document("1-MB-pasted", pasted(plan.size(1024, 100) * 1024, _TYPED)),
        _Document("260,000-keystrokes", keystrokes(plan.size(260_000, 5_000))),
    ]
    with folder() as data:
        database = data / "gateway.db"
        updates = {document.path: document.updates for document in documents}
        fill(database, updates | {_FOLLOWED: updates["1-MB"]}, snapshots_behind=0)
        with gateway(database) as ours, baseline("load_and_diff", database=str(database)) as loading:
            for document in documents:
                yield from _bytes(ours, document)
            yield from _over_http(plan, ours, loading, documents)
        with on_core(SERVER_CORE):
            yield from _as_functions(plan, database, documents)


def _bytes(ours: Server, document: _Document) -> Iterator[Row]:
    increment, difference = fetch(ours, document.increment()).body, fetch(ours, document.difference()).body
    _check(document, increment)
    _check(document, difference)
    size, raw = [float(len(increment))], [float(document.raw_bytes)]
    most = Aim("<=", 1.1 * document.raw_bytes + 32, of="ours")
    about = {"document_bytes": document.size, "updates": len(document.updates)}
    yield compare(f"bytes, {document.path}", "B", size, "the updates", raw, aim=most, details=about)
    yield compare("", "B", size, "state-vector diff", [float(len(difference))])


def _check(document: _Document, fetched: bytes) -> None:
    """An answer that does not make the document is no figure."""
    replica = document_of([*document.updates[: document.seen], fetched])
    whole = document_of(document.updates)
    if str(replica.get("content", type=pycrdt.Text)) != str(whole.get("content", type=pycrdt.Text)):
        raise RuntimeError(f"the answer for {document.path} does not make the document")


def _over_http(plan: Plan, ours: Server, loading: Server, documents: Sequence[_Document]) -> Iterator[Row]:
    def load(server: Server, message: bytes) -> Load:
        return put_under_load(server, [itertools.repeat(message)] * _CONNECTIONS, seconds=plan.seconds)

    candidates: dict[tuple[str, str], Callable[[], Load]] = {}
    for document in documents:
        candidates["increment", document.path] = partial(load, ours, document.increment())
        candidates["load", document.path] = partial(load, loading, document.raw_difference())
        candidates["difference", document.path] = partial(load, ours, document.difference())
    taken = take_turns(plan, candidates)
    for document in documents:
        path = document.path
        increment = taken["increment", path]
        yield compare_times(
            f"over HTTP, {path}", increment, "1-KB", taken["increment", "1-KB"], aim=_TIME_AIMS.get(path)
        )
        yield compare_times("", increment, "state-vector diff", taken["difference", path], inverse=True)
        yield compare_times("", increment, "load, diff, answer", taken["load", path], inverse=True)


def _as_functions(plan: Plan, database: Path, documents: Sequence[_Document]) -> Iterator[Row]:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop:
        storage = loop.run(SQLiteStorage.open(database))
        try:
            yield from _functions_compared(plan, loop, storage, documents)
        finally:
            loop.run(storage.close())


def _functions_compared(
    plan: Plan, loop: asyncio.Runner, storage: SQLiteStorage, documents: Sequence[_Document]
) -> Iterator[Row]:
    open_documents = Documents(storage, memory_limit=2**28)
    files = Files(storage, open_documents, Hub(storage))

    async def increment(document: _Document) -> None:
        open_documents.sent.forget(PROJECT, document.path)
        await files.read_since(PROJECT, document.path, document.seen)

    async def increment_again(document: _Document) -> None:
        await files.read_since(PROJECT, document.path, document.seen)

    async def load(document: _Document) -> None:
        stored = await storage.read_document(PROJECT, document.path)
        assert stored is not None
        build_document(updates_of(await stored_rows(stored))).get_update(document.state_vector)

    typed = iter(keystrokes(plan.size(2_000, 100), seed=1))

    async def followed() -> float:
        """The median time of an increment after each of some writes, in microseconds."""
        taken = []
        for update in itertools.islice(typed, plan.size(100, 10)):
            written = await files.append(PROJECT, _FOLLOWED, update, UNCONDITIONAL)
            started = time.perf_counter()
            await files.read_since(PROJECT, _FOLLOWED, written.head.version - _BEHIND)
            taken.append(time.perf_counter() - started)
        return statistics.median(taken) * 1e6

    def timed(work: Callable[[_Document], Awaitable[None]], document: _Document, times: int) -> float:
        return loop.run(_median_time(work, document, times))

    candidates: dict[tuple[str, str], Callable[[], float]] = {}
    for document in documents:
        candidates["increment", document.path] = partial(timed, increment, document, plan.size(500, 50))
        candidates["again", document.path] = partial(timed, increment_again, document, plan.size(500, 50))
        candidates["load", document.path] = partial(timed, load, document, plan.size(5, 2))
    candidates["followed", _FOLLOWED] = lambda: loop.run(followed())
    taken = take_turns(plan, candidates)
    for document in documents:
        path, times = document.path, taken["increment", document.path]
        yield compare(f"function, {path}", "µs", times, "1-KB", taken["increment", "1-KB"], aim=_TIME_AIMS.get(path))
        yield compare(
            "", "µs", times, "load, diff, encode", taken["load", path], inverse=True, aim=_LOAD_AIMS.get(path)
        )
        again = taken["again", path]
        yield compare("  asked for again", "µs", again, "load, diff, encode", taken["load", path], inverse=True)
    after_writes, load_times = taken["followed", _FOLLOWED], taken["load", "1-MB"]
    yield compare(
        "1-MB, after each write", "µs", after_writes, "load, diff, encode", load_times, inverse=True, aim=Aim(">=", 300)
    )


async def _median_time(work: Callable[[_Document], Awaitable[None]], document: _Document, times: int) -> float:
    """In microseconds."""
    taken = []
    for _ in range(times):
        started = time.perf_counter()
        await work(document)
        taken.append(time.perf_counter() - started)
    return statistics.median(taken) * 1e6
