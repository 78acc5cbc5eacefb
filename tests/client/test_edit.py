"""`edit`: read, change, write with the version that was read, and once more where that is gone."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable

import pytest

from gateway.client import FileNotFound, GatewayClient, Project, ProjectNotFound
from tests.support.server import GatewayProcess


def edited(gateway: GatewayProcess, use: Callable[[Project], Awaitable[None]]) -> None:
    async def run() -> None:
        client = GatewayClient(gateway.url)
        try:
            await use(client.project(f"edit-{uuid.uuid4().hex[:12]}"))
        finally:
            await client.aclose()

    asyncio.run(run())


def test_what_others_write_meanwhile_stays(shared_gateway: GatewayProcess) -> None:
    async def use(project: Project) -> None:
        await project.put_text("a.md", "one\ntwo\n")

        async def change(text: str) -> str:
            await project.put_text("a.md", "zero\none\ntwo\n")
            return text + "three\n"

        receipt = await project.edit("a.md", change)
        assert receipt.value.merged is True
        assert (await project.read_text("a.md")).value == "zero\none\ntwo\nthree\n"

    edited(shared_gateway, use)


def test_it_is_changed_again_where_the_file_is_another_one_by_then(shared_gateway: GatewayProcess) -> None:
    async def use(project: Project) -> None:
        await project.put_text("a.md", "one")
        seen = []

        async def change(text: str) -> str:
            seen.append(text)
            if len(seen) == 1:
                await project.delete("a.md")
                await project.put_text("a.md", "another")
            return text + "!"

        await project.edit("a.md", change)
        assert seen == ["one", "another"]
        assert (await project.read_text("a.md")).value == "another!"

    edited(shared_gateway, use)


def test_a_file_that_does_not_exist_is_not_made(shared_gateway: GatewayProcess) -> None:
    async def use(project: Project) -> None:
        with pytest.raises(ProjectNotFound):
            await project.edit("a.md", str.upper)
        await project.put_text("b.md", "one")
        with pytest.raises(FileNotFound, match="Check the path"):
            await project.edit("a.md", str.upper)

    edited(shared_gateway, use)
