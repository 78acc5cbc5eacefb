"""Sessions of an application: whose a token or a cookie is, it says; and says again while somebody is connected."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import httpx
import pytest

from tests.access.conftest import told
from tests.live.clients import event_stream
from tests.live.editors import raw_client
from tests.support.server import GatewayProcess


class _Application(BaseHTTPRequestHandler):
    sessions: ClassVar[dict[str, dict[str, Any]]] = {}
    asked: ClassVar[list[dict[str, str]]] = []
    max_age: ClassVar[int] = 60
    broken: ClassVar[bool] = False

    def do_POST(self) -> None:
        question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        type(self).asked.append(question)
        ((kind, value),) = question.items()
        name = value if kind == "token" else dict(part.split("=") for part in value.split("; ")).get("session", "")
        known = type(self).sessions.get(name)
        body = json.dumps(known or {}).encode()
        self.send_response(500 if type(self).broken else 401 if known is None else 200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", f"private, max-age={type(self).max_age}")
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
    _Application.max_age, _Application.broken = 60, False


def _client(gateway: GatewayProcess, name: str, **headers: str) -> httpx.Client:
    return gateway.client(name, headers=headers)


_TEXT = {"Content-Type": "text/plain"}


def test_a_cookie_is_asked_about_once_and_counts_as_the_application_says(gateway: GatewayProcess, name: str) -> None:
    with _client(gateway, name, Cookie=f"theme=dark; session=1; of={name}") as ann:
        assert ann.put("/files/a.md", content="x", headers=_TEXT).status_code == 201
        for _ in range(5):
            assert ann.get("/files").status_code == 200
        assert ann.get("/history/a.md").json()["versions"][0]["author"] == "ann"
        assert told(ann.get(f"{gateway.project('other')}/files")) == (404, "project_not_found")
        assert _Application.asked == [{"cookie": f"theme=dark; session=1; of={name}"}]
        page = {"Origin": "https://evil.example"}
        assert told(ann.put("/files/b.md", content="x", headers={**_TEXT, **page})) == (403, "origin_not_allowed")


def test_a_token_of_the_application_is_asked_about(gateway: GatewayProcess, name: str) -> None:
    _Application.sessions[name] = {"sub": "bob", "yjs_gateway": {"projects": {name: "write"}}}
    with _client(gateway, name, Authorization=f"Bearer {name}") as bob:
        assert bob.put("/files/a.md", content="x", headers=_TEXT).status_code == 201
        assert _Application.asked == [{"token": name}]
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
    _Application.broken = True
    with _client(gateway, name, Cookie=f"session=1; of={name}") as client:
        assert told(client.get("/files")) == (503, "storage_unavailable")
        _Application.broken = False
        assert told(client.get("/files")) == (404, "project_not_found")


def test_who_is_connected_stays_as_long_as_the_application_knows_the_session(
    gateway: GatewayProcess, name: str
) -> None:
    _Application.max_age = 3
    with _client(gateway, name, Cookie=f"session=1; of={name}") as ann:
        ann.put("/files/a.md", content="x", headers=_TEXT).raise_for_status()
        with event_stream(ann) as stream:
            stream.until_ready()
            asked, written = len(_Application.asked), 0
            while len(_Application.asked) < asked + 2:  # the answer has been kept and has ended
                written += 1
                ann.put("/files/a.md", content=str(written), headers=_TEXT).raise_for_status()
                assert stream.next("change").data
            del _Application.sessions["1"]
            assert json.loads(stream.next("expired").data) == {"reason": "expired"}
        assert told(ann.get("/files")) == (401, "unauthenticated")


def test_what_a_session_grants_anew_counts_after_its_answer(gateway: GatewayProcess, name: str) -> None:
    _Application.max_age = 2
    with _client(gateway, name, Cookie=f"session=1; of={name}") as ann:
        ann.put("/files/a.md", content="x", headers=_TEXT).raise_for_status()
        with event_stream(ann) as stream:
            stream.until_ready()
            _Application.sessions["1"] = {"sub": "ann", "yjs_gateway": {"projects": {name: "read"}}}
            assert stream.next("expired").data
        assert told(ann.put("/files/a.md", content="y", headers=_TEXT)) == (403, "forbidden")
