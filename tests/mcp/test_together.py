"""A person who types and an agent that edits, in one file, by turns and at once: nothing is lost."""

from collections.abc import Callable

import httpx

from tests.live.clients import put
from tests.live.editors import Editor
from tests.mcp.agents import agent_over_http
from tests.mcp.conftest import run, text
from tests.support.server import GatewayProcess

_ROUNDS = 100


def test_a_hundred_rounds_of_a_person_and_an_agent(
    gateway: GatewayProcess, project: httpx.Client, name: str, open_editor: Callable[..., Editor]
) -> None:
    put(project, "a.md", "# Notes\nagent: 0\n")
    person = open_editor(gateway, name, "a.md").synced()

    async def main() -> None:
        async with agent_over_http(gateway, name) as agent:
            await agent.do("read_file", path="a.md")
            for number in range(1, _ROUNDS + 1):
                # The keys are on their way while the agent edits, and the agent does not read again.
                person.type(f"person {number}\n")
                await agent.do(
                    "edit_file", path="a.md", old_string=f"agent: {number - 1}\n", new_string=f"agent: {number}\n"
                )
                if number % 10 == 0:
                    person.until_holds(f"agent: {number}\n")

    run(main)
    whole = "# Notes\n" + f"agent: {_ROUNDS}\n" + "".join(f"person {number}\n" for number in range(1, _ROUNDS + 1))
    person.until_text(whole)
    late = open_editor(gateway, name, "a.md").synced()
    late.until_text(whole)


def test_a_hundred_whole_texts_beside_a_person(
    gateway: GatewayProcess, project: httpx.Client, name: str, open_editor: Callable[..., Editor]
) -> None:
    put(project, "a.md", "---\n")
    person = open_editor(gateway, name, "a.md").synced()

    async def main() -> None:
        content, version = "---\n", 1
        async with agent_over_http(gateway, name) as agent:
            for number in range(1, _ROUNDS + 1):
                person.type(f"person {number}\n")
                content = f"agent {number}\n{content}"
                written = await agent.do("write_file", path="a.md", text=content, base_version=version)
                version = int(written.partition("(version ")[2].partition(")")[0])
                content = text(project, "a.md", at_version=version)

    run(main)
    own = "".join(f"agent {number}\n" for number in range(_ROUNDS, 0, -1))
    typed = "".join(f"person {number}\n" for number in range(1, _ROUNDS + 1))
    person.until_text(f"{own}---\n{typed}")
