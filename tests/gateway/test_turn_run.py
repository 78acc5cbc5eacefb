"""`yjs-gateway turn run`: the agent is run with its own ends, and the turn ends with it."""

import signal
import sys
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, cast

import httpx
import pytest

from tests.support.agent_stream import BLOCKS, FAILURE, STREAM, SUCCESS, assistant, line, text
from tests.support.pipe import PipeProcess
from tests.support.server import GatewayProcess

_ITEM = {"id": "item_0", "type": "agent_message", "text": "Sorted"}
_CODEX = line({"type": "thread.started", "thread_id": "t"}) + line({"type": "item.completed", "item": _ITEM})
_CODEX_TYPES = ["system", "text"]
_SAID = line(assistant(text("first")))


@pytest.fixture
def name(shared_project: httpx.Client) -> str:
    """The name of the project."""
    return str(shared_project.base_url).rstrip("/").rpartition("/")[2]


def python(script: str) -> list[str]:
    """An agent that is a script."""
    return [sys.executable, "-c", f"import os, signal, sys, time\nout = sys.stdout.buffer\n{script}"]


def printing(stream: bytes, then: str) -> list[str]:
    return python(f"out.write({stream!r})\nout.flush()\n{then}")


@pytest.mark.parametrize(
    ("agent", "options", "code", "status", "error", "types"),
    [
        (printing(STREAM, ""), [], 0, "completed", None, [kind for kind, _ in BLOCKS]),
        (printing(_CODEX, ""), ["--agent", "codex"], 0, "completed", None, _CODEX_TYPES),
        (
            printing(_CODEX, "sys.exit(3)"),
            ["--dialect", "codex"],
            3,
            "failed",
            "the agent ended with exit code 3",
            _CODEX_TYPES,
        ),
        (
            printing(_CODEX + line({"type": "turn.failed", "error": {"message": "no quota"}}), ""),
            [],
            0,
            "failed",
            "no quota",
            [*_CODEX_TYPES, "result"],
        ),
        (printing(line(SUCCESS), "sys.exit(3)"), [], 3, "completed", None, ["result"]),
        (printing(line(FAILURE), ""), [], 0, "failed", "error_max_turns", ["result"]),
        (
            printing(_SAID, "os.kill(os.getpid(), signal.SIGKILL)"),
            [],
            137,
            "failed",
            "the agent ended with exit code 137",
            ["text"],
        ),
        (
            printing(b"plain \xf0\n", "sys.exit(3)"),
            ["--agent", "text"],
            3,
            "failed",
            "the agent ended with exit code 3",
            ["text"],
        ),
        (python(""), [], 0, "completed", None, []),
    ],
)
def test_the_command_ends_as_the_agent_and_the_turn_as_its_result_or_else_its_exit_code(
    shared_gateway: GatewayProcess,
    shared_project: httpx.Client,
    name: str,
    agent: list[str],
    options: list[str],
    code: int,
    status: str,
    error: str | None,
    types: list[str],
) -> None:
    with PipeProcess(shared_gateway.url, name, *options, agent=agent) as run:
        turn, _ = run.created()
        assert run.end() == code
    state = shared_project.get(turn).json()
    assert (state["status"], state["error"]) == (status, error)
    assert [block["type"] for block in state["blocks"]] == types


def test_the_agent_has_the_stdin_and_the_stderr_of_the_command_and_its_output_passes(
    shared_gateway: GatewayProcess, name: str
) -> None:
    agent = python("sys.stderr.write('heard\\n')\nsys.stderr.flush()\nout.write(sys.stdin.buffer.read())")
    with PipeProcess(shared_gateway.url, name, agent=agent) as run:
        said = {run.said().split()[0] for _ in range(3)}
        assert "heard" in said
        run.write(STREAM)
        run.close()
        assert run.read(len(STREAM) + 1) == STREAM
        assert run.process.wait(120) == 0


def test_a_command_that_cannot_be_run_makes_no_turn(
    shared_gateway: GatewayProcess, shared_project: httpx.Client, name: str, tmp_path: Path
) -> None:
    plain = tmp_path / "plain"
    plain.write_text("no program")
    for agent, code in (([str(tmp_path / "none")], 127), ([str(plain)], 126)):
        with PipeProcess(shared_gateway.url, name, agent=agent) as run:
            assert "cannot be run" in run.said()
            assert run.end() == code
    assert shared_project.get("/sessions").status_code == 404


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(
    ("then", "code", "status"),
    [
        ("sys.exit(5)", 5, "cancelled"),
        (f"out.write({line(SUCCESS)!r})\n  out.flush()\n  sys.exit(0)", 0, "completed"),
        (f"out.write({line(FAILURE)!r})\n  out.flush()\n  sys.exit(1)", 1, "failed"),
    ],
)
def test_a_signal_goes_on_to_the_agent_which_decides(
    shared_gateway: GatewayProcess,
    shared_project: httpx.Client,
    name: str,
    signum: signal.Signals,
    then: str,
    code: int,
    status: str,
) -> None:
    script = (
        f"def end(*_):\n  {then}\nsignal.signal(signal.{signum.name}, end)\n"
        f"out.write({_SAID!r})\nout.flush()\nwhile True:\n  signal.pause()"
    )
    with PipeProcess(shared_gateway.url, name, agent=python(script)) as run:
        turn, _ = run.created()
        assert run.read(len(_SAID)) == _SAID
        run.process.send_signal(signum)
        assert run.process.wait(120) == code
    state = shared_project.get(turn).json()
    assert state["status"] == status
    assert state["blocks"][0]["content"] == "first"
    if status == "cancelled":
        assert state["error"] == f"ended by {signum.name}"


def test_an_agent_that_a_signal_ends_leaves_a_cancelled_turn(
    shared_gateway: GatewayProcess, shared_project: httpx.Client, name: str
) -> None:
    with PipeProcess(shared_gateway.url, name, agent=printing(_SAID, "signal.pause()")) as run:
        turn, _ = run.created()
        assert run.read(len(_SAID)) == _SAID
        run.process.send_signal(signal.SIGTERM)
        assert run.process.wait(120) == 128 + signal.SIGTERM
    assert shared_project.get(turn).json()["status"] == "cancelled"


def test_a_turn_that_is_cancelled_ends_the_agent(
    shared_gateway: GatewayProcess, shared_project: httpx.Client, name: str
) -> None:
    agent = printing(_SAID, f"sys.stdin.read()\nout.write({_SAID!r})\nout.flush()\nsignal.pause()")
    with PipeProcess(shared_gateway.url, name, agent=agent) as run:
        turn, _ = run.created()
        assert run.read(len(_SAID)) == _SAID
        headers: dict[str, str] = {}
        while (answer := shared_project.get(f"{turn}/status", params={"wait": 50}, headers=headers)).json()[
            "block_count"
        ] < 1:
            headers = {"If-None-Match": answer.headers["ETag"]}
        shared_project.patch(turn, json={"status": "cancelled"}).raise_for_status()
        run.close()  # what the agent says now is refused
        assert run.process.wait(120) == 128 + signal.SIGTERM
    assert shared_project.get(turn).json()["block_count"] == 1


class Guarded(ThreadingHTTPServer):
    """A proxy before a gateway that lets nobody in who has no token."""

    daemon_threads = True

    def __init__(self, gateway: str, *, told: tuple[bytes, bytes] = (b"", b"")) -> None:
        """`told` is replaced in answers by what follows it."""
        super().__init__(("127.0.0.1", 0), _GuardedRequest)
        self.gateway = httpx.Client(base_url=gateway, timeout=120, verify=False)
        self.told = told
        self.authors: set[str | None] = set()
        self.refused = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _GuardedRequest(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def _pass(self) -> None:
        server = cast(Guarded, self.server)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers["Authorization"] != "Bearer secret":
            server.refused += 1
            self._answer(401, b"")
            return
        server.authors.add(self.headers["X-Author"])
        kind = {"Content-Type": self.headers["Content-Type"]} if self.headers["Content-Type"] else {}
        answer = server.gateway.request(self.command, self.path, content=body, headers=kind)
        content = answer.content.replace(*server.told) if server.told[0] else answer.content
        self._answer(answer.status_code, content, answer.headers["Content-Type"])

    do_GET = do_POST = do_PATCH = _pass  # noqa: N815 (the names are http.server's)

    def _answer(self, status: int, body: bytes, kind: str = "text/plain") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def guarded(shared_gateway: GatewayProcess) -> Iterator[Guarded]:
    with Guarded(shared_gateway.url) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()
        server.gateway.close()


@pytest.mark.parametrize("agent", [(), printing(STREAM, "")], ids=["pipe", "run"])
def test_the_token_and_the_author_go_with_every_request(guarded: Guarded, agent: list[str]) -> None:
    name = f"guarded-{uuid.uuid4().hex[:12]}"
    with PipeProcess(guarded.url, name, "--token", "secret", "--author", "agent 7", agent=agent) as run:
        turn, _ = run.created()
        if not agent:
            run.write(STREAM)
        assert run.end() == 0
    state = guarded.gateway.get(f"/api/projects/{name}{turn}").json()
    assert (state["status"], state["block_count"]) == ("completed", len(BLOCKS))
    assert guarded.authors == {"agent 7"}
    assert guarded.refused == 0


def test_without_the_token_it_is_refused_and_the_stream_passes(guarded: Guarded) -> None:
    with PipeProcess(guarded.url, "guarded") as run:
        run.write(STREAM)
        assert "refused" in run.said()
        assert run.read(len(STREAM)) == STREAM
        assert run.end() == 2
    assert guarded.refused == 1
