"""What following a turn costs the database: nothing where nothing changed, else what is new."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.app import Gateway
from gateway.settings import Settings
from storage import (
    CreateSession,
    CreateTurn,
    Milliseconds,
    NewBlock,
    OutputPosition,
    Sequence,
    Storage,
    TurnHead,
    UpdateTurn,
)
from storage.log import Plan, PlannedTurn, new_project
from storage.opening import StorageLimits
from storage.sqlite import SQLiteStorage
from storage.sqlite.database import Database
from tests.support.statements import record_statements

_TURN = "/api/projects/p/sessions/s/turns/t"


@contextlib.asynccontextmanager
async def served(folder: Path) -> AsyncIterator[tuple[SQLiteStorage, httpx.AsyncClient]]:
    """A gateway in this process, its storage, and a client."""
    storage = await SQLiteStorage.open(folder / "gateway.db")

    @contextlib.asynccontextmanager
    async def opened(url: str, limits: StorageLimits) -> AsyncIterator[Storage]:
        yield storage

    app = Gateway(Settings(database="sqlite:///unused.db"), opened)
    async with app.running():
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
            yield storage, client
    await storage.close()


async def _turn_with(storage: SQLiteStorage, blocks: int) -> None:
    await storage.create_session("p", CreateSession("s", None))
    head = (await storage.write_turn("p", CreateTurn("s", "t", "prompt"))).turn
    content = tuple(NewBlock("text", b'"%d"' % number) for number in range(blocks))
    await storage.write_turn("p", UpdateTurn("s", "t", head.sequence, "running", blocks=content))


@pytest.mark.parametrize("path", ["", "/status", "?after_block=3", "/status?wait=0"])
def test_an_unchanged_poll_runs_no_statement(tmp_path: Path, path: str) -> None:
    async def work() -> None:
        async with served(tmp_path) as (storage, client):
            await _turn_with(storage, 3)
            tag = (await client.get(_TURN + path)).headers["ETag"]
            recorder = await record_statements(storage)
            with recorder.recording() as statements:
                for form in (tag, f"W/{tag}"):
                    answer = await client.get(_TURN + path, headers={"If-None-Match": form})
                    assert answer.status_code == 304
            assert statements == []

    asyncio.run(work())


def test_a_status_that_changed_runs_no_statement_either(tmp_path: Path) -> None:
    async def work() -> None:
        async with served(tmp_path) as (storage, client):
            await _turn_with(storage, 3)
            await client.get(f"{_TURN}/status")
            await client.patch(_TURN, json={"status": "completed"})
            recorder = await record_statements(storage)
            with recorder.recording() as statements:
                assert (await client.get(f"{_TURN}/status")).json()["status"] == "completed"
            assert statements == []

    asyncio.run(work())


def test_the_beginning_of_a_long_line_is_not_read_in_the_event_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    apart = 0
    read_long = Database.read_long

    async def counted(*arguments: Any) -> Any:
        nonlocal apart
        apart += 1
        return await read_long(*arguments)

    monkeypatch.setattr(Database, "read_long", counted)

    async def work() -> None:
        storage = await SQLiteStorage.open(tmp_path / "states.db")
        await storage.create_session("p", CreateSession("s", None))
        head = (await storage.write_turn("p", CreateTurn("s", "t", ""))).turn
        for size, most in ((1000, 0), (1_000_000, 1)):
            position = OutputPosition(size, b"x" * size)
            change = UpdateTurn("s", "t", head.sequence, status="running", output=position)
            head = (await storage.write_turn("p", change)).turn
            before = apart
            assert await storage.output_state("p", "s", "t") == position.state
            assert apart - before == most
        await storage.close()

    asyncio.run(work())


def test_no_query_of_turns_scans_a_table(tmp_path: Path) -> None:
    async def work() -> None:
        storage = await SQLiteStorage.open(tmp_path / "plans.db")
        await _turn_with(storage, 3)
        recorder = await record_statements(storage)
        with recorder.recording() as statements:
            await storage.session("p", "s")
            await storage.sessions("p", limit=5)
            await storage.sessions("p", after="s", limit=5)
            await storage.turn_head("p", "s", "t")
            await storage.turns("p", "s", after="t", limit=5, prompt_length=9)
            await storage.read_turn("p", "s", "t", after_block=2)
            await storage.read_blocks("p", "s", "t", after_block=1, limit=1, most_bytes=9)
            await storage.output_state("p", "s", "t")
            await storage.changes_since("p", 1, limit=5)
            assert [head async for _, head in storage.running_turns()]
        assert len(statements) > 12
        for statement in statements:
            if statement.startswith("SELECT"):
                steps: list[str] = []
                await storage.visit_connections(
                    lambda connection, asked=statement, steps=steps: steps.extend(  # type: ignore[misc]
                        row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {asked}")
                    )
                )
                assert not [step for step in steps if step.startswith("SCAN") or "TEMP B-TREE" in step], statement
        await storage.close()

    asyncio.run(work())


def test_blocks_after_the_last_known_are_found_without_reading_the_others(tmp_path: Path) -> None:
    async def work() -> None:
        storage = await SQLiteStorage.open(tmp_path / "blocks.db")
        await _turn_with(storage, 5000)
        steps = 0

        def count() -> int:
            nonlocal steps
            steps += 1
            return 0

        async def read(after: int) -> int:
            nonlocal steps
            steps = 0
            await storage.visit_connections(lambda connection: connection.set_progress_handler(count, 1))
            found = await storage.read_blocks("p", "s", "t", after_block=after, limit=5, most_bytes=10**9)
            await storage.visit_connections(lambda connection: connection.set_progress_handler(None, 1))
            assert found is not None
            return steps

        assert await read(4995) <= 2 * await read(0)
        await storage.close()

    asyncio.run(work())


class _Index(int):
    """The index of a block, which counts how often it is compared."""

    comparisons = 0

    def __lt__(self, other: int) -> bool:
        _Index.comparisons += 1
        return int(self) < int(other)

    __hash__ = int.__hash__


def test_a_batch_of_very_many_blocks_is_noted_without_comparing_each_with_all() -> None:
    known = new_project("p", 0)
    now, many = Milliseconds(0), 10_000
    turn = TurnHead("s", "t", "running", many, Sequence(1), now, now, now, None, None, many, 0)
    plan = Plan(known, 0)
    plan.turns["s", "t"] = PlannedTurn(1, turn, prompt=None, lengths={_Index(index): 1 for index in range(many)})
    plan.settle()
    assert 0 < _Index.comparisons < 20 * many
    remembered = known.turns["s", "t"].lengths
    assert sorted(remembered) == list(range(many - len(remembered), many))
    assert len(remembered) < 100
