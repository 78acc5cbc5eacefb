"""Plays a Markdown file as its reader would: servers, a shell, files that it says to write; compares what is shown.

A `console` block holds commands after `$ ` (and `> ` where one goes on), each followed by what it prints. A command
that names `scripts/`, `.venv/` or a database is run in a folder that stands for the checkout, all others in an empty
one. What serves is started and left running until `^C`, the next server or the end. A `js` or `python` block is a file;
its first line names it.

What differs from run to run is compared by its kind: identifiers and times in the text stand for those of the run, and
are replaced in later commands; sizes, dates and folders are not compared.
"""

import os
import re
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from msgspec import Struct

from tests.docs.markdown import PROJECT, CodeBlock
from tests.support.ports import free_port

_IN_CHECKOUT = re.compile(r"(^|\s)((scripts|\.venv)/|yjs-gateway\.db)")
_SERVES = re.compile(r"(scripts/|yjs-gateway )serve\b")
_PORT = re.compile(r"(?<=localhost:)\d+|(?<=127\.0\.0\.1:)\d+|(?<=--port )\d+")
_DEFAULT_PORT = "8000"
_INTERRUPT = "^C"
_MOST_TIME = re.compile(r"(?<=--max-time )\d+")
_COMMENTS = {"js": "// ", "python": "# "}

_IDENTIFIER = re.compile(
    r"\bygw_[0-9a-z]{12}_[\w-]{43}(?![\w-])|\b[0-9a-f]{10}\b|\b[0-9a-hjkmnp-tv-z]{26}\b|\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"
)
_INCOMPARABLE = re.compile(
    r'(?<="size":)\d+|(?<=content-length: )\d+|\b\d+(?= bytes)|(?<="state_vector":")[\w-]+|(?<="update":")[\w+/=]+|'
    r'(?<="expires_in":)[\d.]+|'
    r"(?<=^Data in ).*|(?<=^retry: )\d+|\b\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT",
    re.MULTILINE,
)
_PATIENCE_S = 300
_END_OF_OUTPUT = "--- end of output"


class Command(Struct, frozen=True):
    """A command and what the text says that it prints."""

    text: str
    shown: str
    line: int


def commands(block: CodeBlock) -> Iterator[Command]:
    """The commands of a `console` block."""
    text: list[str] = []
    shown: list[str] = []
    line = block.line
    for number, content in enumerate(block.lines, start=block.line + 1):
        if content.startswith("$ ") or content == _INTERRUPT:
            if text:
                yield Command("\n".join(text), "\n".join(shown), line)
            text, shown, line = [content.removeprefix("$ ")], [], number
        elif content.startswith("> ") and not shown:
            text.append(content[2:])
        else:
            assert text, f"line {number}: a console block begins with a command"
            shown.append(content)
    if text:
        yield Command("\n".join(text), "\n".join(shown), line)


class Terminal:
    """The reader's machine. `skipped` are commands that other tests run, or that set up what is set up here already."""

    def __init__(self, folder: Path, *, skipped: frozenset[str] = frozenset()) -> None:
        self._checkout = folder / "checkout"
        self._elsewhere = folder / "walk"
        self._skipped = skipped
        self._known: dict[str, str] = {}
        """What identifiers and times of the text are in this run."""
        self._ports: dict[str, str] = {}
        self._environment = {**os.environ, "GATEWAY_PORT": self._port(_DEFAULT_PORT), "TERM": "dumb"}
        self._server: subprocess.Popen[str] | None = None
        self._shell: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self._checkout.mkdir()
        self._elsewhere.mkdir()
        for name in ("scripts", ".venv"):
            (self._checkout / name).symlink_to(PROJECT / name)
        (self._elsewhere / "node_modules").symlink_to(PROJECT / "tests" / "yjs" / "node_modules")
        self._shell = self._start(["bash", "--norc"], self._elsewhere, stdin=subprocess.PIPE)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop_server()
        assert self._shell is not None
        self._shell.communicate()

    def play(self, block: CodeBlock) -> None:
        """Do what a block says, and compare."""
        if block.language in _COMMENTS:
            name = block.lines[0].removeprefix(_COMMENTS[block.language]).partition(":")[0]
            content = "\n".join(block.lines) + "\n"
            (self._elsewhere / name).write_text(_PORT.sub(lambda port: self._port(port[0]), content), encoding="utf-8")
        elif block.language == "console":
            for command in commands(block):
                if command.text not in self._skipped:
                    self._play_command(command)

    def _play_command(self, command: Command) -> None:
        if command.text == _INTERRUPT:
            self._stop_server(signal.SIGINT)
            return
        text = _PORT.sub(lambda port: self._port(port[0]), command.text)
        text = _IDENTIFIER.sub(lambda name: self._known.get(name[0], name[0]), text)
        printed = self._serve(text, command) if _SERVES.search(text) else self._run(text, command)
        for seconds in ("10", "60"):  # what has no end of its own is given more time on a machine that takes more
            if _MOST_TIME.search(text) and not self._is_shown(command, printed):
                printed = self._run(_MOST_TIME.sub(seconds, text), command)
        self._compare(command, printed)

    def _run(self, text: str, command: Command) -> str:
        assert self._shell is not None
        assert self._shell.stdin is not None
        folder = self._checkout if _IN_CHECKOUT.search(text) else self._elsewhere
        self._shell.stdin.write(f"cd {folder}\n{{ {text}\n}} < /dev/null\nprintf '\\n{_END_OF_OUTPUT} %s\\n' $?\n")
        self._shell.stdin.flush()
        lines: list[str] = []
        for line in _lines(self._shell):
            if line.startswith(_END_OF_OUTPUT):
                printed = "".join(lines)
                assert line.split()[-1] == "0", f"line {command.line}: {text}\nfailed:\n{printed}"
                return printed
            lines.append(line)
        raise AssertionError(f"line {command.line}: {text}\ndid not end:\n" + "".join(lines))

    def _serve(self, text: str, command: Command) -> str:
        """Start a server; returns what it prints until it serves."""
        self._stop_server()
        self._server = self._start(["bash", "-c", f"exec env {text}"], self._checkout)
        lines: list[str] = []
        for line in _lines(self._server):
            if line.startswith("Listening on "):
                lines.clear()  # what came before is of the setup
            lines.append(line)
            if line.startswith("Data in "):
                return "".join(lines) if command.shown else ""
        raise AssertionError(f"line {command.line}: {text}\ndid not serve:\n" + "".join(lines))

    def _stop_server(self, how: signal.Signals = signal.SIGTERM) -> None:
        if self._server is not None:
            self._server.send_signal(how)
            printed, _ = self._server.communicate(timeout=_PATIENCE_S)
            assert self._server.returncode == 0, printed
            self._server = None

    def _start(self, program: list[str], folder: Path, *, stdin: int = subprocess.DEVNULL) -> subprocess.Popen[str]:
        return subprocess.Popen(
            program,
            cwd=folder,
            env=self._environment,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def _compare(self, command: Command, printed: str) -> None:
        """Fail unless `printed` is what the text shows, and learn what the names in it stand for."""
        shown, found, self._known = self._comparable(command, printed)
        assert shown == found, f"line {command.line}: {command.text}"

    def _is_shown(self, command: Command, printed: str) -> bool:
        shown, found, _ = self._comparable(command, printed)
        return shown == found

    def _comparable(self, command: Command, printed: str) -> tuple[str, str, dict[str, str]]:
        """What the text shows and what was printed, in one form, and what the names in the text stand for then."""
        shown = _INCOMPARABLE.sub("…", command.shown.rstrip())
        found = _INCOMPARABLE.sub("…", printed.replace("\r", "").rstrip())
        shown = _PORT.sub(lambda port: self._port(port[0]), shown)
        known = dict(self._known)
        for name, value in zip(_IDENTIFIER.findall(shown), _IDENTIFIER.findall(found), strict=False):
            known.setdefault(name, value)
        return _IDENTIFIER.sub(lambda name: known.get(name[0], name[0]), shown), found, known

    def _port(self, named: str) -> str:
        """A free port for one that the text names."""
        if named not in self._ports:
            self._ports[named] = str(free_port())
        return self._ports[named]


def _lines(process: subprocess.Popen[str]) -> Iterator[str]:
    """The lines that a process prints. One that takes too long is killed, with all that it started."""
    assert process.stdout is not None
    watchdog = threading.Timer(_PATIENCE_S, os.killpg, (process.pid, signal.SIGKILL))
    watchdog.start()
    try:
        while line := process.stdout.readline():
            yield line
    finally:
        watchdog.cancel()
