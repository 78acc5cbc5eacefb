"""A gateway that serves the Model Context Protocol, and agents that use it by the official client."""

import asyncio
import uuid
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

import httpx
import pytest

from tests.access.keys import SECRET
from tests.live.conftest import editor_host, open_editor
from tests.support.server import GatewayProcess

pytest.importorskip("mcp")
T = TypeVar("T")

__all__ = ["editor_host", "open_editor"]


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    with GatewayProcess(tmp_path_factory.mktemp("mcp") / "gateway.db", GATEWAY_MCP="true") as process:
        yield process


@pytest.fixture(scope="session")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    options = {"GATEWAY_MCP": "true", "GATEWAY_AUTH": "required", "GATEWAY_JWT_KEY": SECRET}
    with GatewayProcess(tmp_path_factory.mktemp("mcp") / "guarded.db", **options) as process:
        yield process


@pytest.fixture
def name() -> str:
    """The name of a project of the test's own."""
    return f"project-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def project(gateway: GatewayProcess, name: str) -> Iterator[httpx.Client]:
    with gateway.client(name) as client:
        yield client


def run(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    return asyncio.run(work())


def text(project: httpx.Client, path: str, **parameters: Any) -> str:
    """The text of a file."""
    return project.get(f"/files/{path}", params={"format": "text", **parameters}).raise_for_status().text


def delete(project: httpx.Client, path: str) -> None:
    project.delete(f"/files/{path}").raise_for_status()


def put_as(author: str, project: httpx.Client, path: str, content: str) -> None:
    headers = {"Content-Type": "text/plain", "X-Author": author}
    project.put(f"/files/{path}", content=content, headers=headers).raise_for_status()
