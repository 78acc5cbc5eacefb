"""Messages between gateways: who begins to listen is told so, since what was said before is lost."""

import asyncio

from storage.postgres import PostgresStorage
from tests.postgres.conftest import database

__all__ = ["database"]


def test_who_begins_to_listen_is_told_and_hears_everything_after(database: str) -> None:
    async def work() -> None:
        one, other = await PostgresStorage.open(database), await PostgresStorage.open(database)
        heard: asyncio.Queue[tuple[str, str, bytes]] = asyncio.Queue()
        try:
            other.hear(lambda gateway, topic, message: heard.put_nowait((gateway, topic, message)))
            await other.follow("demo")
            assert await heard.get() == ("", "", b"")
            one.tell("demo/a.md", b"x")
            gateway, topic, message = await heard.get()
            assert (bool(gateway), topic, message) == (True, "demo/a.md", b"x")
        finally:
            await one.close()
            await other.close()

    asyncio.run(asyncio.wait_for(work(), 60))
