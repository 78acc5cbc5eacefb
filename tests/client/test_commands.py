"""The commands on files, as people run them: in a process of their own, against a real gateway."""

import asyncio
import json
import os
import select
import signal
import subprocess
import sys
import unicodedata
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.client import GatewayClient
from gateway.client.answers import WithETag
from gateway.client.errors import NoAnswer
from gateway.client.folder.files import Folder
from gateway.client.folder.names import IgnoreRules
from gateway.client.folder.state import FolderState
from gateway.client.folder.sync import FolderSync, Outcome, Stopped
from gateway.wire.files import Receipt
from tests.support.server import GatewayProcess


class Commands:
    """`yjs-gateway` with a project of its own, and another client of that project."""

    def __init__(self, gateway: GatewayProcess, folder: Path) -> None:
        self.project = f"commands-{uuid.uuid4().hex[:12]}"
        self.folder = folder
        self.other = gateway.client(self.project)
        self.environment = {**os.environ, "GATEWAY_URL": gateway.url, "GATEWAY_PROJECT": self.project, "COLUMNS": "200"}

    def run(self, *arguments: str, code: int = 0, given: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
        result = subprocess.run(
            [sys.executable, "-m", "gateway", *arguments],
            cwd=self.folder, env=self.environment, input=given, capture_output=True, check=False,
        )  # fmt: skip
        assert result.returncode == code, (result.stdout.decode(), result.stderr.decode())
        return result

    def __call__(self, *arguments: str, code: int = 0) -> str:
        return self.run(*arguments, code=code).stdout.decode()

    def json(self, *arguments: str, code: int = 0) -> Any:
        return json.loads(self.run(*arguments, "--json", code=code).stdout)

    def write(self, path: str, text: str) -> None:
        """Write as somebody else."""
        assert self.other.put(f"files/{path}", content=text.encode(), headers={"Content-Type": "text/plain"}).is_success

    def read(self, path: str) -> str:
        """Read as somebody else."""
        answer = self.other.get(f"files/{path}", params={"format": "text"})
        return answer.text if answer.is_success else f"{answer.status_code}"

    def local(self, path: str) -> Path:
        return self.folder / "work" / path

    def edit(self, path: str, content: str | bytes) -> None:
        self.local(path).parent.mkdir(parents=True, exist_ok=True)
        self.local(path).write_bytes(content.encode() if isinstance(content, str) else content)


@pytest.fixture
def commands(shared_gateway: GatewayProcess, tmp_path: Path) -> Any:
    commands = Commands(shared_gateway, tmp_path)
    with commands.other:
        yield commands


def test_files_are_put_listed_printed_moved_and_removed(commands: Commands) -> None:
    path = "notes/a plan 🎈.md"
    (commands.folder / "plan.md").write_text("Ship it.\n")
    assert commands("put", "plan.md", path) == f"{path}: version 1\n"
    assert commands("put", "plan.md", path) == f"{path}: version 1, unchanged\n"
    commands.run("put", "-", path, given=b"Ship it now.\n")
    assert commands("cat", path) == "Ship it now.\n"
    assert commands("cat", path, "--version", "1") == "Ship it.\n"
    assert commands.json("cat", path)["text"] == "Ship it now.\n"
    (entry,) = commands.json("ls", "notes/")
    assert (entry["path"], entry["version"]) == (path, 2)
    assert path in commands("ls")
    assert commands("ls", "other/") == ""
    assert [each["version"] for each in commands.json("history", path)] == [2, 1]
    assert len(commands("history", path, "--limit", "1").splitlines()) == 1
    assert commands.json("mv", path, "b.md")["path"] == "b.md"
    assert commands("rm", "b.md") == "b.md: deleted\n"
    assert commands.json("ls") == []


def test_a_text_with_its_base_keeps_what_others_wrote_since(commands: Commands) -> None:
    commands.run("put", "-", "list.md", given=b"milk\nbread\n")
    commands.write("list.md", "milk\nbread\nbutter\n")
    result = commands.run("put", "-", "list.md", "--base", "1", given=b"Monday:\nmilk\nbread\n")
    assert result.stdout == b"list.md: version 3, merged\n"
    assert commands("cat", "list.md") == "Monday:\nmilk\nbread\nbutter\n"
    refused = commands.run("put", "-", "list.md", "--base", "0", given=b"another", code=1)
    assert b"precondition_failed" in refused.stderr
    assert commands.run("put", "-", "new.md", "--base", "0", given=b"new").stdout == b"new.md: version 1\n"


def test_rich_text_is_uploaded_and_printed_as_markdown(commands: Commands, tmp_path: Path) -> None:
    file = tmp_path / "page"
    file.write_text("# Plan\n\nBuy milk.\n")
    assert commands("put", str(file), "--markdown") == "page: version 1\n"
    file.write_text("# Plan\n\nBuy **milk**.\n")
    assert commands("put", str(file), "--markdown", "--base", "1") == "page: version 2\n"
    assert commands("cat", "page", "--format", "markdown") == "# Plan\n\nBuy **milk**.\n"
    assert commands("cat", "page", "--format", "html") == "<h1>Plan</h1>\n<p>Buy <strong>milk</strong>.</p>\n"


def test_what_was_deleted_is_listed_and_comes_back(commands: Commands) -> None:
    for text in ("one", "two"):
        (commands.folder / "a.md").write_text(text)
        commands("put", "a.md")
    assert commands.json("ls", "--deleted") == []
    assert "--version" in commands.run("restore", "a.md", code=1).stderr.decode()
    assert commands.json("restore", "a.md", "--version", "1")["version"] == 3
    commands("put", "a.md")
    commands("rm", "a.md")
    assert [(each["path"], each["version"]) for each in commands.json("ls", "--deleted")] == [("a.md", 5)]
    assert commands("ls", "--deleted").endswith("  a.md\n")
    assert commands("restore", "a.md") == "a.md: version 6, as it was at version 4\n"
    assert commands("cat", "a.md") == "two"
    assert commands.json("ls", "--deleted") == []


def test_what_goes_wrong_is_said_in_a_line(commands: Commands) -> None:
    (commands.folder / "picture.png").write_bytes(b"\x89PNG\xff")
    commands.write("a.md", "a")
    for arguments, fault in [
        (("cat", "nothing.md"), "file_not_found"),
        (("put", "picture.png"), "picture.png is not UTF-8 text (byte 0)"),
        (("put", "nothing.md"), "nothing.md: No such file"),
        (("ls", "--url", "http://127.0.0.1:1"), "GET http://127.0.0.1:1"),
    ]:
        result = commands.run(*arguments, code=1)
        (line,) = result.stderr.decode().splitlines()
        assert line.startswith("error: ")
        assert fault in line
    commands.environment.pop("GATEWAY_PROJECT")
    assert "GATEWAY_PROJECT" in commands.run("ls", code=2).stderr.decode()


def test_changes_are_watched_as_they_happen(commands: Commands) -> None:
    commands.write("a.md", "a")
    process = subprocess.Popen(
        [sys.executable, "-m", "gateway", "watch", "--json"], env=commands.environment, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    with process, process.stdout:
        try:
            line = b""
            for number in range(1000):  # until it has begun to watch
                commands.write("b.md", f"version {number}")
                if line := _line_within(process.stdout.fileno(), 0.1):
                    break
            assert json.loads(line.splitlines()[0])["path"] == "b.md"
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 0
        finally:
            process.terminate()


def _line_within(file: int, seconds: float) -> bytes:
    return os.read(file, 65536) if select.select([file], [], [], seconds)[0] else b""


def test_pull_and_push_move_only_what_changed(commands: Commands) -> None:
    for path, text in {"a.md": "a\n", "deep/er/b c 🎈.md": "b\n", "c.md": "c\n"}.items():
        commands.write(path, text)
    assert len(commands("pull", "work").splitlines()) == 3
    assert commands.local("deep/er/b c 🎈.md").read_text() == "b\n"
    assert commands("pull", "work") == commands("push", "work") == "up to date\n"
    assert commands("status", "work") == ""
    commands.edit("a.md", "a edited\n")
    commands.edit("new/größe.md", "new\n")
    commands.local("c.md").unlink()
    commands.write("deep/er/b c 🎈.md", "b changed\n")
    assert commands("status", "work").splitlines() == ["M  a.md", "D  c.md", " M deep/er/b c 🎈.md", "A  new/größe.md"]
    assert {(each["path"], each["action"]) for each in commands.json("push", "work")} == {
        ("a.md", "pushed"), ("new/größe.md", "pushed"), ("c.md", "deleted there"),
    }  # fmt: skip
    assert (commands.read("a.md"), commands.read("new/größe.md"), commands.read("c.md")) == (
        "a edited\n",
        "new\n",
        "410",
    )
    assert commands.json("pull", "work") == [{"path": "deep/er/b c 🎈.md", "action": "pulled"}]
    commands.other.delete("files/deep/er/b%20c%20🎈.md")
    assert commands("pull", "work") == "deleted here: deep/er/b c 🎈.md\n"
    assert not commands.local("deep").exists()
    versions = {entry["path"]: entry["version"] for entry in commands.json("ls")}
    assert versions == {"a.md": 2, "new/größe.md": 1}
    commands.environment.pop("GATEWAY_PROJECT")
    assert commands("push", "work") == "up to date\n"  # the folder knows where it belongs
    commands.environment["GATEWAY_PROJECT"] = "another"
    assert commands.project in commands.run("push", "work", code=1).stderr.decode()


def test_an_edit_here_is_never_overwritten_and_push_merges_it(commands: Commands) -> None:
    commands.write("a.md", "one\ntwo\nthree\n")
    commands("pull", "work")
    commands.edit("a.md", "one here\ntwo\nthree\n")
    commands.write("a.md", "one\ntwo\nthree there\n")
    (conflict,) = commands.json("pull", "work", code=1)
    assert conflict["action"] == "conflict"
    assert commands.local("a.md").read_text() == "one here\ntwo\nthree\n"
    assert commands("status", "work") == "MM a.md\n"
    assert commands("push", "work") == "merged: a.md\n"
    assert commands.local("a.md").read_text() == commands.read("a.md") == "one here\ntwo\nthree there\n"
    assert commands("pull", "work") == commands("push", "work") == "up to date\n"


def test_a_push_is_one_request_also_where_it_merges(commands: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    commands.write("a.md", "one\ntwo\n")
    commands("pull", "work")
    commands.edit("a.md", "one\ntwo\nhere\n")
    commands.write("a.md", "there\none\ntwo\n")
    folder = Folder(commands.local(""))
    state = folder.state.load()
    assert state is not None
    sent: list[tuple[str, dict[str, Any]]] = []
    send = GatewayClient.send

    async def noted(client: GatewayClient, method: str, path: str, **options: Any) -> Any:
        sent.append((method, options.get("params") or {}))
        return await send(client, method, path, **options)

    async def push() -> list[Outcome]:
        async with GatewayClient(commands.environment["GATEWAY_URL"]) as client:
            return await FolderSync(folder, client.project(commands.project), state, lambda *_: None).push()

    monkeypatch.setattr(GatewayClient, "send", noted)
    assert asyncio.run(push()) == [Outcome("a.md", "merged")]
    assert [method for method, _ in sent] == ["PUT", "GET"]  # and the merged text
    assert sent[0][1]["base_version"] == 1
    assert commands.local("a.md").read_text() == commands.read("a.md") == "there\none\ntwo\nhere\n"


Meeting = Callable[[Commands], None]


def _deleted_there(commands: Commands) -> None:
    commands.edit("a.md", "edited here")
    commands.other.delete("files/a.md")


def _another_life(commands: Commands) -> None:
    _deleted_there(commands)
    commands.write("a.md", "another incarnation")


@pytest.mark.parametrize(
    ("happens", "here", "there"),
    [(_deleted_there, "edited here", "410"), (_another_life, "edited here", "another incarnation")],
)
def test_what_both_sides_cannot_have_is_a_conflict_that_changes_neither(
    commands: Commands, happens: Meeting, here: str, there: str
) -> None:
    commands.write("a.md", "first")
    commands.write("b.md", "b")
    commands("pull", "work")
    happens(commands)
    commands.edit("b.md", "b edited")
    for _ in range(2):
        assert "conflict: a.md" in commands("pull", "work", code=1)
        assert "conflict: a.md" in commands("push", "work", code=1)
        assert commands.local("a.md").read_text() == here
        assert commands.read("a.md") == there
    assert commands.read("b.md") == "b edited"


def test_a_deletion_here_does_not_win_over_a_change_there(commands: Commands) -> None:
    commands.write("a.md", "first")
    commands("pull", "work")
    commands.local("a.md").unlink()
    commands.write("a.md", "changed")
    assert "conflict: a.md" in commands("push", "work", code=1)
    assert "conflict: a.md" in commands("pull", "work", code=1)
    assert commands.read("a.md") == "changed"


def test_two_files_of_one_name_meet_without_a_loss(commands: Commands) -> None:
    commands.write("same.md", "same")
    commands.write("other.md", "there")
    commands.edit("same.md", "same")
    commands.edit("other.md", "here")
    for command in ("pull", "push"):
        (line,) = commands(command, "work", code=1).splitlines()
        assert line.startswith("conflict: other.md")
    assert (commands.local("other.md").read_text(), commands.read("other.md")) == ("here", "there")


def test_what_gitignore_names_stays_where_it_is(commands: Commands) -> None:
    commands.edit(".gitignore", "*.log\nbuild/\n!keep.log\n")
    commands.edit("src/.gitignore", "/generated.py\n!loud.log\n")
    ignored = ["a.log", "build/out.md", "src/generated.py", "src/build/x.md", ".git/config"]
    for path in [*ignored, "keep.log", "src/loud.log", "src/deep/generated.py"]:
        commands.edit(path, "here")
    commands.write("b.log", "there")
    commands.write(".git/hooks/pre-commit", "rm -rf /")
    commands("push", "work")
    assert {entry["path"] for entry in commands.json("ls")} == {
        ".gitignore", "src/.gitignore", "keep.log", "src/loud.log", "src/deep/generated.py",
        "b.log", ".git/hooks/pre-commit",
    }  # fmt: skip
    commands("pull", "work")
    assert not commands.local("b.log").exists()
    assert not commands.local(".git/hooks").exists()


def test_what_is_no_text_is_left_out_and_said_so(commands: Commands) -> None:
    commands.edit("picture.png", b"\x89PNG\r\n\x1a\n\xff")
    commands.edit("half.md", "größe".encode()[:3])
    commands.edit("text.md", "text")
    assert commands("push", "work").splitlines() == [
        "left out: half.md (it is not UTF-8 text (byte 2))",
        "left out: picture.png (it is not UTF-8 text (byte 0))",
        "pushed: text.md",
    ]
    names = commands.json("ls")
    assert [entry["path"] for entry in names] == ["text.md"]


def test_nothing_is_written_through_a_link_and_no_link_is_followed(commands: Commands, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    commands.edit("a.md", "a")
    commands.local("link").symlink_to(outside)
    commands.local("secret.md").symlink_to(tmp_path / "secret")
    (tmp_path / "secret").write_text("secret")
    commands.write("link/evil.md", "evil")
    commands.write("secret.md", "overwritten")
    assert commands("push", "work") == "pushed: a.md\n"
    assert [line.partition(" (")[0] for line in commands("pull", "work").splitlines()] == [
        "left out: link/evil.md", "left out: secret.md",
    ]  # fmt: skip
    assert list(outside.iterdir()) == []
    assert (tmp_path / "secret").read_text() == "secret"


def test_names_in_another_form_of_unicode_are_said_so(commands: Commands) -> None:
    commands.edit(unicodedata.normalize("NFD", "größe.md"), "x")
    assert commands("push", "work").startswith("left out: ")
    assert commands.json("push", "work")[0]["action"] == "left out"


def test_help_needs_nothing_of_the_server() -> None:
    code = "import sys, gateway.cli.main; print([name for name in sys.modules if name.partition('.')[0] in %r])"
    heavy = ["httpx", "pycrdt", "pydantic", "starlette", "structlog", "uvicorn", "storage"]
    result = subprocess.run([sys.executable, "-c", code % heavy], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"


def test_pull_of_a_project_that_does_not_exist_fails_and_ties_the_folder_to_nothing(commands: Commands) -> None:
    assert "project_not_found" in commands.run("pull", "work", code=1).stderr.decode()
    assert not commands.local("").exists()
    commands.edit("a.md", "a")
    assert "project_not_found" in commands.run("pull", "work", code=1).stderr.decode()
    assert not commands.local(".yjs-gateway").exists()
    assert commands("status", "work") == "A  a.md\n"
    assert commands("push", "work") == "pushed: a.md\n"


def test_a_push_goes_on_past_a_file_that_is_refused(commands: Commands) -> None:
    commands.edit("a-big.log", b"x" * (17 * 2**20))
    commands.edit("b\nline.md", "refused")
    for name in ("c.md", "d.md"):
        commands.edit(name, name)
    for expected in (["pushed: c.md", "pushed: d.md"], []):  # and so it is the second time
        lines = commands("push", "work").splitlines()
        assert lines[0].startswith("left out: a-big.log (")
        assert "body_too_large" in lines[0]
        assert lines[1].startswith("left out: b\\u000aline.md (")
        assert lines[2:] == expected


def test_a_pull_goes_on_past_a_file_that_cannot_be_written(commands: Commands) -> None:
    commands.edit("folder/x.md", "mine")
    commands.edit("file", "mine")
    for path in ("a", "a/b", "folder", "file/y.md", "long/" + "n" * 300, "z.md"):
        commands.write(path, f"{path}\n")
    for _ in range(2):
        lines = commands("pull", "work").splitlines()
        left_out = {line.split()[2] for line in lines if line.startswith("left out: ")}
        assert {"folder", "file/y.md", "long/" + "n" * 300} <= left_out
        assert len(left_out & {"a", "a/b"}) == 1  # one of them is here
    assert commands.local("z.md").read_text() == "z.md\n"
    assert commands.local("folder/x.md").read_text() == commands.local("file").read_text() == "mine"


class _Leaving:
    """A project of a gateway that goes away after the first file."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def put_text(self, path: str, text: str, **conditions: Any) -> WithETag[Receipt]:
        self.asked.append(path)
        await asyncio.sleep(0)
        if path != "a.md":
            raise NoAnswer("PUT: connection refused")
        return WithETag(Receipt(path, 1, "", "", True), "life.1")


def test_what_was_done_before_the_gateway_went_away_is_kept_and_said(tmp_path: Path) -> None:
    for number, name in enumerate(["a.md", *(f"b{number}.md" for number in range(50))]):
        (tmp_path / name).write_text(f"{number}")
    project, state = _Leaving(), FolderState("http://gateway", "p")
    sync = FolderSync(Folder(tmp_path), project, state, lambda done, total: None)  # type: ignore[arg-type]
    with pytest.raises(Stopped) as stopped:
        asyncio.run(sync.push())
    assert stopped.value.outcomes == [Outcome("a.md", "pushed")]
    assert isinstance(stopped.value.reason, NoAnswer)
    assert list(state.files) == ["a.md"]
    assert len(project.asked) < 20  # nobody asks fifty times a gateway that is not there


def test_a_gateway_that_is_not_there_is_said_in_a_line(commands: Commands) -> None:
    commands.edit("a.md", "a")
    result = commands.run("push", "work", "--url", "http://127.0.0.1:1", code=1)
    (line,) = result.stderr.decode().splitlines()
    assert line.startswith("error: PUT http://127.0.0.1:1")
    assert not commands.local(".yjs-gateway").exists()


def test_the_log_tells_what_changed_in_the_texts_since_a_cursor(commands: Commands) -> None:
    commands.write("a.md", "one\n\ttwo\n")
    *_, last = commands("log").splitlines()
    commands.write("a.md", "one\n\ttwo\x1b[2J\n")
    found = commands("log", "--since", last.removeprefix("cursor "))
    assert found.splitlines()[0] == "a.md modified by somebody, version 1 to 2"
    assert [line for line in found.splitlines() if line[:1] in "+-"][2:] == ["-\ttwo", "+\ttwo\\u001b[2J"]
    entry, cursor = map(json.loads, commands("log", "--since", last.removeprefix("cursor "), "--json").splitlines())
    assert (entry["path"], entry["from_version"]) == ("a.md", 1)
    assert commands("log", "--since", cursor["cursor"]) == f"cursor {cursor['cursor']}\n"


def test_names_that_would_steer_a_terminal_are_printed_as_escapes(commands: Commands) -> None:
    commands.edit("new\x1b[2J.md", "x")
    commands.edit("\u202etxt.exe", "x")
    assert "\x1b" not in commands("status", "work")
    assert "\\u202etxt.exe" in commands("status", "work")


SPELLINGS = [".git\u200d/config", ".git /config", ".git./config", "git~1/config", ".GIT/hooks/x", ".git::$DATA/config",
             "a/.Git\u200c/config", ".yjs-gateway./state.json"]  # fmt: skip


@pytest.mark.parametrize("path", SPELLINGS)
def test_a_pull_writes_nothing_into_a_folder_that_some_system_takes_for_gits(path: str, tmp_path: Path) -> None:
    assert IgnoreRules(tmp_path).ignore(path)


@pytest.mark.parametrize("path", [".gitignore", ".github/x", "git/config", "a.git/x", "git~10/x", ".git-hooks/x"])
def test_names_that_are_only_like_gits_are_taken(path: str, tmp_path: Path) -> None:
    assert not IgnoreRules(tmp_path).ignore(path)


def test_unchanged_files_are_not_read(commands: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(20):
        commands.edit(f"{number}.md", "x")
    commands("push", "work")
    read: list[str] = []
    read_file = Folder.read
    monkeypatch.setattr(Folder, "read", lambda folder, path: read.append(path) or read_file(folder, path))  # type: ignore[func-returns-value]
    folder = Folder(commands.local(""))
    state = folder.state.load()
    assert state is not None
    sync = FolderSync(folder, None, state, lambda done, total: None)  # type: ignore[arg-type]
    read.clear()
    assert asyncio.run(sync.push()) == []
    assert read == []
    commands.edit("3.md", "y")
    commands.local("4.md").unlink()
    assert sync._changed_here() == ["3.md", "4.md"]
    assert read == ["3.md"]


def test_a_folder_that_cannot_be_looked_into_is_named_and_nothing_in_it_is_deleted_there(
    commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands.edit("closed/a.md", "x")
    commands("push", "work")
    scandir = os.scandir

    def refuse(folder: str | Path) -> Any:
        if Path(folder).name == "closed":
            raise PermissionError(13, "Permission denied")
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    folder = Folder(commands.local(""))
    state = folder.state.load()
    assert state is not None
    sync = FolderSync(folder, None, state, lambda done, total: None)  # type: ignore[arg-type]
    assert asyncio.run(sync.push()) == [Outcome("closed/", "left out", "Permission denied")]


def test_projects_are_listed_and_erased(commands: Commands) -> None:
    commands.write("a.md", "text")
    (row,) = [row for row in commands("projects", "ls").splitlines() if row.startswith(commands.project)]
    assert row.split()[1] == "1"
    (entry,) = [each for each in commands.json("projects", "ls") if each["id"] == commands.project]
    assert entry["files"] == 1
    refused = commands.run("projects", "rm", commands.project, code=2)
    assert b"--yes" in refused.stderr
    assert commands.read("a.md") == "text"
    assert commands("projects", "rm", commands.project, "--yes") == f"{commands.project}: erased\n"
    assert commands.read("a.md") == "404"
    missing = commands.run("projects", "rm", commands.project, "--yes", code=1)
    assert b"does not exist" in missing.stderr
