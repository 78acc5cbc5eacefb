"""The awareness of a mirror is that of all clients of the file, however they are connected."""

import asyncio
import uuid
from collections.abc import Callable
from typing import Any

import pycrdt
import pytest

from gateway.client import DocumentMirror, GatewayClient, PollingManager, Project
from tests.client.test_mirror import at
from tests.client.test_pollers import TRANSPORTS
from tests.live.editors import Editor
from tests.support.server import PATIENCE_S, GatewayProcess


async def until(awareness: pycrdt.Awareness, *names: str) -> None:
    """Until the others are just these."""
    changed = asyncio.Event()
    observation = awareness.observe(lambda topic, told: changed.set())
    while True:
        changed.clear()
        states = [state for client, state in awareness.states.items() if client != awareness.client_id]
        found = sorted(str(state.get("name")) for state in states)
        if found == sorted(names):
            break
        try:
            await asyncio.wait_for(changed.wait(), PATIENCE_S)
        except TimeoutError:
            raise AssertionError(f"they are {found}, not {sorted(names)}") from None
    awareness.unobserve(observation)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_mirrors_and_rooms_see_each_other(
    shared_gateway: GatewayProcess, open_editor: Callable[..., Editor], transport: Any
) -> None:
    name = f"project-{uuid.uuid4().hex[:12]}"

    async def main() -> None:
        async with at(shared_gateway.url, name) as (polling, project):
            await project.put_text("a.md", "x")
            person = await asyncio.to_thread(open_editor, shared_gateway, name, "a.md")
            person.synced()
            person.say({"name": "ann"})
            async with (
                DocumentMirror(polling, project, "a.md", transport=transport) as one,
                DocumentMirror(polling, project, "a.md", transport=transport) as other,
            ):
                one.awareness.set_local_state({"name": "bob"})
                await until(other.awareness, "ann", "bob")
                other.awareness.set_local_state({"name": "eve"})
                await until(one.awareness, "ann", "eve")
                await asyncio.to_thread(person.until_others, "bob", "eve")
                one.awareness.set_local_state_field("name", "robert")
                await asyncio.to_thread(person.until_others, "eve", "robert")
                await until(other.awareness, "ann", "robert")
                one.awareness.set_local_state(None)
                await until(other.awareness, "ann")
                one.awareness.set_local_state({"name": "bob"})
                await until(other.awareness, "ann", "bob")
            await asyncio.to_thread(person.until_others)  # who closes has left

    asyncio.run(main())


def test_a_mirror_asks_for_nobody_where_its_awareness_is_not_used(shared_gateway: GatewayProcess) -> None:
    asked: list[str] = []

    async def main() -> None:
        async with GatewayClient(shared_gateway.url) as client, PollingManager() as polling:
            send = client.send

            async def counted(method: str, path: str, **options: Any) -> Any:
                asked.append(path)
                return await send(method, path, **options)

            client.send = counted  # type: ignore[method-assign]
            project = Project(client, f"project-{uuid.uuid4().hex[:12]}")
            async with DocumentMirror(polling, project, "a.md") as mirror:
                mirror.doc.get("content", type=pycrdt.Text).insert(0, "x")
                await mirror.synced()

    asyncio.run(main())
    assert asked
    assert not [path for path in asked if "/presence/" in path]


def test_a_project_that_is_not_there_yet_is_waited_for(shared_gateway: GatewayProcess) -> None:
    name = f"project-{uuid.uuid4().hex[:12]}"

    async def main() -> None:
        async with (
            at(shared_gateway.url, name) as (polling, project),
            DocumentMirror(polling, project, "a.md") as one,
            DocumentMirror(polling, project, "a.md") as other,
        ):
            one.awareness.set_local_state({"name": "bob"})
            other.awareness.set_local_state({"name": "eve"})
            one.doc.get("content", type=pycrdt.Text).insert(0, "x")
            await one.synced()
            await until(one.awareness, "eve")
            await until(other.awareness, "bob")

    asyncio.run(main())
