"""Every backend, behind the one contract. A test here names none of them."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from storage import Storage
from storage.sqlite import SQLiteStorage, update_rows
from tests.support.nodes import TwoNodes
from tests.support.postgres import PATIENCE_S, PostgresServer

Open = Callable[..., AbstractAsyncContextManager[Storage]]
"""Opens the same database each time that it is called."""
Run = Callable[[Coroutine[Any, Any, None]], None]


class Clock:
    """A clock that the test sets, in milliseconds."""

    def __init__(self) -> None:
        self.now = 1_700_000_000_000

    def __call__(self) -> int:
        return self.now


@contextlib.asynccontextmanager
async def _sqlite(folder: Path, **options: Any) -> AsyncIterator[Storage]:
    storage = await SQLiteStorage.open(folder / "contract.db", **options)
    try:
        yield storage
    finally:
        await storage.close()


@contextlib.asynccontextmanager
async def _postgres(url: str, **options: Any) -> AsyncIterator[Storage]:
    from storage.postgres import PostgresStorage

    storage = await PostgresStorage.open(url, patience=PATIENCE_S, **options)
    try:
        yield storage
    finally:
        await storage.close()


@contextlib.asynccontextmanager
async def _two_nodes(url: str, **options: Any) -> AsyncIterator[Storage]:
    async with _postgres(url, **options) as first, _postgres(url, **options) as second:
        nodes = TwoNodes(first, second)
        try:
            yield nodes  # type: ignore[misc]
        finally:
            await nodes.close()


BACKENDS = ("sqlite", "sqlite, recent updates", "postgres", "two nodes")


@pytest.fixture(params=BACKENDS)
def open_storage(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    if request.param == "sqlite, recent updates":  # those of every batch, however few, and moved often
        patch: pytest.MonkeyPatch = request.getfixturevalue("monkeypatch")
        patch.setattr(update_rows, "MANY_FILES", 0)
        patch.setattr(update_rows, "MOVED_TOGETHER", 5)
    if request.param.startswith("sqlite"):
        return lambda **options: _sqlite(tmp_path, **options)
    server: PostgresServer = request.getfixturevalue("postgres")
    backend = _postgres if request.param == "postgres" else _two_nodes
    url = server.schema_url()
    return lambda **options: backend(url, **options)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def run() -> Iterator[Run]:
    """Runs a coroutine to its end."""
    with asyncio.Runner() as runner:
        yield lambda work: runner.run(asyncio.wait_for(work, 120))
