"""A write that is taken in before the application is answered as the application answers it, byte for byte."""

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pycrdt
import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.access.access import Access
from gateway.access.audit import Audit
from gateway.access.grants import parse_grant
from gateway.access.records import make_token
from gateway.api import direct_appends
from gateway.app import create_app
from gateway.asgi.answers import BODY_IS_HERE, DirectAnswers
from gateway.files.store import Files
from gateway.server.http_exchange import Exchange
from gateway.settings import Settings
from storage import AppendDone, Storage, StorageUnavailable
from storage.sqlite.database import Database
from tests.support.in_process import InProcess, serve

_Request = tuple[str, str, bytes, dict[str, str]]
_P = "/api/projects/p/files"
_OCTETS = {"content-type": "application/octet-stream"}
_RANDOM = re.compile(rb"[0-9a-f]{10}(?=[.\"']|$)|\d{4}-\d\d-\d\dT[0-9:.]+Z|\w{3}, \d\d \w{3} \d{4} [0-9:]+ GMT")


def typed(text: str, client: int) -> list[bytes]:
    """One update for each character."""
    document = pycrdt.Doc({"content": pycrdt.Text()}, client_id=client)
    updates: list[bytes] = []
    document.observe(lambda event: updates.append(event.update))
    for character in text:
        content: pycrdt.Text = document["content"]
        content += character
    del document["content"][0:1]
    return updates


def _patches(path: str, *updates: bytes, **headers: str) -> list[_Request]:
    return [("PATCH", path, update, {**_OCTETS, **_named(headers)}) for update in updates]


def _named(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


_TYPED, _OTHER = typed("hello 🎉 yes", 1), typed("other", 2)
_NESTED = pycrdt.Doc({"map": pycrdt.Map({"a": pycrdt.Array([1, {"b": 2, "a": 1}])})}, client_id=3).get_update()
_ODD_HEADERS: list[dict[str, str]] = [
    {"content-type": "text/plain"},
    {"content-type": "application/octet-stream; charset=latin-1"},
    {"content-type": "APPLICATION/OCTET-STREAM"},
    {"content-encoding": "gzip"},
    {"content-encoding": "identity"},
    {"if-match": "*"},
    {"if-match": '"x"'},
    {"if-none-match": "*"},
    {"if-unmodified-since": "Thu, 01 Jan 1970 00:00:00 GMT"},
    {"x-incarnation": "0123456789"},
    {"idempotency-key": "k"},
    {"x-author": "Ada"},
    {"x-author": "\x9b"},
    {"accept-encoding": "gzip, br"},
    {"accept": "text/event-stream"},
    {"origin": "http://evil.example"},
    {"expect": "100-continue"},
    {"authorization": "Bearer nonsense"},
]
_ODD_PATHS = [
    "/api/projects/p/files", "/api/projects/p/files/", f"{_P}/a//b", f"{_P}/../a", f"{_P}/a\n", f"{_P}/\ufffd",
    f"{_P}/e\u0301.md", f"{_P}/\u00e9.md", f"{_P}/{'x' * 2000}", f"{_P}/status", f"{_P}/a.md/history",
    "/api/projects/-/files/a",
    "/api/projects/p%2/files/a", "/api/projects//files/a.md", "/api/project/p/files/a.md", "//api/projects/p/files/a",
    "/api/projects/p/sessions/s", f"{_P}/a.md?x=1", f"{_P}/a.md?", f"{_P}/\U0001f389.md", f"{_P}/\u202e.md",
]  # fmt: skip


def _corpus() -> list[_Request]:
    """Requests in an order in which each kind meets a file that is open, closed, new, or deleted."""
    asked = _patches(f"{_P}/a.md", *_TYPED[:6], *_TYPED[4:8])
    for body in (b"", b"\0\0", b"\0", b"\1\1", b"\xff" * 20, _TYPED[8] + b"\0", _TYPED[8][:-2], _NESTED, _NESTED):
        asked += _patches(f"{_P}/a.md", body)
    asked += _patches(f"{_P}/a.md", _TYPED[10], _TYPED[9], _TYPED[8], _TYPED[9], _TYPED[10], *_TYPED[11:])
    asked += _patches(f"{_P}/b.md", _TYPED[-1], *_TYPED, _TYPED[-1])
    asked += _patches(f"{_P}/c.md", pycrdt.merge_updates(_OTHER[0], _OTHER[2]), *_OTHER)
    for headers in _ODD_HEADERS:
        asked += [("PATCH", f"{_P}/d.md", update, {**_OCTETS, **headers}) for update in _OTHER[:2]]
    for path in _ODD_PATHS:
        asked += _patches(path, *_OTHER[:3])
    asked += [("PATCH", f"{_P}/e.md", update, {}) for update in _OTHER]
    asked += [("DELETE", f"{_P}/a.md", b"", {}), *_patches(f"{_P}/a.md", *_TYPED)]
    asked += _patches(f"{_P}/large.md", *(pycrdt.Doc({"t": pycrdt.Text("x" * 900)}).get_update() for _ in range(5)))
    asked += _patches(f"{_P}/large.md", b"\0" * 5000)
    asked += [(method, f"{_P}/e.md", _OTHER[0], _OCTETS) for method in ("GET", "HEAD", "PUT", "POST", "patch")]
    return asked


class _Server(DirectAnswers):
    """The server's side of a request that is answered without a task, or by an application that is called later."""

    def __init__(self, scope: Scope, body: bytes, receive: Receive, send: Send, *, reads: bool) -> None:
        self._scope = scope
        self._body = body
        self._receive = receive
        self.send = send
        self._reads = reads
        """Whether the client reads its answers."""
        self.answers: list[Message] = []
        self._calls: list[asyncio.Future[None]] = []
        self._answered = asyncio.Event()

    def answer_encoded(self, status: int, lines: bytes, body: bytes) -> bool:
        if self._reads:
            headers = [tuple(line.split(b": ", 1)) for line in lines.splitlines()]
            self.answers += [
                {"type": "http.response.start", "status": status, "headers": headers},
                {"type": "http.response.body", "body": body},
            ]
            self._answered.set()
        return self._reads

    def call(self, app: ASGIApp) -> None:
        self._scope[BODY_IS_HERE] = self._body
        self._calls.append(asyncio.ensure_future(app(self._scope, self._receive, self.send)))
        self._answered.set()

    async def wait(self) -> None:
        await self._answered.wait()
        for call in self._calls:
            await call


async def ask(app: Any, asked: _Request, *, directly: bool = False, reads: bool = True) -> tuple[Any, ...]:
    """What an answer has in it, without what is drawn or read from a clock.

    Args:
        directly: whether the application is first asked to answer without a task.
    """
    method, path, body, headers = asked
    path, _, query = path.partition("?")
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "scheme": "http",
        "server": ("127.0.0.1", 8000),
        "client": ("127.0.0.1", 1),
        "headers": [
            (b"host", b"127.0.0.1:8000"),
            (b"content-length", b"%d" % len(body)),
            *((name.encode(), value.encode("latin-1")) for name, value in headers.items()),
        ],
    }
    answers: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Message) -> None:
        answers.append(message)

    server = _Server(scope, body, receive, send, reads=reads)
    if directly and app.answer_directly(scope, body, server):
        await server.wait()
    else:
        scope[BODY_IS_HERE] = body
        await app(scope, receive, send)
    start, *parts = server.answers or answers
    named = [(name, _RANDOM.sub(b"~", value)) for name, value in start["headers"]]
    content = b"".join(part.get("body", b"") for part in parts)
    return method, path, headers, start["status"], named, _RANDOM.sub(b"~", content)


async def _answers(
    folder: Path, corpus: list[_Request], *, auth: bool, directly: bool = False, reads: bool = True, **settings: Any
) -> list[Any]:
    app = create_app(Settings(database=f"sqlite:///{folder}.db", auth="required" if auth else "none", **settings))
    async with app.running() as storage:
        tokens = await _tokens(storage) if auth else [{}]
        answers = [
            await ask(app, (method, path, body, {**token, **headers}), directly=directly, reads=reads)
            for token in tokens
            for method, path, body, headers in corpus
        ]
        heads = [(head.path, head.version, head.size, head.deleted) async for head in storage.files("p")]
        metrics = await ask(app, ("GET", "/metrics", b"", tokens[0]))
        counted = sorted(line for line in metrics[-1].split(b"\n") if line.startswith(b"gateway_requests_total"))
    for answer in answers:  # the tokens differ
        answer[2].pop("authorization", None)
    return [answers, heads, counted]


async def _tokens(storage: Storage) -> list[dict[str, str]]:
    grants: list[Any] = [
        {"projects": {"p": "write"}},
        {"projects": {"p": "read"}},
        {"projects": {"p": {"scope": "read write", "paths": ["a.md", "c.md"]}}},
        {"projects": {"q": "write"}},
        {"projects": {}, "admin": True},
    ]
    found = []
    for number, grant in enumerate(grants):
        token, text = make_token(f"t{number}", f"s{number}", parse_grant(grant), None)
        await storage.add_token(token)
        found.append({"authorization": f"Bearer {text}"})
    return [*found, {}]


@pytest.mark.parametrize(
    ("auth", "settings"),
    [
        (False, {"document_bytes": 2000, "body_limit": 4000}),
        (True, {}),
        (False, {"project_files": 3, "project_bytes": 3000}),
        (False, {"cors_origins": ("http://evil.example",), "rate_bytes": 10**9}),
    ],
    ids=["small documents", "credentials", "quotas", "CORS and rates"],
)
def test_every_answer_is_that_of_the_application(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, auth: bool, settings: dict[str, Any]
) -> None:
    taken = 0
    at_once = Files.append_at_once

    def counted(*arguments: Any) -> Any:
        nonlocal taken
        queued = at_once(*arguments)
        taken += queued
        return queued

    noted: list[Any] = []

    def note(self: Audit, action: str, access: Access | None, **what: Any) -> None:
        if action != "refused":  # of these, only so many are noted in each second
            noted.append((action, None if access is None else access.subject, {"detail": None, **what}))

    monkeypatch.setattr(Files, "append_at_once", counted)
    monkeypatch.setattr(Audit, "note", note)
    corpus = _corpus()
    found: dict[str, tuple[list[Any], int, list[Any]]] = {}

    def answered(name: str, **how: Any) -> None:
        nonlocal taken
        taken = 0
        noted.clear()
        answers = asyncio.run(_answers(tmp_path / name, corpus, auth=auth, **how, **settings))
        found[name] = answers, taken, noted.copy()

    answered("without a task", directly=True)
    answered("to a client that does not read", directly=True, reads=False)
    answered("in a task")
    monkeypatch.setattr(direct_appends, "_target", lambda scope: None)
    answered("by the application")
    usual, none, audited = found.pop("by the application")
    assert none == 0
    for name, (direct, queued, noted_then) in found.items():
        assert queued >= 20, name
        for mine, theirs in zip(direct[0], usual[0], strict=True):
            assert mine == theirs, name
        assert direct[1:] == usual[1:], name
        assert noted_then == audited, name
    assert bool(audited) is auth
    assert {answer[3] for answer in usual[0]} >= {200, 201, 400, 404, 409, 412, 415}


@pytest.mark.parametrize("late", [False, True], ids=["when it is queued", "when it is committed"])
def test_a_write_that_cannot_be_stored_is_answered_by_the_same_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, late: bool
) -> None:
    async def work(name: str, *, directly: bool = False) -> tuple[Any, ...]:
        app = create_app(Settings(database=f"sqlite:///{tmp_path / name}.db"))
        async with app.running() as storage:
            await ask(app, ("PATCH", f"{_P}/a.md", _TYPED[0], {}))

            def fail(project: str, changes: object, done: AppendDone) -> None:
                if not late:
                    raise StorageUnavailable("the disk is gone")
                asyncio.get_running_loop().call_soon(done, StorageUnavailable("the disk is gone"))

            append = storage.append_and_call
            monkeypatch.setattr(storage, "append_and_call", fail)
            refused = await ask(app, ("PATCH", f"{_P}/a.md", _TYPED[1], {}), directly=directly)
            monkeypatch.setattr(storage, "append_and_call", append)
            again = await ask(app, ("PATCH", f"{_P}/a.md", _TYPED[1], {}), directly=directly)
            assert (refused[3], again[3]) == (503, 200)
            return refused, again

    direct, in_a_task = asyncio.run(work("direct", directly=True)), asyncio.run(work("task"))
    monkeypatch.setattr(direct_appends, "_target", lambda scope: None)
    assert direct == in_a_task == asyncio.run(work("usual"))


def _as_sent(*updates: bytes, path: str = f"{_P}/a.md") -> bytes:
    return b"".join(
        b"PATCH %b HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%b" % (path.encode(), len(update), update)
        for update in updates
    )


async def _receipt(reader: asyncio.StreamReader) -> int:
    """Read a receipt, and return its version."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"\r\ncontent-length: (\d+)", head)
    assert head[9:12] in (b"200", b"201"), head
    assert length is not None
    return int(json.loads(await reader.readexactly(int(length[1])))["version"])


class _HeldFlush:
    """Lets every transaction wait until it is released."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun, self.released = asyncio.Event(), asyncio.Event()
        self._waiting: set[asyncio.Task[None]] = set()
        write = Database.write_and_call

        async def wait(*arguments: Any) -> None:
            await self.released.wait()
            write(*arguments)

        def held(*arguments: Any) -> None:
            self.begun.set()
            self._waiting.add(asyncio.create_task(wait(*arguments)))

        monkeypatch.setattr(Database, "write_and_call", held)


@contextlib.asynccontextmanager
async def _connected(tmp_path: Path) -> AsyncIterator[tuple[InProcess, asyncio.StreamReader, asyncio.StreamWriter]]:
    """A gateway and a connection to it; a file is open."""
    async with serve(create_app(Settings(database=f"sqlite:///{tmp_path / 'gateway.db'}"))) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(server.url.rpartition(":")[2]))
        writer.write(_as_sent(_TYPED[0]))
        assert await _receipt(reader) == 1
        yield server, reader, writer
        writer.close()


async def _connections(server: InProcess, count: int) -> None:
    """Wait until a server has so many connections."""
    while len(server.server_state.connections) != count:  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0.01)


def test_pipelined_writes_take_no_task_and_are_answered_in_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work() -> None:
        async with _connected(tmp_path) as (_, reader, writer):
            monkeypatch.setattr(Exchange, "run", None)
            writer.write(_as_sent(*_TYPED[1:8]))
            assert [await _receipt(reader) for _ in _TYPED[1:8]] == list(range(2, 9))
            monkeypatch.undo()

    asyncio.run(asyncio.wait_for(work(), 120))


def test_no_receipt_is_sent_before_the_commit_and_a_gateway_that_stops_sends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work() -> None:
        async with _connected(tmp_path) as (server, reader, writer):
            flush = _HeldFlush(monkeypatch)
            writer.write(_as_sent(_TYPED[1]))
            await flush.begun.wait()
            idle, idle_writer = await asyncio.open_connection("127.0.0.1", int(server.url.rpartition(":")[2]))
            await _connections(server, 2)
            server.should_exit = True
            assert await idle.read() == b""  # the gateway is stopping: it closes idle connections
            idle_writer.close()
            assert not reader._buffer  # type: ignore[attr-defined]
            flush.released.set()
            assert await _receipt(reader) == 2
            assert await reader.read() == b""

    asyncio.run(asyncio.wait_for(work(), 120))


def test_a_write_that_outlasts_the_grace_of_a_stop_is_answered_as_the_application_answers_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(folder: Path) -> bytes:
        async with _connected(folder) as (server, reader, writer):
            flush = _HeldFlush(monkeypatch)
            writer.write(_as_sent(_TYPED[1]))
            await flush.begun.wait()
            server.config.timeout_graceful_shutdown = 0
            server.should_exit = True
            answer = await reader.read()
            flush.released.set()
        async with create_app(Settings(database=f"sqlite:///{folder / 'gateway.db'}")).running() as storage:
            head = await storage.file_head("p", "a.md")
        assert head is not None
        assert head.version == 2  # it was uncertain, and is stored
        return _RANDOM.sub(b"~", answer)

    def answer(name: str) -> bytes:
        (tmp_path / name).mkdir()
        return asyncio.run(asyncio.wait_for(work(tmp_path / name), 120))

    direct = answer("direct")
    monkeypatch.setattr(direct_appends, "_target", lambda scope: None)
    assert direct == answer("routed")
    head, _, body = direct.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503 ")
    assert b"retry-after: " in head.lower()
    problem = json.loads(body)
    assert (problem["code"], problem["certain"]) == ("shutting_down", False)


def test_a_failure_to_answer_what_was_stored_is_answered_and_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(written: object) -> None:
        raise ValueError("a mistake of ours")

    async def work() -> None:
        async with _connected(tmp_path) as (_, reader, writer):
            monkeypatch.setattr(direct_appends, "encoded_receipt", fail)
            writer.write(_as_sent(_TYPED[1]))
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 500 ")
            length = re.search(rb"\r\ncontent-length: (\d+)", head)
            assert length is not None
            assert json.loads(await reader.readexactly(int(length[1])))["code"] == "internal"
            monkeypatch.undo()
            writer.write(_as_sent(_TYPED[2]))
            assert await _receipt(reader) == 3

    asyncio.run(asyncio.wait_for(work(), 60))
    assert "a mistake of ours" in "".join(capsys.readouterr())


def test_what_was_sent_by_a_client_that_left_is_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        async with _connected(tmp_path) as (server, _, writer):
            flush = _HeldFlush(monkeypatch)
            writer.write(_as_sent(_TYPED[1]))
            await flush.begun.wait()
            writer.transport.abort()
            await _connections(server, 0)
            flush.released.set()
            reader, writer = await asyncio.open_connection("127.0.0.1", int(server.url.rpartition(":")[2]))
            writer.write(_as_sent(_TYPED[2]))
            assert await _receipt(reader) == 3
            writer.close()

    asyncio.run(asyncio.wait_for(work(), 120))
