"""WebSocket messages of which the rest never comes: what has arrived is bounded in total, and freed with its client."""

import asyncio
import gc
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from websockets.frames import Frame

from gateway.http.half_messages import HalfMessages
from gateway.server.websocket_protocol import WebSocketProtocol
from tests.live.clients import figure, wait_for_figure
from tests.support.in_process import serve
from tests.support.server import GatewayProcess
from tests.support.websocket_app import WebSocketApp

_HANDSHAKE = (
    b"GET /api/projects/demo/ws/a.md HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
_MEBIBYTE = 2**20
_FRAMES = 3


def _half_message() -> bytes:
    """A frame of 1 MiB that is not the last one, two more, and the beginning of another one."""
    frame = struct.pack("!BQ4x", 0xFF, _MEBIBYTE) + bytes(_MEBIBYTE)
    return b"\x02" + frame + (b"\x00" + frame) * (_FRAMES - 1) + b"\x00" + frame[:100_000]


def _send_half(gateway: GatewayProcess, half: bytes) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", gateway.port), 120)
    connection.sendall(_HANDSHAKE)
    assert connection.recv(1000).startswith(b"HTTP/1.1 101 ")
    connection.sendall(half)
    return connection


def _half_frame() -> bytes:
    """The beginning of a message in one frame."""
    return struct.pack("!BBQ4x", 0x82, 0xFF, 2 * _FRAMES * _MEBIBYTE) + bytes(_FRAMES * _MEBIBYTE)


@pytest.mark.parametrize("half", [_half_message, _half_frame], ids=["fragments", "frame"])
def test_half_messages_do_not_fill_the_memory(tmp_path: Path, half: Callable[[], bytes]) -> None:
    with GatewayProcess(tmp_path / "gateway.db", GATEWAY_BODIES_BYTES=7 * _MEBIBYTE) as gateway:
        connections = []
        for number in range(5):
            connections.append(_send_half(gateway, half()))
            wait_for_figure(gateway, "gateway_half_message_closes_total", max(0, number - 1))
            assert figure(gateway, "gateway_half_message_bytes") <= 7 * _MEBIBYTE
        for connection in connections:
            connection.close()
        wait_for_figure(gateway, "gateway_half_message_bytes", 0)


class _Rooms(WebSocketApp):
    """Reads messages until they end."""

    def __init__(self) -> None:
        super().__init__()
        self.received = asyncio.Event()

    async def talk(self, receive: Any, send: Any) -> None:
        while (await receive())["type"] != "websocket.disconnect":
            self.received.set()


def _whole_message(size: int) -> bytes:
    """A text: binary ones in one frame do not pass through the parser."""
    return struct.pack("!BBQ4x", 0x81, 0xFF, size) + bytes(size)


@pytest.mark.anyio
async def test_a_large_message_is_not_kept_until_the_next_one() -> None:
    """By whom it is kept is the parser's own matter; so this asks whether it is there at all."""
    size = 3 * _MEBIBYTE
    rooms = _Rooms()
    async with serve(cast(Any, rooms)) as server:
        server.config.ws_protocol_class = WebSocketProtocol
        reader, writer = await asyncio.open_connection("127.0.0.1", server.servers[0].sockets[0].getsockname()[1])
        writer.write(_HANDSHAKE)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(_whole_message(size))
        await asyncio.wait_for(rooms.received.wait(), 120)
        gc.collect()
        kept = [each for each in gc.get_objects() if type(each) is Frame and len(each.data) == size]
        assert kept == []
        writer.write(_whole_message(5))
        await writer.drain()
        writer.close()


class _Noted(WebSocketProtocol):
    """Tells what happens to it."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.begun, self.gone = asyncio.Event(), asyncio.Event()

    def _take(self, data: bytes, *, offer: bool = False) -> None:
        super()._take(data, offer=offer)
        if len(self.frames) == _FRAMES:
            self.begun.set()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.gone.set()


def test_a_half_message_is_freed_with_its_client() -> None:
    half_messages = HalfMessages(100 * _MEBIBYTE)
    made: list[_Noted] = []

    def make(**named: Any) -> _Noted:
        made.append(_Noted(half_messages=half_messages, **named))
        return made[-1]

    async def work() -> None:
        async with serve(cast(Any, _Rooms())) as server:
            server.config.ws_protocol_class = cast(Any, make)
            port = server.servers[0].sockets[0].getsockname()[1]
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(_HANDSHAKE)
            await reader.readuntil(b"\r\n\r\n")
            writer.write(_half_message())
            await asyncio.wait_for(made[0].begun.wait(), 120)
            assert half_messages.bytes >= _FRAMES * _MEBIBYTE
            writer.close()
            await asyncio.wait_for(made[0].gone.wait(), 120)

    asyncio.run(work())
    assert made[0].frames == []
    assert not made[0].conn.reader.buffer
    assert half_messages.bytes == 0
