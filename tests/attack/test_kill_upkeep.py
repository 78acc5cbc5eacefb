"""`kill -9` while old versions are squashed, while a backup is made, while a project is imported."""

import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pycrdt

from tests.support.server import GatewayProcess

_KILLS = int(os.environ.get("KILLS", "30"))
_OCTETS = {"Content-Type": "application/octet-stream"}


def command(database: Path, *arguments: str) -> "subprocess.Popen[str]":
    line = [sys.executable, "-m", "gateway", *arguments, "--database", f"sqlite:///{database}"]
    return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def run(database: Path, *arguments: str) -> tuple[int, str]:
    process = command(database, *arguments)
    said, _ = process.communicate()
    return process.returncode, said


class Killer:
    """Runs one command, and kills it at some moment of the time that it last took to finish."""

    def __init__(self, database: Path, *arguments: str) -> None:
        self._database, self._arguments = database, arguments
        self._seconds = 0.0

    def finish(self, *more: str) -> tuple[int, str]:
        began = time.monotonic()
        code, said = run(self._database, *self._arguments, *more)
        if code == 0:
            self._seconds = time.monotonic() - began
        return code, said

    def kill(self, *more: str) -> bool:
        """Whether it was still at work."""
        process = command(self._database, *self._arguments, *more)
        began = time.monotonic()
        try:
            process.communicate(timeout=self._seconds * random.uniform(0.3, 1))
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            return True
        self._seconds = time.monotonic() - began
        return False


class Typist:
    def __init__(self) -> None:
        self.document: pycrdt.Doc[Any] = pycrdt.Doc()
        self.text = self.document.get("content", type=pycrdt.Text)
        self.unsent: list[bytes] = []
        self.versions = 0
        self._subscription = self.document.observe(lambda event: self.unsent.append(event.update))

    def type(self, client: httpx.Client) -> None:
        if not self.unsent:
            self.text += random.choice("abc \n")
        answer = client.patch("/files/a.md", content=self.unsent[0], headers=_OCTETS).raise_for_status()
        del self.unsent[0]
        self.versions += answer.json()["changed"]


def _versions(client: httpx.Client) -> list[int]:
    """The versions that are kept, the newest first."""
    versions: list[int] = []
    before: int | None = None
    while True:
        page = client.get("/history/a.md", params={"limit": 1000} | ({"before": before} if before else {})).json()
        versions += [entry["version"] for entry in page["versions"]]
        before = page["next"]
        if before is None:
            return versions


def test_nothing_kept_is_lost_by_squashing_that_is_killed(tmp_path: Path) -> None:
    limits = {"GATEWAY_RETAIN_VERSIONS": 7, "GATEWAY_RETENTION_INTERVAL": 0.005}
    gateway = GatewayProcess(tmp_path / "gateway.db", **limits)
    typist = Typist()
    for _ in range(max(3, _KILLS // 5)):
        gateway.start()
        with gateway.client() as client:
            for _ in range(random.randint(20, 200)):
                typist.type(client)
            gateway.kill()
        said = run(gateway.database, "verify")
        assert said == (0, "1 files and 0 turns verified, 0 faults\n")
    with gateway, gateway.client() as client:
        while typist.unsent or _versions(client)[-1] == 1:  # until something was squashed
            typist.type(client)
    gateway.settings.clear()  # what is looked at now stays as it is
    with gateway, gateway.client() as client:
        answer = client.get("/files/a.md?format=text")
        assert answer.text == str(typist.text)
        versions = _versions(client)
        oldest, newest = versions[-1], versions[0]
        assert newest == int(answer.headers["X-Version"])
        assert versions == list(range(newest, oldest - 1, -1))
        old = client.get("/files/a.md", params={"at_version": oldest, "format": "text"}).raise_for_status().text
        assert str(typist.text).startswith(old)


def _fill(database: Path) -> None:
    with GatewayProcess(database) as gateway, gateway.client() as client:
        body = random.Random(1).randbytes(150_000).hex()
        for number in range(40):
            answer = client.put(f"/files/{number}.md", content=body, headers={"Content-Type": "text/plain"})
            answer.raise_for_status()


def test_a_backup_that_is_killed_leaves_none_or_a_whole_one(tmp_path: Path) -> None:
    _fill(tmp_path / "gateway.db")
    target = tmp_path / "backup.db"
    backup = Killer(tmp_path / "gateway.db", "backup", str(target))
    code, said = backup.finish()
    assert code == 0, said
    target.unlink()
    killed = 0
    while killed < max(3, _KILLS // 3):
        killed += backup.kill()
        if target.exists():
            assert run(target, "verify") == (0, "40 files and 0 turns verified, 0 faults\n"), killed
            for each in tmp_path.glob("backup.db*"):
                each.unlink()
    code, said = backup.finish()
    assert code == 0, said
    assert not list(tmp_path.glob("*.partial"))


def test_an_import_that_is_killed_leaves_nothing_or_all(tmp_path: Path) -> None:
    _fill(tmp_path / "gateway.db")
    code, said = run(tmp_path / "gateway.db", "export", "demo", str(tmp_path / "demo.jsonl.gz"))
    assert code == 0, said
    target = tmp_path / "target.db"
    taking = Killer(target, "import", str(tmp_path / "demo.jsonl.gz"), "--project")
    code, said = taking.finish("project-0")
    assert code == 0, said
    killed = number = 0
    while killed < max(3, _KILLS // 6):
        number += 1
        killed += taking.kill(f"project-{number}")
        code, said = taking.finish(f"project-{number}")
        assert code == 0 or "already" in said, said
        assert run(target, "verify") == (0, f"{(number + 1) * 40} files and 0 turns verified, 0 faults\n")
