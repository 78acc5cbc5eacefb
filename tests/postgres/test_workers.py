"""Several gateway processes on one port, and their parent."""

import asyncio
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import httpx
import pytest

from tests.live.clients import PLAIN, put
from tests.support.postgres import PostgresServer
from tests.support.processes import Watched, member_pids
from tests.support.server import PATIENCE_S, GatewayProcess

_PROCESSES = 2
_BROKEN = (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError)
"""What happens to a connection whose process ends."""


@pytest.fixture(scope="module")
def several(postgres: PostgresServer) -> Iterator[GatewayProcess]:
    with GatewayProcess(postgres.schema_url(), GATEWAY_PROCESSES=_PROCESSES) as gateway:
        yield gateway


@pytest.fixture
def gateway(several: GatewayProcess) -> GatewayProcess:
    """The parent of several gateway processes, which takes as long to start as they do: the tests share it."""
    assert several.process is not None
    return several if several.process.poll() is None else several.start()


def _parent(gateway: GatewayProcess) -> int:
    assert gateway.process is not None
    return gateway.process.pid


def _up(gateway: GatewayProcess) -> list[float]:
    text = gateway.get("/metrics").raise_for_status().text
    return [float(value) for value in re.findall(r"^gateway_process_up\{process=\"\d\"\} (\S+)$", text, re.M)]


def _until(holds: Callable[[], bool]) -> None:
    """Ask until something holds, for which there is no event."""
    pause = threading.Event()
    while not holds():
        pause.wait(0.02)


def _members(gateway: GatewayProcess, other_than: set[int] = frozenset()) -> set[int]:  # type: ignore[assignment]
    """The processes, once all of them serve and none is one of these."""
    found: set[int] = set()

    def complete() -> bool:
        nonlocal found
        found = set(member_pids(_parent(gateway)))
        return len(found) == _PROCESSES and not found & other_than and _up(gateway) == [1] * _PROCESSES

    _until(complete)
    return found


@contextmanager
def _watching(pids: set[int]) -> Iterator[list[Watched]]:
    watched = [Watched(pid) for pid in pids]
    try:
        yield watched
    finally:
        for process in watched:
            process.close()


def _said(gateway: GatewayProcess, text: str) -> int:
    return sum(text in line for line in gateway.log)


async def _execute(database: str, statement: str) -> None:
    connection = await asyncpg.connect(database)
    await connection.execute(statement)
    await connection.close()


def test_a_sqlite_database_is_refused(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "gateway", "serve", "--port", "0", "--workers", "2"]
    environment = {**os.environ, "GATEWAY_DATABASE": f"sqlite:///{tmp_path}/x.db"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 2
    assert done.stderr == "error: a SQLite database is served by one process; for several use PostgreSQL\n"
    assert list(tmp_path.iterdir()) == []


def test_a_database_that_cannot_be_had_ends_the_parent_too() -> None:
    nowhere = "postgresql://postgres@127.0.0.1:1/postgres"
    command = [sys.executable, "-m", "gateway", "serve", "--port", "0", "--workers", "2", "--database", nowhere]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 1
    assert "cannot be reached" in done.stderr
    assert "Listening" not in done.stdout


def test_all_processes_serve_and_each_shows_the_metrics_of_all(gateway: GatewayProcess) -> None:
    _until(lambda: _up(gateway) == [1] * _PROCESSES)
    for number in range(30):  # on connections of their own
        with gateway.client() as client:
            put(client, f"{number}.md", "x")
            assert client.get(f"/files/{number}.md").status_code == 200
    commits: list[tuple[str, str]] = []
    while len(commits) < _PROCESSES:  # one that does not answer within two seconds is left out
        text = gateway.get("/metrics").text
        commits = re.findall(r"^gateway_commits_total\{process=\"(\d)\"\} (\S+)$", text, re.M)
    assert [process for process, _ in commits] == ["0", "1"]
    assert sum(float(value) for _, value in commits) >= 30
    assert text.count("# TYPE gateway_commits_total counter\n") == 1
    labels = re.findall(r"^gateway_background_running\{(.*?)\}", text, re.M)
    assert {'job="awareness",process="0"', 'job="awareness",process="1"'} <= set(labels)
    ready = gateway.get("/readyz")
    assert (ready.status_code, ready.json()["status"]) == (200, "ok")


def test_a_process_that_is_killed_is_replaced_and_loses_nothing(gateway: GatewayProcess) -> None:
    members = _members(gateway)
    acknowledged: list[str] = []
    over = threading.Event()

    def write(writer: int) -> None:
        number = 0
        while not over.is_set():
            number += 1
            path = f"{writer}/{number}.md"
            try:
                with gateway.client() as client:
                    answer = client.put(f"/files/{path}", content=path, headers=PLAIN)
            except _BROKEN:  # in the killed process; ConnectError fails the test
                continue
            assert answer.status_code in (200, 201), answer.text
            acknowledged.append(path)

    with ThreadPoolExecutor(2) as pool:
        writing = [pool.submit(write, writer) for writer in range(2)]
        try:
            _until(lambda: len(acknowledged) > 5)
            os.kill(min(members), signal.SIGKILL)
            replaced = _members(gateway, {min(members)})
        finally:
            over.set()
        for each in writing:
            each.result()
    assert len(replaced & members) == _PROCESSES - 1
    with gateway.client() as client:
        listing = client.get("/files", params={"limit": 10_000}).raise_for_status().json()
        assert set(acknowledged) <= {entry["path"] for entry in listing["files"]}


def test_sighup_replaces_one_process_after_the_other_without_a_refused_request(gateway: GatewayProcess) -> None:
    members = _members(gateway)
    over = threading.Event()
    served, written = _said(gateway, "a gateway process serves"), 0

    def write() -> None:
        nonlocal written
        while not over.is_set():
            try:
                with gateway.client() as client:
                    put(client, "a.md", f"{written}")
            except _BROKEN:
                continue  # it was idle when its process stopped; ConnectError fails the test
            written += 1

    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(write)
        try:
            os.kill(_parent(gateway), signal.SIGHUP)
            _members(gateway, members)
            _until(lambda: _said(gateway, "a gateway process serves") >= served + _PROCESSES)
            before = written
            _until(lambda: written > before or writing.done())
        finally:
            over.set()
        writing.result()


def test_processes_go_on_while_new_ones_do_not_start(gateway: GatewayProcess) -> None:
    members = _members(gateway)
    database = str(gateway.database)
    failed = _said(gateway, "a gateway process did not start")
    replaced = _said(gateway, "the other gateway processes are not replaced")
    asyncio.run(_execute(database, "UPDATE cluster SET schema = schema + 1000"))  # by a newer release
    os.kill(_parent(gateway), signal.SIGHUP)
    _until(lambda: _said(gateway, "the other gateway processes are not replaced") > replaced)
    assert _members(gateway) == members
    assert any("newer" in line and "100" in line for line in gateway.log)
    # One that is killed is tried again, after longer and longer pauses.
    os.kill(min(members), signal.SIGKILL)
    _until(lambda: _said(gateway, "a gateway process did not start") >= failed + 3)
    assert sorted(_up(gateway)) == [0, 1]
    with gateway.client() as client:
        put(client, "a.md", "x")
    asyncio.run(_execute(database, "UPDATE cluster SET schema = schema - 1000"))
    assert len(_members(gateway) & members) == _PROCESSES - 1


def test_no_process_outlives_a_parent_that_is_killed(gateway: GatewayProcess) -> None:
    members = _members(gateway)
    with _watching(members) as watched:
        gateway.kill()
        assert all(process.has_ended() for process in watched)
    gateway.start()  # on the same port, which nobody holds


def test_a_parent_that_is_asked_to_stop_drains_its_processes(gateway: GatewayProcess) -> None:
    with gateway.client() as client, ThreadPoolExecutor(4) as pool, _watching(_members(gateway)) as watched:
        cursor = put(client, "a.md", "x")["cursor"]

        def wait() -> httpx.Response:
            with gateway.client() as waiter:
                return waiter.get("/changes", params={"since": cursor, "wait": 60})

        waiting = [pool.submit(wait) for _ in range(4)]

        def all_wait() -> bool:
            text = gateway.get("/metrics").text
            return sum(map(float, re.findall(r"^gateway_waiters\{.*?process=\"\d\"\} (\S+)$", text, re.M))) == 4

        _until(all_wait)
        assert gateway.stop() == 0
        assert [each.result().status_code for each in waiting] == [200] * 4
        assert all(process.has_ended() for process in watched)
