"""Messages between gateways: who begins to listen is told so, since what was said before is lost."""

import asyncio
import contextlib

import asyncpg
import pytest

from storage import AppendUpdate, Version
from storage.postgres import PostgresStorage, tail
from tests.postgres.conftest import database
from tests.support.cutting_proxy import CuttingProxy
from tests.support.postgres import PATIENCE_S, PostgresServer

__all__ = ["database"]


def test_who_begins_to_listen_is_told_and_hears_everything_after(database: str) -> None:
    async def work() -> None:
        one, other = (
            await PostgresStorage.open(database, patience=PATIENCE_S),
            await PostgresStorage.open(database, patience=PATIENCE_S),
        )
        heard: asyncio.Queue[tuple[str, str, bytes]] = asyncio.Queue()
        try:
            other.hear(lambda gateway, topic, message: heard.put_nowait((gateway, topic, message)))
            await other.follow("demo")
            assert await heard.get() == ("", "", b"")
            gateway, topic, message = "", "", b""
            while not gateway:
                one.tell("demo/a.md", b"x")  # may be lost where the connection is
                with contextlib.suppress(TimeoutError):
                    gateway, topic, message = await asyncio.wait_for(heard.get(), 5)
            assert (topic, message) == ("demo/a.md", b"x")
        finally:
            await one.close()
            await other.close()

    asyncio.run(asyncio.wait_for(work(), 120))


def test_a_gateway_that_counted_as_gone_is_asked_again_once_it_is_heard(
    postgres: PostgresServer, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tail, "_GONE_S", 0.5)
    monkeypatch.setattr(tail, "_ALIVE_S", 0.1)

    async def work() -> None:
        heard: asyncio.Queue[tuple[str, str, bytes]] = asyncio.Queue()
        async with CuttingProxy(postgres.port) as proxy:
            stops = await PostgresStorage.open(
                database.replace(f":{postgres.port}/", f":{proxy.port}/"), patience=PATIENCE_S
            )
            other = await PostgresStorage.open(database, patience=PATIENCE_S)
            try:
                other.hear(lambda gateway, topic, message: heard.put_nowait((gateway, topic, message)))
                for storage in (stops, other):
                    await storage.follow("demo")
                stops.tell("demo/a.md", b"x")
                while await heard.get() != (stops.node, "demo/a.md", b"x"):
                    stops.tell("demo/a.md", b"x")
                proxy.block()
                while await heard.get() != (stops.node, "", b""):
                    pass
                proxy.unblock()
                while await heard.get() != ("", "", b""):
                    pass
            finally:
                await stops.close()
                await other.close()

    asyncio.run(asyncio.wait_for(work(), 120))


def test_notifications_follow_each_other_at_once_only_for_a_while() -> None:
    pace = tail.Pace(2.0, 3)
    assert [pace.take(100.0) for _ in range(5)] == [0, 0, 0, 2, 4]
    assert pace.take(104.0) == 2  # those that waited count
    assert [pace.take(200.0) for _ in range(4)] == [0, 0, 0, 2]


def test_a_busy_gateway_notifies_rarely_and_is_heard_of_nevertheless(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tail, "_PACE_S", 1e6)

    async def work() -> None:
        one, other = (
            await PostgresStorage.open(database, patience=PATIENCE_S),
            await PostgresStorage.open(database, patience=PATIENCE_S),
        )
        connection = await asyncpg.connect(database)
        notified: list[object] = []
        try:
            channel = f"yjsg_{await connection.fetchval('SELECT database FROM cluster')}"
            await connection.add_listener(channel, lambda *notification: notified.append(notification))
            heard = asyncio.Event()
            other.listen(lambda batch: heard.set() if batch[-1].project.sequence == 30 else None)
            await other.follow("demo")
            for version in range(30):
                await one.append("demo", (AppendUpdate("a", Version(version), b"x"),))
            await heard.wait()
            await connection.fetchval("SELECT 1")  # what was sent before is here
            assert 1 <= len(notified) <= tail._AT_ONCE
        finally:
            await connection.close()
            await one.close()
            await other.close()

    asyncio.run(asyncio.wait_for(work(), 120))


def test_a_message_that_the_database_refuses_is_not_the_last_one(
    postgres: PostgresServer, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its queue of notifications may be full, for example."""
    schema = database.rpartition("search_path=")[2]
    role = f"teller_{schema}"

    async def statement(text: str) -> None:
        await asyncio.to_thread(postgres.execute, text)

    async def work() -> None:
        refused = asyncio.Event()
        monkeypatch.setattr(tail._log, "warning", lambda *_: refused.set())
        other = await PostgresStorage.open(database, patience=PATIENCE_S)
        await statement(f"CREATE ROLE {role} LOGIN")
        await statement(f"GRANT ALL ON SCHEMA {schema} TO {role}")
        await statement(f"GRANT ALL ON ALL TABLES IN SCHEMA {schema} TO {role}")
        await statement("REVOKE EXECUTE ON FUNCTION pg_notify(text, text) FROM PUBLIC")
        one = await PostgresStorage.open(database.replace("//postgres@", f"//{role}@"), patience=PATIENCE_S)
        heard: asyncio.Queue[tuple[str, str, bytes]] = asyncio.Queue()
        try:
            other.hear(lambda gateway, topic, message: heard.put_nowait((gateway, topic, message)))
            await other.follow("demo")
            assert await heard.get() == ("", "", b"")
            one.tell("demo/a.md", b"refused")
            await refused.wait()
            await statement(f"GRANT EXECUTE ON FUNCTION pg_notify(text, text) TO {role}")
            message = None
            while message is None:
                one.tell("demo/a.md", b"x")
                with contextlib.suppress(TimeoutError):
                    message = await asyncio.wait_for(heard.get(), 5)
            assert message == (one.node, "demo/a.md", b"x")
        finally:
            await one.close()
            await other.close()
            await statement("GRANT EXECUTE ON FUNCTION pg_notify(text, text) TO PUBLIC")

    asyncio.run(asyncio.wait_for(work(), 120))
