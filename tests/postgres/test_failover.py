"""Real gateways on a PostgreSQL server whose standby takes over, with and without all that was acknowledged."""

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
def primary() -> Iterator[PostgresServer]:
    """A PostgreSQL server that the test may kill."""
    with postgres_server() as own:
        yield own


_IMPATIENT: dict[str, object] = {"GATEWAY_DATABASE_SECONDS": 5}
"""The default: requests are refused after some seconds without the database."""


def _of_both(database: str, primary: PostgresServer, standby: PostgresServer) -> str:
    """The URL of a database that one of two servers has."""
    hosts = f"127.0.0.1:{primary.port},127.0.0.1:{standby.port}"
    assert database.count(f"127.0.0.1:{primary.port}") == 1
    return database.replace(f"127.0.0.1:{primary.port}", hosts) + "&target_session_attrs=read-write"


def _wait_for_writes(client: httpx.Client, path: str) -> None:
    """Write until it succeeds, as a client does that is told to repeat."""
    while (answer := client.put(f"/files/{path}", content="x", headers=PLAIN)).status_code == 503:
        assert "Retry-After" in answer.headers
    answer.raise_for_status()


def test_a_standby_that_has_everything_takes_over_and_clients_go_on(primary: PostgresServer) -> None:
    with primary.standby() as standby:
        primary.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
        primary.execute("SELECT pg_reload_conf()")
        primary.execute("CHECKPOINT")  # its process tells the others to wait for the standby, before it does that
        database = _of_both(primary.schema_url(), primary, standby)
        same: dict[str, object] = {"GATEWAY_SAME_DATABASE": "true", **_IMPATIENT}
        with GatewayProcess(database, **same) as first, GatewayProcess(database, **same) as second:
            acknowledged: list[str] = []
            over, some = threading.Event(), threading.Event()

            def write(node: GatewayProcess, writer: int) -> None:
                number = 0
                with node.client() as client:
                    while not over.is_set():
                        number += 1
                        answer = client.put(f"/files/{writer}/{number}.md", content="x", headers=PLAIN)
                        if answer.status_code == 503:
                            continue
                        assert answer.status_code in (200, 201), answer.text
                        acknowledged.append(f"{writer}/{number}.md")
                        if len(acknowledged) >= 10:
                            some.set()

            with ThreadPoolExecutor(2) as pool, first.client() as a, second.client() as b:
                cursor = put(a, "a.md", "one")["cursor"]
                tag = a.get("/files/a.md").headers["ETag"]
                writing = [pool.submit(write, node, writer) for writer, node in enumerate((first, second))]
                try:
                    assert some.wait(60)
                    primary.kill()
                    standby.promote()
                    before = len(acknowledged)
                    while len(acknowledged) < before + 10 and not any(each.done() for each in writing):
                        threading.Event().wait(0.02)
                finally:
                    over.set()
                for each in writing:
                    each.result()
                told: set[str] = set()
                for client in (a, b):
                    while (again := client.get("/files/a.md", headers={"If-None-Match": tag})).status_code == 503:
                        pass
                    assert again.status_code == 304
                    question = {"since": cursor, "limit": 10_000}
                    while (answer := client.get("/changes", params=question)).status_code == 503:
                        pass
                    page = answer.raise_for_status().json()
                    assert "reset" not in page
                    told = {change["path"] for change in page["changes"]}
                    assert set(acknowledged) <= told
        assert " 0 faults" in run(database, "verify")


def test_clients_start_over_where_a_standby_takes_over_that_was_behind(primary: PostgresServer) -> None:
    with primary.standby() as standby:
        url = primary.schema_url()
        database = _of_both(url, primary, standby)
        with GatewayProcess(database) as first, GatewayProcess(database) as second, first.client() as client:
            put(client, "a.md", "1")
            put(client, "lost.md", "kept")
            while b"kept" not in _on_standby(standby, url):  # it has what was written so far
                threading.Event().wait(0.02)
            standby.stop()
            kept = client.get("/files/a.md")
            lost = put(client, "a.md", "lost")
            tag = client.get("/files/a.md").headers["ETag"]
            cursor = put(client, "lost.md", "lost")["cursor"]
            question = {"since": cursor, "versions": {"a.md": lost["version"]}}
            for node in (first, second):
                with node.client() as other:
                    assert other.post("/files/status", json=question).json()["changes"] == []
                    assert other.get("/files/a.md", headers={"If-None-Match": tag}).status_code == 304
            primary.kill()
            standby.start("-c wal_retrieve_retry_interval=100ms")
            standby.promote()
            # The same numbers are given to other changes.
            with second.client() as other:
                _wait_for_writes(other, "a.md")
                receipt = put(other, "lost.md", "new")
                assert receipt["cursor"].split(".")[1] >= cursor.split(".")[1]
                assert receipt["cursor"].split(".")[0] != cursor.split(".")[0]
            for node in (first, second):
                with node.client() as other:
                    # What was stored a second ago may be answered as if it were so now, even if it is lost since.
                    while (answer := other.post("/files/status", json=question)).status_code == 503 or (
                        answer.json()["cursor"] == cursor
                    ):
                        pass
                    assert answer.raise_for_status().json()["reset"] is True
                    for old in (tag, kept.headers["ETag"]):
                        read = other.get("/files/a.md", headers={"If-None-Match": old})
                        assert read.status_code == 200
                        assert read.headers["X-Version"] == str(lost["version"])  # which means something else now
                    assert other.get("/files/a.md", params={"format": "text"}).text == "x"
                    write = other.put("/files/a.md", content="y", headers={**PLAIN, "If-Match": tag})
                    assert write.status_code == 412
                    page = other.get("/changes", params={"since": cursor}).json()
                    assert page.get("reset") is True or page["code"] == "cursor_reset"
        assert " 0 faults" in run(database, "verify")


def _on_standby(standby: PostgresServer, database: str) -> bytes:
    import asyncio

    import asyncpg

    async def read() -> bytes:
        connection = await asyncpg.connect(f"{standby.url}?{database.partition('?')[2]}")
        try:
            rows = await connection.fetch("SELECT body FROM change")
            return b"".join(row[0] or b"" for row in rows)
        except asyncpg.UndefinedTableError:
            return b""
        finally:
            await connection.close()

    return asyncio.run(read())
