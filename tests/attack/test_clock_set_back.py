"""Files written while the clock was a year ahead: their times are later than the clock, until it has reached them."""

import asyncio
import time
from pathlib import Path

import httpx
import pycrdt

from gateway.app import create_app
from gateway.settings import Settings
from storage import AppendUpdate, Version
from storage.sqlite import SQLiteStorage

_YEAR_MS = 365 * 24 * 3600 * 1000
_PLAIN = {"Content-Type": "text/plain"}


def test_a_date_hides_no_change_and_lets_none_be_overwritten(tmp_path: Path) -> None:
    database = tmp_path / "gateway.db"

    async def write_a_year_ahead() -> None:
        storage = await SQLiteStorage.open(database, clock=lambda: time.time_ns() // 1_000_000 + _YEAR_MS)
        document = pycrdt.Doc({"content": pycrdt.Text("early")})
        await storage.append("demo", (AppendUpdate("a.md", Version(0), document.get_update()),))
        await storage.close()

    async def work() -> None:
        await write_a_year_ahead()
        gateway = create_app(Settings(database=f"sqlite:///{database}"))
        async with (
            gateway.running(),
            httpx.AsyncClient(
                transport=httpx.ASGITransport(app=gateway), base_url="http://x/api/projects/demo"
            ) as client,
        ):
            first = await client.get("/files/a.md?format=text")
            date = first.headers["Last-Modified"]
            receipt = await client.put("/files/a.md", content="late", headers=_PLAIN)
            assert receipt.status_code == 200
            assert receipt.headers["Last-Modified"] == date  # the times of a project do not go back
            found = await client.get("/files/a.md?format=text", headers={"If-Modified-Since": date})
            assert (found.status_code, found.text) == (200, "late")
            over = await client.put("/files/a.md", content="over", headers={**_PLAIN, "If-Unmodified-Since": date})
            assert over.status_code == 412
            tag = found.headers["ETag"]
            assert (await client.get("/files/a.md?format=text", headers={"If-None-Match": tag})).status_code == 304

    asyncio.run(work())
