"""Stock clients of npm: the command line of the MCP inspector, and the official TypeScript clients."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.mcp.tools import BY_NAME
from tests.live.clients import put
from tests.mcp.conftest import text
from tests.support.server import GatewayProcess

_FOLDER = Path(__file__).parent
_INSPECTOR = "node_modules/@modelcontextprotocol/inspector-cli/build"

_CALLS: list[tuple[str, dict[str, Any]]] = [
    ("write_file", {"path": "a.md", "text": "one\n"}),
    ("what_changed", {}),
    ("read_file", {"path": "a.md"}),
    ("edit_file", {"path": "a.md", "old_string": "one", "new_string": "two"}),
    ("history", {"path": "a.md"}),
    ("restore", {"path": "a.md", "version": 1}),
    ("move_file", {"source": "a.md", "destination": "b.md"}),
    ("delete_file", {"path": "b.md"}),
    ("list_files", {}),
]
"""A call of each tool, in the order of a session."""


@pytest.fixture(scope="session")
def packages() -> Path:
    """The folder in which the packages of npm are installed."""
    if shutil.which("node") is None:
        pytest.skip("Node.js is not installed")
    if not (_FOLDER / "node_modules" / "@modelcontextprotocol").is_dir():
        subprocess.run(["npm", "ci", "--no-audit", "--no-fund"], cwd=_FOLDER, check=True, capture_output=True)
    return _FOLDER


def _over_stdio(gateway: GatewayProcess, name: str) -> list[str]:
    return [sys.executable, "-m", "gateway", "mcp", "--url", gateway.url, "--project", name]


def _inspect(packages: Path, target: list[str], method: str, *options: str) -> Any:
    # Its own executable is for the inspector as a whole, and this file finds its version only in its own folder.
    command = ["node", "index.js", *target, "--method", method, *options]
    done = subprocess.run(command, cwd=packages / _INSPECTOR, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def _http(gateway: GatewayProcess, name: str) -> list[str]:
    return [f"{gateway.url}/mcp?project={name}", "--transport", "http"]


def test_the_inspector_calls_each_tool(packages: Path, gateway: GatewayProcess, name: str) -> None:
    target = _http(gateway, name)
    (template,) = _inspect(packages, target, "resources/templates/list")["resourceTemplates"]
    assert template["uriTemplate"] == f"yjs://{name}/{{+path}}"
    tools = {tool["name"]: tool for tool in _inspect(packages, target, "tools/list")["tools"]}
    assert set(tools) == set(BY_NAME) == {tool for tool, _ in _CALLS}
    assert tools["read_file"]["annotations"]["readOnlyHint"] is True
    assert tools["delete_file"]["annotations"]["destructiveHint"] is True
    for tool, arguments in _CALLS:
        options = [f"{name}={json.dumps(value)}" for name, value in arguments.items()]
        given = ["--tool-arg", *options] if options else []
        result = _inspect(packages, target, "tools/call", "--tool-name", tool, *given)
        assert result["isError"] is False, result


@pytest.mark.parametrize("door", [_http, _over_stdio], ids=["http", "stdio"])
def test_the_inspector_reads_resources(
    packages: Path, gateway: GatewayProcess, project: httpx.Client, name: str, door: Callable[..., list[str]]
) -> None:
    put(project, "a.md", "one\n")
    target, uri = door(gateway, name), f"yjs://{name}/a.md"
    (listed,) = _inspect(packages, target, "resources/list")["resources"]
    assert (listed["uri"], listed["mimeType"]) == (uri, "text/markdown")
    read = _inspect(packages, target, "resources/read", "--uri", uri)
    assert read["contents"] == [{"uri": uri, "mimeType": "text/markdown", "text": "one\n"}]


@pytest.mark.parametrize("transport", ["http", "stdio"])
def test_the_typescript_client_calls_each_tool_and_is_told_of_changes(
    packages: Path, gateway: GatewayProcess, project: httpx.Client, name: str, transport: str
) -> None:
    uri = f"yjs://{name}/theirs.md"
    python, *arguments = _over_stdio(gateway, name)
    door = {"url": _http(gateway, name)[0]} if transport == "http" else {"command": python, "args": arguments}
    command = ["node", "clients.mjs", json.dumps({**door, "uri": uri})]
    with subprocess.Popen(
        command, cwd=packages, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as client:
        assert client.stdin is not None
        heard: list[str] = []

        def line() -> dict[str, Any]:
            assert client.stdout is not None
            return dict(json.loads(client.stdout.readline()))

        def hear(*awaited: str) -> None:
            while not set(awaited) <= set(heard):
                heard.append(line()["heard"])
            heard.clear()

        try:
            assert set(line()["tools"]) == set(BY_NAME)
            # The project exists only from here on.
            put(project, "theirs.md", "one\n")
            hear("list", uri)
            put(project, "theirs.md", "two\n")
            hear(uri)
            for tool, given in _CALLS:
                print(json.dumps({"name": tool, "arguments": given}), file=client.stdin)
                while "heard" in (result := line()):
                    heard.append(result["heard"])
                assert result["failed"] is False, result
            hear("list")
        finally:
            client.stdin.close()
            client.wait(120)
    assert text(project, "theirs.md") == "two\n"
