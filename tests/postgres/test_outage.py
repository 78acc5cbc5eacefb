"""Real gateways on a PostgreSQL server that is killed, comes back, and falls silent."""

import asyncio
import os
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import httpx
import pycrdt
import pytest

from tests.gateway.test_transfer import run
from tests.live.clients import OCTETS, PLAIN, put
from tests.support.cutting_proxy import CuttingProxy
from tests.support.postgres import PostgresServer, postgres_server
from tests.support.server import GatewayProcess

_IMPATIENT: dict[str, object] = {"GATEWAY_DATABASE_SECONDS": 5}
"""The default: requests are refused after some seconds without the database."""


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    """A PostgreSQL server that the test may kill."""
    with postgres_server() as own:
        yield own


def test_a_database_that_is_killed_loses_nothing_that_was_acknowledged(server: PostgresServer) -> None:
    database = server.schema_url()
    with GatewayProcess(database, **_IMPATIENT) as first, GatewayProcess(database, **_IMPATIENT) as second:
        acknowledged: list[str] = []
        refused: list[dict[str, object]] = []
        some = threading.Event()

        def write(writer: int) -> None:
            node = (first, second)[writer % 2]
            with node.client() as client:
                for number in range(40):
                    path = f"{writer}/{number}.md"
                    answer = client.put(f"/files/{path}", content=path, headers=PLAIN)
                    if answer.status_code in (200, 201):
                        acknowledged.append(path)
                        if len(acknowledged) >= 20:
                            some.set()
                    else:
                        assert answer.status_code == 503, answer.text
                        assert "Retry-After" in answer.headers
                        refused.append(answer.json())

        with ThreadPoolExecutor(4) as pool:
            with first.client() as client:
                put(client, "first.md", "x")
            writing = [pool.submit(write, writer) for writer in range(4)]
            assert some.wait(60)
            server.kill()
            server.start()
            for each in writing:
                each.result()
        assert all(isinstance(each["certain"], bool) for each in refused)
        for node in (first, second):
            with node.client() as client:
                while client.put(f"/files/after {node.port}.md", content="x", headers=PLAIN).status_code == 503:
                    pass
                listing = client.get("/files", params={"limit": 10_000}).raise_for_status().json()
                assert set(acknowledged) <= {entry["path"] for entry in listing["files"]}
                while client.get(f"{node.url}/readyz").status_code != 200:
                    pass
    assert " 0 faults" in run(database, "verify")


def test_a_gateway_that_does_not_hear_the_database_says_so_and_answers_nothing_old(server: PostgresServer) -> None:
    database = server.schema_url()
    with GatewayProcess(database, **_IMPATIENT) as gateway, gateway.client() as client:
        put(client, "a.md", "x")
        answer = client.get("/files/a.md")
        unchanged = {"If-None-Match": answer.headers["ETag"]}
        assert client.get("/files/a.md", headers=unchanged).status_code == 304
        server.stop("immediate")
        answers = [client.get("/files/a.md", headers=unchanged)]
        while answers[-1].status_code == 304:
            answers.append(client.get("/files/a.md", headers=unchanged))
        assert answers[-1].status_code == 503
        assert gateway.get("/readyz").status_code == 503
        assert gateway.get("/healthz").status_code == 200
        refused = client.put("/files/a.md", content="y", headers=PLAIN)
        assert (refused.status_code, refused.json()["code"]) == (503, "storage_unavailable")
        server.start()
        while client.get("/files/a.md", headers=unchanged).status_code == 503:
            pass
        while client.put("/files/a.md", content="back", headers=PLAIN).status_code == 503:
            pass
        while gateway.get("/readyz").status_code != 200:
            pass


@contextmanager
def _small_disk() -> Iterator[Path]:
    """A file system of 160 MiB, or a skipped test where it cannot be mounted."""
    with tempfile.TemporaryDirectory(prefix="yjsg-disk-") as folder:
        mount = ["mount", "-t", "tmpfs", "-o", "size=160m,mode=755", "tmpfs", folder]
        if os.geteuid() != 0 or subprocess.run(mount, check=False).returncode:
            pytest.skip("a small file system cannot be mounted here")
        Path(folder).chmod(0o755)
        try:
            yield Path(folder)
        finally:
            subprocess.run(["umount", "--lazy", folder], check=True)


def _fill(file: BinaryIO) -> None:
    while True:
        file.write(bytes(2**20))
        file.flush()


def test_a_database_whose_disk_is_full_refuses_writes_and_goes_on_when_there_is_space() -> None:
    with (
        _small_disk() as disk,
        postgres_server(disk) as server,
        GatewayProcess(server.schema_url(), **_IMPATIENT) as gateway,
        gateway.client() as client,
    ):
        put(client, "kept.md", "kept")
        acknowledged = ["kept.md"]
        filler = disk / "filler"
        with filler.open("wb", buffering=0) as file, pytest.raises(OSError, match="space"):
            _fill(file)
        body = os.urandom(300_000).hex()
        answer = None
        for number in range(1000):
            answer = client.put(f"/files/{number}.md", content=body, headers=PLAIN)
            if answer.status_code >= 400:
                break
            acknowledged.append(f"{number}.md")
        assert answer is not None
        assert answer.status_code in (503, 507), answer.text
        if answer.status_code == 503:  # PostgreSQL ends where it cannot write its log
            assert isinstance(answer.json()["certain"], bool)
        filler.unlink()
        while (answer := client.put("/files/after.md", content="x", headers=PLAIN)).status_code in (503, 507):
            if not server.is_running():  # by now: it may have been about to end
                (server.folder / "data" / "postmaster.pid").unlink(missing_ok=True)
                server.start()
        answer.raise_for_status()
        listing = client.get("/files", params={"limit": 10_000}).raise_for_status().json()
        assert set(acknowledged) <= {entry["path"] for entry in listing["files"]}
        assert " 0 faults" in run(gateway.database, "verify")


def test_a_client_whose_answers_are_lost_repeats_at_another_gateway_and_stores_nothing_twice(database: str) -> None:
    """The client's requests come to the gateway, and the answers do not come back."""

    async def work(first: GatewayProcess, second: GatewayProcess) -> None:
        document: pycrdt.Doc[object] = pycrdt.Doc()
        text = document.get("content", type=pycrdt.Text)
        async with CuttingProxy(first.port) as proxy, httpx.AsyncClient(timeout=60) as client:
            for number in range(5):
                before = document.get_state()
                text += f"{number};"
                update = document.get_update(before)
                proxy.swallowing = True
                through = f"http://127.0.0.1:{proxy.port}/api/projects/demo/files/a.md"
                lost = asyncio.create_task(client.patch(through, content=update, headers=OCTETS))
                while (await client.get(f"{second.project()}/files/a.md", params={"format": "text"})).text != str(text):
                    pass
                proxy.cut()
                proxy.swallowing = False
                with pytest.raises(httpx.TransportError):
                    await lost
                answer = await client.patch(f"{second.project()}/files/a.md", content=update, headers=OCTETS)
                assert answer.raise_for_status().json()["version"] == number + 1
                assert answer.json()["changed"] is False

    with GatewayProcess(database) as first, GatewayProcess(database) as second:
        asyncio.run(work(first, second))
