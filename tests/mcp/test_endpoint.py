"""`/mcp`: whom it lets in, to what, and how it ends."""

import contextlib
import subprocess
import sys
from pathlib import Path

import anyio
import httpx
import pytest

from tests.access.conftest import Subject, bearer
from tests.mcp.agents import ToolFailed, agent_over_http, agent_over_stdio
from tests.mcp.conftest import run
from tests.support.server import GatewayProcess

_LIST = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
_ACCEPT = {"Accept": "application/json, text/event-stream"}


def ask(gateway: GatewayProcess, query: str, **headers: str) -> httpx.Response:
    return httpx.post(f"{gateway.url}/mcp{query}", json=_LIST, headers={**_ACCEPT, **headers})


def test_the_url_names_the_project(gateway: GatewayProcess) -> None:
    assert ask(gateway, "?project=demo").status_code == 200
    for query, code in (
        ("", "invalid_parameter"),
        ("?project=a&project=b", "invalid_parameter"),
        ("?project=..", "invalid_project"),
    ):
        answer = ask(gateway, query)
        assert (answer.status_code, answer.json()["code"]) == (400, code)
    answer = httpx.get(f"{gateway.url}/mcp?project=demo", headers=_ACCEPT)
    assert (answer.status_code, answer.headers["Allow"]) == (405, "POST")


def test_no_page_of_another_site_may_ask(gateway: GatewayProcess) -> None:
    answer = ask(gateway, "?project=demo", Origin="http://evil.example")
    assert (answer.status_code, answer.json()["code"]) == (403, "origin_not_allowed")
    answer = ask(gateway, "?project=demo", Host="evil.example")
    assert (answer.status_code, answer.json()["code"]) == (421, "host_not_allowed")


def test_it_is_not_there_and_its_package_not_imported_where_nobody_asked(tmp_path: Path) -> None:
    with GatewayProcess(tmp_path / "gateway.db") as plain:
        assert ask(plain, "?project=demo").status_code == 404
    program = "import sys, gateway.app, gateway.cli.main; sys.exit('mcp' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


def test_the_credential_decides(guarded: GatewayProcess, name: str) -> None:
    writer = bearer("ann", projects={name: "write"})
    reader = bearer("bob", projects={name: {"scope": "read", "paths": ["docs/"]}})
    stranger = bearer("eve", projects={"other": "admin"})
    answer = ask(guarded, f"?project={name}")
    assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert ask(guarded, f"?project={name}", Authorization=f"Bearer {stranger}").status_code == 404

    async def main() -> None:
        async with agent_over_http(guarded, name, token=writer) as agent:
            for path in ("docs/a.md", "secret.md"):
                await agent.do("write_file", path=path, text="one\n")
            assert "\tann" in await agent.do("history", path="secret.md")
        async with agent_over_stdio(guarded, name, "--token", writer, "--author", "claude-code") as agent:
            await agent.do("read_file", path="docs/a.md")
        async with agent_over_http(guarded, name, token=reader) as agent:
            assert (await agent.do("list_files")).startswith("docs/a.md\t")
            assert [each.name for each in (await agent.client.list_resources()).resources] == ["docs/a.md"]
            for tool, arguments in (
                ("read_file", {"path": "secret.md"}),
                ("history", {"path": "secret.md"}),
            ):
                with pytest.raises(ToolFailed, match="file_not_found"):
                    await agent.do(tool, **arguments)
            with pytest.raises(ToolFailed, match="forbidden"):
                await agent.do("edit_file", path="docs/a.md", old_string="one", new_string="two")
            await agent.do("read_file", path="docs/a.md")

    run(main)
    with Subject(guarded, name, writer) as ann:
        clients = ann.get("/presence/docs/a.md").json()["clients"]
        # Under the name of the credential, whatever the program calls itself; and each once.
        assert sorted((each["subject"], each["state"]["user"]["name"]) for each in clients) == [
            ("ann", "ann"),
            ("bob", "bob"),
        ]


def test_a_stopping_gateway_ends_the_streams(tmp_path: Path) -> None:
    with GatewayProcess(tmp_path / "gateway.db", GATEWAY_MCP="true") as gateway:
        with gateway.client() as project:
            project.put("/files/a.md", content="x", headers={"Content-Type": "text/plain"})

        async def main() -> None:
            with anyio.fail_after(120):
                async with (
                    agent_over_http(gateway, "demo", mode="2026-07-28") as agent,
                    agent.client.listen(resources_list_changed=True) as events,
                ):
                    await anyio.to_thread.run_sync(gateway.stop)
                    with contextlib.suppress(Exception):  # how it hears of it is the client's own affair
                        assert [event async for event in events] == []

        run(main)
        assert not any("Traceback" in line for line in gateway.log)
