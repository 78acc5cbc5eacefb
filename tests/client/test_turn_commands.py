"""The commands on turns, and those on files that came later, as people run them."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.client.test_commands import Commands
from tests.support.server import GatewayProcess


@pytest.fixture
def commands(shared_gateway: GatewayProcess, tmp_path: Path) -> Any:
    commands = Commands(shared_gateway, tmp_path)
    with commands.other:
        yield commands


class Agent:
    """An agent that writes a turn, block by block."""

    def __init__(self, commands: Commands, prompt: str) -> None:
        self._client = commands.other
        self.session = self._post("sessions", {"title": "a talk"})["id"]
        self.turn = self._post(f"sessions/{self.session}/turns", {"prompt": prompt})["id"]
        self._path = f"sessions/{self.session}/turns/{self.turn}"

    def _post(self, path: str, body: Any) -> Any:
        return self._client.post(path, json=body).raise_for_status().json()

    def print(self, line: str, *, final: bool = False) -> None:
        self._client.post(
            f"{self._path}/output", content=line.encode(), headers={"Content-Type": "application/x-ndjson"},
            params={"dialect": "text", "final": str(final).lower()},
        ).raise_for_status()  # fmt: skip

    def write(self, *blocks: tuple[str, Any]) -> None:
        self._post(f"{self._path}/blocks", {"blocks": [{"type": kind, "content": content} for kind, content in blocks]})

    def end(self, status: str, error: str | None = None) -> None:
        self._client.patch(self._path, json={"status": status, "error": error}).raise_for_status()


def test_sessions_and_turns_are_listed_and_shown(commands: Commands) -> None:
    commands.write("a.md", "a")
    assert "no sessions" in commands.run("turn", "show", code=1).stderr.decode()
    agent = Agent(commands, "Sort the list\nplease \x1b[2J")
    agent.write(
        ("thinking", "There are two."),
        ("tool_use", {"id": "1", "name": "Read", "input": {"path": "a.md"}}),
        ("tool_result", {"tool_use_id": "1", "content": "1\n2\n3\n4\n5", "is_error": False}),
        ("text", "It is sorted."),
    )
    agent.end("failed", "no power")

    assert agent.session in commands("sessions")
    assert commands("turn", "list").split()[:3] == [agent.turn, "failed", "4"]
    shown = commands("turn", "show")
    assert shown == (
        "> Sort the list\n> please \\u001b[2J\n"
        "(thinking) There are two.\n"
        '[Read] {"path":"a.md"}\n'
        "  1\n  2\n  3\n  … 2 lines more\n"
        "It is sorted.\n"
        f"turn {agent.turn}: failed (no power)\n"
    )
    assert commands("turn", "show", agent.session, agent.turn) == shown
    assert [block["type"] for block in commands.json("turn", "show")["blocks"]][-1] == "text"


def test_a_turn_is_followed_as_it_grows_until_it_ends(commands: Commands) -> None:
    agent = Agent(commands, "Write")
    agent.print("Once ")
    command = [sys.executable, "-m", "gateway", "turn", "follow"]
    follower = subprocess.Popen(
        command, cwd=commands.folder, env=commands.environment, stdout=subprocess.PIPE, text=True
    )
    assert follower.stdout is not None
    with follower, follower.stdout:
        assert follower.stdout.readline() == "> Write\n"
        agent.print("upon a time")
        agent.print(", it ended.\n", final=True)
        assert follower.stdout.read() == f"Once upon a time, it ended.\nturn {agent.turn}: completed\n"
    assert follower.returncode == 0


def test_the_exit_code_of_follow_says_how_the_turn_ended(commands: Commands) -> None:
    agent = Agent(commands, "Try")
    agent.end("failed")
    commands("turn", "follow", code=1)
    agent = Agent(commands, "Try again")
    assert commands("turn", "cancel", agent.session) == f"turn {agent.turn}: cancelled\n"
    last = commands("turn", "follow", "--json", code=3).splitlines()[-1]
    assert json.loads(last)["status"] == "cancelled"
    assert "turn_finished" in commands.run("turn", "cancel", code=1).stderr.decode()


def test_follow_is_interrupted(commands: Commands) -> None:
    Agent(commands, "Wait")
    command = [sys.executable, "-m", "gateway", "turn", "follow"]
    with subprocess.Popen(command, env=commands.environment, stdout=subprocess.PIPE, text=True) as follower:
        assert follower.stdout is not None
        assert follower.stdout.readline() == "> Wait\n"
        follower.send_signal(signal.SIGINT)
    assert follower.returncode == 130


def test_a_text_is_edited_and_the_change_is_shown(commands: Commands) -> None:
    commands.write("a.md", "one\ntwo\none\n")
    assert "one version" in commands.run("diff", "a.md", code=1).stderr.decode()
    assert commands("edit", "a.md", "--replace", "two", "2", "--author", "ann") == "a.md: version 2\n"
    assert "edit_not_applicable" in commands.run("edit", "a.md", "--replace", "one", "1", code=1).stderr.decode()
    assert commands("edit", "a.md", "--replace", "one", "1", "--all") == "a.md: version 3\n"
    commands("edit", "a.md", "--base", "1", "--replace", "two\n", "two and three\n")
    assert commands.read("a.md").startswith("1\n2 and three\n")

    assert "-two\n+2\n" in commands("diff", "a.md", "1", "2")
    assert "+2 and three" in commands("diff", "a.md")
    assert commands.json("diff", "a.md", "1")["edits"]
    assert "ann" in commands("history", "a.md")


def test_files_and_folders_are_removed_and_what_is_missing_is_named(commands: Commands) -> None:
    for path in ("notes/a.md", "notes/deep/b.md", "notes.md", "c.md"):
        commands.write(path, path)
    dry = commands("rm", "-r", "--dry-run", "notes")
    assert dry == "notes/a.md: would be deleted\nnotes/deep/b.md: would be deleted\n"
    assert commands("rm", "-r", "notes/") == "notes/a.md: deleted\nnotes/deep/b.md: deleted\n"
    refused = commands.run("rm", "nothing.md", "c.md", code=1)
    assert refused.stdout == b"c.md: deleted\n"
    assert b"nothing.md" in refused.stderr
    assert [each["path"] for each in commands.json("ls")] == ["notes.md"]


def test_a_dry_run_of_pull_and_push_moves_nothing(commands: Commands) -> None:
    commands.write("there.md", "there")
    commands.edit("here.md", "here")
    assert commands("pull", "--dry-run", "work") == " A there.md\n"
    assert commands("push", "--dry-run", "work") == "A  here.md\n"
    assert not commands.local("there.md").exists()
    assert not commands.local(".yjs-gateway").exists()
    assert commands.read("here.md") == "404"


def test_headers_are_sent_and_what_is_none_is_refused(commands: Commands) -> None:
    commands.write("a.md", "a")
    commands("ls", "--header", "X-Route: blue", "--header", "Cookie: a=b")
    for wrong in ("no colon", "a b: c", "a: b\r\nc: d", ": x"):
        assert "Name: value" in commands.run("ls", "--header", wrong, code=2).stderr.decode().replace("\n", " ")


def test_the_version_and_completion_are_there(commands: Commands) -> None:
    assert commands("--version") == commands("version")
    assert "--install-completion" in commands("--help")


def test_a_misspelt_setting_is_warned_of(commands: Commands) -> None:
    commands.environment |= {"GATEWAY_DATABSE": "sqlite:///x.db", "GATEWAY_SERVICE_HOST": "10.0.0.1"}
    printed = commands.run("verify", "--database", "sqlite:///none.db", code=2).stderr.decode()
    assert "warning: GATEWAY_DATABSE is not a setting; do you mean GATEWAY_DATABASE?\n" in printed
    assert "SERVICE_HOST" not in printed
