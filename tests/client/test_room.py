"""A file's room as a channel of pycrdt, against a real gateway."""

import asyncio
import uuid
from typing import Any

import pycrdt
import pytest

from gateway.client import GatewayClient, NoAnswer
from tests.support.server import GatewayProcess


class Editor:
    """A document, and an event for each change of it."""

    def __init__(self) -> None:
        self.doc: pycrdt.Doc[Any] = pycrdt.Doc()
        self.text = self.doc.get("content", type=pycrdt.Text)
        self._changed = asyncio.Event()
        self.doc.observe(lambda event: self._changed.set())

    async def shows(self, text: str) -> None:
        async with asyncio.timeout(60):
            while str(self.text) != text:
                self._changed.clear()
                await self._changed.wait()


def test_two_providers_in_a_room_see_each_other_and_the_author_is_known(shared_gateway: GatewayProcess) -> None:
    async def main() -> None:
        project_id = f"room-{uuid.uuid4().hex[:12]}"
        async with GatewayClient(shared_gateway.url, author="Zoe") as client:
            project = client.project(project_id)
            await project.put_text("a b/größe.md", "one\n")
            left, right = Editor(), Editor()
            async with (
                project.room("a b/größe.md") as here,
                project.room("a b/größe.md") as there,
                pycrdt.Provider(left.doc, here),
                pycrdt.Provider(right.doc, there),
            ):
                await left.shows("one\n")
                await right.shows("one\n")
                left.text.insert(0, "zero\n")
                await right.shows("zero\none\n")
                right.text.insert(len(right.text), "two\n")
                await left.shows("zero\none\ntwo\n")
            stored = await project.read_text("a b/größe.md")
            async with asyncio.timeout(60):  # both edits are one version or two
                while stored.value != "zero\none\ntwo\n":
                    await project.read_update("a b/größe.md", from_version=stored.version, wait=50)
                    stored = await project.read_text("a b/größe.md")
            assert {each.author for each in (await project.history("a b/größe.md")).versions} == {"Zoe"}

    asyncio.run(main())


def test_awareness_goes_through_a_room(shared_gateway: GatewayProcess) -> None:
    async def main() -> None:
        async with GatewayClient(shared_gateway.url) as client:
            project = client.project(f"room-{uuid.uuid4().hex[:12]}")
            await project.put_text("a.md", "one\n")
            mine, theirs = pycrdt.Awareness(pycrdt.Doc()), pycrdt.Awareness(pycrdt.Doc())
            async with project.room("a.md") as here, project.room("a.md") as there, asyncio.timeout(60):
                mine.set_local_state({"user": "Zoë"})
                state = mine.encode_awareness_update([mine.client_id])
                await here.send(pycrdt.create_awareness_message(state))
                async for message in there:
                    if message[0] == pycrdt.YMessageType.AWARENESS:
                        theirs.apply_awareness_update(pycrdt.read_message(message[1:]), "room")
                    if mine.client_id in theirs.states:
                        break
            assert theirs.states[mine.client_id] == {"user": "Zoë"}

    asyncio.run(main())


def test_a_gateway_that_is_not_there_is_said(shared_gateway: GatewayProcess) -> None:
    async def main() -> None:
        async with GatewayClient("http://127.0.0.1:1") as client:
            with pytest.raises(NoAnswer):
                async with client.project("p").room("a.md"):
                    pass

    asyncio.run(main())
