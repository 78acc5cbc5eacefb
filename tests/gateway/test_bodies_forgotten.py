"""The body of a request is forgotten once it is answered: no cycle keeps it until a garbage collection."""

import asyncio
import contextlib
import gc
import sys
import weakref
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import pycrdt
import pytest
from starlette.types import Message, Receive, Scope, Send

from gateway.files.documents import Documents
from gateway.files.preconditions import Preconditions
from gateway.files.store import Files
from gateway.http.middleware import Boundary
from gateway.http.request_metrics import RequestMetrics
from gateway.watch.hub import Hub
from gateway.wire.problems import InvalidBody, Problem
from storage import NOBODY, AppendUpdate, Version
from storage.sqlite import SQLiteStorage


class _Body:
    """Can be referred to weakly."""


async def _of_a_future() -> None:
    refused: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    refused.set_exception(InvalidBody("it is refused"))
    await refused


async def _of_another() -> None:
    try:
        raise ValueError("that is why")
    except ValueError as error:
        kept = error
        raise InvalidBody(str(kept)) from error


async def _of_a_task() -> None:
    task = asyncio.create_task(_of_another())
    await asyncio.wait([task])
    task.result()


async def _unexpected() -> None:
    raise ZeroDivisionError


@pytest.mark.parametrize("refuse", [_of_a_future, _of_another, _of_a_task, _unexpected])
@pytest.mark.parametrize("outside", [False, True], ids=["within", "outside"])
def test_a_refused_request_leaves_no_cycle_that_keeps_its_body(
    refuse: Callable[[], Awaitable[None]], outside: bool
) -> None:
    bodies: list[weakref.ref[_Body]] = []
    sent: list[Message] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        body = _Body()
        bodies.append(weakref.ref(body))
        await refuse()
        assert body

    async def send(message: Message) -> None:
        sent.append(message)

    async def work() -> None:
        boundary = Boundary(application, RequestMetrics(), lambda: 0.0)
        scope: Scope = {"type": "http", "method": "PUT", "path": "/", "headers": []}
        if outside:
            try:
                await application(scope, _receive, send)
            except Exception as error:
                await boundary.send_failure(scope, _receive, send, 0.0, error)
        else:
            await boundary(scope, _receive, send)

    with _without_collections():
        asyncio.run(work())
        assert [body() for body in bodies] == [None]
    assert sent[0]["status"] == (500 if refuse is _unexpected else 400)


@contextlib.contextmanager
def _without_collections() -> Iterator[None]:
    """Collect no garbage for a while: what is freed is freed since nothing refers to it."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


async def _receive() -> Message:
    return {"type": "http.disconnect"}


def test_refused_updates_of_several_files_are_forgotten(tmp_path: Path) -> None:
    async def work() -> None:
        storage = await SQLiteStorage.open(tmp_path / "gateway.db")
        files = Files(storage, Documents(storage, memory_limit=2**20), Hub(storage))
        update = bytes([0xFF] * 7)
        held = sys.getrefcount(update)
        _, refusals = await files.append_all("p", {"a.md": update}, NOBODY)
        assert isinstance(refusals["a.md"], Problem)
        assert sys.getrefcount(update) == held
        await storage.close()

    with _without_collections():
        asyncio.run(work())


def test_what_was_stored_is_not_kept_until_the_next_write(tmp_path: Path) -> None:
    async def work() -> None:
        storage = await SQLiteStorage.open(tmp_path / "gateway.db")
        try:
            body = bytes(range(200))
            before = sys.getrefcount(body)
            await storage.append("p", (AppendUpdate("a.md", Version(0), body),))
            async with asyncio.timeout(60):
                while sys.getrefcount(body) > before:  # noqa: ASYNC110 - the writer's thread may still be about to return
                    await asyncio.sleep(0.001)
        finally:
            await storage.close()

    with _without_collections():
        asyncio.run(work())


def _reachable(root: object) -> list[object]:
    """Return the objects that an object leads to, without classes, functions and modules."""
    found, waiting = {id(root): root}, [root]
    while waiting:
        for each in gc.get_referents(waiting.pop()):
            if id(each) not in found and not isinstance(each, type | FunctionType | ModuleType):
                found[id(each)] = each
                waiting.append(each)
    return list(found.values())


def test_an_open_document_does_not_keep_what_was_stored(tmp_path: Path) -> None:
    """It is not counted in the memory of the document, which holds the content itself."""
    made: pycrdt.Doc[Any] = pycrdt.Doc()
    made["content"] = pycrdt.Text("x" * 100_000)

    async def work() -> None:
        storage = await SQLiteStorage.open(tmp_path / "gateway.db")
        files = Files(storage, Documents(storage, memory_limit=2**24), Hub(storage))
        update = made.get_update()
        await files.append("p", "a.md", update, Preconditions())
        opened = files._documents.peek("p", "a.md")
        assert opened is not None
        assert not [kept for kept in _reachable(opened) if isinstance(kept, bytes) and len(kept) >= len(update)]
        await storage.close()

    asyncio.run(work())
