"""What the tools do, by HTTP and by stdin and stdout, in the protocol of today and in that of before."""

import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest

from tests.live.clients import put
from tests.mcp.agents import Agent, ToolFailed, agent_over_http, agent_over_stdio
from tests.mcp.conftest import delete, put_as, run, text
from tests.support.server import GatewayProcess

Open = Callable[..., contextlib.AbstractAsyncContextManager[Agent]]


@contextlib.asynccontextmanager
async def _stdio(gateway: GatewayProcess, project: str) -> AsyncIterator[Agent]:
    async with agent_over_stdio(gateway, project, "--author", "claude-code") as agent:
        yield agent


@contextlib.asynccontextmanager
async def _legacy(gateway: GatewayProcess, project: str) -> AsyncIterator[Agent]:
    async with agent_over_http(gateway, project, mode="legacy") as agent:
        yield agent


@pytest.fixture(params=[agent_over_http, _legacy, _stdio], ids=["http", "legacy", "stdio"])
def work(request: pytest.FixtureRequest, gateway: GatewayProcess, name: str) -> Callable[..., Any]:
    """Lets an agent work in the project."""

    def start(do: Callable[[Agent], Any]) -> Any:
        async def main() -> Any:
            async with request.param(gateway, name) as agent:
                return await do(agent)

        return run(main)

    return start


def test_an_agent_works_in_a_project_that_is_not_there_yet(work: Callable[..., Any], project: httpx.Client) -> None:
    async def do(agent: Agent) -> None:
        assert await agent.do("list_files") == "There are no files."
        assert await agent.do("write_file", path="docs/plan.md", text="one\ntwo\nthree\n") == (
            "docs/plan.md is written (version 1)."
        )
        assert await agent.do("read_file", path="docs/plan.md", offset=2, limit=1) == (
            "docs/plan.md, version 1, lines 2 to 2 of 3. Read on with offset=3.\n     2\ttwo"
        )
        edited = await agent.do("edit_file", path="docs/plan.md", old_string="two", new_string="2")
        assert edited == "docs/plan.md is edited (version 2)."
        assert (await agent.do("list_files", prefix="docs/")).startswith("docs/plan.md\tversion 2\t")
        past = (await agent.do("history", path="docs/plan.md")).splitlines()
        assert [line.split("\t")[::2] for line in past] == [["version 2", "claude-code"], ["version 1", "claude-code"]]
        await agent.do("restore", path="docs/plan.md", version=1)
        assert text(project, "docs/plan.md") == "one\ntwo\nthree\n"
        await agent.do("move_file", source="docs/plan.md", destination="plan.md")
        assert text(project, "plan.md") == "one\ntwo\nthree\n"
        await agent.do("delete_file", path="plan.md")
        with pytest.raises(ToolFailed, match="file_deleted"):
            await agent.do("read_file", path="plan.md")

    work(do)


def test_an_edit_keeps_what_others_wrote_and_tells_of_it(work: Callable[..., Any], project: httpx.Client) -> None:
    async def do(agent: Agent) -> None:
        put(project, "a.md", "one\ntwo\nthree\n")
        await agent.do("read_file", path="a.md")
        put(project, "a.md", "one, by ann\ntwo\nthree\n")
        edited = await agent.do("edit_file", path="a.md", old_string="three", new_string="3")
        assert text(project, "a.md") == "one, by ann\ntwo\n3\n"
        assert "Others have changed the file since you read version 1" in edited
        assert "+one, by ann" in edited
        assert "+3" not in edited
        again = await agent.do("edit_file", path="a.md", old_string="two", new_string="2")
        assert again == "a.md is edited (version 4)."

    work(do)


def test_an_edit_that_does_not_fit_is_refused_with_the_difference(
    work: Callable[..., Any], project: httpx.Client
) -> None:
    async def do(agent: Agent) -> None:
        put(project, "a.md", "one\ntwo\ntwo\n")
        await agent.do("read_file", path="a.md")
        with pytest.raises(ToolFailed, match="found 2 times"):
            await agent.do("edit_file", path="a.md", old_string="two", new_string="2")
        put(project, "a.md", "1\ntwo\ntwo\n")
        with pytest.raises(ToolFailed) as refused:
            await agent.do("edit_file", path="a.md", old_string="one", new_string="1st")
        assert "found 0 times" in str(refused.value)
        assert "-one\n+1\n" in str(refused.value)
        assert text(project, "a.md") == "1\ntwo\ntwo\n"
        await agent.do("edit_file", path="a.md", old_string="two", new_string="2", replace_all=True)
        assert text(project, "a.md") == "1\n2\n2\n"

    work(do)


def test_a_whole_text_is_merged_by_the_version_that_was_read(work: Callable[..., Any], project: httpx.Client) -> None:
    async def do(agent: Agent) -> None:
        put(project, "a.md", "one\ntwo\n")
        with pytest.raises(ToolFailed, match="is there already: read it"):
            await agent.do("write_file", path="a.md", text="x")
        put(project, "a.md", "one\ntwo\nby ann\n")
        await agent.do("write_file", path="a.md", text="# Plan\none\ntwo\n", base_version=1)
        assert text(project, "a.md") == "# Plan\none\ntwo\nby ann\n"

    work(do)


def test_an_agent_is_told_what_changed_since_it_asked_last(work: Callable[..., Any], project: httpx.Client) -> None:
    async def do(agent: Agent) -> None:
        put(project, "a.md", "one\n")
        assert "from now on" in await agent.do("what_changed")
        put_as("ann", project, "a.md", "one\ntwo\n")
        changed = await agent.do("what_changed")
        assert "a.md: modified by ann, version 2" in changed
        assert "+two" in changed
        assert (await agent.do("what_changed")).startswith("Nothing has changed.")
        cursor = changed.rpartition("Cursor: ")[2]
        delete(project, "a.md")
        assert "a.md: deleted" in await agent.do("what_changed", since=cursor)

    work(do)


def test_what_a_tool_does_not_know_is_refused(work: Callable[..., Any], project: httpx.Client) -> None:
    async def do(agent: Agent) -> None:
        put(project, "a.md", "one\n")
        for arguments in ({}, {"path": "a.md", "ofset": 2}, {"path": 3}, {"path": "a.md", "offset": 0}):
            with pytest.raises(ToolFailed, match="read_file: "):
                await agent.do("read_file", **arguments)
        with pytest.raises(ToolFailed, match="invalid_path"):
            await agent.do("write_file", path="a//b", text="x")

    work(do)


def test_tools_say_what_they_may_do(work: Callable[..., Any]) -> None:
    async def do(agent: Agent) -> None:
        tools = {tool.name: tool for tool in (await agent.client.list_tools()).tools}
        hints = {name: tool.annotations for name, tool in tools.items() if tool.annotations is not None}
        reading = {name for name, hint in hints.items() if hint.read_only_hint}
        assert reading == {"list_files", "read_file", "what_changed", "history"}
        assert {name for name, hint in hints.items() if not hint.destructive_hint} == reading
        assert "edit_file" not in {name for name, hint in hints.items() if hint.idempotent_hint}
        assert all(tool.input_schema["additionalProperties"] is False for tool in tools.values())

    work(do)


def test_an_agent_is_shown_in_the_file_that_it_reads_and_writes(
    work: Callable[..., Any], project: httpx.Client
) -> None:
    def shown(path: str) -> list[tuple[str, bool]]:
        clients = project.get(f"/presence/{path}").json()["clients"]
        return [(client["state"]["user"]["name"], "cursor" in client["state"]) for client in clients]

    async def do(agent: Agent) -> None:
        put(project, "a.md", "one\n")
        await agent.do("read_file", path="a.md")
        assert shown("a.md") == [("claude-code", False)]
        await agent.do("edit_file", path="a.md", old_string="one", new_string="two")
        assert shown("a.md") == [("claude-code", True)]

    work(do)


def test_rich_text_is_read_and_edited_as_markdown(work: Callable[..., Any], project: httpx.Client) -> None:
    markdown = {"Content-Type": "text/markdown"}
    project.put("/files/page", content=b"# Plan\n\nBuy mlk.\n", headers=markdown).raise_for_status()

    async def do(agent: Agent) -> None:
        assert (await agent.do("read_file", path="page")).endswith("     1\t# Plan\n     2\t\n     3\tBuy mlk.")
        await agent.do("edit_file", path="page", old_string="mlk", new_string="**milk**")
        await agent.do("write_file", path="page", text="# Plan\n\nBuy mlk.\n\n- bread\n", base_version=1)

    work(do)
    assert project.get("/files/page?format=markdown").text == "# Plan\n\nBuy **milk**.\n\n- bread\n"
