"""The worker processes of a real gateway: killed, stopped, orphaned, and left by those who asked for the work."""

import contextlib
import os
import re
import signal
import socket
import sqlite3
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pycrdt
import pytest

from tests.support.processes import Watched, worker_pids
from tests.support.server import GatewayProcess

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="finds the processes in /proc")

_LARGE = "/files/large.md?format=json"


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[GatewayProcess]:
    """With one worker of each kind, so that the test knows which one is at work."""
    with GatewayProcess(tmp_path / "gateway.db", GATEWAY_WORKERS=1) as process:
        yield process


def _write_large(project: httpx.Client) -> str:
    text = "words and words " * 75_000
    project.put("/files/large.md", content=text, headers={"Content-Type": "text/plain"}).raise_for_status()
    return text


def _worker(gateway: GatewayProcess) -> Watched:
    assert gateway.process is not None
    (pid,) = worker_pids(gateway.process.pid, "documents")
    return Watched(pid)


def _figure(project: httpx.Client, name: str) -> int:
    metrics = project.get(httpx.URL(project.base_url).join("/metrics")).text
    found = re.search(rf'^{name}{{lane="documents"}} (\d+)', metrics, re.M)
    assert found is not None
    return int(found[1])


def _begin_stopped(gateway: GatewayProcess, project: httpx.Client) -> tuple[Watched, socket.socket]:
    """A worker that does not go on with the work that it was given, and the connection that waits for the answer."""
    project.get(_LARGE).raise_for_status()
    worker = _worker(gateway)
    os.kill(worker.pid, signal.SIGSTOP)
    jobs = _figure(project, "gateway_worker_jobs_total")
    connection = socket.create_connection(("127.0.0.1", gateway.port))
    connection.sendall(b"GET /api/projects/demo" + _LARGE.encode() + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
    while _figure(project, "gateway_worker_jobs_total") == jobs:
        pass
    return worker, connection


def test_the_work_for_a_client_that_left_is_ended(gateway: GatewayProcess) -> None:
    with gateway.client() as project:
        text = _write_large(project)
        worker, connection = _begin_stopped(gateway, project)
        connection.close()
        assert worker.has_ended()
        assert project.get(_LARGE).json() == {"content": text}
        assert _figure(project, "gateway_worker_deaths_total") == 0


def test_work_whose_process_is_killed_is_answered_all_the_same(gateway: GatewayProcess) -> None:
    with gateway.client() as project:
        text = _write_large(project)
        worker, connection = _begin_stopped(gateway, project)
        os.kill(worker.pid, signal.SIGKILL)
        answer = httpx.Response(200, content=_body(connection))
        assert answer.json() == {"content": text}
        assert _figure(project, "gateway_worker_deaths_total") == 1


@pytest.mark.parametrize("stopped", [False, True], ids=["a gateway at work", "a stopped gateway"])
def test_no_worker_outlives_a_gateway_that_is_killed(gateway: GatewayProcess, stopped: bool) -> None:
    assert gateway.process is not None
    with gateway.client() as project:
        _write_large(project)
        worker, connection = _begin_stopped(gateway, project)
        if stopped:
            gateway.process.send_signal(signal.SIGSTOP)
        gateway.kill()
        assert worker.has_ended()
        connection.close()


def test_workers_killed_under_load_poison_nothing(gateway: GatewayProcess) -> None:
    assert gateway.process is not None
    answers: list[httpx.Response] = []
    enough = threading.Event()

    def read() -> None:
        with gateway.client() as own:
            while not enough.is_set():
                answers.append(own.get(_LARGE))

    with gateway.client() as project:
        text = _write_large(project)
        readers = [threading.Thread(target=read) for _ in range(3)]
        for reader in readers:
            reader.start()
        kills = 0
        while kills < 8:
            done = len(answers)
            for pid in worker_pids(gateway.process.pid, "documents")[:1]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    kills += 1
            while len(answers) == done:
                assert all(reader.is_alive() for reader in readers)
        enough.set()
        for reader in readers:
            reader.join()
        assert project.get(_LARGE).json() == {"content": text}
    for answer in answers:  # a job that has lost two processes is given up
        refused = answer.status_code == 503 and "short of memory" in answer.json()["detail"]
        assert refused or answer.json() == {"content": text}


def test_snapshots_go_on_after_their_process_was_killed(gateway: GatewayProcess) -> None:
    assert gateway.process is not None
    document: pycrdt.Doc[object] = pycrdt.Doc()
    text = document.get("content", type=pycrdt.Text)

    def snapshots() -> int:
        with contextlib.closing(sqlite3.connect(gateway.database)) as connection:
            (count,) = connection.execute("SELECT count(*) FROM snapshot").fetchone()
            return int(count)

    with gateway.client() as project:
        for round in range(1, 4):
            seen = document.get_state()
            text += f"{round} and words " * 100_000 * round
            update = document.get_update(seen)
            headers = {"Content-Type": "application/octet-stream"}
            project.patch("/files/large.md", content=update, headers=headers).raise_for_status()
            while snapshots() < round:
                pass
            for pid in worker_pids(gateway.process.pid, "upkeep"):
                os.kill(pid, signal.SIGKILL)
        health = project.get(f"{gateway.url}/readyz").json()
    assert health["status"] == "ok"


def _body(connection: socket.socket) -> bytes:
    file = connection.makefile("rb")
    length = 0
    while line := file.readline().strip():
        if line.lower().startswith(b"content-length:"):
            length = int(line.split(b":")[1])
    body = file.read(length)
    file.close()
    connection.close()
    return body
