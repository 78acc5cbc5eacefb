"""SQLite's connections keep nothing of what was written or read."""

import asyncio
import ctypes
import weakref
from collections.abc import Callable
from ctypes.util import find_library
from pathlib import Path
from sqlite3 import Connection, connect

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
from storage.checksums import body_row_checksum, row_checksum
from storage.sqlite import SQLiteStorage
from storage.sqlite.database import Database
from storage.sqlite.large_values import VERY_LARGE_BYTES, read_value, unless_very_large, write_value
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


def test_a_very_large_value_is_neither_bound_nor_fetched_and_its_checksum_is_that_of_the_row() -> None:
    body = b"\0y" * VERY_LARGE_BYTES
    for row in (1, 300, 2**40):
        assert body_row_checksum(row, body) == row_checksum(row, body)
        assert body_row_checksum(row, b"short") == row_checksum(row, b"short")
    connection = connect(":memory:")
    connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, body BLOB, mark TEXT) STRICT")
    connection.execute("INSERT INTO t VALUES (7, zeroblob(?), 'm'), (8, x'00', 'n'), (9, NULL, 'o')", (len(body),))
    write_value(connection, "t", "body", 7, body)
    seen = connection.execute(f"SELECT {unless_very_large('body')}, mark FROM t").fetchall()
    assert seen == [(None, "m"), (b"\0", "n"), (None, "o")]
    assert read_value(connection, "t", "body", 7) == body
    assert read_value(connection, "t", "body", 9) == b""  # damaged: no checksum fits
    connection.close()


def test_what_stands_behind_a_very_large_value_is_not_read_in_the_event_loop(tmp_path: Path) -> None:
    """SQLite follows the chain of all its pages to get there."""

    async def work() -> None:
        storage = await SQLiteStorage.open(tmp_path / "gateway.db")
        await storage.create_session("p", CreateSession("s", None))
        turn = (await storage.write_turn("p", CreateTurn("s", "t", "x"))).turn
        body = b"z" * (3 * VERY_LARGE_BYTES)
        update = UpdateTurn(
            "s", "t", turn.sequence, "running", blocks=(NewBlock("text", body),), output=OutputPosition(7, body)
        )
        await storage.write_turn("p", update)
        near = list[str]()
        storage._database._near.set_trace_callback(near.append)
        state = await storage.output_state("p", "s", "t")
        none = await storage.read_turn("p", "s", "t", after_block=1)
        all_of_it = await storage.read_turn("p", "s", "t")
        await storage.close()
        assert state == body
        assert none is not None
        assert none.blocks == ()
        assert all_of_it is not None
        assert [block.content == body for block in all_of_it.blocks] == [True]
        assert any("length" in statement for statement in near)
        assert not [each for each in near if "row_check" in each and ("output_state" in each or "FROM block" in each)]

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
