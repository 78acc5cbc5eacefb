"""SQLite's connections keep nothing of what was written or read."""

import asyncio
import ctypes
import weakref
from collections.abc import Callable
from ctypes.util import find_library
from pathlib import Path
from sqlite3 import Connection

import pytest

from storage import (
    AppendUpdate,
    CreateSession,
    CreateTurn,
    GrownBlock,
    NewBlock,
    OutputPosition,
    Snapshot,
    UpdateTurn,
    Version,
)
from storage.sqlite import SQLiteStorage
from storage.sqlite.database import Database
from tests.support.turns import until

_LARGE = 8 * 2**20


def _allocated() -> Callable[[], int]:
    """Return what tells how many bytes SQLite has allocated."""
    name = find_library("sqlite3")
    if name is None:
        pytest.skip("SQLite is no shared library here")
    used = ctypes.CDLL(name).sqlite3_memory_used
    used.restype = ctypes.c_int64
    return lambda: int(used())


def test_large_values_do_not_stay_in_the_statements_that_stored_them(tmp_path: Path) -> None:
    allocated = _allocated()

    async def work() -> None:
        storage = await SQLiteStorage.open(tmp_path / "gateway.db")
        await storage.append("p", (AppendUpdate("small.md", Version(0), b"\0\0"),))
        before = allocated()
        if not before:
            pytest.skip("another SQLite is used, or it does not count")
        body = b"\0" * _LARGE
        await storage.append("p", (AppendUpdate("a.md", Version(0), body),))
        await storage.append("p", (AppendUpdate("a.md", Version(1), body, "ann"),))
        await storage.put_snapshot("p", "a.md", Snapshot(Version(2), body))
        await storage.create_session("p", CreateSession("s", None))
        turn = (await storage.write_turn("p", CreateTurn("s", "t", "x" * _LARGE))).turn
        for change in (
            {"blocks": (NewBlock("text", body),)},
            {"grown": (GrownBlock(0, body + body),)},
            {"output": OutputPosition(7, body)},
        ):
            update = UpdateTurn("s", "t", turn.sequence, "running", **change)  # type: ignore[arg-type]
            turn = (await storage.write_turn("p", update)).turn
        assert allocated() - before < _LARGE
        stored = await storage.read_document("p", "a.md")
        assert stored is not None
        assert (stored.snapshot is None, stored.version) == (False, 2)
        versions = [await storage.read_version("p", "a.md", Version(version)) for version in (1, 2)]
        assert [(each.body == body, each.author) for each in versions if each is not None] == [
            (True, None),
            (True, "ann"),
        ]
        read = await storage.read_turn("p", "s", "t", after_block=0)
        assert read is not None
        assert (read.prompt == "x" * _LARGE, [block.content == body + body for block in read.blocks]) == (True, [True])
        await storage.close()

    asyncio.run(work())


class _Result:
    """Something that a test can see the end of."""


def test_what_was_read_or_written_is_forgotten_once_it_was_handed_over(tmp_path: Path) -> None:
    async def work() -> None:
        storage = await SQLiteStorage.open(tmp_path / "gateway.db")
        await storage.close()
        database = await Database.open(tmp_path / "gateway.db", lambda connection: None, None, 2**30)
        kept: list[weakref.ref[_Result]] = []

        def make(connection: Connection) -> _Result:
            kept.append(weakref.ref(result := _Result()))
            return result

        assert isinstance(await database.read_long(make), _Result)
        assert isinstance(await database.write(make), _Result)
        assert isinstance(await database.read_alone(make), _Result)
        await until(lambda: all(each() is None for each in kept))
        await database.close()

    asyncio.run(work())
