"""What is no Unicode, no number or no name, in every place of a request where a client can put it: never a failure."""

import http.client
import json
from collections.abc import Iterator

import httpx
import pytest

from tests.live.clients import name_of
from tests.support.server import GatewayProcess

_PLAIN = {"Content-Type": "text/plain"}
_JSON = {"Content-Type": "application/json"}
_TEXTS = [
    "%00", "a%00b", "%00/%2e%2e/a", "%ED%A0%80", "a%ED%B0%80.md", "%ff", "%C0%80", "%F4%90%80%80", "%", "%zz", "a%2",
    "%0a", "%0d%0aX:%20y", "%e2%80%ae", "%2e%2e%2f%00", "\xff", "\xed\xa0\x80", "9" * 400, "-1", "1e999", "%EF%BF%BD",
    "x" * 5000, "%00" * 2000, "x/" * 2000, "[]", "{}", "'\"", "*",
]  # fmt: skip
_PATHS = [
    "/{}", "/demo.js{}", "/api/{}", "/api/projects/{}", "/api/projects/{}/files", "/api/projects/{}/files/a.md",
    "/api/projects/{}/changes", "/api/projects/{}/sessions", "P/{}", "P/files/{}", "P/files/a.md/{}", "P/history/{}",
    "P/history/{}/restore", "P/sessions/{}", "P/sessions/{}/turns", "S/turns/{}", "T/{}", "S/turns/{}/status",
    "P/ws/{}",
]  # fmt: skip
_QUERIES = [
    "P/files?{}", "P/files?prefix={}", "P/files?limit={}", "P/files?deleted={}", "P/files?after={}&limit=1",
    "P/files/a.md?{}", "P/files/a.md?{}=1", "P/files/a.md?format={}", "P/files/a.md?format=text&root={}",
    "P/files/a.md?format=json&root={}", "P/files/a.md?from_version={}", "P/files/a.md?at_version={}",
    "P/files/a.md?state_vector={}", "P/history/a.md?diff={}", "P/history/a.md?diff=1..{}", "P/history/a.md?before={}",
    "P/history/a.md?limit={}", "P/changes?since={}", "P/changes?prefix={}", "P/changes?limit={}", "P/changes?wait={}",
    "P/sessions?limit={}", "P/sessions?after={}", "S/turns?limit={}", "S/turns?after={}", "T?after_block={}",
    "T?wait={}", "/healthz?{}", "/readyz?{}", "/metrics?{}", "/openapi.json?{}",
]  # fmt: skip
_HEADERS = [
    "X-Author", "Idempotency-Key", "If-None-Match", "If-Match", "If-Modified-Since", "If-Unmodified-Since",
    "X-Incarnation", "Last-Event-ID", "Cookie", "Authorization", "Accept", "Accept-Encoding", "Content-Type",
    "Content-Encoding", "Origin", "Sec-Fetch-Site", "Range", "Expect", "X-Forwarded-For", "Forwarded", "Traceparent",
    "Sec-WebSocket-Protocol",
]  # fmt: skip
_VALUES = [
    b"", b"\xed\xa0\x80", b"\xff\xfe", b"%00", b"%ED%A0%80", b'"\xed\xa0\x80"', b'W/"\xff"', b"x" * 9000,
    b"\xe2\x80\xae", b"9" * 400, b"-1", b"1e999", b"\x9b31m", b"*;q=1e400", b"*/*;q=nan", b"text/plain;q=inf",
    b"Basic \xff", b"Bearer \xff", b"Thu, 01 Jan 99999 00:00:00 GMT", b"Mon, 31 Feb 0000 99:99:99 GMT",
    b"text/plain; charset=\xff", b";=;", b",,,", b"\t",
]  # fmt: skip


@pytest.fixture
def connection(shared_gateway: GatewayProcess) -> Iterator[http.client.HTTPConnection]:
    """A connection on which a target is sent as it is."""
    connection = http.client.HTTPConnection("127.0.0.1", shared_gateway.port, timeout=120)
    yield connection
    connection.close()


class _Asker:
    """Asks for targets in which `P`, `S` and `T` begin with a project, one of its sessions, and a turn of that."""

    def __init__(self, connection: http.client.HTTPConnection, project: httpx.Client) -> None:
        self._connection = connection
        project.put("/files/a.md", content=b"text", headers=_PLAIN).raise_for_status()
        session = project.post("/sessions", json={}).json()["id"]
        turn = project.post(f"/sessions/{session}/turns", json={"prompt": "do it"}).json()["id"]
        p = f"/api/projects/{name_of(project)}"
        self._starts = {"P": p, "S": f"{p}/sessions/{session}", "T": f"{p}/sessions/{session}/turns/{turn}"}

    def ask(self, method: str, target: str, headers: dict[str, bytes], body: bytes = b"") -> tuple[int, bytes]:
        connection = self._connection
        connection.putrequest(method, "/", skip_accept_encoding=True)
        target = self._starts.get(target[0], target[0]) + target[1:]
        connection._buffer[0] = f"{method} {target} HTTP/1.1".encode("latin-1")  # type: ignore[attr-defined]
        for name, value in {**headers, "Content-Length": b"%d" % len(body)}.items():
            connection.putheader(name, value)
        connection.endheaders(body)
        answer = connection.getresponse()
        return answer.status, answer.read()


def _understood(answer: tuple[int, bytes], method: str, *asked: object) -> None:
    status, body = answer
    assert status < 500, (method, asked, body)
    if status >= 400 and method != "HEAD":
        assert json.loads(body)["status"] == status, (method, asked)


@pytest.fixture
def asker(connection: http.client.HTTPConnection, shared_project: httpx.Client) -> _Asker:
    return _Asker(connection, shared_project)


@pytest.mark.parametrize("path", _PATHS)
def test_a_path_may_hold_anything(asker: _Asker, path: str) -> None:
    bodies = {"PUT": (_PLAIN, b"text"), "POST": (_JSON, b"{}"), "PATCH": ({}, b"\0\0")}
    for text in _TEXTS:
        for method in ("GET", "HEAD", "PUT", "POST", "PATCH", "DELETE"):
            headers, body = bodies.get(method, ({}, b""))
            sent = {name: value.encode() for name, value in headers.items()}
            _understood(asker.ask(method, path.format(text), sent, body), method, path, text)


@pytest.mark.parametrize("query", _QUERIES)
def test_a_query_may_hold_anything(asker: _Asker, query: str) -> None:
    for text in _TEXTS:
        _understood(asker.ask("GET", query.replace("{}", text), {}), "GET", query, text)


@pytest.mark.parametrize("name", _HEADERS)
def test_a_header_may_hold_anything(asker: _Asker, name: str) -> None:
    asked = [
        ("GET", "P/files/a.md", {}, b""),
        ("PUT", "P/files/a.md", _PLAIN, b"text"),
        ("PUT", "P/files/new.md", _PLAIN, b"text"),
        ("DELETE", "P/files/new.md", {}, b""),
        ("PATCH", "P/files/a.md", {}, b"\0\0"),
        ("GET", "P/files", {}, b""),
        ("GET", "P/changes?limit=1", {}, b""),
        ("POST", "P/files/status", _JSON, b"{}"),
        ("POST", "P/sync", _JSON, b"{}"),
        ("POST", "P/sessions", _JSON, b"{}"),
        ("POST", "S/turns", _JSON, b'{"prompt":"x"}'),
        ("GET", "T", {}, b""),
        ("POST", "P/history/a.md/restore", _JSON, b'{"version":1}'),
        ("OPTIONS", "P/files/a.md", {}, b""),
        ("GET", "/", {}, b""),
        ("GET", "/demo.js", {}, b""),
    ]
    for value in _VALUES:
        for method, target, kind, body in asked:
            headers = {key: word.encode() for key, word in kind.items() if key != name}
            _understood(asker.ask(method, target, {**headers, name: value}, body), method, target, name, value)
