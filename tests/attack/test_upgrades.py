"""A client may offer another protocol with any request. An offer that is not taken changes nothing (RFC 9110 §7.8)."""

import json
import shutil
import socket
import subprocess
from pathlib import Path

import httpx
import pytest

from tests.live.clients import wait_for_figure
from tests.support.server import GatewayProcess

_JAVA = (
    "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA"
)
_HANDSHAKE = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13"
OFFERS = {
    "curl": "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA",
    "Java": _JAVA,
    "TLS": "Connection: upgrade\r\nUpgrade: TLS/1.0",
    "WebSocket without its headers": "Connection: Upgrade\r\nUpgrade: websocket",
    "WebSocket with another method": f"Connection: Upgrade\r\nUpgrade: websocket\r\n{_HANDSHAKE}",
    "several": "Connection: Upgrade\r\nUpgrade: h2c, websocket",
    "several lines": "Connection: keep-alive\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nUpgrade: websocket",
    "odd spelling": "CONNECTION:  uPGRADE ,foo\r\nupgrade: H2C",
    "an empty one": "Connection: Upgrade\r\nUpgrade:",
}


class _Answers:
    """The answers on one connection, in order."""

    def __init__(self, connection: socket.socket) -> None:
        self._file = connection.makefile("rb")

    def next(self) -> tuple[int, bytes]:
        status = int(self._file.readline().split()[1])
        length, chunked = 0, False
        while (line := self._file.readline()) != b"\r\n":
            name, _, value = line.decode().lower().partition(":")
            length = int(value) if name == "content-length" else length
            chunked = chunked or (name == "transfer-encoding" and "chunked" in value)
        if not chunked:
            return status, self._file.read(length)
        body = b""
        while size := int(self._file.readline(), 16):
            body += self._file.read(size)
            self._file.readline()
        self._file.readline()
        return status, body


def _request(method: str, target: str, *lines: str, body: bytes = b"", chunked: bool = False) -> bytes:
    framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(body)}"
    if chunked:
        body = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:3], body[3:]) if part) + b"0\r\n\r\n"
    return "\r\n".join([f"{method} {target} HTTP/1.1", "Host: localhost", *lines, framing, "", ""]).encode() + body


def _sent(gateway: GatewayProcess, *parts: bytes, count: int) -> list[tuple[int, bytes]]:
    """What is answered to parts that arrive one after another."""
    with socket.create_connection(("127.0.0.1", gateway.port), 120) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for part in parts:
            connection.sendall(part)
        answers = _Answers(connection)
        return [answers.next() for _ in range(count)]


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunks"])
@pytest.mark.parametrize("offer", OFFERS)
def test_a_body_is_read_whatever_is_offered(
    shared_gateway: GatewayProcess, shared_project: httpx.Client, offer: str, chunked: bool
) -> None:
    target = shared_project.base_url.path
    put = _request(
        "PUT", f"{target}files/a.md", "Content-Type: text/plain", OFFERS[offer], body=b"text", chunked=chunked
    )
    question = json.dumps({"versions": {"a.md": 7}}).encode()
    asked = _request(
        "POST", f"{target}files/status", "Content-Type: application/json", OFFERS[offer], body=question, chunked=chunked
    )
    [(status, receipt)] = _sent(shared_gateway, put, count=1)
    assert (status, json.loads(receipt)["version"]) == (201, 1)
    assert shared_project.get("/files/a.md?format=text").text == "text"
    [(status, answer)] = _sent(shared_gateway, asked, count=1)
    assert (status, [each["version"] for each in json.loads(answer)["changes"]]) == (200, [1])


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunks"])
@pytest.mark.parametrize("cut", [1, 7, 50, 10_000], ids="in parts of {}".format)
def test_requests_that_offer_are_answered_one_after_another(
    shared_gateway: GatewayProcess, shared_project: httpx.Client, cut: int, chunked: bool
) -> None:
    target = shared_project.base_url.path
    lines = ("Content-Type: text/plain", OFFERS["Java"])
    requests = b"".join(
        _request("PUT", f"{target}files/{number}.md", *lines, body=b"text %d\r\n\r\nx" % number, chunked=chunked)
        + _request("GET", f"{target}files/{number}.md?format=text", OFFERS["curl"])
        for number in range(4)
    )
    parts = [requests[start : start + cut] for start in range(0, len(requests), cut)]
    answers = _sent(shared_gateway, *parts, count=8)
    assert [status for status, _ in answers] == [201, 200] * 4
    assert [body for _, body in answers[1::2]] == [b"text %d\r\n\r\nx" % number for number in range(4)]


def test_a_client_that_offers_may_wait_for_leave_to_send_its_body(
    shared_gateway: GatewayProcess, shared_project: httpx.Client
) -> None:
    target = shared_project.base_url.path
    whole = _request(
        "PUT", f"{target}files/a.md", "Content-Type: text/plain", "Expect: 100-continue", OFFERS["curl"], body=b"text"
    )
    with socket.create_connection(("127.0.0.1", shared_gateway.port), 120) as connection:
        connection.sendall(whole[:-4])
        with connection.makefile("rb") as file:
            assert file.readline() == b"HTTP/1.1 100 Continue\r\n"
            assert file.readline() == b"\r\n"
        connection.sendall(whole[-4:])
        assert _Answers(connection).next()[0] == 201
    assert shared_project.get("/files/a.md?format=text").text == "text"


@pytest.mark.parametrize("arguments", [["--http2"], ["--http2", "-H", "Transfer-Encoding: chunked"]], ids=" ".join)
def test_curl_may_offer_http_2(shared_project: httpx.Client, tmp_path: Path, arguments: list[str]) -> None:
    curl = shutil.which("curl")
    if curl is None or "HTTP2" not in subprocess.run([curl, "--version"], capture_output=True, text=True).stdout:
        pytest.skip("there is no curl that speaks HTTP/2")
    text = "Ship it.\n" * 20_000
    (tmp_path / "plan.md").write_text(text)
    url = f"{shared_project.base_url}files/plan.md"
    command = [curl, "-s", *arguments, "-H", "Content-Type: text/plain", "-w", "%{http_code}", "-o", "/dev/null"]
    ended = subprocess.run(
        [*command, "-T", str(tmp_path / "plan.md"), url], capture_output=True, text=True, timeout=300
    )
    assert ended.stdout == "201"
    assert shared_project.get("/files/plan.md?format=text").text == text


@pytest.mark.parametrize("upgrade", ["websocket", "WebSocket", "h2c, websocket", "h2c\r\nUpgrade: websocket"])
def test_a_handshake_is_one_beside_other_offers(
    shared_gateway: GatewayProcess, shared_project: httpx.Client, upgrade: str
) -> None:
    shared_project.put("/files/a.md", content=b"text", headers={"Content-Type": "text/plain"})
    target = f"{shared_project.base_url.path}ws/a.md"
    lines = [f"GET {target} HTTP/1.1", "Host: localhost", "Connection: keep-alive, Upgrade", f"Upgrade: {upgrade}"]
    with socket.create_connection(("127.0.0.1", shared_gateway.port), 120) as connection:
        connection.sendall("\r\n".join([*lines, _HANDSHAKE, "", ""]).encode())
        with connection.makefile("rb") as file:
            assert file.readline().startswith(b"HTTP/1.1 101 ")


@pytest.mark.parametrize("waits", ["changes?wait=50&since={cursor}", "changes\nAccept: text/event-stream"])
@pytest.mark.parametrize("together", [True, False], ids=["in one packet", "later"])
def test_a_handshake_behind_a_request_that_waits_ends_the_connection(
    tmp_path: Path, waits: str, together: bool
) -> None:
    with GatewayProcess(tmp_path / "gateway.db") as gateway, gateway.client() as project:
        cursor = project.put("/files/a.md", content=b"", headers={"Content-Type": "text/plain"}).json()["cursor"]
        target, _, accept = waits.format(cursor=cursor).partition("\n")
        first = f"GET /api/projects/demo/{target} HTTP/1.1\r\nHost: localhost\r\n{accept}\r\n".encode()
        first += b"\r\n" if accept else b""
        offer = f"Connection: Upgrade\r\nUpgrade: websocket\r\n{_HANDSHAKE}"
        second = f"GET /api/projects/demo/ws/a.md HTTP/1.1\r\nHost: localhost\r\n{offer}\r\n\r\n".encode()
        for _ in range(20):
            with socket.create_connection(("127.0.0.1", gateway.port), 120) as connection:
                connection.sendall(first + second if together else first)
                if not together:
                    wait_for_figure(gateway, "gateway_waiters", 1)
                    connection.sendall(second)
                received = b""
                while chunk := connection.recv(65536):
                    received += chunk
                assert b" 101 " not in received
                assert b'"code":"malformed_request"' in received or b"text/event-stream" in received
        wait_for_figure(gateway, "gateway_waiters", 0)
        wait_for_figure(gateway, "gateway_room_connections", 0)
