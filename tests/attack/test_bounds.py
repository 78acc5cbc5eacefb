"""The bounds of connections: each is met, answered, counted, and given back when the clients have left."""

import contextlib
import http.client
import json
import select
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import httpx
import pytest
from websockets.exceptions import WebSocketException

from gateway.http import requests
from gateway.rooms.close_codes import TOO_LARGE
from tests.live.clients import figure, put, wait_for_figure
from tests.live.editors import raw_client
from tests.support.server import GatewayProcess

T = TypeVar("T")
_PATIENCE_S = 120
_HOST = b" HTTP/1.1\r\nHost: localhost\r\n"
_HANDSHAKE = (
    b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
_SENT_IN_VAIN = 64 * 2**20
"""Much more than the sockets of both sides hold together."""


def _connect(gateway: GatewayProcess, data: bytes = b"") -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", gateway.port), _PATIENCE_S)
    connection.sendall(data)
    return connection


def _read_all(connection: socket.socket) -> bytes:
    """All that comes until the gateway ends the connection."""
    received = b""
    while chunk := connection.recv(65536):
        received += chunk
    return received


def _problem(answer: bytes) -> tuple[int, str]:
    problem = json.loads(answer.partition(b"\r\n\r\n")[2])
    assert answer.startswith(b"HTTP/1.1 %d " % problem["status"])
    return problem["status"], problem["code"]


def _send_until_nothing_is_read(gateway: GatewayProcess, connection: socket.socket, data: bytes) -> int:
    """Send until the gateway does not read any more; returns how many bytes were taken.

    Whenever the socket takes no more, the gateway is asked something: its loop has then looked at all of its sockets.
    """
    connection.setblocking(False)
    taken, refused = 0, 0
    while refused < 5:
        try:
            taken += connection.send(data[taken % len(data) :])
            refused = 0
        except BlockingIOError:
            refused += 1
            figure(gateway, "gateway_connections")
        assert taken < _SENT_IN_VAIN, "everything is read"
    return taken


def test_more_connections_than_the_bound_are_told_so_and_there_is_room_again_when_some_leave(tmp_path: Path) -> None:
    bound = 20
    with GatewayProcess(tmp_path / "gateway.db", GATEWAY_CONNECTIONS=bound) as gateway:
        with contextlib.ExitStack() as stack:
            for _ in range(bound - 1):
                stack.enter_context(_connect(gateway))
            wait_for_figure(gateway, "gateway_connections", bound)  # with that of the question itself
            question = stack.enter_context(gateway.client())
            put(question, "a.md", "text")  # a connection that stays
            for number in range(1, 31):
                with _connect(gateway, b"PUT /api/projects/demo/files/a.md" + _HOST + b"\r\n" + b"x" * 60_000) as extra:
                    answer = _read_all(extra)
                assert _problem(answer) == (503, "overloaded")
                assert b"\r\nretry-after: " in answer.lower()
                text = question.get(f"{gateway.url}/metrics").text
                assert f'gateway_refused_connections_total{{code="overloaded"}} {number}.0' in text
                assert f"\ngateway_connections {bound}.0" in text
        wait_for_figure(gateway, "gateway_connections", 1)
        with _connect(gateway, b"GET /healthz" + _HOST + b"Connection: close\r\n\r\n") as connection:
            assert _read_all(connection).startswith(b"HTTP/1.1 200 ")


def test_a_websocket_is_a_connection_too(tmp_path: Path) -> None:
    with GatewayProcess(tmp_path / "gateway.db", GATEWAY_CONNECTIONS=5) as gateway, contextlib.ExitStack() as stack:
        for _ in range(4):
            room = stack.enter_context(_connect(gateway, b"GET /api/projects/demo/ws/a.md" + _HOST + _HANDSHAKE))
            assert room.recv(4096).startswith(b"HTTP/1.1 101 ")
        question = stack.enter_context(gateway.client())
        assert "\ngateway_connections 5.0" in question.get(f"{gateway.url}/metrics").text
        with _connect(gateway, b"GET /healthz" + _HOST + b"\r\n") as extra:
            assert _problem(_read_all(extra)) == (503, "overloaded")


@pytest.fixture
def hasty(tmp_path: Path) -> Iterator[GatewayProcess]:
    """Where a head has to come quickly, also the first byte of it: a client that is stopped before that is too late."""
    settings = {"GATEWAY_HEAD_SECONDS": 0.3, "GATEWAY_KEEP_ALIVE_SECONDS": 0.3}
    with GatewayProcess(tmp_path / "gateway.db", **settings) as gateway:
        yield gateway


def _again(work: Callable[[], T]) -> T:
    """Do it until the gateway has not ended the connection before the request came."""
    while True:
        try:
            return work()
        except (OSError, http.client.HTTPException, httpx.TransportError, WebSocketException):
            continue


def _answer_to(gateway: GatewayProcess, data: bytes) -> bytes:
    """What is answered to bytes that came in time."""

    def ask() -> bytes:
        with _connect(gateway, data) as connection:
            return _read_all(connection)

    while not (answer := _again(ask)):
        pass
    return answer


def _held(gateway: GatewayProcess, data: bytes, figure_name: str) -> socket.socket:
    """A connection whose request is being held, as a figure says."""
    while True:
        connection = _again(lambda: _connect(gateway, data))
        while not (ended := select.select([connection], [], [], 0)[0]):
            if _again(lambda: figure(gateway, figure_name)) == 1:
                break
        if not ended:
            return connection
        connection.close()


def test_silent_connections_and_half_heads_end_in_time(hasty: GatewayProcess) -> None:
    halves = [half for half in (b"G", b"GET /healthz HT", b"GET /healthz" + _HOST) for _ in range(20)]
    connections = [_again(lambda half=half: _connect(hasty, half)) for half in halves]  # type: ignore[misc]
    silent = [_connect(hasty) for _ in range(50)]
    for connection in silent:
        with connection:
            assert _read_all(connection) == b""
    for half, connection in zip(halves, connections, strict=True):
        answer = b""
        with connection, contextlib.suppress(ConnectionError):
            answer = _read_all(connection)
        assert _problem(answer or _answer_to(hasty, half)) == (408, "request_timeout")
    _again(lambda: wait_for_figure(hasty, "gateway_connections", 1))
    assert _again(lambda: figure(hasty, "gateway_refused_connections_total")) == len(halves)


def test_a_head_that_trickles_in_has_no_more_time_than_another(hasty: GatewayProcess) -> None:
    def trickle() -> bytes:
        with _connect(hasty, b"GET /healthz" + _HOST + b"X: ") as connection:
            connection.settimeout(0.05)
            for _ in range(2000):
                with contextlib.suppress(TimeoutError):
                    if answer := connection.recv(4096):
                        break
                    return b""
                connection.sendall(b"y")
            connection.settimeout(_PATIENCE_S)
            with contextlib.suppress(ConnectionResetError):
                answer += _read_all(connection)
            return answer

    while not (answer := _again(trickle)):
        pass
    assert _problem(answer) == (408, "request_timeout")


def test_an_idle_connection_ends_after_its_answers(tmp_path: Path) -> None:
    with GatewayProcess(tmp_path / "gateway.db", GATEWAY_KEEP_ALIVE_SECONDS=0.3) as gateway:
        with _connect(gateway, (b"GET /healthz" + _HOST + b"\r\n") * 3) as connection:
            assert _read_all(connection).count(b"HTTP/1.1 200 ") == 3
        wait_for_figure(gateway, "gateway_connections", 1)
        assert figure(gateway, "gateway_refused_connections_total") == 0


def test_what_waits_or_is_in_a_room_is_not_silent(hasty: GatewayProcess) -> None:
    def write(text: str) -> str:
        with hasty.client() as project:
            return str(put(project, "a.md", text)["cursor"])

    def is_woken() -> bool:
        """Whether one that waits is woken, before the time is up for which it may wait."""
        target = f"/api/projects/demo/changes?since={_again(lambda: write('text'))}&wait=60".encode()
        with contextlib.ExitStack() as stack:
            waiting = stack.enter_context(_held(hasty, b"GET " + target + _HOST + b"\r\n", "gateway_waiters"))
            _again(lambda: stack.enter_context(raw_client(hasty, "demo", "a.md")))
            for _ in range(2):
                with _connect(hasty) as silent:
                    assert _read_all(silent) == b""  # so long both were silent, too
            assert _again(lambda: figure(hasty, "gateway_room_connections")) == 1
            _again(lambda: write("other"))
            answer = b""
            while b'"more":' not in answer:
                answer += (more := waiting.recv(4096))
                assert more, answer
            return b'"changes":[]' not in answer

    while not is_woken():
        pass


def test_requests_behind_one_that_waits_are_not_read_without_end_and_not_run_when_the_client_left(
    tmp_path: Path,
) -> None:
    with GatewayProcess(tmp_path / "gateway.db") as gateway:
        with gateway.client() as project:
            cursor = put(project, "a.md", "text")["cursor"]
        target = f"/api/projects/demo/changes?since={cursor}&wait=50".encode()
        behind = (b"GET /healthz" + _HOST + b"\r\n") * 1000
        with _connect(gateway, b"GET " + target + _HOST + b"\r\n") as connection:
            wait_for_figure(gateway, "gateway_waiters", 1)
            _send_until_nothing_is_read(gateway, connection, behind)
        wait_for_figure(gateway, "gateway_waiters", 0)  # that the client has left is noticed though it is not read
        wait_for_figure(gateway, "gateway_connections", 1)
        assert _count(gateway, "/healthz") == 0


def test_requests_behind_one_that_waits_are_all_answered_in_the_end(tmp_path: Path) -> None:
    with GatewayProcess(tmp_path / "gateway.db") as gateway, gateway.client() as project:
        cursor = put(project, "a.md", "text")["cursor"]
        target = f"/api/projects/demo/changes?since={cursor}&wait=50".encode()
        last = b"GET /healthz" + _HOST + b"Connection: close\r\n\r\n"
        with _connect(gateway, b"GET " + target + _HOST + b"\r\n") as connection:
            wait_for_figure(gateway, "gateway_waiters", 1)
            connection.sendall((b"GET /healthz" + _HOST + b"\r\n") * 999 + last)
            put(project, "a.md", "other")
            assert _read_all(connection).count(b"HTTP/1.1 200 ") == 1001
        assert _count(gateway, "/healthz") == 1000


def test_who_pings_and_does_not_read_is_not_read_without_end(tmp_path: Path) -> None:
    ping = struct.pack("!BB", 0x89, 0x80 | 125) + bytes(4) + bytes(125)
    with GatewayProcess(tmp_path / "gateway.db") as gateway:
        with socket.socket() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.settimeout(_PATIENCE_S)
            connection.connect(("127.0.0.1", gateway.port))
            connection.sendall(b"GET /api/projects/demo/ws/a.md" + _HOST + _HANDSHAKE)
            assert connection.recv(4096).startswith(b"HTTP/1.1 101 ")
            _send_until_nothing_is_read(gateway, connection, ping * 1000)
            assert figure(gateway, "gateway_room_connections") == 1
        wait_for_figure(gateway, "gateway_room_connections", 0)
        wait_for_figure(gateway, "gateway_connections", 1)


def test_who_pings_and_reads_is_answered_each_time(tmp_path: Path) -> None:
    count = 20_000
    ping = struct.pack("!BB", 0x89, 0x80 | 4) + bytes(4) + b"ping"
    close = struct.pack("!BB", 0x88, 0x80) + bytes(4)
    with (
        GatewayProcess(tmp_path / "gateway.db") as gateway,
        _connect(gateway, b"GET /api/projects/demo/ws/a.md" + _HOST + _HANDSHAKE) as connection,
    ):
        for _ in range(count // 1000):
            connection.sendall(ping * 1000)
            received = b""
            while received.count(b"\x8a\x04ping") < 1000:
                received += (more := connection.recv(65536))
                assert more, "the connection has ended"
        connection.sendall(close)
        assert b"\x88" in _read_all(connection)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (b"a: b\r\n" * 90, 200),
        (b"a:\r\n" * 300, 431),
        (b"a:\r\n" * 60_000, 431),
        (b"Cookie: " + b"x" * 7_900 + b"\r\n", 200),
        (b"X: " + b"x" * 40_000 + b"\r\n", 431),
        (b"If-None-Match: " + b'"a",' * 60_000 + b"\r\n", 431),
        (b"Cookie: " + b"x" * 20_000 + b"\r\nAccept: " + b"y" * 20_000 + b"\r\n", 431),
    ],
)
@pytest.mark.parametrize("offer", [b"", _HANDSHAKE.removesuffix(b"\r\n")], ids=["HTTP", "WebSocket"])
def test_headers_that_are_too_many_or_too_long_are_refused_before_anything_looks_at_them(
    shared_gateway: GatewayProcess, headers: bytes, status: int, offer: bytes
) -> None:
    head = b"GET /api/projects/demo/ws/a.md" if offer and status == 200 else b"GET /healthz"
    with _connect(shared_gateway, head + _HOST + headers + offer + b"\r\n") as connection:
        if status == 431:
            assert _problem(_read_all(connection)) == (431, "head_too_large")
        else:
            assert connection.recv(4096).startswith(b"HTTP/1.1 101 " if offer else b"HTTP/1.1 200 ")


@pytest.mark.parametrize("more", [b"a: b\r\n" * 130, b"Cookie: " + b"x" * 8_500 + b"\r\n"], ids=["many", "long"])
@pytest.mark.parametrize("query", [b"", b"?token=" + b"x" * 9_000])
def test_a_handshake_that_is_too_large_is_told_so(shared_gateway: GatewayProcess, more: bytes, query: bytes) -> None:
    """What reads WebSocket handshakes has lower bounds than HTTP, and answers nothing to those over them."""
    target = b"GET /api/projects/demo/ws/a.md" + query
    with _connect(shared_gateway, target + _HOST + more + _HANDSHAKE) as connection:
        assert _problem(_read_all(connection)) == (431, "head_too_large")
    with _connect(shared_gateway, b"GET /healthz" + query + _HOST + more + b"\r\n") as connection:
        assert connection.recv(4096).startswith(b"HTTP/1.1 200 ")


def test_only_short_values_of_accept_are_remembered() -> None:
    before = requests._known_form.cache_info().currsize
    for number in range(10):
        assert requests.accepted_form(b"text/plain, application/x-%d" % number * 20) == "text"
    assert requests._known_form.cache_info().currsize == before


@pytest.mark.parametrize("payload", [b"", b"x"])
def test_a_message_in_very_many_fragments_is_refused_for_good(tmp_path: Path, payload: bytes) -> None:
    """Each fragment is kept until the last has come, and an empty one adds nothing to the size of the message."""
    mask_and_payload = bytes((0x80 | len(payload),)) + bytes(4) + payload
    first, another = (bytes((opcode,)) + mask_and_payload for opcode in (0x02, 0x00))
    with (
        GatewayProcess(tmp_path / "gateway.db") as gateway,
        _connect(gateway, b"GET /api/projects/demo/ws/a.md" + _HOST + _HANDSHAKE) as connection,
    ):
        assert connection.recv(4096).startswith(b"HTTP/1.1 101 ")
        connection.sendall(first + another * 20_000)
        received = _read_all(connection)
        assert struct.pack("!H", TOO_LARGE) + b"the message is too large" in received
        wait_for_figure(gateway, "gateway_room_connections", 0)


def _count(gateway: GatewayProcess, route: str) -> int:
    """How many requests of a route were answered."""
    with gateway.client() as client:
        text = client.get(f"{gateway.url}/metrics").text
    lines = [line for line in text.splitlines() if line.startswith("gateway_requests_total") and f'"{route}"' in line]
    return sum(int(float(line.rpartition(" ")[2])) for line in lines)
