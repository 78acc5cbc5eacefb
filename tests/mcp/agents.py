"""Agents: the official client of the protocol, over HTTP and over stdin and stdout."""

import contextlib
import sys
from collections.abc import AsyncIterator
from typing import Any

import httpx2
from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client
from mcp_types import Implementation, TextContent

from tests.support.server import GatewayProcess


class ToolFailed(Exception):
    """A tool has refused; the text says why."""


class Agent:
    """An agent at work."""

    def __init__(self, client: Client) -> None:
        self.client = client

    async def do(self, tool: str, /, **arguments: Any) -> str:
        """What a tool answers."""
        result = await self.client.call_tool(tool, arguments)
        (content,) = result.content
        assert isinstance(content, TextContent)
        if result.is_error:
            raise ToolFailed(content.text)
        return content.text


@contextlib.asynccontextmanager
async def agent_over_http(
    gateway: GatewayProcess, project: str, *, mode: Any = "auto", name: str = "claude-code", token: str | None = None
) -> AsyncIterator[Agent]:
    headers = {"User-Agent": f"{name}/1.0"} | ({} if token is None else {"Authorization": f"Bearer {token}"})
    url = f"{gateway.url}/mcp?project={project}"
    async with httpx2.AsyncClient(headers=headers, timeout=120) as http:
        transport = streamable_http_client(url, http_client=http)
        async with Client(transport, mode=mode, client_info=Implementation(name=name, version="1.0")) as client:
            yield Agent(client)


@contextlib.asynccontextmanager
async def agent_over_stdio(gateway: GatewayProcess, project: str, *options: str, **more: Any) -> AsyncIterator[Agent]:
    arguments = ["-m", "gateway", "mcp", "--url", gateway.url, "--project", project, *options]
    async with Client(StdioServerParameters(command=sys.executable, args=arguments), **more) as client:
        yield Agent(client)
