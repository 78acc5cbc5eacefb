"""`verify` and turns: what the gateway writes has no fault, and what does not fit is found."""

import asyncio
import contextlib
import json
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.app import create_app
from gateway.maintenance.verify import verify_storage
from gateway.settings import Settings
from storage import Storage
from storage.opening import open_storage_read_only, sqlite_url
from tests.support.checksums import renew_checksums

_NDJSON = {"Content-Type": "application/x-ndjson"}


def _line(**members: Any) -> bytes:
    return json.dumps(members).encode() + b"\n"


def _delta(text: str) -> bytes:
    delta = {"type": "text_delta", "text": text}
    return _line(type="stream_event", event={"type": "content_block_delta", "index": 0, "delta": delta})


_SAID = _line(type="assistant", message={"content": [{"type": "text", "text": "Three letters."}]})
_START = _line(type="stream_event", event={"type": "message_start"})
_RESULT = _line(type="result", subtype="success", is_error=False)


async def _fill(client: httpx.AsyncClient) -> None:
    """Turns in every state: pending, failed before it ran, growing, settling, in the middle of a line, ended."""
    plain = {"Content-Type": "text/plain"}
    (await client.put("/files/plan.md", content=b"Ship it.", headers=plain)).raise_for_status()
    for _ in range(2):
        session = (await client.post("/sessions", json={"title": "t"})).raise_for_status().json()["id"]

        async def turn(session: str = session) -> str:
            created = (await client.post(f"/sessions/{session}/turns", json={"prompt": "p"})).raise_for_status()
            return f"/sessions/{session}/turns/{created.json()['id']}"

        async def output(at: str, data: bytes, **asked: str) -> None:
            (await client.post(f"{at}/output", content=data, params=asked, headers=_NDJSON)).raise_for_status()

        await turn()
        (await client.patch(await turn(), json={"status": "failed", "error": "no"})).raise_for_status()
        await output(await turn(), _SAID + _START + _delta("To gr") + _delta("ow"), final="false")
        await output(await turn(), _SAID + _RESULT)
        await output(await turn(), _SAID + _RESULT[:9], final="false")
        ended = await turn()
        await output(ended, _SAID + _START + _delta("To gr"), final="false")
        await output(ended, _delta("ow") + _SAID + _SAID + _RESULT, final="true")
        blocks = {"blocks": [{"type": "text", "content": "x"}, {"type": "tool_use", "content": {}}]}
        at = await turn()
        (await client.post(f"{at}/blocks", json=blocks)).raise_for_status()
        (await client.patch(at, json={"status": "cancelled"})).raise_for_status()


async def _verify(database: Path) -> tuple[int, list[str]]:
    said: list[str] = []
    async with open_storage_read_only(sqlite_url(database)) as storage:
        return await verify_storage(storage, said.append), said


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with turns, of a gateway that has ended."""
    database = tmp_path_factory.mktemp("verify") / "gateway.db"

    async def work() -> None:
        gateway = create_app(Settings(database=f"sqlite:///{database}"))
        async with gateway.running():
            for project in ("demo", "other"):
                transport = httpx.ASGITransport(app=gateway)
                base = f"http://gateway/api/projects/{project}"
                async with httpx.AsyncClient(transport=transport, base_url=base) as client:
                    await _fill(client)

    asyncio.run(work())
    return database


def test_what_the_gateway_writes_has_no_fault(filled: Path) -> None:
    assert asyncio.run(_verify(filled)) == (0, ["2 files and 28 turns verified, 0 faults"])


_TURN = "(SELECT max(id) FROM turn WHERE project = (SELECT id FROM project WHERE name = 'demo') AND status = {})"
_ENDED = _TURN.format("'completed'")
_GROWING = "(SELECT max(turn.id) FROM turn WHERE grown = 1)"
_PENDING = _TURN.format("'pending'")
_IN_A_LINE = "(SELECT max(turn) FROM output_state)"

DAMAGE = {
    "a block is missing": (f"DELETE FROM block WHERE turn = {_ENDED} AND position = 1", "block 1 is missing"),
    "the first block is missing": (f"DELETE FROM block WHERE turn = {_ENDED} AND position = 0", "block 0 is missing"),
    "the last block is missing": (
        f"DELETE FROM block WHERE id = (SELECT max(id) FROM block WHERE turn = {_ENDED})",
        "it is to have",
    ),
    "one block more": (f"UPDATE turn SET block_count = block_count - 1 WHERE id = {_ENDED}", "it is to have"),
    "another size": (f"UPDATE turn SET size = size + 1 WHERE id = {_ENDED}", "it is to have"),
    "a running sum": (f"UPDATE block SET size = size + 1 WHERE turn = {_ENDED} AND position = 1", "bytes of content"),
    "a content that is shorter": (
        f"UPDATE block SET content = x'22' WHERE turn = {_ENDED} AND position = 1",
        "bytes of content",
    ),
    "a content that is no JSON": (
        f"UPDATE block SET content = CAST('''' || substr(content, 2) AS BLOB) WHERE turn = {_ENDED} AND position = 0",
        "block 0 is no JSON",
    ),
    "a type": (f"UPDATE block SET type = 'none' WHERE turn = {_ENDED} AND position = 1", "is of no type"),
    "told from a later one": (f"UPDATE block SET told_from = 9 WHERE turn = {_GROWING} AND position = 1", "later one"),
    "told from nowhere": (f"UPDATE block SET told_from = -1 WHERE turn = {_GROWING} AND position = 1", "later one"),
    "grown": (f"UPDATE turn SET grown = 1 WHERE id = {_ENDED}", "growing blocks"),
    "not grown": (f"UPDATE turn SET grown = 0 WHERE id = {_GROWING}", "growing blocks"),
    "the time of a block": (f"UPDATE block SET created_at = 1 WHERE turn = {_ENDED} AND position = 0", "the time of"),
    "a later block": (
        f"UPDATE block SET created_at = created_at + 1000000 WHERE turn = {_ENDED} AND position = 0",
        "the time of",
    ),
    "a status": (f"UPDATE turn SET status = 'none' WHERE id = {_ENDED}", "there is no status"),
    "it goes on": (f"UPDATE turn SET status = 'running' WHERE id = {_ENDED}", "do not fit its status"),
    "it has not begun": (f"UPDATE turn SET status = 'pending' WHERE id = {_ENDED}", "do not fit its status"),
    "ended at no time": (f"UPDATE turn SET completed_at = NULL WHERE id = {_ENDED}", "do not fit its status"),
    "ended before it began": (f"UPDATE turn SET completed_at = 1 WHERE id = {_ENDED}", "do not follow each other"),
    "pending and started": (f"UPDATE turn SET started_at = created_at WHERE id = {_PENDING}", "and has started"),
    "pending with output": (f"UPDATE turn SET output_offset = 9 WHERE id = {_PENDING}", "has not started"),
    "an error of success": (f"UPDATE turn SET error = 'no' WHERE id = {_ENDED}", "it has an error"),
    "a result": (f"UPDATE turn SET result_status = 'running' WHERE id = {_ENDED}", "its result cannot be"),
    "settling": (f"UPDATE turn SET settling = 1 WHERE id = {_ENDED}", "it is to end with a result"),
    "a state of the reader": (f"UPDATE output_state SET body = x'00' WHERE turn = {_IN_A_LINE}", "cannot be read"),
    "an offset": (f"UPDATE turn SET output_offset = 1 WHERE id = {_IN_A_LINE}", "more than it has read"),
    "a prompt": (f"DELETE FROM prompt WHERE turn = {_ENDED}", "its prompt is missing"),
    "a session": ("DELETE FROM session WHERE id = 1", "that is not there"),
    "a turn": (f"DELETE FROM turn WHERE id = {_ENDED}", "that is not there"),
    "another project": (
        f"UPDATE turn SET project = (SELECT id FROM project WHERE name = 'other'), sequence = 9000 WHERE id = {_ENDED}",
        "another project than its session",
    ),
    "an id": (f"UPDATE turn SET name = '../x' WHERE id = {_ENDED}", "is no id"),
    "the id of a session": ("UPDATE session SET name = 'a/b' WHERE id = 1", "is no id"),
    "a sequence above": (f"UPDATE turn SET sequence = 9000 WHERE id = {_ENDED}", "is above the project's"),
    "a sequence of none": (f"UPDATE turn SET sequence = 0 WHERE id = {_ENDED}", "its sequence is 0"),
    "a sequence of two": (
        f"UPDATE turn SET sequence = (SELECT max(sequence) FROM file) WHERE id = {_ENDED}",
        "something else has its sequence",
    ),
    "a session's sequence": ("UPDATE session SET sequence = 1 WHERE id = 1", "something else has its sequence"),
    "a session that is younger": ("UPDATE session SET sequence = 9000 WHERE id = 1", "older than its session"),
    "times that go back": (
        f"UPDATE turn SET last_updated = 1, created_at = 1, started_at = 1, completed_at = 1 WHERE id = {_PENDING}",
        "is older than one before it",
    ),
}  # fmt: skip
"""What is done to the database, and what is said of it."""


@pytest.mark.parametrize("kind", DAMAGE)
def test_what_does_not_fit_is_found(filled: Path, tmp_path: Path, kind: str) -> None:
    database = tmp_path / "gateway.db"
    shutil.copy(filled, database)
    statement, told = DAMAGE[kind]
    with contextlib.closing(sqlite3.connect(database)) as connection:
        assert connection.execute(statement).rowcount >= 1
        renew_checksums(connection)
        connection.commit()
    faults, said = asyncio.run(_verify(database))
    assert faults == len(said) - 1 > 0
    assert any(told in line for line in said), said


def test_turns_that_are_written_meanwhile_have_no_fault(tmp_path: Path) -> None:
    """Verified again and again, each time between two steps of the verification something is written."""
    database = tmp_path / "gateway.db"

    async def work() -> None:
        gateway = create_app(Settings(database=f"sqlite:///{database}"))
        async with gateway.running() as storage:
            transport = httpx.ASGITransport(app=gateway)
            async with httpx.AsyncClient(transport=transport, base_url="http://gateway/api/projects/demo") as client:
                await _fill(client)
                written = asyncio.create_task(_write_on(client))
                while not written.done():
                    assert (await _verified(storage))[0] == 0
                await written

    asyncio.run(work())


async def _write_on(client: httpx.AsyncClient) -> None:
    for _ in range(5):
        await _fill(client)


async def _verified(storage: Storage) -> tuple[int, list[str]]:
    said: list[str] = []
    return await verify_storage(storage, said.append), said
