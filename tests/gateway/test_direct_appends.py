"""A write that is taken in before the application is answered as the application answers it, byte for byte."""

import asyncio
import re
from pathlib import Path
from typing import Any

import pycrdt
import pytest
from starlette.types import Message

from gateway.access.audit import Audit
from gateway.access.grants import parse_grant
from gateway.access.guard import Access
from gateway.access.records import make_token
from gateway.api.direct_appends import DirectAppends
from gateway.app import create_app
from gateway.asgi import BODY_IS_HERE
from gateway.files.store import Files
from gateway.settings import Settings
from storage import Storage, StorageUnavailable

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


async def ask(app: Any, asked: _Request) -> tuple[Any, ...]:
    """What an answer has in it, without what is drawn or read from a clock."""
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
        BODY_IS_HERE: True,
    }
    answers: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Message) -> None:
        answers.append(message)

    await app(scope, receive, send)
    start, *parts = answers
    named = [(name, _RANDOM.sub(b"~", value)) for name, value in start["headers"]]
    content = b"".join(part.get("body", b"") for part in parts)
    return method, path, headers, start["status"], named, _RANDOM.sub(b"~", content)


async def _answers(folder: Path, corpus: list[_Request], *, auth: bool, **settings: Any) -> list[Any]:
    app = create_app(Settings(database=f"sqlite:///{folder}.db", auth="required" if auth else "none", **settings))
    async with app.running() as storage:
        tokens = await _tokens(storage) if auth else [{}]
        answers = [
            await ask(app, (method, path, body, {**token, **headers}))
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
        taken += queued is not None
        return queued

    noted: list[Any] = []

    def note(self: Audit, action: str, access: Access | None, **what: Any) -> None:
        if action != "refused":  # of these, only so many are noted in each second
            noted.append((action, None if access is None else access.subject, {"detail": None, **what}))

    monkeypatch.setattr(Files, "append_at_once", counted)
    monkeypatch.setattr(Audit, "note", note)
    corpus = _corpus()
    direct = asyncio.run(_answers(tmp_path / "direct", corpus, auth=auth, **settings))
    assert taken >= 20
    before, audited = taken, noted.copy()
    noted.clear()
    monkeypatch.setattr(DirectAppends, "_find", lambda self, scope: None)
    usual = asyncio.run(_answers(tmp_path / "usual", corpus, auth=auth, **settings))
    assert taken == before
    for mine, theirs in zip(direct[0], usual[0], strict=True):
        assert mine == theirs
    assert direct[1:] == usual[1:]
    assert audited == noted
    assert bool(noted) is auth
    assert {answer[3] for answer in direct[0]} >= {200, 201, 400, 404, 409, 412, 415}


@pytest.mark.parametrize("late", [False, True], ids=["when it is queued", "when it is committed"])
def test_a_write_that_cannot_be_stored_is_answered_by_the_same_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, late: bool
) -> None:
    async def work(name: str) -> tuple[Any, ...]:
        app = create_app(Settings(database=f"sqlite:///{tmp_path / name}.db"))
        async with app.running() as storage:
            await ask(app, ("PATCH", f"{_P}/a.md", _TYPED[0], {}))

            def fail(project: str, changes: object) -> asyncio.Future[Any]:
                if not late:
                    raise StorageUnavailable("the disk is gone")
                failed: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
                asyncio.get_running_loop().call_soon(failed.set_exception, StorageUnavailable("the disk is gone"))
                return failed

            append = storage.append
            monkeypatch.setattr(storage, "append", fail)
            refused = await ask(app, ("PATCH", f"{_P}/a.md", _TYPED[1], {}))
            monkeypatch.setattr(storage, "append", append)
            again = await ask(app, ("PATCH", f"{_P}/a.md", _TYPED[1], {}))
            assert (refused[3], again[3]) == (503, 200)
            return refused, again

    direct = asyncio.run(work("direct"))
    monkeypatch.setattr(DirectAppends, "_find", lambda self, scope: None)
    assert direct == asyncio.run(work("usual"))
