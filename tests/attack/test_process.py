"""The process: how it starts, refuses to start, stops, and what it says of its data."""

import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pycrdt
import pytest

from tests.support.server import GatewayProcess

_OCTETS = {"Content-Type": "application/octet-stream"}
_PLAIN = {"Content-Type": "text/plain"}


def _command(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "gateway", *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )


def _url(database: Path) -> str:
    return f"sqlite:///{database}"


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_a_stopping_gateway_finishes_what_it_accepted(tmp_path: Path, stop: signal.Signals) -> None:
    gateway = GatewayProcess(tmp_path / "gateway.db").start()
    assert gateway.process is not None

    def write(number: int) -> dict[str, int]:
        """Write until the gateway is gone; returns what was acknowledged."""
        acknowledged = {}
        document: pycrdt.Doc[object] = pycrdt.Doc()
        text = document.get("content", type=pycrdt.Text)
        with gateway.client() as client:
            for step in range(10_000):
                state = document.get_state()
                text += f"{step},"
                try:
                    answer = client.patch(f"/files/{number}.md", content=document.get_update(state), headers=_OCTETS)
                except httpx.TransportError:
                    break
                if answer.status_code == 503:
                    break
                acknowledged[str(step)] = answer.raise_for_status().json()["version"]
        return acknowledged

    with ThreadPoolExecutor(4) as pool:
        writers = [pool.submit(write, number) for number in range(4)]
        with gateway.client() as client:
            while client.get("/files/3.md").headers.get("X-Version", "0") < "2":
                pass
        gateway.process.send_signal(stop)
        assert gateway.process.wait(120) == 0
        results = [writer.result() for writer in writers]
    with GatewayProcess(tmp_path / "gateway.db") as again, again.client() as client:
        for number, acknowledged in enumerate(results):
            text = client.get(f"/files/{number}.md?format=text").text
            assert text.startswith("".join(f"{step}," for step in acknowledged))
    assert _command("verify", "--database", _url(tmp_path / "gateway.db")).returncode == 0


def test_a_request_that_is_not_done_in_the_time_to_stop_is_to_be_sent_again(tmp_path: Path) -> None:
    gateway = GatewayProcess(tmp_path / "gateway.db", GATEWAY_SHUTDOWN_SECONDS=1).start()
    assert gateway.process is not None
    with socket.create_connection(("127.0.0.1", gateway.port), 60) as connection, connection.makefile("rb") as answer:
        head = ["PUT /api/projects/demo/files/a HTTP/1.1", "Host: localhost", "Content-Type: text/plain"]
        head += ["Content-Length: 9", "Expect: 100-continue", "", ""]
        connection.sendall("\r\n".join(head).encode())
        assert answer.readline() == b"HTTP/1.1 100 Continue\r\n"  # the request is being handled
        assert answer.readline() == b"\r\n"
        gateway.process.send_signal(signal.SIGTERM)
        told = answer.read().decode()
    assert gateway.process.wait(120) == 0
    answered, _, body = told.partition("\r\n\r\n")
    assert answered.startswith("HTTP/1.1 503 ")
    assert "retry-after: 2" in answered.lower()
    problem = json.loads(body)
    assert (problem["code"], problem["certain"]) == ("shutting_down", False)


def test_a_second_gateway_on_the_same_database_is_told_who_holds_it(gateway: GatewayProcess) -> None:
    assert gateway.process is not None
    refused = _command("serve", "--port", "0", "--database", _url(gateway.database))
    assert refused.returncode != 0
    assert f"process {gateway.process.pid}" in refused.stderr + refused.stdout
    compact = _command("compact", "--database", _url(gateway.database))
    assert (compact.returncode, f"process {gateway.process.pid}" in compact.stderr) == (2, True)


def test_a_newer_schema_is_refused_and_left_untouched(tmp_path: Path) -> None:
    database = tmp_path / "gateway.db"
    GatewayProcess(database).start().stop()
    with sqlite3.connect(database) as connection:
        connection.execute("PRAGMA user_version = 1000")
    connection.close()
    before = database.read_bytes()
    refused = _command("serve", "--port", "0", "--database", _url(database))
    assert refused.returncode != 0
    assert "schema 1000" in refused.stderr + refused.stdout
    assert database.read_bytes() == before


@pytest.mark.parametrize("content", [b"not a database at all, only text in a file\n" * 100, b""])
def test_a_foreign_file_is_refused_and_left_untouched(tmp_path: Path, content: bytes) -> None:
    database = tmp_path / "other.db"
    if content:
        database.write_bytes(content)
    else:
        with sqlite3.connect(database) as connection:
            connection.execute("CREATE TABLE theirs (id INTEGER)")
        connection.close()
    before = database.read_bytes()
    refused = _command("serve", "--port", "0", "--database", _url(database))
    assert refused.returncode != 0
    assert "is not a yjs-gateway database" in refused.stderr + refused.stdout
    assert database.read_bytes() == before


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({"GATEWAY_PORT": "many"}, "port"),
        ({"GATEWAY_DATABASE": "mysql://x"}, "database"),
        ({"GATEWAY_BODY_LIMIT": "-1"}, "body_limit"),
    ],
)
def test_a_setting_that_cannot_be_is_named(environment: dict[str, str], named: str) -> None:
    refused = _command("serve", **environment)
    assert refused.returncode == 2
    assert named in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.fixture(scope="session")
def sound_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two files of some versions, one with a past incarnation, one with a snapshot."""
    database = tmp_path_factory.mktemp("sound") / "gateway.db"
    with GatewayProcess(database) as gateway, gateway.client() as client:
        for path in ("good.md", "bad.md"):
            for step in range(3):
                client.put(f"/files/{path}", content=f"text {step} ".encode() * 10, headers=_PLAIN).raise_for_status()
        client.delete("/files/good.md")
        client.put("/files/good.md", content=b"again", headers=_PLAIN)
        body = client.get("/files/bad.md?at_version=2").content
    with sqlite3.connect(database) as connection:
        connection.execute(
            f"INSERT INTO snapshot (file, version, size, checksum, body) VALUES ({_BAD}, 2, ?, ?, ?)",
            (len(body), zlib.crc32(body), body),
        )
    connection.close()
    sound = _command("verify", "--database", _url(database))
    assert (sound.returncode, sound.stdout) == (0, "2 files and 0 turns verified, 0 faults\n")
    return database


_BAD = "(SELECT id FROM file WHERE path = 'bad.md')"
CORRUPTIONS = {
    "an update is not one": f"UPDATE file_update SET body = x'0101' WHERE file = {_BAD} AND version = 2",
    "an update has a flipped byte": f"UPDATE file_update SET body = flipped(body) WHERE file = {_BAD} AND version = 1",
    "an update is another file's": "UPDATE file_update SET body = (SELECT body FROM file_update WHERE version = 5)"
    f" WHERE file = {_BAD} AND version = 2",
    "an update is empty": f"UPDATE file_update SET body = x'' WHERE file = {_BAD} AND version = 2",
    "a version in the middle is lost": f"DELETE FROM file_update WHERE file = {_BAD} AND version = 2",
    "the last version is lost": f"DELETE FROM file_update WHERE file = {_BAD} AND version = 3",
    "the whole log is lost": f"DELETE FROM file_update WHERE file = {_BAD}",
    "a version became a deletion": f"UPDATE file_update SET body = NULL WHERE file = {_BAD} AND version = 3",
    "time runs backwards": f"UPDATE file_update SET last_modified = 1 WHERE file = {_BAD} AND version = 3",
    "the head is behind": f"UPDATE file SET version = 2 WHERE id = {_BAD}",
    "the head is ahead": f"UPDATE file SET version = 4 WHERE id = {_BAD}",
    "the head says deleted": f"UPDATE file SET deleted = 1 WHERE id = {_BAD}",
    "the size is wrong": f"UPDATE file SET size = size + 1 WHERE id = {_BAD}",
    "the file is ahead of its project": f"UPDATE file SET sequence = 1000 WHERE id = {_BAD}",
    "a snapshot is not one": f"UPDATE snapshot SET body = x'0000' WHERE file = {_BAD}",
    "a snapshot has a flipped byte": f"UPDATE snapshot SET body = flipped(body) WHERE file = {_BAD}",
    "a snapshot is of another version": f"UPDATE snapshot SET version = 3 WHERE file = {_BAD}",
    "a snapshot is of no version": f"UPDATE snapshot SET version = 9 WHERE file = {_BAD}",
}


def _flipped(body: bytes) -> bytes:
    """One bit in the text that an update carries: what still loads is the hard case."""
    place = body.index(b"text")
    return body[:place] + bytes([body[place] ^ 2]) + body[place + 1 :]


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_verify_names_a_damaged_file_and_only_that(sound_database: Path, tmp_path: Path, kind: str) -> None:
    database = tmp_path / "gateway.db"
    shutil.copy(sound_database, database)
    with sqlite3.connect(database) as connection:
        connection.create_function("flipped", 1, _flipped)
        assert connection.execute(CORRUPTIONS[kind]).rowcount > 0
    connection.close()
    verified = _command("verify", "--database", _url(database))
    assert verified.returncode == 1, verified.stdout
    assert "demo: bad.md: " in verified.stdout
    assert "good.md" not in verified.stdout


def test_compact_drops_snapshots_and_loses_nothing(tmp_path: Path) -> None:
    database = tmp_path / "gateway.db"
    document: pycrdt.Doc[object] = pycrdt.Doc()
    text = document.get("content", type=pycrdt.Text)
    with GatewayProcess(database) as gateway, gateway.client() as client:
        for step in range(12):
            state = document.get_state()
            text += f"{step}: " + "x" * 8000
            client.patch("/files/a.md", content=document.get_update(state), headers=_OCTETS).raise_for_status()
        before = [client.get(f"/files/a.md?at_version={version}&format=text").text for version in range(1, 13)]
    compacted = _command("compact", "--database", _url(database))
    assert compacted.returncode == 0
    with GatewayProcess(database) as gateway, gateway.client() as client:
        assert [client.get(f"/files/a.md?at_version={v}&format=text").text for v in range(1, 13)] == before


def test_it_says_where_it_listens_and_where_its_data_is(gateway: GatewayProcess) -> None:
    httpx.get(f"{gateway.url}/healthz").raise_for_status()
    while not any(line.startswith("Data in ") for line in gateway.log):
        pass
    assert f"Data in {gateway.database}\n" in gateway.log
