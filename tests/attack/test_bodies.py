"""Bodies that never end, come too slowly, or are too many: each is refused, and what they held is given back."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live.clients import figure, wait_for_figure
from tests.support.server import GatewayProcess

_PATH = "/api/projects/p"


def _begin(gateway: GatewayProcess, sent: int, announced: int, target: str = "PATCH /files/a") -> socket.socket:
    """Send the head of a request and a part of its body."""
    method, _, path = target.partition(" ")
    connection = socket.create_connection(("127.0.0.1", gateway.port))
    connection.settimeout(120)
    kind = {"POST": "application/json", "PUT": "text/plain"}.get(method, "application/octet-stream")
    kind = "application/x-ndjson" if target.startswith("POST /sessions") else kind
    lines = [f"{method} {_PATH}{path} HTTP/1.1", "Host: localhost", f"Content-Type: {kind}"]
    head = "\r\n".join([*lines, f"Content-Length: {announced}", "", ""])
    connection.sendall(head.encode() + b"x" * sent)
    return connection


def _answer(connection: socket.socket) -> bytes:
    answer = b""
    while b"\r\n\r\n" not in answer and (more := connection.recv(65536)):
        answer += more
    return answer


@pytest.fixture
def small(tmp_path: Path) -> Iterator[GatewayProcess]:
    with GatewayProcess(tmp_path / "a.db", GATEWAY_BODIES_BYTES=100_000, GATEWAY_BODY_SECONDS=600) as gateway:
        yield gateway


@pytest.fixture
def hasty(tmp_path: Path) -> Iterator[GatewayProcess]:
    with GatewayProcess(tmp_path / "a.db", GATEWAY_BODY_SECONDS=0.2) as gateway:
        yield gateway


def test_bodies_that_are_coming_in_hold_a_bounded_number_of_bytes(small: GatewayProcess) -> None:
    waiting = [_begin(small, 40_000, 50_000) for _ in range(2)]
    wait_for_figure(small, "gateway_body_bytes", 80_000)
    with _begin(small, 40_000, 50_000) as refused:
        answer = _answer(refused)
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after" in answer.lower()
    with small.client("p") as client:  # a short one has room
        assert client.put("files/b.md", content=b"b", headers={"Content-Type": "text/plain"}).status_code == 201
    for connection in waiting:
        connection.close()
    wait_for_figure(small, "gateway_body_bytes", 0)
    with small.client("p") as client:
        assert (
            client.put("files/c.md", content=b"c" * 90_000, headers={"Content-Type": "text/plain"}).status_code == 201
        )
    assert figure(small, "gateway_body_bytes") == 0


@pytest.mark.parametrize("target", ["PATCH /files/a", "POST /files/status", "POST /sync", "PUT /files/output"])
@pytest.mark.parametrize("sent", [0, 10])
def test_a_body_that_does_not_come_is_a_timeout(hasty: GatewayProcess, target: str, sent: int) -> None:
    with _begin(hasty, sent, 100, target) as connection:
        answer = _answer(connection)
        assert answer.startswith(b"HTTP/1.1 408 ")
    wait_for_figure(hasty, "gateway_body_bytes", 0)


def test_an_agents_output_may_pause(hasty: GatewayProcess) -> None:
    session = _created(hasty, "/sessions", b"{}")
    turn = _created(hasty, f"/sessions/{session}/turns", b'{"prompt":"do it"}')
    target = f"POST /sessions/{session}/turns/{turn}/output"
    with _begin(hasty, 0, 40, target) as output, _begin(hasty, 0, 1000, "PATCH /files/a") as other:
        assert _answer(other).startswith(b"HTTP/1.1 408 ")  # so long it paused, too
        line = b'{"type":"text","text":"still here"}'
        output.sendall(line.ljust(39) + b"\n")
        assert _answer(output).startswith(b"HTTP/1.1 200 ")


def _created(gateway: GatewayProcess, path: str, body: bytes) -> str:
    """The id of what is created by a request whose body comes with its head: nothing can stop in between."""
    with socket.create_connection(("127.0.0.1", gateway.port), 120) as connection:
        lines = [f"POST {_PATH}{path} HTTP/1.1", "Host: localhost", "Content-Type: application/json"]
        head = "\r\n".join([*lines, f"Content-Length: {len(body)}", "Connection: close", "", ""])
        connection.sendall(head.encode() + body)
        answer = b""
        while more := connection.recv(65536):
            answer += more
    assert answer.startswith(b"HTTP/1.1 201 "), answer
    created: dict[str, str] = json.loads(answer.partition(b"\r\n\r\n")[2])
    return created["id"]
