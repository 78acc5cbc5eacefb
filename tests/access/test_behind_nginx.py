"""Behind nginx that asks the application about each request, with the lines of the README, and with cookies."""

import threading
from collections.abc import Iterator
from http.cookies import SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.access.conftest import bearer, told
from tests.docs.markdown import PROJECT, code_blocks
from tests.live.clients import event_stream
from tests.live.editors import WEBSOCKET
from tests.support.nginx import CONFIGURATION, running_nginx
from tests.support.server import GatewayProcess

_SESSIONS = {"1": ("ann", {"demo": "write"}), "2": ("bob", {"demo": {"scope": "read", "paths": ["docs/"]}})}


class _Application(BaseHTTPRequestHandler):
    """Knows its users by a cookie."""

    def do_GET(self) -> None:
        cookie = SimpleCookie(self.headers.get("Cookie", "")).get("session")
        session = _SESSIONS.get("" if cookie is None else cookie.value)
        self.send_response(401 if session is None else 204)
        if session is not None:
            self.send_header("X-Gateway-Token", bearer(session[0], projects=session[1]))
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


@pytest.fixture(scope="module")
def published(guarded: GatewayProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """The gateway as it is reached through nginx."""
    application = ThreadingHTTPServer(("127.0.0.1", 0), _Application)
    threading.Thread(target=application.serve_forever, daemon=True).start()
    (lines,) = [block.lines for block in code_blocks(PROJECT / "README.md") if block.language == "nginx"]
    configuration = CONFIGURATION.read_text(encoding="utf-8")
    plain = "    location /api/ {\n        proxy_pass http://yjs_gateway;\n    }\n"
    for written, used in (
        (plain, "\n".join(lines) + "\n"),
        (":8000;", f":{guarded.port};"),
        (":3000;", f":{application.server_address[1]};"),
    ):
        assert configuration.count(written) == 1, written
        configuration = configuration.replace(written, used)
    try:
        with running_nginx(tmp_path_factory.mktemp("nginx"), configuration) as url:
            outside = GatewayProcess(guarded.database)
            outside.url = url
            yield outside
    finally:
        application.shutdown()
        application.server_close()


def _client(published: GatewayProcess, session: str | None, **headers: str) -> httpx.Client:
    cookies = {} if session is None else {"Cookie": f"session={session}"}
    return published.client("demo", headers={**cookies, **headers})


def test_who_has_logged_in_may_do_what_the_application_grants(published: GatewayProcess) -> None:
    text = {"Content-Type": "text/plain"}
    with _client(published, "1") as ann, _client(published, "2") as bob, _client(published, None) as nobody:
        for path in ("docs/a.md", "src/b.md"):
            ann.put(f"/files/{path}", content="text", headers=text).raise_for_status()
        assert [entry["path"] for entry in bob.get("/files").json()["files"]] == ["docs/a.md"]
        assert told(bob.put("/files/docs/a.md", content="x", headers=text)) == (403, "forbidden")
        assert nobody.get("/files").status_code == 401
        assert nobody.get("/files", headers={"Authorization": f"Bearer {bearer(admin=True)}"}).status_code == 401
        versions = ann.get("/history/docs/a.md").json()["versions"]
        assert versions[0]["author"] == "ann"
        with event_stream(bob) as stream:
            assert [event.data for event in stream.until_ready() if "src/" in event.data] == []


def test_pages_of_other_origins_can_do_nothing_with_the_cookie(published: GatewayProcess) -> None:
    foreign = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
    with _client(published, "1", **foreign) as page:
        text = {"Content-Type": "text/plain"}
        assert told(page.put("/files/c.md", content="x", headers=text)) == (403, "origin_not_allowed")
        assert told(page.post("/tickets")) == (403, "origin_not_allowed")
        assert "access-control-allow-origin" not in page.get("/files").headers
        rebound = page.get("/files", headers={"Host": "evil.example"})
        assert told(rebound) == (421, "host_not_allowed")
    url = f"{published.project('demo')}/ws/docs/a.md".replace("http", "ws", 1)
    with (
        pytest.raises(InvalidStatus) as refused,
        connect(url, **WEBSOCKET, additional_headers={"Cookie": "session=1"}, origin="https://evil.example"),
    ):
        pass
    assert refused.value.response.status_code == 403
    with connect(url, **WEBSOCKET, additional_headers={"Cookie": "session=1"}) as socket_of_ann:
        assert socket_of_ann.recv(60)
