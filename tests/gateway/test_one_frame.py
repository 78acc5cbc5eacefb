"""What a room is sent is one frame for all its readers; where a client does not take it, `send` and the queue do."""

import asyncio
from pathlib import Path

import pycrdt
from starlette.types import Message

from gateway.asgi import binary_frame, frame_writer
from gateway.files.documents import Documents
from gateway.files.store import Files
from gateway.presence.presence import Presence
from gateway.rooms.close_codes import TRY_LATER
from gateway.rooms.connection import Connection
from gateway.rooms.rooms import Rooms
from gateway.watch.hub import Hub
from storage import AppendUpdate, Version
from storage.sqlite import SQLiteStorage

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
        documents = Documents(storage, memory_limit=2**20)
        hub = Hub(storage)
        rooms = Rooms(
            storage,
            Files(storage, documents, hub),
            documents,
            Presence(storage, hub),
            window=0.0,
            queue_limit=_LIMIT,
            inbox_limit=_LIMIT,
            connection_limit=10,
        )
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
