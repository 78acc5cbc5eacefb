"""What stands behind a long update in its row is not looked for in the event loop's thread, nor are very many rows read
there, and the body of the version that a client has is not read for its increments."""

import asyncio
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from storage import AppendUpdate, Version
from storage.sqlite import SQLiteStorage
from storage.sqlite.storage import _NEAR_BESIDE_BYTES, _NEAR_READ_ROWS

_LONG = b"x" * (_NEAR_BESIDE_BYTES + 1)


async def _write(storage: SQLiteStorage, *bodies: bytes) -> None:
    for version, body in enumerate(bodies):
        await storage.append("p", (AppendUpdate("a", Version(version), body),))


@pytest.mark.parametrize(
    ("read", "near"),
    [
        (lambda storage: storage.read_history("p", "a", limit=10), False),
        (lambda storage: storage.read_history("p", "a", limit=1), True),
        (lambda storage: storage.read_history("p", "a", before=3, limit=1), False),
        (lambda storage: storage.read_history("p", "a", before=2, limit=10), True),
        (lambda storage: storage.read_history("p", "none", limit=10), True),
        (lambda storage: storage.read_version("p", "a", 1), True),
        (lambda storage: storage.read_version("p", "a", 2), False),
        (lambda storage: storage.read_version("p", "a", 3), True),
        (lambda storage: storage.read_version("p", "none", 3), True),
        (lambda storage: storage.version_at("p", "a", 2), False),
    ],
)
def test_values_beside_a_long_update_are_read_in_the_readers_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: Callable[[SQLiteStorage], Any], near: bool
) -> None:
    long_reads: list[object] = []

    async def work() -> None:
        storage = await SQLiteStorage.open(tmp_path / "gateway.db")
        await _write(storage, b"first", _LONG, b"last")
        expected = await read(storage)
        read_long = storage._database.read_long

        async def noted(query: Any) -> Any:
            long_reads.append(query)
            return await read_long(query)

        monkeypatch.setattr(storage._database, "read_long", noted)
        assert await read(storage) == expected
        await storage.close()

    asyncio.run(work())
    assert len(long_reads) == (0 if near else 1)


def test_the_long_update_that_a_client_has_is_not_read_for_its_increments(tmp_path: Path) -> None:
    async def work() -> None:
        storage = await SQLiteStorage.open(tmp_path / "gateway.db")
        await _write(storage, _LONG, b"second", b"third")
        head = await storage.file_head("p", "a")
        for known in (head, None):
            tracemalloc.start()
            increment = await storage.read_increment("p", "a", 1, most_bytes=1000, known=known)
            _, most = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            assert increment is not None
            assert increment.updates == (b"second", b"third")
            assert most < len(_LONG) // 4
        await storage.close()

    asyncio.run(work())


def test_an_increment_of_many_short_updates_is_read_in_the_readers_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """10,000 of them have 128 KB, and take 15 ms."""
    most, found = _NEAR_READ_ROWS, list[int]()

    async def work() -> None:
        storage = await SQLiteStorage.open(tmp_path / "gateway.db")
        await storage.append("p", tuple(AppendUpdate("a", Version(each), b"x") for each in range(most + 2)))
        head = await storage.file_head("p", "a")
        read_long = storage._database.read_long

        async def noted(query: Any) -> Any:
            increment = await read_long(query)
            found.append(len(increment.updates))
            return increment

        monkeypatch.setattr(storage._database, "read_long", noted)
        for known in (head, None):
            for after, far in ((1, [most + 1]), (2, []), (most + 1, [])):
                increment = await storage.read_increment("p", "a", after, most_bytes=10**5, known=known)
                assert increment is not None
                assert increment.updates == (b"x",) * (most + 2 - after)
                assert found == far
                found.clear()
        await storage.close()

    asyncio.run(work())
