"""Clients that do not read their answers: what waits for them is bounded, in total and in time."""

import json
import secrets
import socket
import struct
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from gateway.http.unread import LOOKS, Unread
from tests.live.clients import figure, wait_for_figure
from tests.support.server import GatewayProcess

_PLAIN = {"Content-Type": "text/plain"}
_MEBIBYTE = 2**20
_UPGRADE = (
    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


class _Transport:
    """What waits on a connection, and whether it was closed."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.aborted = False

    def get_write_buffer_size(self) -> int:
        return self.size

    def kept_bytes(self) -> int:
        return self.size

    def abort(self) -> None:
        self.aborted = True


@pytest.mark.anyio
async def test_who_reads_nothing_for_long_is_closed_and_who_reads_slowly_is_not() -> None:
    unread = Unread(3600, 10_000)
    stalled, slow, later = _Transport(1000), _Transport(1000), _Transport(1000)
    unread.add(stalled)
    unread.add(slow)
    for _ in range(LOOKS - 1):
        slow.size -= 1
        unread.look()
    unread.add(later)
    slow.size -= 1
    unread.look()
    assert [each.aborted for each in (stalled, slow, later)] == [True, False, False]
    assert (unread.bytes, unread.closed) == (slow.size + 1000, 1)
    unread.remove(later)
    for _ in range(LOOKS):
        unread.look()
    assert [each.aborted for each in (stalled, slow, later)] == [True, True, False]
    assert unread.bytes == 0


@pytest.mark.anyio
async def test_what_waits_for_all_is_bounded_and_who_has_read_nothing_for_longest_makes_room() -> None:
    unread = Unread(3600, 2500)
    first, reads, second = (_Transport(1000) for _ in range(3))
    unread.add(first)
    unread.add(reads)
    unread.look()
    reads.size -= 100
    unread.look()
    unread.add(second)
    assert [each.aborted for each in (first, reads, second)] == [True, False, False]
    large = _Transport(9000)
    unread.add(large)  # one alone may exceed it
    assert [each.aborted for each in (reads, second, large)] == [True, True, False]
    assert unread.bytes == 9000


def _connect(gateway: GatewayProcess, request: str) -> socket.socket:
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect(("127.0.0.1", gateway.port))
    connection.sendall(request.encode())
    return connection


def _ask(gateway: GatewayProcess, target: str, *headers: str) -> socket.socket:
    head = "".join(f"{line}\r\n" for line in ("Host: localhost", *headers))
    return _connect(gateway, f"GET /api/projects/demo/{target} HTTP/1.1\r\n{head}\r\n")


def _sync(gateway: GatewayProcess) -> socket.socket:
    """A long list, which is encoded and sent in parts."""
    body = '{"max_bytes": 16000000}'
    head = f"Host: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    return _connect(gateway, f"POST /api/projects/demo/sync HTTP/1.1\r\n{head}\r\n\r\n{body}")


_ASK: dict[str, Callable[[GatewayProcess], socket.socket]] = {
    "a document": lambda gateway: _ask(gateway, "files/a.md"),
    "a document, compressed": lambda gateway: _ask(gateway, "files/a.md", "Accept-Encoding: gzip"),
    "a list": _sync,
    "a room": lambda gateway: _join_room(gateway, "a.md"),
}


def _join_room(gateway: GatewayProcess, path: str) -> socket.socket:
    """A room whose client asks for the whole document."""
    connection = _connect(gateway, f"GET /api/projects/demo/ws/{path} HTTP/1.1\r\nHost: localhost\r\n{_UPGRADE}\r\n")
    connection.sendall(struct.pack("!BB4x", 0x82, 0x84) + bytes((0, 0, 1, 0)))
    return connection


def _write(project: httpx.Client, megabytes: int, files: int = 1) -> None:
    """Write files of so many megabytes together, of which compression makes little less."""
    for number in range(files):
        text = secrets.token_hex(megabytes * _MEBIBYTE // files // 2)
        project.put(f"/files/{number or 'a.md'}", content=text, headers=_PLAIN).raise_for_status()


@pytest.mark.parametrize("kind", ["answer", "room"])
def test_a_connection_whose_client_reads_nothing_is_closed(tmp_path: Path, kind: str) -> None:
    gateway = GatewayProcess(tmp_path / "gateway.db", GATEWAY_UNREAD_SECONDS=0.01)
    with gateway, gateway.client() as project:
        _write(project, 8)
        with _ask(gateway, "files/a.md") if kind == "answer" else _join_room(gateway, "a.md"):
            wait_for_figure(gateway, "gateway_unread_closes_total", 1)
            assert figure(gateway, "gateway_unread_bytes") == 0
            assert project.get("/files").is_success


@pytest.mark.parametrize("kind", _ASK)
def test_answers_that_nobody_reads_do_not_fill_the_memory(tmp_path: Path, kind: str) -> None:
    """More of each waits than the bound, beside what the system takes of it: one alone may exceed the bound."""
    limits = {"GATEWAY_UNREAD_BYTES": _MEBIBYTE, "GATEWAY_UNREAD_SECONDS": 3600}
    gateway = GatewayProcess(tmp_path / "gateway.db", **limits)
    with gateway, gateway.client() as project:
        _write(project, 12, files=40 if kind == "a list" else 1)
        connections = [_ASK[kind](gateway) for _ in range(6)]
        wait_for_figure(gateway, "gateway_unread_closes_total", 5)
        assert 0 < figure(gateway, "gateway_unread_bytes") < 18 * _MEBIBYTE
        for connection in connections:
            connection.close()
        wait_for_figure(gateway, "gateway_unread_bytes", 0)


def test_lines_of_output_that_do_not_end_are_bounded_together(tmp_path: Path) -> None:
    gateway = GatewayProcess(tmp_path / "gateway.db", GATEWAY_BODIES_BYTES=4 * _MEBIBYTE)
    line = json.dumps({"type": "assistant", "message": {"content": [{"type": "text", "text": "said"}]}})
    with gateway, gateway.client() as project:
        session = project.post("/sessions", json={}).json()["id"]
        turns = [project.post(f"/sessions/{session}/turns", json={"prompt": ""}).json()["id"] for _ in range(3)]
        paths = [f"/sessions/{session}/turns/{turn}" for turn in turns]
        body = f"{line}\n" + '{"x":"' + "x" * (3 * _MEBIBYTE)
        head = "Host: localhost\r\nContent-Type: application/x-ndjson\r\nContent-Length: 9000000"
        with _connect(gateway, f"POST /api/projects/demo{paths[0]}/output HTTP/1.1\r\n{head}\r\n\r\n{body}"):
            wait_for_figure(gateway, "gateway_unfinished_line_bytes", 3 * _MEBIBYTE + 6)
            refused = project.post(f"{paths[1]}/output", content=body, headers={"Content-Type": "application/x-ndjson"})
            assert (refused.status_code, refused.json()["code"]) == (503, "overloaded")
            assert refused.json()["certain"] is False
            assert [block["content"] for block in project.get(paths[1]).json()["blocks"]] == ["said"]
        wait_for_figure(gateway, "gateway_unfinished_line_bytes", 0)
        taken = project.post(f"{paths[2]}/output", content=body, headers={"Content-Type": "application/x-ndjson"})
        assert taken.is_success
        assert figure(gateway, "gateway_unfinished_line_bytes") == 0
