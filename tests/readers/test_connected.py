"""Who has an event stream or a room open is known by the name that it has for push messages."""

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import websockets

from gateway.app import create_app
from gateway.settings import Settings
from gateway.watch.connected import Connected
from gateway.yjs.hocuspocus import addressed
from tests.live.editors import WEBSOCKET
from tests.readers.test_webhooks import run
from tests.support.in_process import serve


def test_streams_and_rooms_count_for_as_long_as_they_are_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, str, bool]] = []
    left = asyncio.Event()
    held = Connected.held

    @contextlib.contextmanager
    def noting(self: Connected, project: str, client: str | None) -> Iterator[None]:
        with held(self, project, client):
            seen.append((project, str(client), client is not None and self(project, client)))
            yield
        seen.append((project, str(client), client is not None and self(project, client)))
        left.set()

    monkeypatch.setattr(Connected, "held", noting)

    async def work() -> None:
        app = create_app(Settings(database=f"sqlite:///{tmp_path / 'a.db'}"))
        async with (
            serve(app) as server,
            httpx.AsyncClient(base_url=server.project(), timeout=60, verify=False) as client,
        ):
            headers: dict[str, Any] = {"Content-Type": "text/plain"}
            (await client.put("/files/a.md", content="x", headers=headers)).raise_for_status()
            headers = {"Accept": "text/event-stream"}
            async with client.stream("GET", "/changes?client=c1", headers=headers) as stream:
                async for line in stream.aiter_lines():
                    if line == "event: ready":
                        break
                assert seen == [("demo", "c1", True)]
            await left.wait()
            assert seen[1:] == [("demo", "c1", False)]
            left.clear()
            url = server.project().replace("http:", "ws:")
            async with websockets.connect(f"{url}/ws/a.md?client=c2", **WEBSOCKET) as room:
                await room.recv()
                assert seen[2:] == [("demo", "c2", True)]
            await left.wait()
            assert seen[3:] == [("demo", "c2", False)]
            left.clear()
            async with websockets.connect(f"{url}/hocuspocus?client=c3", **WEBSOCKET) as documents:
                await documents.send(addressed("a.md") + b"\x02\x00\x00")
                await documents.recv()
                assert seen[4:] == [("demo", "c3", True)]
                await documents.send(addressed("a.md") + b"\x07")
                await left.wait()
                assert seen[5:] == [("demo", "c3", False)]

    run(work)
