"""Sessions of an application: whose a token or a cookie is, it says; and says again while somebody is connected."""

import asyncio
import concurrent.futures
import contextlib
import gzip
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import httpx
import pytest
from websockets.exceptions import ConnectionClosed

from gateway.access.sessions import ApplicationSessions
from gateway.wire.problems import Unavailable
from gateway.yjs.hocuspocus import authenticated, permission_denied
from gateway.yjs.lib0 import var_bytes, var_uint
from tests.access.conftest import told
from tests.live.clients import event_stream
from tests.live.editors import RawClient, raw_client
from tests.live.hocuspocus import raw_hocuspocus
from tests.support.server import GatewayProcess


class _Application(BaseHTTPRequestHandler):
    sessions: ClassVar[dict[str, dict[str, Any]]] = {}
    allowed: ClassVar[set[tuple[str | None, str | None, str]]] = set()
    """What is allowed by the session `each`, about which the application answers question by question."""
    asked: ClassVar[list[dict[str, str | None]]] = []
    cache: ClassVar[str] = ""
    broken: ClassVar[str] = ""

    def do_POST(self) -> None:
        question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        type(self).asked.append(question)
        assert "Cookie" not in self.headers
        cookies = dict(part.split("=") for part in question.get("cookie", "").split("; ") if part)
        name = question.get("token", cookies.get("session", ""))
        known = type(self).sessions.get(name)
        status = 401 if known is None else 200
        if name == "each":
            known = {"sub": "ann", "allow": True}
            asked = (question["project"], question["path"], question["action"])
            status = 200 if asked in type(self).allowed else 403
        body = json.dumps(known or {}).encode()
        match type(self).broken:
            case "gzip":
                body = gzip.compress(b" " * 10_000_000 + body)
            case "deep":
                body = b'{"sub":"ann","yjs_gateway":' + b"[" * 500_000
            case "long":
                body = body + b" " * 2_000_000
            case "500" | "302":
                status = int(type(self).broken)
        with contextlib.suppress(OSError):
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Set-Cookie", "session=1; Path=/")
            self.send_header("Location", "/somewhere")
            if type(self).broken == "gzip":
                self.send_header("Content-Encoding", "gzip")
            if type(self).cache:
                self.send_header("Cache-Control", type(self).cache)
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture(scope="module")
def application() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Application)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/whose"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def gateway(application: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    folder: Path = tmp_path_factory.mktemp("sessions")
    settings = {"GATEWAY_AUTH": "required", "GATEWAY_AUTHORIZE_URL": application}
    with GatewayProcess(folder / "gateway.db", **settings) as process:
        assert not [line for line in process.log if "ygw_" in line]
        yield process


@pytest.fixture(autouse=True)
def anew(name: str) -> None:
    _Application.sessions = {"1": {"sub": "ann", "yjs_gateway": {"projects": {name: "write"}}}}
    _Application.asked = []
    _Application.allowed = set()
    _Application.cache, _Application.broken = "private, max-age=60", ""


def _client(gateway: GatewayProcess, name: str, **headers: str) -> httpx.Client:
    return gateway.client(name, headers=headers)


_TEXT = {"Content-Type": "text/plain"}


def _token(token: str) -> bytes:
    return var_uint(2) + var_uint(0) + var_bytes(token.encode())


def _close_code(client: RawClient) -> int:
    with pytest.raises(ConnectionClosed) as closed:
        client.socket.recv(60)
    assert closed.value.rcvd is not None
    return closed.value.rcvd.code


def test_a_cookie_is_asked_about_once_and_counts_as_the_application_says(gateway: GatewayProcess, name: str) -> None:
    with _client(gateway, name, Cookie=f"theme=dark; session=1; of={name}") as ann:
        assert ann.put("/files/a.md", content="x", headers=_TEXT).status_code == 201
        for _ in range(5):
            assert ann.get("/files").status_code == 200
        assert ann.get("/history/a.md").json()["versions"][0]["author"] == "ann"
        assert told(ann.get(f"{gateway.project('other')}/files")) == (404, "project_not_found")
        cookie = f"theme=dark; session=1; of={name}"
        assert _Application.asked == [{"cookie": cookie, "project": name, "path": "a.md", "action": "write"}]
        page = {"Origin": "https://evil.example"}
        assert told(ann.put("/files/b.md", content="x", headers={**_TEXT, **page})) == (403, "origin_not_allowed")


def test_a_token_of_the_application_is_asked_about(gateway: GatewayProcess, name: str) -> None:
    _Application.sessions[name] = {"sub": "bob", "yjs_gateway": {"projects": {name: "write"}}}
    with _client(gateway, name, Authorization=f"Bearer {name}") as bob:
        assert bob.put("/files/a.md", content="x", headers=_TEXT).status_code == 201
        assert _Application.asked == [{"token": name, "project": name, "path": "a.md", "action": "write"}]
    with raw_client(gateway, name, "a.md", query=f"?token={name}") as client:
        assert client.receive_sync("step_1") is not None


@pytest.mark.parametrize("headers", [{}, {"Cookie": "session=none"}, {"Authorization": "Bearer none"}], ids=str)
def test_nobody_is_nobody(gateway: GatewayProcess, name: str, headers: dict[str, str]) -> None:
    with _client(gateway, name, **headers) as nobody:
        assert told(nobody.get("/files")) == (401, "unauthenticated")


@pytest.mark.parametrize(
    "answer",
    [{"sub": ""}, {"sub": "ann", "yjs_gateway": {"projects": {"demo": "everything"}}}, {"yjs_gateway": {}}, {"sub": 7}],
    ids=str,
)
def test_an_answer_that_is_not_understood_lets_nobody_in(gateway: GatewayProcess, name: str, answer: Any) -> None:
    _Application.sessions[name] = answer
    with _client(gateway, name, Cookie=f"session={name}") as client:
        assert client.get("/files").status_code == 503


def test_an_application_that_is_down_is_not_the_users_fault(gateway: GatewayProcess, name: str) -> None:
    _Application.broken = "500"
    with _client(gateway, name, Cookie=f"session=1; of={name}") as client:
        assert told(client.get("/files")) == (503, "storage_unavailable")
        _Application.broken = ""
        assert told(client.get("/files")) == (404, "project_not_found")


def test_who_is_connected_stays_as_long_as_the_application_knows_the_session(
    gateway: GatewayProcess, name: str
) -> None:
    stayed, seconds = False, 1
    with _client(gateway, name, Cookie=f"session=1; of={name}") as ann:
        while not stayed:  # the gateway may have stood still when it was to ask again, and may not go on without
            seconds *= 3
            _Application.cache = f"max-age={seconds}"
            ann.put("/files/a.md", content="x", headers=_TEXT).raise_for_status()
            with event_stream(ann) as stream:
                stayed = next(event.name for event in stream if event.name in ("ready", "expired")) == "ready"
                asked, written = len(_Application.asked), 0
                while stayed and len(_Application.asked) < asked + 2:  # the answer has been kept and has ended
                    written += 1
                    answer = ann.put("/files/a.md", content=f"{seconds} {written}", headers=_TEXT)
                    assert answer.status_code in (200, 401), answer.text  # it may end within the request, too
                    stayed = next(event.name for event in stream if event.name in ("change", "expired")) == "change"
                if stayed:
                    del _Application.sessions["1"]
                    assert json.loads(stream.next("expired").data) == {"reason": "expired"}
        assert told(ann.get("/files")) == (401, "unauthenticated")


def test_what_a_session_grants_anew_counts_after_its_answer(gateway: GatewayProcess, name: str) -> None:
    ready, seconds = False, 1
    with _client(gateway, name, Cookie=f"session=1; of={name}") as ann:
        while not ready:  # before the answer has ended
            seconds *= 2
            _Application.cache = f"max-age={seconds}"
            ann.put("/files/a.md", content="x", headers=_TEXT).raise_for_status()
            with event_stream(ann) as stream:
                ready = next(event.name for event in stream if event.name in ("ready", "expired")) == "ready"
                if ready:
                    _Application.sessions["1"] = {"sub": "ann", "yjs_gateway": {"projects": {name: "read"}}}
                    assert stream.next("expired").data
        assert told(ann.put("/files/a.md", content="y", headers=_TEXT)) == (403, "forbidden")


@pytest.mark.parametrize("broken", ["gzip", "deep", "long", "302", "500"])
def test_an_answer_that_cannot_be_read_lets_nobody_in(gateway: GatewayProcess, name: str, broken: str) -> None:
    _Application.broken = broken
    with _client(gateway, name, Cookie=f"session=1; of={name}") as client:
        assert told(client.get("/files")) == (503, "storage_unavailable")


def test_an_application_that_does_not_answer_in_time_lets_nobody_in() -> None:
    class Silent(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            await asyncio.Event().wait()
            raise AssertionError

    sessions = ApplicationSessions("http://application.example/whose", timeout=0.01, transport=Silent())
    with pytest.raises(Unavailable, match="TimeoutError"):
        asyncio.run(sessions.ask("cookie", "session=1", "demo", None, "read"))


def test_an_application_may_decide_about_each_request(gateway: GatewayProcess, name: str) -> None:
    with _client(gateway, name, Cookie=f"session=each; of={name}") as ann:
        assert told(ann.put("/files/a.md", content="x", headers=_TEXT)) == (403, "forbidden")
        assert told(ann.get("/files")) == (403, "forbidden")
        _Application.allowed |= {(name, "a.md", "write"), (name, "b.md", "read")}
        _Application.cache = ""
        assert told(ann.put("/files/a.md", content="x", headers=_TEXT)) == (403, "forbidden")  # the answer is kept
        assert ann.get("/files/b.md").status_code == 404
        assert told(ann.put("/files/b.md", content="x", headers=_TEXT)) == (403, "forbidden")
        assert told(ann.get("/files/a.md")) == (403, "forbidden")  # asked about reading, the application said nothing
        _Application.asked = []
        _Application.allowed |= {(name, None, "read"), (name, "c.md", "write")}
        assert ann.put("/files/c.md", content="x", headers=_TEXT).status_code == 201
        for _ in range(3):
            assert ann.put("/files/c.md", content="y", headers=_TEXT).status_code == 200
        cookie = f"session=each; of={name}"
        assert _Application.asked == [{"cookie": cookie, "project": name, "path": "c.md", "action": "write"}]
        assert told(ann.post("/files/move", json={"from": "c.md", "to": "d.md"})) == (403, "forbidden")
        assert told(ann.get(f"{gateway.url}/api/tokens")) == (403, "forbidden")


def test_a_body_that_writes_is_asked_about_as_a_write(gateway: GatewayProcess, name: str) -> None:
    _Application.cache = "no-store"
    _Application.allowed = {(name, None, "read"), (name, "a.md", "write")}
    update = "AAA="
    with _client(gateway, name, Cookie=f"session=each; of={name}") as ann:
        ann.put("/files/a.md", content="x", headers=_TEXT).raise_for_status()
        assert ann.post("/sync", json={}).status_code == 200
        assert told(ann.post("/sync", json={"updates": {"a.md": update}})) == (403, "forbidden")
        _Application.allowed.add((name, None, "write"))
        assert ann.post("/sync", json={"updates": {"a.md": update}}).status_code == 200


def test_a_room_is_asked_about_with_its_file(gateway: GatewayProcess, name: str) -> None:
    cookie = f"session=each; of={name}"
    _Application.allowed = {(name, "a.md", "write"), (name, "b.md", "read")}
    with raw_client(gateway, name, "a.md", additional_headers={"Cookie": cookie}) as client:
        assert client.receive_sync("step_1") is not None
    with raw_client(gateway, name, "b.md", additional_headers={"Cookie": cookie}) as client:
        assert client.receive_sync("step_1") is not None
    with raw_client(gateway, name, "c.md", additional_headers={"Cookie": cookie}) as client:
        assert _close_code(client) == 4403
    questions = [(each["path"], each["action"]) for each in _Application.asked]
    assert questions == [
        *[("a.md", "write"), ("b.md", "write"), ("b.md", "read")],
        *[("c.md", "write"), ("c.md", "read")],
    ]


def test_what_may_not_be_kept_is_asked_each_time(gateway: GatewayProcess, name: str) -> None:
    _Application.cache = "private, no-store"
    with _client(gateway, name, Cookie=f"session=1; of={name}") as ann:
        for _ in range(3):
            assert told(ann.get("/files")) == (404, "project_not_found")
        assert len(_Application.asked) == 3
        _Application.cache = "max-age=60"
        ann.get("/files")
        _Application.sessions.clear()
        assert told(ann.get("/files")) == (404, "project_not_found")
        assert len(_Application.asked) == 4


@pytest.mark.parametrize("cache", ["max-age=60", ""])
def test_a_refusal_is_kept_only_if_the_application_says_so(gateway: GatewayProcess, name: str, cache: str) -> None:
    _Application.cache = cache
    with _client(gateway, name, Cookie=f"session={name}") as nobody:
        for _ in range(3):
            assert told(nobody.get("/files")) == (401, "unauthenticated")
        assert len(_Application.asked) == (1 if cache else 3)


def test_many_requests_at_once_wait_for_one_answer(gateway: GatewayProcess, name: str) -> None:
    with (
        _client(gateway, name, Cookie=f"session=1; of={name}") as ann,
        concurrent.futures.ThreadPoolExecutor(8) as pool,
    ):
        statuses = list(pool.map(lambda number: ann.get(f"/files/{number}.md").status_code, range(8)))
        assert (statuses, len(_Application.asked)) == ([404] * 8, 1)


def test_no_page_uses_a_cookie_because_any_page_is_allowed(application: str, tmp_path: Path, name: str) -> None:
    settings = {"GATEWAY_AUTH": "required", "GATEWAY_AUTHORIZE_URL": application, "GATEWAY_CORS_ORIGINS": "*"}
    cookie = f"session=1; of={name}"
    page = {"Cookie": cookie, "Origin": "https://evil.example"}
    with GatewayProcess(tmp_path / "gateway.db", **settings) as gateway:
        with _client(gateway, name, **page) as evil:
            assert told(evil.put("/files/a.md", content="x", headers=_TEXT)) == (401, "unauthenticated")
            assert told(evil.post("/tickets")) == (401, "unauthenticated")
        with raw_client(gateway, name, "a.md", additional_headers=page) as client:
            assert _close_code(client) == 4401
        assert _Application.asked == []
        with _client(gateway, name, Cookie=cookie, Origin=gateway.url) as own:
            assert own.put("/files/a.md", content="x", headers=_TEXT).status_code == 201


def test_hocuspocus_is_asked_about_each_document(gateway: GatewayProcess, name: str) -> None:
    _Application.allowed = {(name, "a.md", "write"), (name, "b.md", "read")}
    with raw_hocuspocus(gateway, name, additional_headers={"Cookie": f"session=each; of={name}"}) as raw:
        raw.send("a.md", _token(""))
        raw.until("a.md", authenticated(read_only=False))
        raw.send("b.md", _token("each"))
        raw.until("b.md", authenticated(read_only=True))
        raw.send("c.md", _token(""))
        while (came := raw.receive())[0] != "c.md":
            pass
        assert came[1] == permission_denied("4403: the scope `read` is missing")
