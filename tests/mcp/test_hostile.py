"""`/mcp` asked wrongly, or while the gateway stops: it answers with the error that the protocol has for that, does what
it said that it did, and writes no traceback into its log."""

import json
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from mcp_types import INVALID_PARAMS

from gateway.mcp.long_texts import put_back_long_texts, take_out_long_texts
from gateway.wire.json import MOST_VALUES
from tests.live.clients import put
from tests.mcp.agents import ToolFailed, agent_over_http
from tests.mcp.conftest import run
from tests.support.server import GatewayProcess

_HEADERS = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}


def post(gateway: GatewayProcess, name: str, body: Any, **headers: str) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body)
    url = f"{gateway.url}/mcp?project={name}"
    return httpx.post(url, content=content, headers={**_HEADERS, **headers}, timeout=120)


def ask(gateway: GatewayProcess, name: str, method: str, **params: Any) -> Any:
    answer = post(gateway, name, {"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
    return json.loads(answer.text.partition("data: ")[2])


def test_a_message_that_the_protocol_does_not_know_is_refused(gateway: GatewayProcess, name: str) -> None:
    ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    revision = {"MCP-Protocol-Version": "2025-11-25"}
    assert post(gateway, name, ping, **revision).status_code == 200
    assert post(gateway, name, {"jsonrpc": "2.0", "method": "notifications/initialized"}).status_code == 202
    assert post(gateway, name, [ping, ping], **revision).status_code == 400  # no revision since 2025-06-18 has batches
    assert post(gateway, name, ping, **{"MCP-Protocol-Version": "1999-01-01"}).status_code == 400
    assert post(gateway, name, b"{").status_code == 400
    assert post(gateway, name, b'{"a":' * 100_000).status_code == 400
    assert post(gateway, name, b" " * 17_000_000).status_code == 413
    for method in ("GET", "DELETE"):  # there are no sessions, so no stream of one, and none to end
        answer = httpx.request(method, f"{gateway.url}/mcp?project={name}", headers=_HEADERS)
        assert (answer.status_code, answer.headers["Allow"]) == (405, "POST")


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "a.md",
        "file:///etc/passwd",
        "yjs://other/a.md",
        "yjs://{}",
        "yjs://{}/",
        "yjs://{}@other/a.md",
        "yjs://{}//a.md",
        "yjs://{}/../other/a.md",
        "yjs://{}/%2e%2e/other/a.md",
        "yjs://{}/..%2fa.md",
        "yjs://{}/%00",
        "yjs://{}/%ff",
        "yjs://{}/a.md?format=update",
        "yjs://{}/a.md#there",
        pytest.param("yjs://{}/" + "x" * 100_000, id="long"),
    ],
)
def test_a_uri_names_a_file_of_the_project_or_is_refused(
    gateway: GatewayProcess, project: httpx.Client, name: str, uri: str
) -> None:
    put(project, "a.md", "one\n")
    assert ask(gateway, name, "resources/read", uri=uri.format(name))["error"]["code"] == INVALID_PARAMS


def test_a_cursor_is_one_of_an_earlier_answer(gateway: GatewayProcess, project: httpx.Client, name: str) -> None:
    put(project, "a.md", "one\n")
    for cursor in ("", "../a", "\0", "x" * 100_000, 5):
        assert ask(gateway, name, "resources/list", cursor=cursor)["error"]["code"] == INVALID_PARAMS


def test_arguments_that_no_file_has_are_refused(gateway: GatewayProcess, project: httpx.Client, name: str) -> None:
    put(project, "a.md", "one\n")
    long = "x" * 100_000

    async def main() -> None:
        async with agent_over_http(gateway, name) as agent:
            for path in ("../a.md", "/a.md", "a/../a.md", "\0", long):
                for tool, arguments in (
                    ("read_file", {"path": path}),
                    ("write_file", {"path": path, "text": ""}),
                    ("move_file", {"source": "a.md", "destination": path}),
                ):
                    with pytest.raises(ToolFailed):
                        await agent.do(tool, **arguments)
            calls: tuple[tuple[str, dict[str, object]], ...] = (
                ("list_files", {"prefix": long}),
                ("list_files", {"after": long}),
                ("what_changed", {"since": long}),
                ("what_changed", {"prefix": long}),
                ("restore", {"path": "a.md", "version": 10**30}),
                ("write_file", {"path": "a.md", "text": "", "base_version": 10**30}),
                ("read_file", {"path": "a.md", "file": "a.md"}),
            )
            for called, given in calls:
                with pytest.raises(ToolFailed):
                    await agent.do(called, **given)
            assert (await agent.do("list_files")).startswith("a.md\tversion 1\t")

    run(main)
    assert not any("Traceback" in line for line in gateway.log)


def test_one_read_answers_a_bounded_text(gateway: GatewayProcess, project: httpx.Client, name: str) -> None:
    put(project, "lines.md", "x\n" * 100_000)
    put(project, "line.md", "x" * 1_000_000 + "\nnext\n")

    async def main() -> None:
        async with agent_over_http(gateway, name) as agent:
            answer = await agent.do("read_file", path="lines.md", limit=10**9)
            assert len(answer) < 300_000
            head, *lines = answer.splitlines()
            assert head.endswith(f" Read on with offset={len(lines) + 1}.")
            answer = await agent.do("read_file", path="line.md")
            assert len(answer) < 300_000
            assert answer.endswith(" [cut: the line has 1000000 characters]")
            assert "next" in await agent.do("read_file", path="line.md", offset=2)

    run(main)


def test_a_long_file_is_no_resource_and_is_read_in_parts(
    gateway: GatewayProcess, project: httpx.Client, name: str
) -> None:
    put(project, "long.md", "line\n" * 210_000)
    put(project, "short.md", "line\n" * 200_000)
    error = ask(gateway, name, "resources/read", uri=f"yjs://{name}/long.md")["error"]
    assert (error["code"], "read_file" in error["message"]) == (INVALID_PARAMS, True)
    (read,) = ask(gateway, name, "resources/read", uri=f"yjs://{name}/short.md")["result"]["contents"]
    assert read["text"] == "line\n" * 200_000


def test_a_write_that_is_answered_while_the_gateway_stops_is_there_afterwards(tmp_path: Path) -> None:
    done: list[str] = []

    async def write(gateway: GatewayProcess, path: str) -> None:
        try:
            async with agent_over_http(gateway, "demo", mode="2026-07-28") as agent:
                await agent.do("write_file", path=path, text=path)
                done.append(path)
        except Exception:  # the connection may be refused, or end without an answer
            return

    async def main(gateway: GatewayProcess) -> None:
        with anyio.fail_after(120):
            await write(gateway, "first.md")
            async with anyio.create_task_group() as group:
                for number in range(16):
                    group.start_soon(write, gateway, f"{number}.md")
                assert await anyio.to_thread.run_sync(gateway.stop) == 0

    with GatewayProcess(tmp_path / "gateway.db", GATEWAY_MCP="true") as gateway:
        run(lambda: main(gateway))
        assert not any("Traceback" in line for line in gateway.log)
        assert "first.md" in done
        gateway.start()
        with gateway.client() as project:
            for path in done:
                assert project.get(f"/files/{path}", params={"format": "text"}).text == path


def test_a_long_text_is_not_decoded_by_the_package_and_is_written_as_it_is(
    gateway: GatewayProcess, project: httpx.Client, name: str
) -> None:
    text = '"\n\\\t\u00e9\U0001f389' * 100_000
    arguments = {"path": "a.md", "text": text}
    message = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tools/call",
        "params": {"name": "write_file", "arguments": arguments},
    }
    for body in (json.dumps(message).encode(), json.dumps(message, ensure_ascii=False).encode()):
        short, texts = take_out_long_texts(body)
        assert len(short) < 1000
        assert list(texts.values()) == [text.encode()]
        given = json.loads(short)["params"]["arguments"]
        assert put_back_long_texts(given, texts) == arguments
        assert put_back_long_texts(given, texts, "text") == given
        assert given["text"] in texts
    answer = post(gateway, name, message)
    assert "written (version 1)" in answer.text
    assert project.get("/files/a.md", params={"format": "text"}).text == text
    long = "x" * 2**18
    for odd in (
        {"name": long, "arguments": {}},
        {"name": "read_file", "arguments": {"path": long}},
        {"name": "read_file", "arguments": {"path": [{"path": long}]}},
        {"name": "read_file", "arguments": {long: 1}},
        {"name": "read_file", "arguments": {"path": "a.md", "limit": 10**200}, "more": long},
        {"name": "read_file", "arguments": {"path": "a.md", "limit": 1e300}, "more": long},
    ):
        assert post(gateway, name, {**message, "params": odd}).status_code in (200, 400)
    assert post(gateway, name, b"[" * 2**19).status_code == 400
    assert not any("Traceback" in line for line in gateway.log)


def test_a_message_of_very_many_values_is_refused(gateway: GatewayProcess, name: str) -> None:
    arguments = {f"k{number}": 1 for number in range(MOST_VALUES)}
    params = {"name": "read_file", "arguments": arguments}
    answer = post(gateway, name, {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_body")
