"""Documents of pycrdt-websocket that are files of a gateway: with its stock rooms, and a real gateway."""

import asyncio
import contextlib
import uuid
from pathlib import Path
from typing import Any

import anyio
import pycrdt
import pytest
from pycrdt.store import YDocNotFound
from pycrdt.websocket import YRoom

from gateway.client import GatewayClient, Project
from gateway.client.errors import NoAnswer
from tests.support.server import GatewayProcess
from yjs_gateway.ystore import GatewayYStore

EDITS = 50


def text_of(doc: "pycrdt.Doc[Any]") -> pycrdt.Text:
    return doc.get("content", type=pycrdt.Text)


async def opened(store: GatewayYStore) -> YRoom:
    """A room with what is stored, as applications open it."""
    doc: pycrdt.Doc[Any] = pycrdt.Doc()
    with contextlib.suppress(YDocNotFound):
        await store.apply_updates(doc)
    return YRoom(ystore=store, ydoc=doc)


def run(gateway: GatewayProcess, work: Any) -> None:
    async def main() -> None:
        async with GatewayClient(gateway.url) as client:
            await work(client.project(f"ystore-{uuid.uuid4().hex[:12]}"))

    asyncio.run(main())


def test_a_room_that_is_closed_at_once_has_stored_every_edit(shared_gateway: GatewayProcess) -> None:
    async def work(project: Project) -> None:
        for round_ in range(2):
            room = await opened(GatewayYStore("notes/a.md", project=project))
            async with room:
                await anyio.wait_all_tasks_blocked()  # before it has begun it cannot be closed
                for number in range(EDITS):
                    text_of(room.ydoc).insert(len(text_of(room.ydoc)), f"{round_} {number}\n")
                await anyio.wait_all_tasks_blocked()  # each edit has a task that writes it, which the room cancels
            room._update_send_stream.close()  # the room forgets it
            expected = "".join(f"{each} {number}\n" for each in range(round_ + 1) for number in range(EDITS))
            assert (await project.read_text("notes/a.md")).value == expected

    run(shared_gateway, work)


def test_an_update_is_durable_when_write_returns_and_is_stored_once(shared_gateway: GatewayProcess) -> None:
    async def work(project: Project) -> None:
        store = GatewayYStore("a.md", project=project)
        doc: pycrdt.Doc[Any] = pycrdt.Doc()
        with pytest.raises(YDocNotFound):
            await store.apply_updates(doc)
        async with store:
            updates: list[bytes] = []
            doc.observe(lambda event: updates.append(event.update))
            for number in range(5):
                text_of(doc).insert(0, f"{number}")
                await store.write(updates[-1])
                assert (await project.read_text("a.md")).value == str(text_of(doc))
            await store.encode_state_as_update(doc)
        assert [each.version for each in (await project.history("a.md")).versions] == [5, 4, 3, 2, 1]
        ((update, metadata, _),) = [each async for each in store.read()]
        again: pycrdt.Doc[Any] = pycrdt.Doc()
        again.apply_update(update)
        assert (str(text_of(again)), metadata) == ("43210", b"")

    run(shared_gateway, work)


def test_a_write_that_is_cancelled_is_stored(shared_gateway: GatewayProcess) -> None:
    async def work(project: Project) -> None:
        store = GatewayYStore("a.md", project=project)
        async with store:
            other: pycrdt.Doc[Any] = pycrdt.Doc()
            updates: list[bytes] = []
            other.observe(lambda event: updates.append(event.update))
            for number in range(EDITS):
                text_of(other).insert(len(text_of(other)), f"{number}\n")
            tasks = [asyncio.create_task(store.write(update)) for update in updates]
            await asyncio.sleep(0)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        assert (await project.read_text("a.md")).value == str(text_of(other))

    run(shared_gateway, work)


def test_an_outage_is_waited_for_and_nothing_is_lost(tmp_path: Path) -> None:
    async def work(project: Project) -> None:
        room = await opened(GatewayYStore("a.md", project=project))
        async with room:
            text_of(room.ydoc).insert(0, "before\n")
            assert room.ystore is not None
            await room.ystore.flush()  # type: ignore[attr-defined]
            gateway.kill()
            text_of(room.ydoc).insert(0, "meanwhile\n")
            with pytest.raises(NoAnswer):
                await project.read_text("a.md")
            await asyncio.to_thread(gateway.start)
        room._update_send_stream.close()
        assert (await project.read_text("a.md")).value == "meanwhile\nbefore\n"

    with GatewayProcess(tmp_path / "gateway.db") as gateway:
        run(gateway, work)


def test_a_store_without_a_project_is_refused() -> None:
    with pytest.raises(ValueError, match="project"):
        GatewayYStore("a.md")
