"""Rows that are not what was written are noticed when they are read, whatever changed them."""

import asyncio
from collections.abc import Awaitable, Callable

import asyncpg
import pytest

from storage import (
    AppendUpdate,
    CreateSession,
    CreateTurn,
    DataDamaged,
    DeleteFile,
    NewBlock,
    Once,
    OutputPosition,
    UpdateTurn,
    Version,
)
from storage.postgres import PostgresStorage
from tests.support.postgres import PATIENCE_S

Read = Callable[[PostgresStorage], Awaitable[object]]

_DAMAGES: dict[str, tuple[str, Read]] = {
    "project": ("UPDATE project SET last_modified = last_modified + 1", lambda s: s.project_head("p")),
    "file": ("UPDATE file SET size = size + 1 WHERE path = 'a'", lambda s: s.file_head("p", "a")),
    "listed file": ("UPDATE file SET sequence = 1 WHERE path = 'a'", lambda s: s.list_files("p", limit=10)),
    "author": ("UPDATE change SET author = 'bob'", lambda s: s.read_history("p", "a", limit=10)),
    "update": ("UPDATE change SET body = 'other' WHERE body IS NOT NULL", lambda s: s.read_document("p", "a")),
    "life": ("UPDATE past_life SET incarnation = 'x'", lambda s: s.read_document("p", "a", at_version=1)),
    "session": ("UPDATE session SET title = 'x'", lambda s: s.session("p", "s")),
    "turn": ("UPDATE turn SET status = 'completed'", lambda s: s.turn_head("p", "s", "t")),
    "prompt": ("UPDATE prompt SET body = 'x'", lambda s: s.read_turn("p", "s", "t")),
    "block": ("UPDATE block SET type = 'error'", lambda s: s.read_turn("p", "s", "t")),
    "content": ("UPDATE block SET content = 'x'", lambda s: s.read_blocks("p", "s", "t", **_ALL)),  # type: ignore[arg-type]
    "state": ("UPDATE output_state SET body = 'x'", lambda s: s.output_state("p", "s", "t")),
    "done": ("UPDATE done SET digest = 'x'", lambda s: s.done("p", "k")),
}
_ALL = {"after_block": 0, "limit": 10, "most_bytes": 100}


async def _fill(storage: PostgresStorage) -> None:
    await storage.append("p", (AppendUpdate("a", Version(0), b"old", "ann"),))
    await storage.append("p", (DeleteFile("a", Version(1)), AppendUpdate("b", Version(0), b"x", "ann")))
    await storage.append("p", (AppendUpdate("a", Version(2), b"new", "ann"),))
    await storage.create_session("p", CreateSession("s", "title", Once("k", b"digest")))
    turn = (await storage.write_turn("p", CreateTurn("s", "t", "prompt"))).turn
    output = OutputPosition(5, b"state")
    change = UpdateTurn("s", "t", turn.sequence, "running", blocks=(NewBlock("text", b"1"),), output=output)
    await storage.write_turn("p", change)


@pytest.mark.parametrize("name", _DAMAGES)
def test_a_row_that_was_changed_is_not_served(database: str, name: str) -> None:
    statement, read = _DAMAGES[name]

    async def work() -> None:
        storage = await PostgresStorage.open(database, patience=PATIENCE_S)
        await _fill(storage)
        assert await storage.dangling() == []
        await read(storage)
        connection = await asyncpg.connect(database)
        await connection.execute(statement)
        await connection.close()
        with pytest.raises(DataDamaged):
            await read(storage)
        if name != "update":  # which `verify` finds where it reads the log
            assert await storage.dangling() != []
        await storage.close()

    asyncio.run(work())


def test_nothing_is_built_on_a_damaged_file_and_others_are_written(database: str) -> None:
    async def work() -> None:
        storage = await PostgresStorage.open(database, patience=PATIENCE_S)
        await _fill(storage)
        await storage.close()
        connection = await asyncpg.connect(database)
        await connection.execute("UPDATE file SET size = size + 1 WHERE path = 'a'")
        await connection.close()
        storage = await PostgresStorage.open(database, patience=PATIENCE_S)
        changes = [AppendUpdate("a", Version(3), b"x"), AppendUpdate("b", Version(1), b"x")]
        waiting = [storage.append("p", (change,)) for change in changes]
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert isinstance(results[0], DataDamaged)
        assert not isinstance(results[1], BaseException)
        await storage.close()

    asyncio.run(work())
