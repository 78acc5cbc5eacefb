"""`kill -9` at random moments: what was acknowledged is there, once, in order."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pycrdt

from tests.support.server import GatewayProcess

_KILLS = int(os.environ.get("KILLS", "30"))
_OCTETS = {"Content-Type": "application/octet-stream"}
_PLAIN = {"Content-Type": "text/plain"}


class Typist:
    """Types into one file, and sends again whatever was not acknowledged, also to the next life of the gateway."""

    def __init__(self, number: int) -> None:
        self.path = f"typed/{number}.md"
        self.document: pycrdt.Doc[object] = pycrdt.Doc()
        self.text = self.document.get("content", type=pycrdt.Text)
        self.unsent: list[bytes] = []
        self.acknowledged: list[int] = []
        """The versions of receipts that said `changed`."""
        self.last = 0
        """The version of the last receipt, of a repetition too."""
        self.typed = ""
        self._subscription = self.document.observe(lambda event: self.unsent.append(event.update))

    def work(self, client: httpx.Client) -> None:
        if not self.unsent:
            character = random.choice("abcäöü😀\n")
            self.text += character
            self.typed += character
        answer = client.patch(f"/files/{self.path}", content=self.unsent[0], headers=_OCTETS).raise_for_status()
        del self.unsent[0]
        self.last = answer.json()["version"]
        if answer.json()["changed"]:
            self.acknowledged.append(answer.json()["version"])


class Agent:
    """Puts, deletes and moves files; remembers what is certain of each, and what may be."""

    def __init__(self, number: int) -> None:
        self.paths = [f"put/{number}-{letter}.md" for letter in "ab"]
        self.possible: dict[str, set[str | None]] = {path: {None} for path in self.paths}
        """The texts that a file may have: one, or two while a write is not acknowledged. None: no file."""
        self.step = 0

    def work(self, client: httpx.Client) -> None:
        path = random.choice(self.paths)
        self.step += 1
        if random.random() < 0.2 and None not in self.possible[path]:
            other = next(each for each in self.paths if each != path)
            if self.possible[other] == {None} and random.random() < 0.5:
                self._move(client, path, other)
            else:
                self._change(client, path, None)
        else:
            self._change(client, path, f"step {self.step} of {path}")

    def _change(self, client: httpx.Client, path: str, text: str | None) -> None:
        self.possible[path].add(text)
        if text is None:
            answer = client.delete(f"/files/{path}")
            assert answer.status_code in (204, 404, 410)
        else:
            client.put(f"/files/{path}", content=text.encode(), headers=_PLAIN).raise_for_status()
        self.possible[path] = {text}

    def _move(self, client: httpx.Client, source: str, target: str) -> None:
        moved = self.possible[source]
        self.possible[target] = self.possible[target] | moved
        self.possible[source] = self.possible[source] | {None}
        answer = client.post("/files/move", json={"from": source, "to": target})
        assert answer.status_code in (201, 404, 409, 410)
        if answer.status_code == 201:
            self.possible[source], self.possible[target] = {None}, moved


class Reader:
    """Follows the feed by its cursor, across the incarnations of the gateway."""

    def __init__(self) -> None:
        self.cursor: str | None = None
        self.picture: dict[str, tuple[int, bool]] = {}
        """Of each file the version, and whether it exists."""

    def work(self, client: httpx.Client) -> None:
        answer = client.get("/changes", params={"since": self.cursor} if self.cursor else {})
        if answer.status_code == 404:
            return
        self.take(answer.raise_for_status().json())

    def take(self, answer: dict[str, Any]) -> None:
        assert "reset" not in answer
        for change in answer["changes"]:
            version, _ = self.picture.get(change["path"], (0, False))
            assert change["version"] > version, change
            self.picture[change["path"]] = (change["version"], change["change_type"] != "deleted")
        self.cursor = answer["cursor"]


Worker = Typist | Agent | Reader


def _work_until_dead(gateway: GatewayProcess, worker: Worker, stop: threading.Event, faults: list[str]) -> None:
    with gateway.client() as client:
        while not stop.is_set():
            try:
                worker.work(client)
            except httpx.TransportError:
                return
            except BaseException as error:
                faults.append(repr(error))
                return


def _check(gateway: GatewayProcess, workers: list[Worker]) -> None:
    """What holds after every kill."""
    with gateway.client() as client:
        for worker in workers:
            match worker:
                case Typist():
                    _check_typist(client, worker)
                case Agent():
                    for path, possible in worker.possible.items():
                        answer = client.get(f"/files/{path}?format=text")
                        found = answer.text if answer.status_code == 200 else None
                        assert found in possible, (path, found, possible)
                        worker.possible[path] = {found}
                case Reader():
                    worker.work(client)


def _check_typist(client: httpx.Client, typist: Typist) -> None:
    versions = typist.acknowledged
    assert versions == sorted(set(versions))
    if not typist.last:
        return
    text = client.get(f"/files/{typist.path}?format=text")
    assert int(text.headers["X-Version"]) - typist.last in (0, 1)  # the last one may be stored without a receipt
    assert typist.typed.startswith(text.text)
    assert len(typist.typed) - len(text.text) <= len(typist.unsent)


def test_nothing_acknowledged_is_lost_and_the_feed_has_no_hole(tmp_path: Path) -> None:
    seed = int(os.environ.get("SEED", str(time.time_ns() % 10**9)))
    print(f"SEED={seed}")
    random.seed(seed)
    workers: list[Worker] = [*(Typist(number) for number in range(4)), Agent(0), Agent(1), Reader(), Reader()]
    gateway = GatewayProcess(tmp_path / "gateway.db")
    for _ in range(_KILLS):
        gateway.start()
        _check(gateway, workers)
        stop, faults = threading.Event(), list[str]()
        threads = [
            threading.Thread(target=_work_until_dead, args=(gateway, worker, stop, faults)) for worker in workers
        ]
        for thread in threads:
            thread.start()
        stop.wait(random.expovariate(4.0))  # the moment of the kill
        if random.random() < 0.3:
            assert gateway.process is not None
            gateway.process.send_signal(signal.SIGSTOP)
        gateway.kill()
        stop.set()
        for thread in threads:
            thread.join()
        assert not faults
    gateway.start()
    _finish(gateway, workers)
    assert gateway.stop() == 0
    verified = subprocess.run(
        [sys.executable, "-m", "gateway", "verify", "--database", f"sqlite:///{gateway.database}"],
        capture_output=True,
        text=True,
    )
    assert verified.returncode == 0, verified.stdout


def _finish(gateway: GatewayProcess, workers: list[Worker]) -> None:
    """Send what was not sent, read to the end, and compare all pictures."""
    _check(gateway, workers)
    with gateway.client() as client:
        for worker in workers:
            if isinstance(worker, Typist):
                while worker.unsent:
                    worker.work(client)
                text = client.get(f"/files/{worker.path}?format=text")
                assert text.text == worker.typed
                assert int(text.headers["X-Version"]) == len(worker.typed)
        listing = {entry["path"]: entry["version"] for entry in client.get("/files").json()["files"]}
        for worker in workers:
            if isinstance(worker, Reader):
                worker.work(client)
                assert {path: version for path, (version, lives) in worker.picture.items() if lives} == listing
