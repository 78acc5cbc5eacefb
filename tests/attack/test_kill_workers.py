"""Workers killed and stopped under load, the gateway stopped and then killed: nothing acknowledged is lost."""

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.attack.test_kill import Typist, _check_typist
from tests.support.processes import worker_pids
from tests.support.server import GatewayProcess

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="finds the processes in /proc")

_ROUNDS = 2
_OCTETS = {"Content-Type": "application/octet-stream"}


class LargeTypist(Typist):
    """Types much at once, and reads all of it: a worker process has to take part."""

    certain = 0
    """So much of what was typed was acknowledged."""

    def work(self, client: httpx.Client) -> None:
        if not self.unsent:
            self.certain = len(self.typed)
            words = f"{len(self.typed)} words " * 60_000
            self.text += words
            self.typed += words
        answer = client.patch(f"/files/{self.path}", content=self.unsent[0], headers=_OCTETS)
        if answer.status_code == 503:  # two processes that worked on it were killed
            return
        del self.unsent[0]
        self.last = answer.raise_for_status().json()["version"]
        if answer.json()["changed"]:
            self.acknowledged.append(self.last)
        read = client.get(f"/files/{self.path}?format=text")
        assert read.status_code == 503 or read.text == self.typed


def _check(client: httpx.Client, typist: Typist) -> None:
    if not isinstance(typist, LargeTypist):
        _check_typist(client, typist)
    elif typist.last:
        stored = client.get(f"/files/{typist.path}?format=text").raise_for_status().text
        assert stored in (typist.typed[: typist.certain] if typist.unsent else typist.typed, typist.typed)


class Load:
    """Typists at work, each in a thread, until the gateway is killed."""

    def __init__(self, gateway: GatewayProcess, typists: list[Typist]) -> None:
        self._gateway = gateway
        self._typists = typists
        self._stop = False
        self._worked = threading.Condition()
        self.faults: list[str] = []
        self._threads = [threading.Thread(target=self._work, args=(typist,)) for typist in typists]
        for thread in self._threads:
            thread.start()

    def _work(self, typist: Typist) -> None:
        with self._gateway.client() as client:
            try:
                while not self._stop:
                    typist.work(client)
                    with self._worked:
                        self._worked.notify_all()
            except httpx.TransportError:
                return
            except BaseException as error:
                self.faults.append(repr(error)[:500])
                with self._worked:
                    self._worked.notify_all()

    def wait(self, typist: Typist, writes: int = 1) -> None:
        """Wait until a typist has been acknowledged so many more writes."""
        goal = len(typist.acknowledged) + writes
        with self._worked:
            assert self._worked.wait_for(lambda: bool(self.faults) or len(typist.acknowledged) >= goal, timeout=120)
        assert not self.faults

    def end(self) -> None:
        self._stop = True
        for thread in self._threads:
            thread.join()
        assert not self.faults


def _newest_snapshot(database: Path, typist: Typist) -> int:
    """The newest version of a typist's file of which there is a snapshot."""
    with contextlib.closing(sqlite3.connect(database)) as connection:
        (version,) = connection.execute(
            "SELECT ifnull(max(version), 0) FROM snapshot WHERE file = (SELECT id FROM file WHERE path = ?)",
            (typist.path,),
        ).fetchone()
        return int(version)


def _signal_workers(gateway: GatewayProcess, number: signal.Signals) -> int:
    assert gateway.process is not None
    pids = [pid for lane in ("documents", "upkeep") for pid in worker_pids(gateway.process.pid, lane)]
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
    return len(pids)


def test_workers_and_gateway_stopped_and_killed_lose_nothing(tmp_path: Path) -> None:
    small, large = [Typist(number) for number in range(2)], LargeTypist(9)
    typists = [*small, large]
    gateway = GatewayProcess(tmp_path / "gateway.db")
    for _ in range(_ROUNDS):
        gateway.start()
        assert gateway.process is not None
        with gateway.client() as client:
            for typist in typists:
                _check(client, typist)
        load = Load(gateway, typists)
        load.wait(large, 3)
        assert _signal_workers(gateway, signal.SIGKILL)
        load.wait(large)
        load.wait(small[0])
        _signal_workers(gateway, signal.SIGSTOP)
        load.wait(small[0], 20)  # who needs no worker goes on
        _signal_workers(gateway, signal.SIGCONT)
        load.wait(large)
        gateway.process.send_signal(signal.SIGSTOP)
        _signal_workers(gateway, signal.SIGKILL)
        gateway.process.send_signal(signal.SIGCONT)
        load.wait(large)
        load.wait(small[1], 20)
        _signal_workers(gateway, signal.SIGKILL)
        gateway.kill()
        load.end()
    gateway.start()
    before = _newest_snapshot(gateway.database, large)
    with gateway.client() as client:
        for typist in typists:
            _check(client, typist)

        def write_until(done: Callable[[], bool]) -> None:
            while not done():
                large.work(client)

        write_until(lambda: _newest_snapshot(gateway.database, large) > before)
        checks = client.get(f"{gateway.url}/readyz").json()
        assert checks["status"] == "ok"
    assert gateway.stop() == 0
    verify = [sys.executable, "-m", "gateway", "verify", "--database", f"sqlite:///{gateway.database}"]
    verified = subprocess.run(verify, capture_output=True, text=True)
    assert verified.returncode == 0, verified.stdout
