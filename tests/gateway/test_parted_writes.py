"""A large message is written in parts, which share the turns of the event loop, and waits once for all its clients."""

import asyncio
import gc
import socket
import weakref
from itertools import pairwise
from typing import Any, cast

import pytest

from gateway.asgi.outlets import PART_BYTES, Outlet, write_to_all
from gateway.server import parted_writes
from gateway.server.parted_writes import PartedWrites, bound_unsent
from gateway.server.websocket_protocol import WebSocketProtocol
from gateway.shared_turn import SharedTurn
from tests.support.clocks import TickingClock
from tests.support.in_process import serve
from tests.support.turns import until
from tests.support.websocket_app import WebSocketApp

_LARGE = bytes(range(256)) * 4096
"""1 MiB."""


class _Transport(asyncio.Transport):
    """Takes so many bytes, and keeps the rest in its buffer."""

    def __init__(self, takes: int = 2**40) -> None:
        super().__init__()
        self.takes = takes
        self.sent = b""
        self.writes: list[int] = []
        self.buffer = b""
        self.closed = False
        self.parts: PartedWrites | None = None

    def write(self, data: Any) -> None:
        self.writes.append(len(data))
        self.buffer += data
        self.drain(0)
        if self.buffer and self.parts is not None:
            self.parts.hold()

    def drain(self, takes: int) -> None:
        self.takes += takes
        taken, self.buffer = self.buffer[: self.takes], self.buffer[self.takes :]
        self.takes -= len(taken)
        self.sent += taken

    def get_write_buffer_size(self) -> int:
        return len(self.buffer)

    def is_closing(self) -> bool:
        return self.closed


class _Protocol:
    def __init__(self) -> None:
        self.told: list[str] = []

    def block_writing(self) -> None:
        self.told.append("blocked")

    def unblock_writing(self) -> None:
        self.told.append("unblocked")


def _parted(transport: _Transport, turn: SharedTurn, protocol: _Protocol) -> PartedWrites:
    transport.parts = PartedWrites(transport, turn, protocol)
    return transport.parts


@pytest.mark.anyio
async def test_a_large_message_is_written_in_parts_in_several_turns() -> None:
    protocol, transport, turn = _Protocol(), _Transport(), SharedTurn(TickingClock(0.001))
    writes = _parted(transport, turn, protocol)
    writes.write(b"before")
    assert (transport.sent, protocol.told) == (b"before", [])
    writes.write(_LARGE)
    writes.write(b"behind")
    assert protocol.told == ["blocked"]
    assert len(writes) > len(_LARGE) // 2
    sent = [len(transport.sent)]
    while protocol.told == ["blocked"]:
        await asyncio.sleep(0)
        sent.append(len(transport.sent))
    assert max(after - before for before, after in pairwise(sent)) <= 2 * PART_BYTES
    assert max(transport.writes) <= PART_BYTES
    assert transport.sent == b"before" + _LARGE + b"behind"
    assert (len(writes), protocol.told) == (0, ["blocked", "unblocked"])


@pytest.mark.anyio
async def test_nothing_is_written_to_a_client_that_does_not_read() -> None:
    protocol, transport = _Protocol(), _Transport(takes=100)
    writes = _parted(transport, SharedTurn(TickingClock(0.0)), protocol)
    writes.write(_LARGE)
    assert transport.writes == [PART_BYTES]
    writes.write(b"behind")
    while transport.buffer:
        count = len(transport.writes)
        transport.drain(len(transport.buffer))
        assert len(transport.writes) == count
        writes.go_on()
        assert len(transport.writes) <= count + 1
        assert transport.writes[-1] <= PART_BYTES
    assert transport.sent == _LARGE + b"behind"
    assert (len(writes), writes.go_on()) == (0, False)


@pytest.mark.anyio
async def test_what_is_sent_to_many_clients_is_counted_once_for_all() -> None:
    frame = bytes(_LARGE)
    protocol, turn = _Protocol(), SharedTurn(TickingClock(0.0))
    several = [_parted(_Transport(takes=0), turn, protocol) for _ in range(4)]
    for writes in several:
        writes.write(memoryview(frame)[7:])
    waiting = len(_LARGE) - 7 - PART_BYTES
    assert [len(writes) for writes in several] == [waiting] * 4
    assert [writes.kept_bytes for writes in several] == [waiting // 4] * 4
    for writes in several[1:]:
        writes.end()
    assert [writes.kept_bytes for writes in several] == [waiting, 0, 0, 0]
    several[0].end()


@pytest.mark.anyio
async def test_writes_that_ended_leave_no_cycle() -> None:
    class Protocol(_Protocol):
        writes: PartedWrites

    gc.disable()
    try:
        protocol = Protocol()
        protocol.writes = _parted(_Transport(takes=0), SharedTurn(TickingClock(0.0)), protocol)
        protocol.writes.write(_LARGE)
        protocol.writes.end()
        left = weakref.ref(protocol)
        del protocol
        assert left() is None
    finally:
        gc.enable()


def test_no_more_than_a_part_is_written_at_once_to_each_of_many_clients() -> None:
    finished: list[bytes] = []
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**22)
        ours.setblocking(False)
        for write in (lambda outlet: outlet.write(_LARGE), lambda outlet: write_to_all({outlet: 1}, _LARGE)):
            outlet = Outlet(lambda rest: finished.append(bytes(rest)), lambda: True, ours.fileno())
            outlet.open()
            write(outlet)
            rest = finished.pop()
            assert len(_LARGE) - PART_BYTES <= len(rest) < len(_LARGE)
            read = b""
            while len(read) < len(_LARGE) - len(rest):
                read += theirs.recv(2**20)
            assert read + rest == _LARGE


@pytest.mark.skipif(not hasattr(socket, "TCP_NOTSENT_LOWAT"), reason="the kernel has no such bound")
def test_the_kernel_keeps_little_for_a_client_that_does_not_read() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()):
        accepted, _ = listener.accept()
        with accepted:
            transport = asyncio.Transport({"socket": accepted})
            bound_unsent(transport)
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT) == PART_BYTES
        bound_unsent(transport)  # it has left
    bound_unsent(asyncio.Transport())


class _Sender(WebSocketApp):
    """Sends a large message to each WebSocket, and closes it."""

    async def talk(self, receive: Any, send: Any) -> None:
        for _ in range(3):
            await send({"type": "websocket.send", "bytes": 8 * _LARGE})
        await send({"type": "websocket.close", "code": 4000})


async def _connected(server: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    port = server.servers[0].sockets[0].getsockname()[1]
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**16)
    head = ["GET / HTTP/1.1", "Host: localhost", "Upgrade: websocket", "Connection: Upgrade"]
    head += ["Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "", ""]
    writer.write("\r\n".join(head).encode())
    assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
    return reader, writer


@pytest.mark.anyio
async def test_a_client_that_is_closed_is_first_sent_what_waits() -> None:
    async with serve(cast(Any, _Sender())) as server:
        server.config.ws_protocol_class = WebSocketProtocol
        reader, writer = await _connected(server)
        message = 8 * _LARGE
        for _ in range(3):
            head = await reader.readexactly(10)
            assert head == b"\x82\x7f" + len(message).to_bytes(8)
            assert await reader.readexactly(len(message)) == message
        assert await reader.readexactly(4) == b"\x88\x02" + (4000).to_bytes(2)
        writer.close()


@pytest.mark.anyio
async def test_a_client_that_leaves_before_all_is_written_frees_what_waits() -> None:
    others = set(parted_writes._sharers)
    async with serve(cast(Any, _Sender())) as server:
        server.config.ws_protocol_class = WebSocketProtocol
        reader, writer = await _connected(server)
        await reader.readexactly(10)
        waits = set(parted_writes._sharers) - others
        assert len(waits) == 1
        writer.transport.abort()
        await until(lambda: waits.isdisjoint(parted_writes._sharers))
