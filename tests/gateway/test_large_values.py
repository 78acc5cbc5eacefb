"""SQLite's connections keep nothing of what was written or read."""

import asyncio
import ctypes
import weakref
from collections.abc import Callable
from contextlib import closing
from ctypes.util import find_library
from pathlib import Path
from sqlite3 import Connection, connect

import pytest

from storage import (
    AppendUpdate,
    CreateSession,
    CreateTurn,
    DataDamaged,
    GrownBlock,
    NewBlock,
    OutputPosition,
    Snapshot,
    UpdateTurn,
    Version,
)
from storage.checksums import body_row_checksum, row_checksum
from storage.sqlite import SQLiteStorage, files, update_rows
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


def test_very_large_updates_and_snapshots_are_neither_bound_nor_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`sqlite3` copies what is bound or fetched while it holds the GIL."""
    written, read = list[tuple[str, int]](), list[tuple[str, int]]()

    def note_written(connection: Connection, table: str, column: str, row: int, value: bytes) -> None:
        written.append((table, len(value)))
        write_value(connection, table, column, row, value)

    def note_read(connection: Connection, table: str, column: str, row: int) -> bytes:
        value = read_value(connection, table, column, row)
        read.append((table, len(value)))
        return value

    for module in (files, update_rows):
        monkeypatch.setattr(module, "write_value", note_written)
    monkeypatch.setattr(files, "read_value", note_read)
    bodies = [bytes([65 + number]) * (VERY_LARGE_BYTES - 1 + number) for number in range(3)] + [b"small"]
    large = [("file_update", len(body)) for body in bodies[1:3]]

    async def work() -> None:
        storage = await SQLiteStorage.open(tmp_path / "gateway.db")
        for version, body in enumerate(bodies):
            await storage.append("p", (AppendUpdate("a", Version(version), body, "ann", credential="c"),))
        assert written == large
        document = await storage.read_document("p", "a")
        assert document is not None
        assert [*document.updates] == bodies
        assert read == large
        increment = await storage.read_increment("p", "a", 1, most_bytes=2**30)
        assert increment is not None
        assert [*increment.updates] == bodies[1:]
        second = await storage.read_version("p", "a", 2)
        assert second is not None
        assert (second.body, second.author, second.credential) == (bodies[1], "ann", "c")
        assert [each.body async for each in storage.updates("p", "a")] == bodies
        snapshot = Snapshot(Version(4), b"".join(bodies), sum(map(len, bodies)))
        await storage.put_snapshot("p", "a", snapshot)
        await storage.put_snapshot("p", "a", snapshot)  # there is one already
        assert written == [*large, ("snapshot", len(snapshot.body))]
        document = await storage.read_document("p", "a")
        assert document is not None
        assert document.snapshot == snapshot
        await storage.close()

    asyncio.run(work())


def test_damage_within_a_very_large_update_is_told(tmp_path: Path) -> None:
    async def work() -> None:
        body = b"x" * (2 * VERY_LARGE_BYTES)
        storage = await SQLiteStorage.open(tmp_path / "gateway.db")
        await storage.append("p", (AppendUpdate("a", Version(0), body),))
        await storage.close()
        for damage in ("body = zeroblob(length(body))", "body = NULL", "body = x'00'"):
            with closing(connect(tmp_path / "gateway.db")) as connection, connection:
                connection.execute(f"UPDATE file_update SET {damage}")
            storage = await SQLiteStorage.open(tmp_path / "gateway.db")
            with pytest.raises(DataDamaged):
                await storage.read_document("p", "a")
            await storage.close()

    asyncio.run(work())
