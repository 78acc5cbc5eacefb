"""Backup, export, import: whole or not at all, and no client is misled by what came back."""

import asyncio
import base64
import gzip
import hashlib
import json
import random
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.maintenance.backup import export_project, import_project
from storage import NotAnExport
from storage.sqlite import SQLiteStorage
from tests.support.oracle import Oracle
from tests.support.server import GatewayProcess, url_of

_PLAIN = {"Content-Type": "text/plain"}
_NDJSON = {"Content-Type": "application/x-ndjson"}


def run(database: Path | str, *arguments: str, code: int = 0) -> str:
    """A command on a database; returns all that it says."""
    command = [sys.executable, "-m", "gateway", *arguments, "--database", url_of(database)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


def put(client: httpx.Client, path: str, text: str) -> dict[str, Any]:
    answer = client.put(f"/files/{path}", content=text.encode(), headers=_PLAIN)
    receipt: dict[str, Any] = answer.raise_for_status().json()
    return receipt


def picture(client: httpx.Client) -> dict[str, Any]:
    """All that a project answers that is to outlive a move."""
    listing = client.get("/files").raise_for_status().json()
    files = {}
    for entry in listing["files"]:
        path = entry["path"]
        history = client.get(f"/history/{path}").raise_for_status().json()
        versions = [each["version"] for each in history["versions"] if not each.get("deleted")]
        texts = {
            version: client.get(f"/files/{path}", params={"at_version": version, "format": "text"}).text
            for version in versions
        }
        files[path] = (entry, history, texts)
    sessions = client.get("/sessions").raise_for_status().json()
    turns = {}
    for session in sessions["sessions"]:
        for turn in client.get(f"/sessions/{session['id']}/turns").raise_for_status().json()["turns"]:
            turns[turn["id"]] = client.get(f"/sessions/{session['id']}/turns/{turn['id']}").raise_for_status().json()
    changes = client.get("/changes").raise_for_status().json()["changes"]
    return {"files": files, "sessions": sessions, "turns": turns, "changes": changes}


def fill(client: httpx.Client) -> None:
    """A project with all that there can be."""
    for number in range(1, 6):
        put(client, "notes/ä 1.md", f"line {number} 🙂\n")
    put(client, "gone.md", "x")
    client.delete("/files/gone.md").raise_for_status()
    put(client, "reborn.md", "first")
    client.delete("/files/reborn.md").raise_for_status()
    put(client, "reborn.md", "second")
    session = client.post("/sessions", json={"title": "t"}).raise_for_status().json()["id"]
    turns = f"/sessions/{session}/turns"
    done = client.post(turns, json={"prompt": "do it"}).raise_for_status().json()["id"]
    blocks = [{"type": "text", "content": "a"}, {"type": "tool_use", "content": {"name": "x"}}]
    client.post(f"{turns}/{done}/blocks", json={"blocks": blocks}).raise_for_status()
    client.patch(f"{turns}/{done}", json={"status": "failed", "error": "no"}).raise_for_status()
    open_ = client.post(turns, json={"prompt": "more"}).raise_for_status().json()["id"]
    half = b'{"type":"system","subtype":"init"}\n{"type":"assis'
    client.post(f"{turns}/{open_}/output", content=half, headers=_NDJSON).raise_for_status()


def test_a_backup_of_a_gateway_at_work_is_one_moment_of_it(tmp_path: Path, gateway: GatewayProcess) -> None:
    stop = threading.Event()
    acknowledged: list[int] = []

    def write(number: int) -> None:
        with gateway.client() as client:
            while not stop.is_set():
                acknowledged.append(put(client, f"{number}.md", str(random.random()))["version"])

    writers = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for writer in writers:
        writer.start()
    said = ""
    try:
        with gateway.client() as client:
            before = put(client, "before.md", "before")
            for number in range(3):
                said = run(gateway.database, "backup", str(tmp_path / f"backup-{number}.db"))
            put(client, "after.md", "after")
    finally:
        stop.set()
        for writer in writers:
            writer.join()
    assert "0 faults" in said
    with GatewayProcess(tmp_path / "backup-2.db") as restored, restored.client() as client:
        listing = client.get("/files").json()
        paths = {entry["path"] for entry in listing["files"]}
        assert "before.md" in paths
        assert "after.md" not in paths
        assert client.get("/changes", params={"since": before["cursor"]}).json()["reset"] is True
        assert len(client.get("/changes").json()["changes"]) == len(paths)
    assert "0 faults" in run(tmp_path / "backup-2.db", "verify")


def test_what_is_restored_is_another_life_each_time(tmp_path: Path, gateway: GatewayProcess) -> None:
    backup = tmp_path / "backup.db"
    with gateway.client() as client:
        cursor = put(client, "a.md", "one")["cursor"]
        told = client.get("/files/a.md")
    run(gateway.database, "backup", str(backup))
    gateway.stop()
    seen = {(cursor.split(".")[0], told.headers["X-Incarnation"])}
    for number in range(2):
        copy = tmp_path / f"restored-{number}.db"
        copy.write_bytes(backup.read_bytes())
        for start in range(2):  # a new incarnation begins once, not at each start
            with GatewayProcess(copy) as restored, restored.client() as client:
                now = client.get("/files/a.md", headers={"If-None-Match": told.headers["ETag"]})
                assert (now.status_code, now.headers["X-Version"]) == (200, "1")
                life = (client.get("/files").json()["cursor"].split(".")[0], now.headers["X-Incarnation"])
                assert (life in seen) == (start == 1)
                seen.add(life)
                stale = client.put(
                    "/files/a.md",
                    content=b"late",
                    headers={**_PLAIN, "X-Incarnation": told.headers["X-Incarnation"]},
                )
                assert (stale.status_code, stale.json()["code"]) == (410, "file_deleted")
                assert client.get("/files/a.md?from_version=7").json()["code"] == "version_ahead"


def test_nothing_is_overwritten_and_failures_are_told(tmp_path: Path, gateway: GatewayProcess) -> None:
    (tmp_path / "there").write_text("mine")
    for command in (("backup",), ("export", "demo")):
        assert "already" in run(gateway.database, *command, str(tmp_path / "there"), code=2)
        assert "no folder" in run(gateway.database, *command, str(tmp_path / "no" / "where"), code=2)
    assert (tmp_path / "there").read_text() == "mine"
    assert "no project 'nobody'" in run(gateway.database, "export", "nobody", str(tmp_path / "x"), code=2)
    assert not (tmp_path / "x").exists()
    assert "in use" in run(gateway.database, "import", str(tmp_path / "there"), code=2)
    assert {path.name for path in tmp_path.iterdir() if "partial" in path.name} == set()


def test_a_project_moves_with_all_that_it_is(tmp_path: Path, oracle: Oracle) -> None:
    with GatewayProcess(tmp_path / "old.db") as old, old.client() as client:
        fill(client)
        before = picture(client)
        bytes_before = client.get("/files/reborn.md").content
        run(old.database, "export", "demo", str(tmp_path / "demo.yjsp"))
    said = run(tmp_path / "new.db", "import", str(tmp_path / "demo.yjsp"))
    assert "project demo: 3 files" in said
    run(tmp_path / "new.db", "import", str(tmp_path / "demo.yjsp"), "--project", "other")
    assert "already" in run(tmp_path / "new.db", "import", str(tmp_path / "demo.yjsp"), code=2)
    assert "0 faults" in run(tmp_path / "new.db", "verify")
    with GatewayProcess(tmp_path / "new.db") as new:
        epochs = set()
        for name in ("demo", "other"):
            with new.client(name) as client:
                assert picture(client) == before
                epochs.add(client.get("/files").json()["cursor"].split(".")[0])
                whole = client.get("/files/reborn.md")
                assert oracle.text([whole.content]) == oracle.text([bytes_before]) == "second"
                assert client.get("/files/gone.md").status_code == 410
                turns = [turn for turn in before["turns"].values() if turn["status"] == "running"]
                url = f"/sessions/{turns[0]['session_id']}/turns/{turns[0]['id']}/output"
                rest = b'tant","message":{"content":[{"type":"text","text":"hi"}]}}\n'
                client.post(url, content=rest, headers=_NDJSON).raise_for_status()
                assert put(client, "gone.md", "again")["version"] == 3
                assert put(client, "notes/ä 1.md", "more")["version"] == 6
        assert len(epochs) == 2


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("export")
    with GatewayProcess(folder / "gateway.db") as gateway, gateway.client() as client:
        fill(client)
        run(gateway.database, "export", "demo", str(folder / "demo.yjsp"))
    return (folder / "demo.yjsp").read_bytes()


def _lines(exported: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in gzip.decompress(exported).splitlines()]


def _packed(records: list[dict[str, Any]]) -> bytes:
    """A portable file of records, with an end that fits."""
    lines = b"".join(json.dumps(record).encode() + b"\n" for record in records)
    end = {"record": "end", "records": len(records), "sha256": hashlib.sha256(lines).hexdigest()}
    return gzip.compress(lines + json.dumps(end).encode() + b"\n")


def _without(records: list[dict[str, Any]], kind: str, number: int = 0) -> list[dict[str, Any]]:
    places = [place for place, record in enumerate(records) if record["record"] == kind]
    return records[: places[number]] + records[places[number] + 1 :]


def _with(records: list[dict[str, Any]], kind: str, **members: Any) -> list[dict[str, Any]]:
    changed = [dict(record) for record in records]
    next(record for record in changed if record["record"] == kind).update(members)
    return changed


WRONG: list[tuple[str, str, Any]] = [
    *(("project", "sequence", value) for value in (0, 3, -1, 2**63 - 1, 2**63, 2**70, 1.5, "1", None)),
    *(("project", "last_modified", value) for value in (0, -(10**17), 10**16)),
    ("project", "tombstone_floor", 10**6),
    *(("file", "sequence", value) for value in (0, 10**6, -1)),
    *(("file", "size", value) for value in (0, 10**6, -1)),
    *(("file", "born_version", value) for value in (0, 2, 10**6)),
    *(("file", "born_sequence", value) for value in (0, 10**6)),
    *(("file", "base_version", value) for value in (2, 10**6)),
    ("file", "last_modified", 1),
    ("file", "deleted", False),
    ("file", "lives", [{"born_version": 1, "born_sequence": 1, "died_sequence": 1}]),
    ("file", "path", "\ud800"),
    ("version", "size", 1),
    ("version", "version", 2),
    ("version", "last_modified", 253_402_300_799_999),
    ("version", "author", "x" * 10_000_000),
    ("version", "author", "\ud800"),
    ("session", "session_id", "../x"),
    ("session", "sequence", 10**6),
    ("session", "title", "\ud800"),
    *(("turn", "status", value) for value in ("pending", "none")),
    ("turn", "block_count", 99),
    ("turn", "size", 1),
    ("turn", "turn_id", ""),
    ("turn", "completed_at", 10**16),
    ("turn", "sequence", 1),
    *(("turn", member, 0) for member in ("created_at", "started_at", "last_updated")),
    *(("turn", "result_status", value) for value in ("pending", "running")),
    *(("turn", member, 1) for member in ("settling", "grown")),
    ("turn", "output_state", "AAAA"),
    ("session", "created_at", 0),
    ("block", "created_at", 0),
    ("block", "index", 5),
    ("block", "content", "AAAA"),
    ("block", "content", base64.b64encode(b"[" * 100_000).decode()),
    ("block", "told_from", 9),
]
"""Kind of record, member, and what it cannot be."""

DAMAGE = {
    "nothing": lambda exported: b"",
    "something else": lambda exported: b"PK\x03\x04 not this",
    "text": lambda exported: b'{"record":"project"}\n',
    "cut": lambda exported: exported[: len(exported) // 2],
    "cut at its end": lambda exported: exported[:-9],
    "without an end": lambda exported: gzip.compress(b"\n".join(gzip.decompress(exported).splitlines()[:-1]) + b"\n"),
    "another letter": lambda exported: gzip.compress(gzip.decompress(exported).replace(b'"title":"t"', b'"title":"u"')),
    "a newer format": lambda exported: _packed(_with(_lines(exported)[:-1], "project", format=2)),
    "two projects": lambda exported: _packed([_lines(exported)[0], *_lines(exported)[:-1]]),
    "no project": lambda exported: _packed(_without(_lines(exported)[:-1], "project")),
    "a version is missing": lambda exported: _packed(_without(_lines(exported)[:-1], "version", 2)),
    "the first version is missing": lambda exported: _packed(_without(_lines(exported)[:-1], "version")),
    "a file is missing": lambda exported: _packed(_without(_lines(exported)[:-1], "file")),
    "a path that is none": lambda exported: _packed(_with(_lines(exported)[:-1], "file", path="../x")),
    "an update that is none": lambda exported: _packed(_with(_lines(exported)[:-1], "version", update="AAAA")),
    "a kind of record that is none": lambda exported: _packed(_with(_lines(exported)[:-1], "session", record="x")),
    "deeply nested": lambda exported: gzip.compress(b'{"record":"project","x":' + b"[" * 100_000 + b"\n"),
    "a line without end": lambda exported: gzip.compress(b"[" * 300_000_000, 1),
    "a turn without a session": lambda exported: _packed(_without(_lines(exported)[:-1], "session")),
    "a block is missing": lambda exported: _packed(_without(_lines(exported)[:-1], "block")),
    "a turn is missing": lambda exported: _packed(_without(_lines(exported)[:-1], "turn")),
    "the head says more": lambda exported: _packed(_with(_lines(exported)[:-1], "file", version=99)),
}  # fmt: skip


@pytest.mark.parametrize("kind", DAMAGE)
def test_what_is_damaged_is_refused_as_a_whole(tmp_path: Path, exported: bytes, kind: str) -> None:
    (tmp_path / "demo.yjsp").write_bytes(DAMAGE[kind](exported))
    said = run(tmp_path / "gateway.db", "import", str(tmp_path / "demo.yjsp"), code=2)
    assert "cannot be imported" in said
    assert "0 files and 0 turns verified" in run(tmp_path / "gateway.db", "verify")


@pytest.mark.parametrize(("kind", "member", "value"), WRONG, ids=lambda part: str(part)[:30])
def test_a_record_that_cannot_be_is_refused(
    tmp_path: Path, exported: bytes, kind: str, member: str, value: object
) -> None:
    (tmp_path / "demo.yjsp").write_bytes(_packed(_with(_lines(exported)[:-1], kind, **{member: value})))

    async def work() -> None:
        storage = await SQLiteStorage.open(tmp_path / "gateway.db")
        try:
            with pytest.raises(NotAnExport, match="cannot be imported"):
                await import_project(storage, tmp_path / "demo.yjsp", None, print)
            assert [project async for project in storage.projects()] == []
        finally:
            await storage.close()

    asyncio.run(work())


def test_nothing_is_compressed_while_the_database_is_read(
    tmp_path: Path, exported: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The write-ahead log of a gateway at work grows for as long as an export reads."""
    (tmp_path / "demo.yjsp").write_bytes(exported)
    write = gzip.GzipFile.write

    async def work() -> None:
        storage = await SQLiteStorage.open(tmp_path / "gateway.db")
        await import_project(storage, tmp_path / "demo.yjsp", None, print)
        read_export, reading, compressed = storage.export_project, False, 0

        async def export(*arguments: Any) -> None:
            nonlocal reading
            reading = True
            await read_export(*arguments)
            reading = False

        def compress(file: gzip.GzipFile, data: Any) -> int:
            nonlocal compressed
            assert not reading
            compressed += 1
            return write(file, data)

        monkeypatch.setattr(gzip.GzipFile, "write", compress)
        storage.export_project = export  # type: ignore[method-assign]
        await export_project(storage, "demo", tmp_path / "again.yjsp", print)
        await storage.close()
        assert compressed
        assert [line["record"] for line in _lines((tmp_path / "again.yjsp").read_bytes())] == [
            line["record"] for line in _lines(exported)
        ]

    asyncio.run(work())


def test_a_name_that_is_none_is_refused(tmp_path: Path, exported: bytes) -> None:
    (tmp_path / "demo.yjsp").write_bytes(exported)
    command = ("import", str(tmp_path / "demo.yjsp"), "--project", "a/b")
    assert "cannot be the id of a project" in run(tmp_path / "gateway.db", *command, code=2)


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    assert "No such file" in run(tmp_path / "gateway.db", "import", str(tmp_path / "no.yjsp"), code=2)
