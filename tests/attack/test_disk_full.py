"""A disk without room: writes are refused, reads go on, and writes go on once there is room."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.server import GatewayProcess

_PLAIN = {"Content-Type": "text/plain"}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = (
        os.geteuid() == 0
        and not subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)], capture_output=True
        ).returncode
    )
    if not mounted:
        pytest.skip("a small file system cannot be mounted here; the injected failures are tested in tests/contract")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def _put(client: httpx.Client, path: str, text: str) -> httpx.Response:
    return client.put(f"/files/{path}", content=text.encode(), headers=_PLAIN)


def test_a_full_disk_refuses_writes_and_loses_nothing(small_disk: Path) -> None:
    gateway = GatewayProcess(small_disk / "gateway.db")
    with gateway, gateway.client() as client:
        acknowledged: dict[str, str] = {}
        for number in range(1000):
            text = f"{number} " + os.urandom(20_000).hex()
            answer = _put(client, f"{number}.md", text)
            if answer.status_code not in (200, 201):
                break
            acknowledged[f"{number}.md"] = text
        assert len(acknowledged) > 5
        assert answer.status_code in (503, 507)
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert int(answer.headers["Retry-After"]) > 0
        for _ in range(3):  # again and again, without harm
            assert _put(client, "more.md", os.urandom(200_000).hex()).status_code in (503, 507)
        assert client.get("/files/more.md").status_code == 404
        _check(client, acknowledged)
        assert httpx.get(f"{gateway.url}/healthz").status_code == 200
        subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
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


def _check(client: httpx.Client, acknowledged: dict[str, str]) -> None:
    assert {entry["path"] for entry in client.get("/files").json()["files"]} == set(acknowledged)
    for path, text in acknowledged.items():
        assert client.get(f"/files/{path}?format=text").text == text


def test_a_gateway_without_a_byte_to_start_with_says_so_and_harms_nothing(small_disk: Path) -> None:
    database = small_disk / "gateway.db"
    with GatewayProcess(database) as gateway, gateway.client() as client:
        _put(client, "a.md", "text")
    filler = small_disk / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    with pytest.raises(RuntimeError, match=r"the database failed|the disk that holds the database is full"):
        GatewayProcess(database).start()
    filler.unlink()
    with GatewayProcess(database) as gateway, gateway.client() as client:
        assert client.get("/files/a.md?format=text").text == "text"
        assert _put(client, "b.md", "x" * 100_000).status_code == 201
