"""Another process that reads an old state of the database for long: the log grows to its bound and no further."""

import re
import subprocess
import sys
from pathlib import Path

import httpx

from tests.support.server import GatewayProcess

_LIMIT = 4 * 2**20
_READER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN")
connection.execute("SELECT count(*) FROM file_update").fetchone()
print("reads", flush=True)
sys.stdin.read()
"""


def _put(project: httpx.Client, number: int) -> httpx.Response:
    text = f"{number:09}" * 10_000
    return project.put(f"/files/{number % 7}.md", content=text, headers={"Content-Type": "text/plain"})


def test_a_reader_in_another_process_does_not_let_the_log_grow_without_a_bound(tmp_path: Path) -> None:
    gateway = GatewayProcess(tmp_path / "gateway.db", GATEWAY_LOG_BYTES=_LIMIT)
    log = tmp_path / "gateway.db-wal"
    with gateway, gateway.client() as project:
        ready = f"{gateway.url}/readyz"
        _put(project, 0).raise_for_status()
        command = [sys.executable, "-c", _READER, str(gateway.database)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as reader:
            assert reader.stdout is not None
            assert reader.stdout.readline() == b"reads\n"
            number = 1
            while (answer := _put(project, number)).is_success:
                number += 1
            assert (answer.status_code, answer.json()["code"]) == (503, "storage_unavailable")
            assert "another process" in answer.json()["detail"]
            assert int(answer.headers["Retry-After"]) > 0
            assert log.stat().st_size < _LIMIT + 2**20
            health = project.get(ready)
            assert health.status_code == 503
            assert "gateway.db-wal" in health.json()["detail"]
            assert project.get("/files/0.md?format=text").is_success
            reader.kill()
        while (answer := _put(project, number)).status_code == 503:
            pass
        answer.raise_for_status()
        assert log.stat().st_size < _LIMIT // 4
        assert project.get(ready).json()["checks"]["database"] == "ok"


def test_it_is_told_that_the_log_is_held_before_writes_are_refused(tmp_path: Path) -> None:
    gateway = GatewayProcess(tmp_path / "gateway.db", GATEWAY_LOG_BYTES=_LIMIT)
    with gateway, gateway.client() as project:
        _put(project, 0).raise_for_status()
        command = [sys.executable, "-c", _READER, str(gateway.database)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as reader:
            assert reader.stdout is not None
            assert reader.stdout.readline() == b"reads\n"
            number = 1
            while (tmp_path / "gateway.db-wal").stat().st_size <= _LIMIT // 2:
                _put(project, number).raise_for_status()
                number += 1
            health = project.get(f"{gateway.url}/readyz").json()
            assert health["status"] == "degraded"
            assert "another process" in health["checks"]["database"]
            reader.kill()
        while project.get(f"{gateway.url}/readyz").json()["status"] != "ok":  # though nobody writes
            pass
        metrics = project.get(f"{gateway.url}/metrics").text
        bound = re.search(r'^gateway_setting{name="GATEWAY_LOG_BYTES"} (.+)$', metrics, re.M)
        assert bound is not None
        assert float(bound[1]) == _LIMIT
