"""Real gateways on a PostgreSQL server that is killed, comes back, and falls silent."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.gateway.test_transfer import run
from tests.live.clients import PLAIN, put
from tests.support.postgres import PostgresServer, postgres_server
from tests.support.server import GatewayProcess


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    """A PostgreSQL server that the test may kill."""
    with postgres_server() as own:
        yield own


def test_a_database_that_is_killed_loses_nothing_that_was_acknowledged(server: PostgresServer) -> None:
    database = server.schema_url()
    with GatewayProcess(database) as first, GatewayProcess(database) as second:
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
                put(client, f"after {node.port}.md", "x")
                listing = client.get("/files", params={"limit": 10_000}).raise_for_status().json()
                assert set(acknowledged) <= {entry["path"] for entry in listing["files"]}
                ready = client.get(f"{node.url}/readyz")
                assert ready.status_code == 200, ready.text
    assert " 0 faults" in run(database, "verify")


def test_a_gateway_that_does_not_hear_the_database_says_so_and_answers_nothing_old(server: PostgresServer) -> None:
    database = server.schema_url()
    with GatewayProcess(database) as gateway, gateway.client() as client:
        put(client, "a.md", "x")
        answer = client.get("/files/a.md")
        unchanged = {"If-None-Match": answer.headers["ETag"]}
        assert client.get("/files/a.md", headers=unchanged).status_code == 304
        server.stop("immediate")
        answers = [client.get("/files/a.md", headers=unchanged)]
        while answers[-1].status_code == 304:
            answers.append(client.get("/files/a.md", headers=unchanged))
        assert answers[-1].status_code == 503
        assert httpx.get(f"{gateway.url}/readyz").status_code == 503
        assert httpx.get(f"{gateway.url}/healthz").status_code == 200
        refused = client.put("/files/a.md", content="y", headers=PLAIN)
        assert (refused.status_code, refused.json()["code"]) == (503, "storage_unavailable")
        server.start()
        while client.get("/files/a.md", headers=unchanged).status_code == 503:
            pass
        put(client, "a.md", "back")
        while httpx.get(f"{gateway.url}/readyz").status_code != 200:
            pass
