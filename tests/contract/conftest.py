"""Every backend, behind the one contract. A test here names none of them."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from storage import Storage
from storage.sqlite import SQLiteStorage

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


BACKENDS = {"sqlite": _sqlite}


@pytest.fixture(params=BACKENDS)
def open_storage(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    backend = BACKENDS[request.param]
    return lambda **options: backend(tmp_path, **options)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def run() -> Iterator[Run]:
    """Runs a coroutine to its end."""
    with asyncio.Runner() as runner:
        yield lambda work: runner.run(asyncio.wait_for(work, 60))
