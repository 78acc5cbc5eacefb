"""What a room is sent is one frame for all its readers; where a client does not take it, `send` and the queue do."""

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import pycrdt
import pytest
from httpx import AsyncClient
from starlette.types import Message

from gateway.app import create_app
from gateway.asgi.frames import binary_frame, frame_writer, outlet_of
from gateway.asgi.outlets import Outlet, write_to_all
from gateway.rooms.close_codes import TRY_LATER
from gateway.rooms.connection import Connection
from gateway.server.http_protocol import HttpProtocol
from gateway.server.outlets import outlet_of as transport_outlet
from gateway.settings import Settings
from storage import AppendUpdate, Version
from storage.sqlite import SQLiteStorage
from tests.support.in_process import serve
from tests.support.rooms import open_rooms

_LIMIT = 2**16


class _Client:
    """What a server does for one WebSocket, and what it was given."""

    def __init__(self, *, frames: bool = True) -> None:
        self.takes = asyncio.Event()
        self.takes.set()
        self.frames: list[bytes] = []
        self.sent: asyncio.Queue[bytes | int] = asyncio.Queue()
        """Messages, and the code with which it was closed."""
        self.connection = Connection(self._send, _LIMIT, write_frame=self._write if frames else None)

    def _write(self, frame: bytes) -> bool:
        if self.takes.is_set():
            self.frames.append(frame)
        return self.takes.is_set()

    async def _send(self, message: Message) -> None:
        await self.takes.wait()
        self.sent.put_nowait(message["code"] if message["type"] == "websocket.close" else message["bytes"])


def test_a_version_is_one_frame_for_all_and_takes_neither_a_coroutine_nor_a_task(tmp_path: Path) -> None:
    async def work() -> None:
        storage = await SQLiteStorage.open(tmp_path / "gateway.db")
        rooms = open_rooms(storage, queue_limit=_LIMIT, inbox_limit=_LIMIT, connection_limit=10)
        clients = [_Client() for _ in range(3)]
        other = _Client(frames=False)  # of another server
        for each in (*clients, other):
            room = await rooms.join("p", "a.md", each.connection)
            assert room is not None
            await room.answer_step_1(each.connection, b"\0")
            each.frames.clear()
        assert other.sent.qsize() == 1
        other.sent.get_nowait()
        before = asyncio.all_tasks()
        update = pycrdt.Doc({"content": pycrdt.Text("a")}).get_update()
        await storage.append("p", (AppendUpdate("a.md", Version(0), update),))
        (frame,) = clients[0].frames
        assert all(each.frames[0] is frame and len(each.frames) == 1 for each in clients)
        assert all(each.sent.empty() for each in clients)
        message = other.sent.get_nowait()
        assert isinstance(message, bytes)
        assert binary_frame(message) == frame
        assert asyncio.all_tasks() <= before
        await rooms.close()
        await storage.close()

    asyncio.run(work())


def test_what_a_client_does_not_take_waits_in_order_and_not_without_a_bound() -> None:
    async def work() -> None:
        client = _Client()
        client.connection.enqueue(b"1")
        client.takes.clear()
        client.connection.enqueue(b"2")
        client.connection.enqueue(b"3")
        client.takes.set()
        client.connection.enqueue(b"4")  # it is free, but those before are not out yet
        assert [await client.sent.get() for _ in range(3)] == [b"2", b"3", b"4"]
        await asyncio.sleep(0)  # the task that sent them is at its end
        client.connection.enqueue(b"5")
        assert client.frames == [binary_frame(b"1"), binary_frame(b"5")]
        client.takes.clear()
        for _ in range(4):
            client.connection.enqueue(bytes(_LIMIT // 2))
        assert client.connection.closing
        client.takes.set()
        assert [await client.sent.get() for _ in range(2)] == [bytes(_LIMIT // 2), TRY_LATER]
        client.connection.enqueue(b"6")
        assert client.frames[-1] == binary_frame(b"5")

    asyncio.run(work())


def test_frames_of_every_length_say_it_and_other_servers_offer_none() -> None:
    assert [binary_frame(bytes(length))[:-length] for length in (1, 125, 126, 65_535, 65_536)] == [
        b"\x82\x01",
        b"\x82\x7d",
        b"\x82\x7e\x00\x7e",
        b"\x82\x7e\xff\xff",
        b"\x82\x7f" + (65_536).to_bytes(8),
    ]
    assert frame_writer({}) is None
    assert frame_writer({"extensions": {"websocket.http.response": {}}}) is None
    assert outlet_of({}) is None


@contextlib.contextmanager
def _outlet(finished: list[bytes]) -> Iterator[tuple[Outlet, socket.socket]]:
    """An open outlet, and the client's end of the socket."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.settimeout(60)
        outlet = Outlet(finished.append, lambda: True, ours.fileno())
        outlet.open()
        yield outlet, theirs


def test_a_frame_is_written_to_all_outlets_that_are_open_and_whole() -> None:
    frame = binary_frame(bytes(range(256)) * 4096)  # more than a socket takes at once
    finished, of_the_closed = list[bytes](), list[bytes]()
    with _outlet(finished) as (slow, its_client), _outlet(of_the_closed) as (closed, other_client):
        closed.close()
        assert write_to_all({slow: "slow", closed: "closed"}, frame) == ["closed"]
        assert slow.fd == -1  # until all is sent
        assert all(isinstance(each, memoryview) for each in finished)  # of the frame that all clients are sent
        rest = b"".join(finished)
        assert 0 < len(rest) < len(frame)
        begun = its_client.recv(len(frame) - len(rest), socket.MSG_WAITALL)
        assert begun + rest == frame
        slow.open()
        small = binary_frame(b"next")
        closed.open()
        assert write_to_all({slow: "slow", closed: "closed"}, small) == []
        assert its_client.recv(100) == other_client.recv(100) == small
        other_client.close()
        assert write_to_all({slow: "slow", closed: "closed"}, small) == ["closed"]
        assert closed.fd == -1
        slow.end()
        slow.open()
        assert slow.fd == -1
        assert write_to_all({slow: "slow"}, small) == ["slow"]
    assert of_the_closed == []


def test_an_outlet_sends_whole_parts_or_nothing() -> None:
    part, finished = b"part" * 2**20, list[bytes]()
    with _outlet(finished) as (outlet, client):
        assert outlet.write(b"small")
        assert client.recv(100) == b"small"
        assert outlet.write(part)
        (rest,) = finished
        assert client.recv(len(part) - len(rest), socket.MSG_WAITALL) + rest == part
        assert not outlet.write(b"small")
        outlet.open()
        client.close()
        assert not outlet.write(b"small")
        assert outlet.fd == -1


async def _joined(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Shake hands, and get in sync with a room."""
    head = ["GET /api/projects/demo/ws/a.md HTTP/1.1", "Host: localhost", "Upgrade: websocket", "Connection: Upgrade"]
    head += ["Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "", ""]
    writer.write("\r\n".join(head).encode())
    assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
    writer.write(_masked(b"\0\0\1\0"))  # step 1 of an empty document
    while (await _message(reader))[:2] != b"\0\1":
        pass


def _masked(message: bytes) -> bytes:
    size = len(message)
    length = bytes([0x80 | size]) if size < 126 else b"\xfe" + size.to_bytes(2)
    return b"\x82" + length + bytes(4) + message


async def _message(reader: asyncio.StreamReader) -> bytes:
    """The next binary message."""
    while True:
        kind, size = await reader.readexactly(2)
        if size >= 126:
            size = int.from_bytes(await reader.readexactly(2 if size == 126 else 8))
        message = await reader.readexactly(size)
        if kind == 0x82:
            return message


def test_a_reader_who_pauses_gets_every_version_whole_and_in_order(tmp_path: Path) -> None:
    async def work() -> None:
        app = create_app(
            Settings(database=f"sqlite:///{tmp_path / 'gateway.db'}", room_window_ms=0, room_queue_bytes=2**26)
        )
        async with serve(app) as server, contextlib.AsyncExitStack() as stack:
            port = int(server.url.rpartition(":")[2])
            slow, quick, writing = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
            slow[1].get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**16)
            for _, writer in (slow, quick, writing):
                stack.callback(writer.close)
            for reader, writer in (slow, quick, writing):
                await _joined(reader, writer)
            document = pycrdt.Doc({"content": (text := pycrdt.Text())})
            for number in range(30):  # more than the sockets hold
                before = document.get_state()
                text += f"{number:05}" * 40_000
                update = document.get_update(before)
                size = b""
                left = len(update)
                while left > 0x7F:
                    size, left = size + bytes([0x80 | (left & 0x7F)]), left >> 7
                message = b"\0\2" + size + bytes([left]) + update
                writing[1].write(b"\x82\xff" + len(message).to_bytes(8) + bytes(4) + message)
                assert (await _message(quick[0]))[:2] == b"\0\2"  # in the meantime the slow one reads nothing
            replica = pycrdt.Doc({"content": (read := pycrdt.Text())})
            for number in range(30):
                told = await _message(slow[0])
                assert told[:2] == b"\0\2"
                replica.apply_update(told[next(at for at in range(2, 12) if told[at] < 0x80) + 1 :])
                assert len(read) == (number + 1) * 200_000  # nothing is left out
            assert str(read) == str(text)

    asyncio.run(asyncio.wait_for(work(), 120))


def test_events_for_streams_that_have_caught_up_are_written_past_their_transports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    through: list[bytes] = []
    write = HttpProtocol.write

    def noted(protocol: HttpProtocol, data: bytes) -> None:
        through.append(data)
        write(protocol, data)

    monkeypatch.setattr(HttpProtocol, "write", noted)

    async def work() -> None:
        app = create_app(Settings(database=f"sqlite:///{tmp_path / 'gateway.db'}"))
        text = pycrdt.Text()
        document = pycrdt.Doc({"content": text})
        async with serve(app) as server, AsyncClient(base_url=server.project(), timeout=60) as client:
            text += "a"
            first = await client.patch("/files/a.md", content=document.get_update())
            since = first.raise_for_status().json()["cursor"]
            async with contextlib.AsyncExitStack() as stack:
                streams = []
                for _ in range(3):
                    reader, writer = await asyncio.open_connection("127.0.0.1", int(server.url.rpartition(":")[2]))
                    stack.callback(writer.close)
                    head = f"GET /api/projects/demo/changes?since={since} HTTP/1.1\r\nHost: localhost\r\n"
                    writer.write(f"{head}Accept: text/event-stream\r\n\r\n".encode())
                    await reader.readuntil(b"event: ready")
                    streams.append(reader)
                for version in (2, 3):  # the first event as well
                    text += "b"
                    (await client.patch("/files/a.md", content=document.get_update())).raise_for_status()
                    for reader in streams:
                        assert b"event: change" in await reader.readuntil(b'"version":%d' % version)
            assert any(b"event: ready" in each for each in through)
            assert not any(b"event: change" in each for each in through)

    asyncio.run(asyncio.wait_for(work(), 120))


class _Transport(asyncio.Transport):
    """A transport of a server, over a socket or over TLS."""

    def __init__(self, **extra: object) -> None:
        super().__init__(extra)
        self.limits: list[int | None] = []

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self.limits.append(high)


def test_nothing_is_written_past_tls() -> None:
    with socket.socket() as plain:
        over_tls = _Transport(socket=plain, sslcontext=object())
        outlet = transport_outlet(over_tls, bytes, lambda: True)
        outlet.open()
        assert (outlet.fd, over_tls.limits) == (-1, [])
        over_tcp = _Transport(socket=plain)
        outlet = transport_outlet(over_tcp, bytes, lambda: True)
        outlet.open()
        assert (outlet.fd, over_tcp.limits) == (plain.fileno(), [0])
