"""`yjs-gateway live`: folders and a project that are kept equal, with a real gateway, a real Git, and kill -9."""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.client import GatewayClient
from gateway.client.answers import WithETag
from gateway.client.folder import files, recent_texts
from gateway.client.folder import live as live_module
from gateway.client.folder.atomic_rename import exchange, rename_exclusively
from gateway.client.folder.files import Folder, sha256
from gateway.client.folder.live import LiveFolder
from gateway.client.folder.merging import merged, united
from gateway.client.folder.names import STATE_FOLDER
from gateway.client.folder.replacing import Replacer
from gateway.client.folder.state import FolderState, KnownFile, UnmergedSave
from gateway.client.folder.sync import Outcome
from tests.support.server import GatewayProcess

FILES = int(os.environ.get("GATEWAY_TEST_LIVE_FILES", "200"))
"""How many files the checkout has."""
_PATIENCE_S = 120
_changed = threading.Condition()
"""Notified with every line that a process prints."""


class Live:
    """`yjs-gateway live` in a process of its own. `kill` is `kill -9`."""

    def __init__(self, folder: Path, url: str, project: str) -> None:
        self.folder = folder
        self._environment = {**os.environ, "GATEWAY_URL": url, "GATEWAY_PROJECT": project}
        self._process: subprocess.Popen[str] | None = None
        self._pauses = 0
        self.lines: list[str] = []

    def start(self) -> Self:
        self.folder.mkdir(exist_ok=True)
        self.lines = []
        self._process = subprocess.Popen(
            [sys.executable, "-m", "gateway", "live", str(self.folder)],
            env=self._environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        self._reader = threading.Thread(target=self._read, args=(self._process, self.lines), daemon=True)
        self._reader.start()
        wait_until(lambda: any(line.startswith("live: ") for line in self.lines) or not self._reader.is_alive())
        assert any(line.startswith("live: ") for line in self.lines), "".join(self.lines)
        return self

    def _read(self, process: "subprocess.Popen[str]", lines: list[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            with _changed:
                lines.append(line)
                _changed.notify_all()
        with _changed:
            _changed.notify_all()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """It does nothing meanwhile, where it runs: an editor that reads a file and saves it does not know what comes
        in between, and what takes an editor a moment may take the test longer."""
        running = self._process is not None and self._process.poll() is None
        if running and not self._pauses:
            self._send(signal.SIGSTOP)
        self._pauses += 1
        try:
            yield
        finally:
            self._pauses -= 1
            if running and not self._pauses:
                self._send(signal.SIGCONT)

    def _send(self, sent: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(sent)
        if sent == signal.SIGSTOP:
            os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def kill(self) -> None:
        self._send(signal.SIGKILL)
        self._end()

    def stop(self) -> None:
        self._send(signal.SIGTERM)
        assert self._end() == 0, "".join(self.lines)

    def _end(self) -> int:
        assert self._process is not None
        code = self._process.wait(_PATIENCE_S)
        self._reader.join()
        assert self._process.stdout is not None
        self._process.stdout.close()
        return code

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None and self._process.poll() is None:
            if kind is None:
                self.stop()
            else:
                print("".join(self.lines[-50:]))
                self.kill()

    def write(self, path: str, text: str) -> None:
        """Save as an editor that writes in place does."""
        with self.paused():
            (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / path).write_text(text)

    def read(self, path: str) -> str | None:
        try:
            return (self.folder / path).read_text()
        except FileNotFoundError:
            return None

    def files(self) -> dict[str, bytes]:
        return tree(self.folder)


def tree(folder: Path) -> dict[str, bytes]:
    """The files of a folder, without those of Git and of the state."""
    found = {}
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in (".git", ".yjs-gateway")]
        for name in names:
            file = Path(place) / name
            with contextlib.suppress(FileNotFoundError):  # it went meanwhile
                found[file.relative_to(folder).as_posix()] = file.read_bytes()
    return found


def wait_until(holds: Callable[[], bool], tell: Callable[[], object] = lambda: "it never came") -> None:
    """Look after every line that some process prints. `tell` says what there is instead."""
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        with _changed:
            if holds():
                return
            assert time.monotonic() < deadline, tell()
            _changed.wait(0.25)  # the last line may have come before what it tells was looked at


class Scene:
    """A gateway with a project, and folders that are kept equal to it."""

    def __init__(self, gateway: GatewayProcess, folder: Path) -> None:
        self.gateway = gateway
        self.project = f"live-{uuid.uuid4().hex[:12]}"
        self.other = gateway.client(self.project)
        self._folder = folder

    def live(self, name: str) -> Live:
        return Live(self._folder / name, self.gateway.url, self.project)

    def write(self, path: str, text: str, **params: Any) -> None:
        """Write as somebody else, without a folder."""
        headers = {"Content-Type": "text/plain"}
        assert self.other.put(f"files/{path}", content=text.encode(), headers=headers, params=params).is_success

    def insert(self, path: str, line: str) -> None:
        """Insert a line at the beginning, as somebody else who names the base: a folder's save may be on its way."""
        answer = self.other.get(f"files/{path}", params={"format": "text"})
        self.write(path, line + answer.text, base_version=int(answer.headers["etag"].split(".")[1]))

    def read(self, path: str) -> str | None:
        answer = self.other.get(f"files/{path}", params={"format": "text"})
        return answer.text if answer.is_success else None

    def paths(self) -> set[str]:
        found: set[str] = set()
        after: str | None = ""
        while after is not None:
            page = self.other.get("files", params={"limit": 1000, **({"after": after} if after else {})}).json()
            found |= {entry["path"] for entry in page["files"]}
            after = page["next"]
        return found

    def history(self, path: str) -> list[dict[str, Any]]:
        versions: list[dict[str, Any]] = self.other.get(f"history/{path}").json()["versions"]
        return versions


@pytest.fixture
def scene(shared_gateway: GatewayProcess, tmp_path: Path) -> Iterator[Scene]:
    scene = Scene(shared_gateway, tmp_path)
    with scene.other:
        yield scene


def test_a_save_is_in_the_project_and_in_the_other_folder_and_the_other_way_round(scene: Scene) -> None:
    left, right = scene.live("left"), scene.live("right")
    left.folder.mkdir()
    left.write("notes/a.md", "one\n")
    with left, right:
        assert right.read("notes/a.md") == scene.read("notes/a.md") == "one\n"
        right.write("notes/a.md", "one\ntwo\n")
        left.write("new.md", "new\n")
        left.write("empty.md", "")
        wait_until(lambda: left.read("notes/a.md") == "one\ntwo\n" and right.read("new.md") == "new\n")
        wait_until(lambda: right.read("empty.md") == "")
        scene.write("notes/a.md", "zero\none\ntwo\n")
        wait_until(lambda: left.read("notes/a.md") == right.read("notes/a.md") == "zero\none\ntwo\n")
        (left.folder / "notes" / "a.md").unlink()
        wait_until(lambda: right.read("notes/a.md") is None)
        wait_until(lambda: not (right.folder / "notes").exists())
        wait_until(lambda: scene.paths() == {"new.md", "empty.md"})


def test_edits_of_one_file_in_two_folders_and_elsewhere_are_merged_without_conflict_copies(scene: Scene) -> None:
    rounds, lines = 12, [f"line {number}\n" for number in range(3)]
    scene.write("a.md", "".join(lines))
    expected = set(lines)

    def insert(live: Live, line: str, place: Callable[[list[str]], int]) -> None:
        present = (live.read("a.md") or "").splitlines(keepends=True)
        present.insert(place(present), line)
        live.write("a.md", "".join(present))
        expected.add(line)

    with scene.live("left") as left, scene.live("right") as right:
        for number in range(rounds):
            with left.paused(), right.paused():
                insert(left, f"left {number}\n", lambda present: present.index("line 1\n"))
                insert(right, f"right {number}\n", lambda present: len(present))
                scene.insert("a.md", f"there {number}\n")
            expected.add(f"there {number}\n")
            said = f"left {number}\n"
            wait_until(lambda said=said: said in (scene.read("a.md") or ""))  # type: ignore[misc]
        wait_until(lambda: left.read("a.md") == right.read("a.md") == scene.read("a.md"))
        wait_until(
            lambda: set((scene.read("a.md") or "").splitlines(keepends=True)) == expected,
            lambda: expected.symmetric_difference((scene.read("a.md") or "").splitlines(keepends=True)),
        )
        wait_until(lambda: left.read("a.md") == right.read("a.md") == scene.read("a.md"))
        assert sorted((scene.read("a.md") or "").splitlines(keepends=True)) == sorted(expected)
        assert left.files().keys() == right.files().keys() == {"a.md"}


def test_editors_that_replace_a_file_do_not_delete_it(scene: Scene) -> None:
    scene.write("a.md", "one\n")
    with scene.live("work") as live:
        file = live.folder / "a.md"
        with live.paused():
            file.rename(live.folder / "a.md~")  # as vim does
            file.write_text("one\ntwo\n")
            (live.folder / "a.md~").unlink()
        wait_until(lambda: scene.read("a.md") == "one\ntwo\n")
        with live.paused():
            (live.folder / ".a.md.tmp").write_text("one\ntwo\nthree\n")  # as others do
            (live.folder / ".a.md.tmp").replace(file)
        wait_until(lambda: scene.read("a.md") == "one\ntwo\nthree\n")
        live.write("last.md", "x")
        wait_until(lambda: scene.read("last.md") == "x")
    assert [(each["version"], each.get("deleted", False)) for each in scene.history("a.md")] == [
        (3, False), (2, False), (1, False),
    ]  # fmt: skip


def test_a_file_that_is_missing_for_a_moment_is_not_deleted(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The moment never ends here: the test decides when the file is back."""
    monkeypatch.setattr(live_module, "_MISSING_S", 3600)
    scene.write("a.md", "one\n")
    folder = scene.live("work").folder
    (folder / STATE_FOLDER).mkdir(parents=True)

    async def main() -> None:
        ready, missed, told = asyncio.Event(), asyncio.Event(), asyncio.Queue[Outcome]()

        async def until_pushed(path: str) -> None:
            while await told.get() != Outcome(path, "pushed"):
                pass

        def noted(path: str, delay_s: float) -> None:
            if path == "a.md":
                missed.set()
            mark_later(path, delay_s)

        async with asyncio.timeout(_PATIENCE_S), GatewayClient(scene.gateway.url) as client:
            live = LiveFolder(
                Folder(folder), client.project(scene.project), FolderState("", ""), told.put_nowait,
                lambda _: ready.set(),
            )  # fmt: skip
            mark_later = live._mark_later
            monkeypatch.setattr(live, "_mark_later", noted)
            running = asyncio.create_task(live.run())
            await ready.wait()
            (folder / "a.md").rename(folder / "a.md~")
            await missed.wait()
            await until_pushed("a.md~")
            (tmp_path / "a.md").write_text("one\ntwo\n")
            (tmp_path / "a.md").rename(folder / "a.md")
            await until_pushed("a.md")
            assert scene.read("a.md") == "one\ntwo\n"
            running.cancel()
            await asyncio.wait([running])

    asyncio.run(main())
    assert [(each["version"], each.get("deleted", False)) for each in scene.history("a.md")] == [(2, False), (1, False)]


def test_what_is_ignored_or_no_text_stays_where_it_is(scene: Scene) -> None:
    scene.write("there.log", "there")
    with scene.live("work") as live:
        assert live.read("there.log") == "there"
        with live.paused():
            live.write(".gitignore", "build/\n*.tmp\n")
            live.write("build/deep/out.md", "out")
            live.write("a.tmp", "x")
            (live.folder / "picture.png").write_bytes(b"\x89PNG\xff")
            (live.folder / "link.md").symlink_to("there.log")
            live.write("a.md", "x")
        scene.write("b.tmp", "there")
        scene.write(".git/hooks/pre-commit", "rm -rf /")
        scene.write("c.md", "there")
        wait_until(lambda: live.read("c.md") == "there" and scene.read("a.md") == "x")
        wait_until(lambda: "left out: picture.png (it is not UTF-8 text (byte 0))\n" in live.lines)
        assert scene.paths() == {".gitignore", "a.md", "b.tmp", "c.md", "there.log", ".git/hooks/pre-commit"}
        assert live.read("b.tmp") is None
        assert not (live.folder / ".git").exists()
        live.write(".gitignore", "build/\n")
        wait_until(lambda: live.read("b.tmp") == "there" and scene.read("a.tmp") == "x")
    assert sum("picture.png" in line for line in live.lines) == 1


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=Zoë", "-c", "user.email=zoe@example.org", "-c", "commit.gpgsign=false"]
    result = subprocess.run(
        ["git", *identity, *arguments], cwd=folder, capture_output=True, text=True, check=False,
        env={**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return result.stdout


def repository(folder: Path, files: int) -> None:
    """Two branches: `main`, and `other` that moves a tree, rewrites and deletes parts, and makes a folder a file."""
    folder.mkdir()
    git(folder, "init", "-q", "-b", "main")
    for number in range(files):
        file = folder / f"src/part{number % 10}/module{number}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("".join(f"line {each} of {number}\n" for each in range(20)))
    (folder / "swap").mkdir()
    (folder / "swap" / "inner.md").write_text("inner\n")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "main")
    git(folder, "checkout", "-q", "-b", "other")
    git(folder, "mv", "src/part1", "lib")
    git(folder, "rm", "-q", "-r", "src/part2")
    for file in sorted((folder / "src" / "part3").iterdir()):  # as a formatter does
        file.write_text("# formatted\n" + file.read_text().replace("line", "row"))
    git(folder, "rm", "-q", "-r", "swap")
    (folder / "swap").write_text("a file now\n")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "other")
    git(folder, "checkout", "-q", "main")


def test_a_checkout_moves_between_branches_and_every_side_with_it(scene: Scene, tmp_path: Path) -> None:
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    repository(tmp_path / "work", FILES)
    with scene.live("work") as work, scene.live("copy") as copy:
        for step in (["checkout", "-q", "other"], ["checkout", "-q", "main"]):
            git(work.folder, *step)
            expected = work.files()
            wait_until(lambda expected=expected: copy.files() == expected)  # type: ignore[misc]
            assert git(work.folder, "status", "--porcelain") == "?? .yjs-gateway/\n"
        before = work.files()
        for file in (work.folder / "src" / "part4").iterdir():
            file.write_text(file.read_text() + "edited\n")
        edited = work.files()
        wait_until(lambda: copy.files() == edited)
        git(work.folder, "stash", "-q")
        wait_until(lambda: copy.files() == before)
        git(work.folder, "stash", "pop", "-q")
        wait_until(lambda: copy.files() == edited)
        assert work.files() == edited
        assert not [line for line in work.lines + copy.lines if line.startswith(("left out: src", "error"))]
    assert scene.paths() == edited.keys()


def test_it_starts_again_where_it_was_whenever_it_was_killed(scene: Scene) -> None:
    live, number = scene.live("work"), 0
    scene.write("a.md", "".join(f"first {each}\n" for each in range(3)))
    expected = {f"first {each}" for each in range(3)}
    live.start()
    for moment in range(6):
        for _ in range(4):
            number += 1
            with live.paused():
                live.write("a.md", (live.read("a.md") or "") + f"here {number}\n")
                scene.insert("a.md", f"there {number}\n")
                lines = len(live.lines)
            expected |= {f"here {number}", f"there {number}"}
            if moment % 3:
                wait_until(lambda lines=lines: len(live.lines) > lines)  # type: ignore[misc]
        live.kill()
        number += 1
        live.write("a.md", (live.read("a.md") or "") + f"here {number}\n")
        scene.insert("a.md", f"there {number}\n")
        live.write(f"new{moment}.md", "new")
        expected |= {f"here {number}", f"there {number}"}
        live.start()
    with live_until_stopped(live):
        wait_until(
            lambda: live.read("a.md") == scene.read("a.md") and set(lines_of(scene)) == expected,
            lambda: (live.read("a.md"), expected.symmetric_difference(lines_of(scene)), live.lines[-20:]),
        )
        assert sorted(lines_of(scene)) == sorted(expected)  # each once
        wait_until(lambda: scene.paths() == live.files().keys() == {"a.md", *(f"new{each}.md" for each in range(6))})


def lines_of(scene: Scene) -> list[str]:
    return (scene.read("a.md") or "").splitlines()


class live_until_stopped:  # noqa: N801
    """What runs already is stopped at the end."""

    def __init__(self, live: Live) -> None:
        self._live = live

    def __enter__(self) -> Live:
        return self._live

    def __exit__(self, *exception: Any) -> None:
        self._live.__exit__(*exception)


def test_a_gateway_that_is_killed_is_waited_for(tmp_path: Path) -> None:
    with GatewayProcess(tmp_path / "gateway.db") as gateway:
        scene = Scene(gateway, tmp_path)
        with scene.other, scene.live("left") as left, scene.live("right") as right:
            left.write("a.md", "one\n")
            wait_until(lambda: right.read("a.md") == "one\n")
            for number in range(2):
                lines = len(left.lines)
                gateway.kill()
                left.write("a.md", f"left {number}\n{left.read('a.md')}")
                right.write("a.md", f"{right.read('a.md')}right {number}\n")
                right.write(f"new{number}.md", "new")
                wait_until(lambda lines=lines: any(line.startswith("waiting: ") for line in left.lines[lines:]))  # type: ignore[misc]
                gateway.start()
                wait_until(
                    lambda number=number: (
                        left.read("a.md") == right.read("a.md")  # type: ignore[misc]
                        and f"left {number}\n" in (left.read("a.md") or "")
                        and f"right {number}\n" in (left.read("a.md") or "")
                        and left.read(f"new{number}.md") == "new"
                    ),
                    lambda: (left.read("a.md"), right.read("a.md"), left.lines[-20:], right.lines[-20:]),
                )
            assert left.read("a.md") == "left 1\nleft 0\none\nright 0\nright 1\n"


def test_two_files_of_one_name_get_the_lines_of_both(scene: Scene) -> None:
    live = scene.live("work")
    live.folder.mkdir()
    live.write("a.md", "same\nhere\n")
    scene.write("a.md", "there\nsame\n")
    with live:
        wait_until(lambda: live.read("a.md") == scene.read("a.md") == "there\nsame\nhere\n")


def test_a_file_that_one_side_deletes_and_the_other_edits_stays(scene: Scene) -> None:
    live = scene.live("work")
    scene.write("a.md", "a\n")
    scene.write("b.md", "b\n")
    with live:
        pass
    live.write("a.md", "a edited\n")
    scene.other.delete("files/a.md")
    (live.folder / "b.md").unlink()
    scene.write("b.md", "b edited\n")
    with live:
        wait_until(lambda: scene.read("a.md") == "a edited\n" and live.read("b.md") == "b edited\n")


def test_a_folder_has_one_that_keeps_it(scene: Scene) -> None:
    with scene.live("work") as live:
        for command in ("live", "push", "pull"):
            result = subprocess.run(
                [sys.executable, "-m", "gateway", command, str(live.folder)],
                env={**os.environ, "GATEWAY_URL": scene.gateway.url, "GATEWAY_PROJECT": scene.project},
                capture_output=True, text=True, check=False,
            )  # fmt: skip
            assert (result.returncode, "another process" in result.stderr) == (1, True)


class Replacing:
    """A live folder without a gateway that replaces a file by what somebody else made of it."""

    def __init__(self, root: Path, base: bytes = b"one\n", theirs: bytes = b"there\none\n") -> None:
        self.base, self.theirs = base, theirs
        self.file, self.folder = root / "a.md", Folder(root)
        self.file.write_bytes(self.base)
        self.state = FolderState("", "")
        self.live = LiveFolder(self.folder, None, self.state, lambda _: None, lambda _: None)  # type: ignore[arg-type]
        self.replacer = self.live._replacer

    async def replace(self) -> bool:
        known = KnownFile(2, "i.2", sha256(self.theirs), -1, 0)
        return await self.replacer.replace("a.md", self.base, self.theirs, known)

    def save_by_renaming(self, text: str) -> None:
        aside = self.file.with_name(".a.md.tmp")
        aside.write_text(text)
        aside.replace(self.file)


@pytest.fixture
def replacing(tmp_path: Path) -> Replacing:
    return Replacing(tmp_path)


_CAN_EXCHANGE = sys.platform in ("linux", "darwin")


@pytest.mark.skipif(not _CAN_EXCHANGE, reason="this system cannot exchange two files")
@pytest.mark.parametrize("by_renaming", [False, True])
def test_what_is_saved_up_to_the_moment_in_which_a_file_is_replaced_is_kept(
    replacing: Replacing, monkeypatch: pytest.MonkeyPatch, by_renaming: bool
) -> None:
    saves = ["one\nsaved\n", "one\nsaved\ntwice\n"]

    def saved_just_before(name: str, folder: int | None, file: Path) -> bool:
        if saves:
            text = saves.pop(0)
            replacing.save_by_renaming(text) if by_renaming else replacing.file.write_text(text)
        return exchange(name, folder, file)

    monkeypatch.setattr(files, "exchange", saved_just_before)
    asyncio.run(replacing.replace())
    assert replacing.file.read_text() == "there\none\nsaved\ntwice\n"
    assert replacing.state.files["a.md"].version == 2  # the save is sent with that version
    assert not replacing.state.unmerged


def test_what_comes_where_no_file_was_is_kept(replacing: Replacing, monkeypatch: pytest.MonkeyPatch) -> None:
    def saved_just_before(file: Path, name: str, folder: int | None) -> bool:
        replacing.save_by_renaming("saved\n")
        return rename_exclusively(file, name, folder)

    monkeypatch.setattr(files, "rename_exclusively", saved_just_before)
    replacing.file.unlink()
    known = KnownFile(1, "i.1", sha256(b"theirs\n"), -1, 0)
    assert not asyncio.run(replacing.replacer.replace("a.md", None, b"theirs\n", known))
    assert replacing.file.read_text() == "saved\n"
    assert "a.md" not in replacing.state.files


def test_what_is_no_text_is_put_back_when_it_was_replaced(
    replacing: Replacing, monkeypatch: pytest.MonkeyPatch
) -> None:
    def saved_just_before(name: str, folder: int | None, file: Path) -> bool:
        replacing.file.write_bytes(b"\x89PNG\xff")
        return exchange(name, folder, file)

    monkeypatch.setattr(files, "exchange", saved_just_before)
    asyncio.run(replacing.replace())
    assert replacing.file.read_bytes() == b"\x89PNG\xff"


def test_a_file_that_is_saved_while_it_is_deleted_is_kept(
    replacing: Replacing, monkeypatch: pytest.MonkeyPatch
) -> None:
    replacing.save_by_renaming("saved\n")
    assert not replacing.folder.remove_known("a.md", sha256(replacing.base))
    assert replacing.file.read_text() == "saved\n"
    assert replacing.folder.remove_known("a.md", sha256(b"saved\n"))
    assert [each.name for each in replacing.folder.root.iterdir()] == [".yjs-gateway"]
    assert not list((replacing.folder.root / ".yjs-gateway").iterdir())


def test_what_a_program_writes_into_a_file_that_it_had_opened_before_is_kept(replacing: Replacing) -> None:
    async def main() -> None:
        with replacing.file.open("r+") as file:
            await replacing.replace()
            file.write("one\nwritten\n")
        old = time.time() - 1
        for each in (replacing.folder.root / ".yjs-gateway").glob("tmp*"):
            os.utime(each, (old, old))  # no longer written to
        replacing.replacer._look_at_replaced(0)
        await replacing.replacer.merge_save("a.md")
        assert replacing.file.read_text() == "there\none\nwritten\n"
        replacing.replacer._look_at_replaced(asyncio.get_running_loop().time() + 3600)

    asyncio.run(main())
    assert [each.name for each in (replacing.folder.root / ".yjs-gateway").iterdir()] == ["journal.jsonl"]


@pytest.mark.skipif(not _CAN_EXCHANGE, reason="this system cannot exchange two files")
@pytest.mark.parametrize("killed", ["before", "after", "after merging"])
def test_what_was_saved_when_live_was_killed_is_merged_once_when_it_starts_again(
    replacing: Replacing, monkeypatch: pytest.MonkeyPatch, killed: str
) -> None:
    class Killed(BaseException):
        pass

    saves = ["one\nsaved\n"]

    def save_and_be_killed(name: str, folder: int | None, file: Path) -> bool:
        if saves:
            replacing.save_by_renaming(saves.pop())
        if killed == "before":
            raise Killed
        return exchange(name, folder, file)

    def be_killed(*_: object) -> None:
        raise Killed

    replacing.folder.state.save(replacing.state)
    monkeypatch.setattr(files, "exchange", save_and_be_killed)
    monkeypatch.setattr(Path, "unlink", lambda *_, **__: None)  # whoever is killed removes nothing
    monkeypatch.setattr(replacing.replacer, "_keep_replaced" if killed == "after merging" else "merge_save", be_killed)
    with pytest.raises(Killed):
        asyncio.run(replacing.replace())
    monkeypatch.undo()

    folder = Folder(replacing.folder.root)
    state = folder.state.load()
    assert state is not None
    assert state.unmerged == ({"a.md": UnmergedSave("one\n", "one\nsaved\n")} if killed == "after" else {})
    folder.state.save(state)
    assert folder.state.load() == state
    folder.state.drop_leftovers()
    replacer = Replacer(folder, state, lambda _: None, lambda _: False)
    for path in state.unmerged.copy():
        asyncio.run(replacer.merge_save(path))
    if killed == "before":
        assert (replacing.file.read_text(), state.files) == ("one\nsaved\n", {})
    else:
        assert (replacing.file.read_text(), state.files["a.md"].version) == ("there\none\nsaved\n", 2)


def test_a_save_that_lacks_what_was_merged_while_it_was_under_way_takes_back_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recent_texts, "WITHIN_S", 3600)  # however slow the machine is
    replacing = Replacing(tmp_path, b"folder: one\n\nperson:\n", b"folder: one\n\nperson: p\n")

    async def main() -> None:
        await replacing.replace()
        text = replacing.theirs.decode()
        replacing.replacer.saved("a.md", replacing.theirs, None)  # it is sent, with what was saved here before
        replacing.save_by_renaming("folder: one two\n\nperson:\n")
        answer = WithETag(None, "i.3")
        await replacing.live._land("a.md", text, answer, text + "more\n", None)

    asyncio.run(main())
    assert replacing.file.read_text() == "folder: one two\n\nperson: p\nmore\n"


@pytest.mark.parametrize("by_renaming", [False, True])
def test_the_times_of_a_file_are_those_of_the_content_that_is_read(
    replacing: Replacing, monkeypatch: pytest.MonkeyPatch, by_renaming: bool
) -> None:
    saves, fstat = ["saved\n"], os.fstat

    def save_after(descriptor: int) -> os.stat_result:
        about = fstat(descriptor)
        if saves and about.st_size == len(replacing.base):
            text = saves.pop()
            replacing.save_by_renaming(text) if by_renaming else replacing.file.write_text(text)
        return about

    monkeypatch.setattr(os, "fstat", save_after)
    about, content = replacing.replacer.look("a.md")
    monkeypatch.undo()
    assert not saves
    assert about is not None
    assert content == (replacing.base if by_renaming else b"saved\n")
    assert (about.st_ino == replacing.file.stat().st_ino) is not by_renaming
    assert about.st_size == len(content)


@contextlib.asynccontextmanager
async def live_here(scene: Scene, root: Path) -> AsyncIterator[Callable[[Callable[[], bool]], Awaitable[None]]]:
    """A live folder in this process; yields what waits until something holds."""
    told, running = asyncio.Event(), asyncio.Event()

    async def until(holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(_PATIENCE_S):
            while not holds():
                with contextlib.suppress(TimeoutError):  # what is looked for may come after what is told
                    await asyncio.wait_for(told.wait(), 0.1)
                told.clear()

    async with GatewayClient(scene.gateway.url) as client:
        folder, state = Folder(root), FolderState(scene.gateway.url, scene.project)
        project = client.project(scene.project)
        live = LiveFolder(folder, project, state, lambda _: told.set(), lambda _: running.set())
        folder.state.save(state)
        task = asyncio.create_task(live.run())
        try:
            async with asyncio.timeout(_PATIENCE_S):
                await running.wait()
            yield until
        finally:
            task.cancel()
            await asyncio.wait([task])


@pytest.mark.parametrize("by_renaming", [False, True])
def test_an_editor_that_saves_an_older_text_with_its_edit_takes_back_nothing(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by_renaming: bool
) -> None:
    monkeypatch.setattr(recent_texts, "WITHIN_S", 3600)  # however slow the machine is
    file, text = tmp_path / "a.md", "folder:\n\nperson:\n"
    scene.write("a.md", text)

    def save(text: str) -> None:
        place = tmp_path / ".git" / "aside" if by_renaming else file
        place.write_text(text)
        place.replace(file)

    async def main() -> None:
        (tmp_path / ".git").mkdir()
        async with live_here(scene, tmp_path) as until:
            before = file.read_text()
            for number in range(3):
                read = file.read_text()
                now = scene.read("a.md") or ""
                scene.write("a.md", now.replace("person:", f"person: p{number}"))
                await until(lambda number=number: f"p{number}" in file.read_text())  # type: ignore[misc]
                save(read.replace("folder:", f"folder: f{number}"))
                await until(lambda number=number: f"f{number}" in (scene.read("a.md") or ""))  # type: ignore[misc]
                await until(lambda: file.read_text() == scene.read("a.md"))
            assert file.read_text() == "folder: f2 f1 f0\n\nperson: p2 p1 p0\n"
            scene.write("a.md", file.read_text() + "more\n")
            await until(lambda: "more" in file.read_text())
            save(before)  # back to it
            await until(lambda: scene.read("a.md") == before)
            assert file.read_text() == before

    asyncio.run(main())


LINES = st.lists(st.sampled_from(["a\n", "b\n", "c\n", "d\n"]), max_size=8).map("".join)


@given(LINES, st.lists(st.tuples(st.booleans(), st.integers(0, 30)), max_size=8))
def test_a_merge_has_what_either_side_inserted(base: str, insertions: list[tuple[bool, int]]) -> None:
    ours, theirs = base, base
    for number, (is_ours, place) in enumerate(insertions):
        word = f"<{number}>"
        if is_ours:
            ours = ours[:0] + word + ours if place == 0 else ours + word
        else:
            theirs = word + theirs if place == 0 else theirs + word
    both = merged(base, ours, theirs)
    for number in range(len(insertions)):
        assert both.count(f"<{number}>") == 1
    assert len(both) == len(ours) + len(theirs) - len(base)


@given(LINES, LINES)
def test_united_texts_have_the_lines_of_both_in_their_order(ours: str, theirs: str) -> None:
    both = united(ours, theirs).splitlines()
    for side in (ours, theirs):
        rest = iter(both)
        assert all(line in rest for line in side.splitlines())
    assert len(both) <= len(ours.splitlines()) + len(theirs.splitlines())
    assert united(ours, ours) == ours
