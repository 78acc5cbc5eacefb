"""Every kind of row of the database with one value that nobody wrote, and with random bits flipped."""

import asyncio
import logging
import os
import random
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog

from gateway.app import create_app
from gateway.maintenance.verify import verify_storage
from gateway.settings import Settings
from storage.errors import DataDamaged, StorageError
from storage.opening import open_storage_read_only, sqlite_url
from storage.records import AccessToken, AuditEntry, Milliseconds
from storage.sqlite import SQLiteStorage
from storage.sqlite.row_checks import CHECKED

_FLIPS = int(os.environ.get("FLIPS", "60"))
_KEY = {"Idempotency-Key": "one"}
_PLAIN = {"Content-Type": "text/plain"}

# Apart from `row_check` itself; and what decides only of which file, turn, block or key a row is: there is none then.
_OF_ACCESS = ("access_token", "audit")
_VALUES = [(table, column) for table, columns in CHECKED.items() for column in columns if table not in _OF_ACCESS] + [
    ("project", "tombstone_floor"),
    ("file", "base_version"),
    ("block", "content"),
    ("file_update", "body"),
    ("file_update", "credential"),
    ("file_update", "credential_check"),
]
_UNREACHABLE = {
    ("project", "name"),
    ("file", "path"),
    ("file", "project"),
    ("session", "name"),
    ("session", "project"),
    ("turn", "name"),
    ("turn", "session"),
    ("output_state", "turn"),
    ("done", "key"),
    ("done", "project"),
}


class _Gateway:
    """A gateway in this process on a database."""

    def __init__(self, database: Path) -> None:
        self._gateway = create_app(Settings(database=f"sqlite:///{database}", same_database=True))

    async def __aenter__(self) -> httpx.AsyncClient:
        self._running = self._gateway.running()
        await self._running.__aenter__()
        transport = httpx.ASGITransport(app=self._gateway, raise_app_exceptions=False)
        self.client = httpx.AsyncClient(transport=transport, base_url="http://gateway/api/projects/demo")
        return self.client

    async def __aexit__(self, *_: object) -> None:
        await self.client.aclose()
        await self._running.__aexit__(None, None, None)


async def _fill(client: httpx.AsyncClient) -> str:
    """Files with former incarnations, a tombstone, a turn in the middle of a line; returns the path of the turn."""
    for text in ("first", "second"):
        for path in ("a.md", "gone.md"):
            headers = {**_PLAIN, "X-Author": "ada"}
            (await client.put(f"/files/{path}", content=text, headers=headers)).raise_for_status()
    (await client.delete("/files/a.md")).raise_for_status()
    (await client.put("/files/a.md", content="again", headers=_PLAIN)).raise_for_status()
    (await client.delete("/files/gone.md", headers={"X-Author": "bob"})).raise_for_status()
    created = await client.post("/sessions", json={"title": "of work"}, headers=_KEY)
    session = created.raise_for_status().json()["id"]
    turn = (await client.post(f"/sessions/{session}/turns", json={"prompt": "do it"})).raise_for_status().json()["id"]
    path = f"/sessions/{session}/turns/{turn}"
    line = b'{"type":"assistant","message":{"content":[{"type":"text","text":"Three letters."}]}}\n'
    headers = {"Content-Type": "application/x-ndjson"}
    for _ in range(2):
        (await client.post(f"{path}/output", content=line, headers=headers)).raise_for_status()
    (
        await client.post(f"{path}/output", content=line[:30], params={"final": "false"}, headers=headers)
    ).raise_for_status()
    return path


async def _ask(client: httpx.AsyncClient, turn: str) -> dict[str, httpx.Response]:
    """What clients ask, by the question; also a write that repeats an older one."""
    session = turn.rpartition("/turns/")[0]
    answers = {
        question: await client.get(question)
        for question in (
            "/files",
            "/files?state=deleted",
            "/files/a.md?format=text",
            "/files/a.md?at_version=2&format=text",
            "/files/a.md",
            "/history/a.md",
            "/history/gone.md",
            "/changes",
            "/sessions",
            session,
            f"{session}/turns",
            turn,
            f"{turn}?after_block=1",
            f"{turn}/status",
        )
    }
    answers["key"] = await client.post("/sessions", json={"title": "of work"}, headers=_KEY)
    return answers


def _said(answer: httpx.Response) -> Any:
    if answer.headers["Content-Type"].startswith("application/json"):
        return answer.json()
    return answer.content


def _is_part(found: Any, written: Any) -> bool:
    """Whether all that was found was written; of a list something may be missing, and it may go on for longer."""
    if isinstance(found, list) and isinstance(written, list):
        return all(any(_is_part(each, other) for other in written) for each in found)
    if isinstance(found, dict) and isinstance(written, dict):
        return all(name in ("next", "more") or _is_part(value, written.get(name)) for name, value in found.items())
    return bool(found == written)


def _check(asked: dict[str, httpx.Response], written: dict[str, httpx.Response]) -> tuple[list[str], int]:
    """What was served and nobody wrote; how often it was said that something is damaged."""
    wrong, damaged = [], 0
    for question, answer in asked.items():
        is_new = question == "key" and answer.status_code == 201
        if is_new and answer.json()["created_at"] > _said(written["key"])["created_at"]:
            continue  # the key is not found, and so the session is made once more
        if answer.status_code < 300 and not _is_part(_said(answer), _said(written[question])):
            wrong.append(f"{question}: {answer.text[:300]} instead of {written[question].text[:300]}")
        damaged += answer.status_code == 500
        assert answer.status_code < 500 or answer.json()["code"] in ("data_damaged", "storage_unavailable"), answer.text
    return wrong, damaged


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, dict[str, httpx.Response]]:
    database = tmp_path_factory.mktemp("damaged") / "gateway.db"

    async def work() -> tuple[Path, str, dict[str, httpx.Response]]:
        async with _Gateway(database) as client:
            turn = await _fill(client)
        async with _Gateway(database) as client:
            written = await _ask(client, turn)
        for answer in written.values():
            assert answer.is_success, answer.text
        return database, turn, written

    return asyncio.run(work())


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.reset_defaults()


Filled = tuple[Path, str, dict[str, httpx.Response]]
_CHANGED: dict[str, Callable[[Any], Any]] = {
    "int": lambda value: value ^ 1024,
    "str": lambda value: "?" + value[1:],
    "bytes": lambda value: bytes([value[0] ^ 1]) + value[1:],
    "NoneType": lambda value: 7,
}


def _change(database: Path, table: str, column: str) -> None:
    """Change one value in every row of a table that has it."""
    with sqlite3.connect(database, isolation_level=None) as connection:
        connection.execute("PRAGMA ignore_check_constraints = ON")
        key = "rowid" if table != "past_life" else "born_version"
        for row, value in connection.execute(f"SELECT {key}, {column} FROM {table}").fetchall():
            if value is None and column == "body":
                continue
            changed = _CHANGED[type(value).__name__](value)
            connection.execute(f"UPDATE OR IGNORE {table} SET {column} = ? WHERE {key} = ?", (changed, row))
    connection.close()


def _remove(database: Path) -> None:
    for each in database.parent.glob(f"{database.name}*"):
        each.unlink()


def test_a_value_that_nobody_wrote_is_served_to_nobody(filled: Filled, tmp_path: Path) -> None:
    original, turn, written = filled

    async def work() -> None:
        unnoticed = []
        for table, column in _VALUES:
            database = tmp_path / f"{table}-{column}.db"
            shutil.copy(original, database)
            _change(database, table, column)
            async with _Gateway(database) as client:
                wrong, damaged = _check(await _ask(client, turn), written)
            assert wrong == [], (table, column)
            if not damaged and (table, column) not in _UNREACHABLE:
                unnoticed.append((table, column))
            async with open_storage_read_only(sqlite_url(database)) as storage:
                assert await verify_storage(storage, lambda line: None), (table, column)
        assert set(unnoticed) == {
            ("output_state", "body"),
            ("project", "tombstone_floor"),
        }  # nobody has asked for these

    asyncio.run(work())


def test_a_write_to_what_is_damaged_is_refused_and_others_are_stored(filled: Filled, tmp_path: Path) -> None:
    original, _, _ = filled
    database = tmp_path / "gateway.db"
    shutil.copy(original, database)
    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE file SET size = size + 1 WHERE path = 'a.md'")
    connection.close()

    async def work() -> None:
        async with _Gateway(database) as client:
            puts = (client.put(f"/files/{path}", content="x", headers=_PLAIN) for path in ("a.md", "b.md", "c.md"))
            refused, *stored = await asyncio.gather(*puts)
            assert refused.json()["code"] == "data_damaged"
            assert "'a.md'" in refused.json()["detail"]
            assert [answer.status_code for answer in stored] == [201, 201]
            deleted = await client.delete("/files/a.md")
            assert deleted.json()["code"] == "data_damaged"

    asyncio.run(work())


async def _read_access(storage: SQLiteStorage) -> None:
    """Both by one token and by lists; a token whose id has changed is in the list alone."""
    assert (await storage.token("a")) in (None, *await storage.tokens(limit=1000))
    assert len(await storage.audit(limit=9)) == 1


def test_a_damaged_token_grants_nothing_and_no_damaged_entry_is_told(tmp_path: Path) -> None:
    async def work() -> None:
        for table in _OF_ACCESS:
            for column in CHECKED[table]:
                database = tmp_path / f"{table}-{column}.db"
                storage = await SQLiteStorage.open(database)
                await storage.add_token(AccessToken("a", b"digest", "name", "ada", "{}", Milliseconds(1)))
                await storage.note_audit([AuditEntry(Milliseconds(1), "created")])
                await _read_access(storage)
                await storage.close()
                _change(database, table, column)
                storage = await SQLiteStorage.open(database, same=True)
                with pytest.raises(DataDamaged):
                    await _read_access(storage)
                assert await verify_storage(storage, lambda line: None)
                await storage.close()

    asyncio.run(work())


@pytest.mark.parametrize("value", [("inode", "7q"), ("opened", None)])
def test_a_database_whose_identity_is_damaged_is_refused_in_words(
    filled: Filled, tmp_path: Path, value: tuple[str, Any]
) -> None:
    original, _, _ = filled
    database = tmp_path / "gateway.db"
    shutil.copy(original, database)
    with sqlite3.connect(database) as connection:
        stored = connection.execute("SELECT database, inode, opened FROM identity").fetchone()
        row = dict(zip(("database", "inode", "opened"), stored, strict=True))
        row[value[0]] = value[1]
        connection.execute("DROP TABLE identity")
        connection.execute("CREATE TABLE identity (database, inode, opened)")
        connection.execute("INSERT INTO identity VALUES (?, ?, ?)", tuple(row.values()))
    connection.close()
    with pytest.raises(DataDamaged, match="which database it is"):
        asyncio.run(SQLiteStorage.open(database))


def test_no_flipped_bit_is_served_of_any_row(filled: Filled, tmp_path: Path) -> None:
    seed = int(os.environ.get("SEED", "1"))  # whether a change passes does not depend on chance
    print(f"SEED={seed}")
    randomness = random.Random(seed)
    original, turn, written = filled
    content = original.read_bytes()

    async def work() -> None:
        served = 0
        for number in range(_FLIPS):
            database = tmp_path / f"{number}.db"
            while not content[place := randomness.randrange(100, len(content))]:
                pass  # most of so small a file is empty
            bit = randomness.randrange(8)
            database.write_bytes(content[:place] + bytes([content[place] ^ 1 << bit]) + content[place + 1 :])
            try:
                async with _Gateway(database) as client:
                    wrong, _ = _check(await _ask(client, turn), written)
                    assert wrong == [], f"byte {place}, bit {bit}: {wrong}"
                    served += 1
            except StorageError:
                pass
            _remove(database)
        assert served

    asyncio.run(work())
