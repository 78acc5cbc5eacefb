"""A page of another site can neither change nor read a gateway, whatever a browser lets it send."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.support.server import GatewayProcess

_EVIL = "https://evil.example"
_APP = "https://app.example"
_SIMPLE = {"Origin": _EVIL, "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}
_PLAIN = {"Content-Type": "text/plain"}


@pytest.fixture(scope="module")
def configured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """A gateway that has a name, and an application of another origin."""
    folder = tmp_path_factory.mktemp("configured")
    with GatewayProcess(
        folder / "gateway.db", GATEWAY_HOSTS="files.example, [fd00::7]", GATEWAY_CORS_ORIGINS=_APP
    ) as gateway:
        yield gateway


def _status(gateway: GatewayProcess, *lines: str, version: str = "1.1", target: str = "/api/projects/a/files") -> int:
    """What a GET with these header lines is answered."""
    with socket.create_connection(("127.0.0.1", gateway.port), 120) as connection:
        head = [f"GET {target} HTTP/{version}", *lines, "Connection: close", "", ""]
        connection.sendall("\r\n".join(head).encode("latin-1"))
        with connection.makefile("rb") as file:
            return int(file.readline().split()[1])


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "localhost:1",
        "LOCALHOST:80",
        "localhost.",
        "localhost.:8000",
        "127.0.0.1",
        "127.0.0.1:65535",
        "[::1]",
        "[::1]:9",
    ],
)
def test_names_of_loopback_are_allowed(shared_gateway: GatewayProcess, host: str) -> None:
    assert _status(shared_gateway, f"Host: {host}") == 404  # there is no such project


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8000",
        "169.254.169.254",
        "localhost.evil.example",
        "evil.example.",
        "files.example",
        "localhost@evil.example",
        "evil.example@localhost",
        "evil.example#localhost",
        "localhost/evil",
        "evil.example\\localhost",
        "[::2]",
        "[localhost]",
        "::1",
        "localhost:80:80",
        "localhost:x",
        "localhost..",
        "local host",
        "127.0.0.1.evil.example",
        "127.1",
        "2130706433",
        "[::ffff:127.0.0.1]",
        "localhost,evil.example",
        "\xe9vil",
        "",
    ],
)
def test_other_names_are_not(shared_gateway: GatewayProcess, host: str) -> None:
    assert _status(shared_gateway, f"Host: {host}") == 421
    assert _status(shared_gateway, f"Host: {host}", target="/") == 421
    assert _status(shared_gateway, f"Host: {host}", target="/metrics") == 421


def test_a_request_has_one_name(shared_gateway: GatewayProcess) -> None:
    assert _status(shared_gateway) == 400
    assert _status(shared_gateway, "Host: localhost", "Host: evil.example") == 400
    assert _status(shared_gateway, "Host: localhost", "Host: localhost") == 400
    assert _status(shared_gateway, version="1.0") == 404
    assert _status(shared_gateway, "Host: evil.example", version="1.0") == 421


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("http://localhost/api/projects/a/files", 404),
        ("http://evil.example/api/projects/a/files", 421),
        ("http://evil.example:8000/?a", 421),
        ("http://localhost@evil.example/", 400),
        ("http://evil.example@localhost/", 400),
        ("ftp://localhost/", 400),
        ("//localhost/", 404),
        ("*", 400),
    ],
)
def test_the_host_of_an_absolute_target_counts(shared_gateway: GatewayProcess, target: str, status: int) -> None:
    """RFC 9112 §3.2.2."""
    assert _status(shared_gateway, "Host: localhost", target=target) == status


def test_names_are_added_by_a_setting(configured: GatewayProcess, tmp_path: Path) -> None:
    for host in ("files.example", "FILES.example:443", "localhost", "[fd00::7]:80"):
        assert _status(configured, f"Host: {host}") == 404
    assert _status(configured, "Host: other.example") == 421
    with GatewayProcess(tmp_path / "gateway.db", GATEWAY_HOSTS="*") as gateway:
        assert _status(gateway, "Host: other.example") == 404


WRITES = [
    ("POST", "sync", b'{"updates":{"plan.md":"AAA="}}'),
    ("POST", "files/move", b'{"from":"plan.md","to":"gone.md"}'),
    ("POST", "history/plan.md/restore", b'{"version":1}'),
    ("POST", "sessions", b"{}"),
    ("POST", "sessions", b""),
    ("PUT", "files/plan.md", b"evil"),
    ("PATCH", "files/plan.md", b"\0\0"),
    ("DELETE", "files/plan.md", b""),
]


@pytest.mark.parametrize(("method", "path", "body"), WRITES)
@pytest.mark.parametrize("kind", [None, "application/json", "text/plain", "application/x-www-form-urlencoded"])
@pytest.mark.parametrize(
    "origin", [{"Origin": _EVIL}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}]
)
def test_pages_of_other_origins_change_nothing(
    shared_project: httpx.Client, method: str, path: str, body: bytes, kind: str | None, origin: dict[str, str]
) -> None:
    before = shared_project.put("/files/plan.md", content=b"Ship it.", headers=_PLAIN).json()["cursor"]
    headers = {**origin, **({} if kind is None else {"Content-Type": kind})}
    answer = shared_project.request(method, f"/{path}", content=body, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (403, "origin_not_allowed")
    assert shared_project.get("/files").json()["cursor"] == before
    assert shared_project.get("/sessions").json()["sessions"] == []


def test_the_own_pages_and_configured_origins_may_write(configured: GatewayProcess) -> None:
    with configured.client() as project:
        for headers in (
            {},
            {"Origin": _APP},
            {"Origin": configured.url},
            {"Origin": "https://files.example", "Host": "files.example"},
            {"Origin": "https://files.example", "Host": "files.example:443"},
            {"Origin": "http://[::1]:8000", "Host": "[::1]:8000"},
            {"Sec-Fetch-Site": "same-origin"},
            {"Sec-Fetch-Site": "none"},
        ):
            assert project.put("/files/a.md", content=b"text", headers={**_PLAIN, **headers}).is_success, headers
        for origin in (_EVIL, "http://localhost:1", "http://app.example", f"{_APP}.evil.example", f"{_APP}:8443", ""):
            headers = {**_PLAIN, "Origin": origin}
            assert project.put("/files/a.md", content=b"text", headers=headers).status_code == 403, origin


@pytest.mark.parametrize(("method", "path", "body"), [write for write in WRITES if write[0] == "POST" and write[2]])
def test_a_post_says_what_it_brings(shared_project: httpx.Client, method: str, path: str, body: bytes) -> None:
    shared_project.put("/files/plan.md", content=b"Ship it.", headers=_PLAIN)
    answer = shared_project.request(method, f"/{path}", content=body)
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")


@pytest.mark.parametrize("origin", [_EVIL, "null", "http://localhost:1"])
def test_a_websocket_of_another_origin_is_refused(configured: GatewayProcess, origin: str) -> None:
    url = configured.project().replace("http", "ws") + "/ws/plan.md"
    with pytest.raises(InvalidStatus) as refused, connect(url, additional_headers={"Origin": origin}, open_timeout=120):
        pass
    assert refused.value.response.status_code == 403
    assert json.loads(refused.value.response.body or b"")["code"] == "origin_not_allowed"
    for allowed in ({"Origin": _APP}, {"Origin": configured.url}, {}):
        with connect(url, additional_headers=allowed, open_timeout=120) as socket:
            assert socket.recv()


def test_a_websocket_for_another_name_is_refused(configured: GatewayProcess) -> None:
    lines = ["Host: evil.example", "Origin: http://evil.example", "Connection: Upgrade", "Upgrade: websocket"]
    lines += ["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13"]
    assert _status(configured, *lines, target="/api/projects/demo/ws/plan.md") == 421


def test_answers_say_that_nobody_else_may_use_them(
    shared_gateway: GatewayProcess, shared_project: httpx.Client
) -> None:
    shared_project.put("/files/config.js", content=b"token = 42", headers=_PLAIN)
    tag = shared_project.get("/files/config.js").headers["ETag"]
    answers = [
        shared_project.get("/files/config.js"),
        shared_project.get("/files/config.js?format=text"),
        shared_project.get("/files/config.js", headers={"If-None-Match": tag}),
        shared_project.get("/files/none.js"),
        shared_project.get("/files", headers={"Host": "evil.example"}),
        shared_project.post("/files/status", json={}),
        shared_project.head("/changes", headers={"Accept": "text/event-stream"}),
        httpx.get(f"{shared_gateway.url}/", verify=False),
        httpx.get(f"{shared_gateway.url}/demo.js", verify=False),
        httpx.get(f"{shared_gateway.url}/metrics", verify=False),
    ]
    for answer in answers:
        assert answer.headers["X-Content-Type-Options"] == "nosniff", answer.url
        assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin", answer.url
        assert answer.headers["Referrer-Policy"] == "same-origin", answer.url
    page = httpx.get(f"{shared_gateway.url}/", verify=False).headers
    policy = dict(part.strip().split(" ", 1) for part in page["Content-Security-Policy"].split(";"))
    assert (policy["default-src"], policy["script-src"]) == ("'none'", "'self'")
    assert policy["frame-ancestors"] == "'none'"
    assert page["Cross-Origin-Opener-Policy"] == "same-origin"
