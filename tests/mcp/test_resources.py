"""Files as resources, and the notifications of their changes."""

from typing import Any

import anyio
import httpx
import mcp_types as types
import pytest
from mcp.client.subscriptions import ResourcesListChanged, ResourceUpdated
from mcp.shared.exceptions import MCPDeprecationWarning, MCPError

from tests.live.clients import put
from tests.mcp.agents import agent_over_http, agent_over_stdio
from tests.mcp.conftest import delete, run
from tests.support.server import GatewayProcess

_PATIENCE_S = 120


@pytest.mark.parametrize("opened", [agent_over_http, agent_over_stdio], ids=["http", "stdio"])
def test_files_are_resources(opened: Any, gateway: GatewayProcess, project: httpx.Client, name: str) -> None:
    async def main() -> None:
        async with opened(gateway, name) as agent:
            client = agent.client
            assert (await client.list_resources()).resources == []
            put(project, "docs/ä b.md", "one\n")
            put(project, "run.py", "print()\n")
            listed = (await client.list_resources()).resources
            assert [(each.name, each.mime_type) for each in listed] == [
                ("docs/ä b.md", "text/markdown"),
                ("run.py", "text/x-python"),
            ]
            assert listed[0].uri == f"yjs://{name}/docs/%C3%A4%20b.md"
            (content,) = (await client.read_resource(listed[0].uri)).contents
            assert isinstance(content, types.TextResourceContents)
            assert content.text == "one\n"
            for uri in (f"yjs://{name}/nothing.md", "yjs://other/run.py", "file:///etc/passwd"):
                with pytest.raises(MCPError):
                    await client.read_resource(uri)

    run(main)


@pytest.mark.parametrize("opened", [agent_over_http, agent_over_stdio], ids=["http", "stdio"])
def test_who_listens_is_told_of_changes(opened: Any, gateway: GatewayProcess, project: httpx.Client, name: str) -> None:
    async def main() -> None:
        put(project, "a.md", "one\n")
        put(project, "b.md", "one\n")
        uri = f"yjs://{name}/a.md"
        async with opened(gateway, name, mode="2026-07-28") as agent:
            listening = agent.client.listen(resources_list_changed=True, resource_subscriptions=[uri])
            with anyio.fail_after(_PATIENCE_S):
                async with listening as events:
                    put(project, "b.md", "nobody asked for it\n")
                    put(project, "a.md", "two\n")
                    assert await anext(events) == ResourceUpdated(uri=uri)
                    put(project, "c.md", "new\n")
                    assert await anext(events) == ResourcesListChanged()
                    delete(project, "b.md")
                    assert await anext(events) == ResourcesListChanged()

    run(main)


def test_a_session_of_the_protocol_before_is_told_of_what_it_subscribed_to(
    gateway: GatewayProcess, project: httpx.Client, name: str
) -> None:
    async def main() -> None:
        put(project, "a.md", "one\n")
        uri = f"yjs://{name}/a.md"
        told: list[str] = []
        heard = anyio.Event()

        async def hear(message: Any) -> None:
            if isinstance(message, types.ResourceUpdatedNotification):
                told.append(str(message.params.uri))
            elif isinstance(message, types.ResourceListChangedNotification):
                told.append("list")
                heard.set()

        async with agent_over_stdio(gateway, name, mode="legacy", message_handler=hear) as agent:
            with pytest.warns(MCPDeprecationWarning):
                await agent.client.subscribe_resource(uri)
            put(project, "a.md", "two\n")
            put(project, "b.md", "new\n")
            with anyio.fail_after(_PATIENCE_S):
                await heard.wait()
        assert told == [uri, "list"]

    run(main)


def test_a_client_may_listen_before_the_project_exists(
    gateway: GatewayProcess, project: httpx.Client, name: str
) -> None:
    async def main() -> None:
        async with agent_over_http(gateway, name, mode="2026-07-28") as agent:
            with anyio.fail_after(_PATIENCE_S):
                async with agent.client.listen(resources_list_changed=True) as events:
                    put(project, "a.md", "one\n")
                    assert await anext(events) == ResourcesListChanged()

    run(main)
