"""Rubbish of every kind over HTTP and WebSocket: the gateway goes on, and a client cannot write into its log."""

import contextlib
import random
import re
import socket
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.yjs.hocuspocus import addressed
from gateway.yjs.lib0 import var_bytes
from gateway.yjs.messages import sync_step_1, sync_update
from tests.live.clients import put, wait_for_figure
from tests.live.editors import Typewriter, raw_client
from tests.support.server import GatewayProcess

_CONNECTIONS = 150
_PATIENCE_S = 120
_HANDSHAKE = {
    "Host": b"localhost",
    "Connection": b"Upgrade",
    "Upgrade": b"websocket",
    "Sec-WebSocket-Key": b"dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version": b"13",
}
_TARGETS = [
    b"/", b"/%00", b"/%", b"/%ff", b"/\xff", b"*", b"//", b"http://", b"http://[::1", b"http://localhost:99999/", b"?",
    b"/api/projects/demo/files/a.md", b"/api/projects/demo/files/%00", b"/api/projects/demo/files/%ED%A0%80?root=%ff",
    b"/api/projects/%00/files", b"/api/projects/demo/changes?since=%ED%A0%80", b"/api/projects/demo/files/status",
    b"/api/projects/demo/sync", b"/api/projects/demo/history/a.md?diff=%00", b"/api/projects/demo/sessions/%00/turns",
    b"/api/projects/demo/ws/a.md", b"/api/projects/demo/ws/%00", b"/api/projects/%ff/ws/a", b"localhost:80",
]  # fmt: skip
_METHODS = [b"GET", b"GET", b"PUT", b"PATCH", b"POST", b"HEAD", b"DELETE", b"OPTIONS", b"CONNECT", b"PRI", b"g\0t", b""]
_VERSIONS = [b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0", b"HTTP/0.9", b"HTTP/9", b"", b"http/1.1"]
_NAMES = [
    b"Host", b"Content-Length", b"Content-Type", b"Transfer-Encoding", b"Connection", b"Upgrade", b"Expect", b"Cookie",
    b"Sec-WebSocket-Key", b"Sec-WebSocket-Version", b"Sec-WebSocket-Extensions", b"Sec-WebSocket-Protocol", b"Accept",
    b"X-Author", b"Idempotency-Key", b"If-None-Match", b"If-Match", b"If-Unmodified-Since", b"Origin",
    b"Accept-Encoding", b"Last-Event-ID", b"Range", b"no colon", b"", b" squashed", b"X\0", b"\xc3\xa4",
]  # fmt: skip
_VALUES = [
    b"", b"localhost", b"0", b"-1", b"3", b"99999999999999999999", b"0x3", b"chunked", b"gzip, chunked", b"Upgrade",
    b"close", b"websocket", b"h2c", b"100-continue", b"\xed\xa0\x80", b"a\0b", b"\xff", b'"\xed\xa0\x80"', b'W/"', b"*",
    b"text/plain", b"application/json", b"text/event-stream", b"13", b"8", b"dGhlIHNhbXBsZSBub25jZQ==",
    b"permessage-deflate; client_max_window_bits=99; x=\xff", b",;=", b"x" * 70_000, b"a\r\n\r\nb", b"\t",
]  # fmt: skip


def _mutated(data: bytes, choice: random.Random) -> bytes:
    mutated = bytearray(data)
    for _ in range(choice.choice((0, 0, 1, 2, 5))):
        at = choice.randrange(len(mutated) + 1)
        match choice.randrange(4):
            case 0:
                mutated[at : at + 1] = choice.randbytes(1)
            case 1:
                mutated[at:at] = choice.randbytes(choice.randint(1, 30))
            case 2:
                del mutated[at : at + choice.randint(1, 30)]
            case _:
                del mutated[at:]
    return bytes(mutated)


def _request(choice: random.Random) -> bytes:
    lines = [b" ".join(choice.choice(parts) for parts in (_METHODS, _TARGETS, _VERSIONS))]
    lines += [b"Host: localhost"] * (choice.random() < 0.8)
    lines += [b"%b: %b" % (choice.choice(_NAMES), choice.choice(_VALUES)) for _ in range(choice.randrange(4))]
    return b"\r\n".join([*lines, b"", choice.choice((b"", b"xyz", b"3\r\nxyz\r\n0\r\n\r\n", b"zz\r\n", b"{}"))])


def _http(choice: random.Random) -> bytes:
    if choice.random() < 0.1:
        return choice.randbytes(choice.choice((1, 100, 300_000)))
    return b"".join(_mutated(_request(choice), choice) for _ in range(choice.choice((1, 1, 2, 50))))


def _handshake(choice: random.Random) -> bytes:
    headers = dict(_HANDSHAKE)
    if choice.random() < 0.5:
        headers[choice.choice([*headers, "Origin"])] = choice.choice(_VALUES)
    target = choice.choice((b"/api/projects/demo/ws/a.md", *_TARGETS))
    lines = [b"GET %b HTTP/1.1" % target, *(b"%b: %b" % (name.encode(), value) for name, value in headers.items())]
    return _mutated(b"\r\n".join([*lines, b"", b""]), choice) + _frames(choice)


def _frame(choice: random.Random, opcode: int, payload: bytes, *, final: bool = True, reserved: int = 0) -> bytes:
    head = bytes((final << 7 | reserved << 4 | opcode,))
    mask = choice.random() < 0.95
    match choice.randrange(12):
        case 0:
            length = struct.pack("!BQ", mask << 7 | 127, choice.choice((2**63 - 1, 2**64 - 1, 2**24 + 1, len(payload))))
        case 1:
            length = struct.pack("!BH", mask << 7 | 126, choice.choice((0, 65535, len(payload) % 65536)))
        case _ if len(payload) < 126:
            length = bytes((mask << 7 | len(payload),))
        case _:
            length = struct.pack("!BQ", mask << 7 | 127, len(payload))
    return head + length + bytes(4 * mask) + payload


def _close(code: int, reason: bytes = b"") -> bytes:
    return struct.pack("!H", code) + reason


def _frames(choice: random.Random) -> bytes:
    payloads = [
        b"", b"text", b"\xff\xfe", b"\xed\xa0\x80", b"\xf0\x9f", choice.randbytes(50), sync_step_1(b"\0"),
        sync_update(b"\0\0"), sync_update(choice.randbytes(20)), bytes(130), b"\xff" * 9, _close(1000, b"bye"),
        zlib.compress(bytes(2**20))[2:-4],
        *(_close(code, b"\xff") for code in (0, 999, 1000, 1005, 1006, 3000, 5000, 65535)),
    ]  # fmt: skip
    frames = [
        _frame(
            choice,
            choice.choice((0, 1, 1, 2, 2, 8, 9, 10, choice.randrange(16))),
            choice.choice(payloads),
            final=choice.random() < 0.8,
            reserved=choice.choice((0, 0, 0, 0, 0, choice.randrange(8))),
        )
        for _ in range(choice.choice((1, 2, 5, 200)))
    ]
    return _mutated(b"".join(frames), choice)


def _opened(choice: random.Random) -> tuple[bytes, bytes]:
    """A handshake that is accepted, and what is sent once it is."""
    lines = [b"%b: %b" % (name.encode(), value) for name, value in _HANDSHAKE.items()]
    head = b"\r\n".join([b"GET /api/projects/demo/ws/a.md HTTP/1.1", *lines, b"", b""])
    known = [
        _frame(choice, 1, b"\xff\xfe") + _frame(choice, 8, _close(1000)),  # not UTF-8, and a close, in one packet
        _frame(choice, 8, b"\xff") + _frame(choice, 9, b"x") * 20,
        b"".join(_frame(choice, 0, b"", final=False) for _ in range(200)),
        _frame(choice, 2, bytes(2**17), final=False) * 140,
    ]
    return head, choice.choice((*known, *(_frames(choice) for _ in range(8))))


def _accepted(target: bytes, *more: bytes) -> bytes:
    """A handshake that is accepted."""
    lines = [b"%b: %b" % (name.encode(), value) for name, value in _HANDSHAKE.items()]
    return b"\r\n".join([b"GET %b HTTP/1.1" % target, *lines, *more, b"", b""])


def _messages(choice: random.Random, opcode: int, payloads: list[bytes]) -> bytes:
    """Whole messages, some of them mutated."""
    chosen = [_mutated(choice.choice(payloads), choice) for _ in range(choice.choice((1, 2, 20)))]
    return b"".join(struct.pack("!BB4x", 0x80 | opcode, 0x80 | len(each)) + each for each in chosen if len(each) < 126)


def _hocuspocus(choice: random.Random) -> tuple[bytes, bytes]:
    name = addressed(choice.choice(("a.md", "", "../x", "\0")))
    payloads = [name + bytes((kind,)) + choice.randbytes(choice.choice((0, 1, 9))) for kind in range(12)]
    payloads += [name + bytes((2, 0)) + var_bytes(b"token"), name + sync_step_1(b"\0"), name + sync_update(b"\0\0")]
    return _accepted(b"/api/projects/demo/hocuspocus"), _messages(choice, 2, payloads)


def _graphql(choice: random.Random) -> tuple[bytes, bytes]:
    payloads = [
        b'{"type":"connection_init"}', b'{"type":"connection_init","payload":{"Authorization":"Bearer x"}}',
        b'{"type":"connection_init","payload":[1]}', b'{"type":"ping","payload":{}}', b'{"type":"pong"}', b"[]", b"1",
        b'{"type":"subscribe","id":"1","payload":{"query":"{projects{nodes{id}}}"}}', b'{"type":"subscribe"}',
        b'{"type":"subscribe","id":"1","payload":{"query":"subscription{x}"}}', b'{"type":"complete","id":"1"}',
        b'{"type":"\\ud800"}', b'{"type":"next","id":"1"}', b'{"type":"subscribe","id":"","payload":{"query":"{"}}',
    ]  # fmt: skip
    head = _accepted(b"/api/graphql", b"Sec-WebSocket-Protocol: graphql-transport-ws")
    start = _messages(choice, 1, payloads[:1]) if choice.random() < 0.7 else b""
    return head, start + _messages(choice, 1, payloads)


def _send(gateway: GatewayProcess, choice: random.Random, head: bytes, *parts: bytes) -> None:
    """Send parts, the second one after the first is answered; then read to the end, leave, or break off."""
    with socket.create_connection(("127.0.0.1", gateway.port), _PATIENCE_S) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(head)
            for part in parts:
                assert b" 101 " in connection.recv(4096)
                connection.sendall(part)
        match choice.randrange(3):
            case 0:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            case 1:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_WR)
                    while connection.recv(65536):
                        pass
            case _:
                pass


_KINDS: dict[str, Callable[[random.Random], tuple[bytes, ...]]] = {
    "HTTP": lambda choice: (_http(choice),),
    "handshakes": lambda choice: (_handshake(choice),),
    "frames": _opened,
    "hocuspocus": _hocuspocus,
    "graphql": _graphql,
}


@pytest.mark.parametrize("level", ["info", "debug"])
@pytest.mark.parametrize("kind", _KINDS)
def test_rubbish_harms_nobody_and_is_not_logged(tmp_path: Path, level: str, kind: str) -> None:
    """At `debug` a connection may say a little of what ended it, and that its room opened and closed."""
    choice = random.Random(f"{kind} {level}")
    with GatewayProcess(tmp_path / "gateway.db", GATEWAY_LOG_LEVEL=level) as gateway:
        with gateway.client() as project:
            put(project, "a.md", "text")
            before = len(gateway.log)
            for _ in range(_CONNECTIONS):
                _send(gateway, choice, *_KINDS[kind](choice))
            assert put(project, "b.md", "text")["version"] == 1
        with raw_client(gateway, "demo", "b.md") as room:
            typewriter = Typewriter()
            room.join(typewriter.document)
            assert str(typewriter.text) == "text"
        wait_for_figure(gateway, "gateway_connections", 1)  # that of the question itself
        wait_for_figure(gateway, "gateway_room_connections", 0)
        wait_for_figure(gateway, "gateway_waiters", 0)
    said = gateway.log[before:]
    assert not [line for line in said if re.search(r"Traceback|ERROR|Exception|\[(error|critical)", line)]
    assert len(said) <= _CONNECTIONS * (4 if level == "debug" else 1)
