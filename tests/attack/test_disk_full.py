"""A disk without room: writes are refused, reads go on, and writes go on once there is room."""

import contextlib
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.support.server import GatewayProcess

_PLAIN = {"Content-Type": "text/plain"}
_SIZE = 4 * 2**20


class SmallDisk:
    """A file system of 4 MB."""

    problem = (507, "storage_full")

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def bound(self, gateway: GatewayProcess) -> None:
        """Limit what a running gateway may write."""

    def make_room(self, gateway: GatewayProcess) -> None:
        subprocess.run(["mount", "-o", "remount,size=64m", str(self.folder)], check=True)


class SmallFiles(SmallDisk):
    """A disk on which a write fails where a file would pass 4 MB: no privilege needed; fails like a broken disk."""

    problem = (503, "storage_unavailable")

    def bound(self, gateway: GatewayProcess) -> None:
        assert gateway.process is not None
        resource.prlimit(gateway.process.pid, resource.RLIMIT_FSIZE, (_SIZE, resource.RLIM_INFINITY))

    def make_room(self, gateway: GatewayProcess) -> None:
        assert gateway.process is not None
        resource.prlimit(gateway.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={_SIZE}", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a file system cannot be mounted here; test_a_disk_that_fails… runs everywhere")
    yield SmallDisk(folder)
    subprocess.run(["umount", str(folder)], check=True)


def _put(client: httpx.Client, path: str, text: str) -> httpx.Response:
    return client.put(f"/files/{path}", content=text.encode(), headers=_PLAIN)


def test_a_full_disk_refuses_writes_and_loses_nothing(small_disk: SmallDisk) -> None:
    _fill(small_disk)


def test_a_disk_that_fails_refuses_writes_and_loses_nothing(tmp_path: Path) -> None:
    _fill(SmallFiles(tmp_path))


def _fill(disk: SmallDisk) -> None:
    """Write until writes fail, go on reading, make room, go on writing, and find all of it after a `kill -9`."""
    with GatewayProcess(disk.folder / "gateway.db") as gateway, gateway.client() as client:
        disk.bound(gateway)
        acknowledged: dict[str, str] = {}
        for number in range(1000):
            text = f"{number} " + os.urandom(20_000).hex()
            answer = _put(client, f"{number}.md", text)
            if answer.status_code not in (200, 201):
                break
            acknowledged[f"{number}.md"] = text
        assert len(acknowledged) > 5
        _check_refused(answer, disk)
        with ThreadPoolExecutor(4) as pool:  # again and again, together, without harm
            for answer in pool.map(lambda _: _put(client, "more.md", os.urandom(2_500_000).hex()), range(8)):
                _check_refused(answer, disk)
        assert client.get("/files/more.md").status_code == 404
        _check(client, acknowledged)
        assert httpx.get(f"{gateway.url}/healthz").status_code == 200
        disk.make_room(gateway)
        assert _put(client, "more.md", "there is room").status_code == 201
        acknowledged["more.md"] = "there is room"
        first = next(iter(acknowledged))
        acknowledged[first] += " and on"
        assert _put(client, first, acknowledged[first]).json()["version"] == 2
        _check(client, acknowledged)
        gateway.kill()
        gateway.start()
        with gateway.client() as again:
            _check(again, acknowledged)
    verify = [sys.executable, "-m", "gateway", "verify", "--database", f"sqlite:///{gateway.database}"]
    assert subprocess.run(verify, capture_output=True).returncode == 0


def _check_refused(answer: httpx.Response, disk: SmallDisk) -> None:
    assert (answer.status_code, answer.json()["code"]) == disk.problem
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert int(answer.headers["Retry-After"]) > 0


def _check(client: httpx.Client, acknowledged: dict[str, str]) -> None:
    assert {entry["path"] for entry in client.get("/files").json()["files"]} == set(acknowledged)
    for path, text in acknowledged.items():
        assert client.get(f"/files/{path}?format=text").text == text


def test_a_gateway_without_a_byte_to_start_with_says_so_and_harms_nothing(small_disk: SmallDisk) -> None:
    database = small_disk.folder / "gateway.db"
    with GatewayProcess(database) as gateway, gateway.client() as client:
        _put(client, "a.md", "text")
    filler = small_disk.folder / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    with pytest.raises(RuntimeError, match=r"the database failed|the disk that holds the database is full"):
        GatewayProcess(database).start()
    filler.unlink()
    with GatewayProcess(database) as gateway, gateway.client() as client:
        assert client.get("/files/a.md?format=text").text == "text"
        assert _put(client, "b.md", "x" * 100_000).status_code == 201


@pytest.mark.parametrize("command", [["export", "demo"], ["backup"]], ids=["export", "backup"])
def test_a_copy_for_which_there_is_no_room_is_told_in_words_and_leaves_nothing(
    small_disk: SmallDisk, tmp_path: Path, command: list[str]
) -> None:
    database = tmp_path / "gateway.db"
    with GatewayProcess(database) as gateway, gateway.client() as client:
        for number in range(4):
            _put(client, f"{number}.md", os.urandom(1_500_000).hex()).raise_for_status()
    target = small_disk.folder / "copy"
    arguments = [*command, str(target), "--database", f"sqlite:///{database}"]
    copied = subprocess.run([sys.executable, "-m", "gateway", *arguments], capture_output=True, text=True)
    assert copied.returncode != 0
    assert "Traceback" not in copied.stderr
    assert "full" in copied.stderr or "No space left" in copied.stderr
    assert list(small_disk.folder.iterdir()) == []
