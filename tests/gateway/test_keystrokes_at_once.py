"""A keystroke in a room that comes alone is stored without a task, and no promise of rooms is weaker for it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pycrdt
import pytest
from starlette.types import Message

from gateway.asgi.outlets import Outlet
from gateway.rooms import room as room_module
from gateway.rooms.close_codes import FILE_DELETED, INVALID_UPDATE, TOO_LARGE, TRY_LATER
from gateway.rooms.connection import Connection
from gateway.rooms.endpoint import heed, heed_at_once
from gateway.rooms.room import Room
from gateway.rooms.rooms import Rooms
from gateway.shared_turn import SharedTurn
from gateway.yjs.messages import (
    AwarenessMessage,
    AwarenessState,
    QueryAwareness,
    SyncMessage,
    parse_message,
    sync_update,
)
from storage import AppendUpdate, DeleteFile, Storage, StorageUnavailable, Version
from storage.sqlite import SQLiteStorage
from storage.sqlite.database import Database
from tests.gateway.test_direct_appends import typed
from tests.support.iterations import Iterations
from tests.support.rooms import open_rooms

_LIMIT = 2**16
_KEYS = typed("hello you", 1)


class _Client:
    """A client of a room, and what it was sent."""

    def __init__(self) -> None:
        self.sent: asyncio.Queue[bytes | int] = asyncio.Queue()
        """Messages, and the code with which it was closed."""
        self.versions: list[int] = []
        """The versions that were made of its updates."""
        self.connection = Connection(self._send, _LIMIT, write_frame=self._write, note=self.versions.append)

    def _write(self, frame: bytes) -> bool:
        self.sent.put_nowait(frame[2 if frame[1] < 126 else 4 :])
        return True

    async def _send(self, message: Message) -> None:
        self.sent.put_nowait(message["code"] if message["type"] == "websocket.close" else message["bytes"])

    async def next_update(self) -> bytes:
        message = await self.sent.get()
        assert isinstance(message, bytes), message
        said = parse_message(message)
        assert isinstance(said, SyncMessage), said
        assert said.step == "update"
        return said.body


class _Served:
    """A room and its clients, of whom the first one has typed the first key."""

    def __init__(self, storage: Storage, rooms: Rooms, room: Room, clients: list[_Client]) -> None:
        self.storage = storage
        self.rooms = rooms
        self.room = room
        self.clients = clients

    def type(self, update: bytes, client: int = 0) -> bool:
        """Whether an update was taken in at once."""
        return heed_at_once(self.room, self.clients[client].connection, SyncMessage("update", update))

    async def told(self) -> list[bytes]:
        """The next update that each client is sent, which is the same for all."""
        told = [await client.next_update() for client in self.clients]
        assert len(set(told)) == 1
        return told

    async def stored(self) -> list[bytes]:
        """The versions of the file."""
        found = await self.storage.read_document("p", "a.md")
        assert found is not None
        return list(found.updates)


@contextlib.asynccontextmanager
async def _served(tmp_path: Path, *, window: float = 0.0, size_limit: int = 2**20) -> AsyncIterator[_Served]:
    storage = await SQLiteStorage.open(tmp_path / "gateway.db")
    rooms = open_rooms(
        storage,
        window=window,
        queue_limit=_LIMIT,
        inbox_limit=_LIMIT,
        connection_limit=10,
        size_limit=size_limit,
        turn=SharedTurn(lambda: 0.0),  # no load of the machine ends a turn
    )
    clients = [_Client() for _ in range(2)]
    for each in clients:
        room = await rooms.join("p", "a.md", each.connection)
        assert room is not None
        await room.answer_step_1(each.connection, b"\0")
        await each.sent.get()
    served = _Served(storage, rooms, room, clients)
    assert served.type(_KEYS[0])  # its document is not open: a task opens it
    await served.told()
    await room.finish()
    yield served
    await rooms.close()
    await storage.close()


def _run(work: Callable[[], Any]) -> None:
    asyncio.run(asyncio.wait_for(work(), 60))


class _HeldDisk:
    """Lets every batch of the writer wait until it is released."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun = 0
        self.released = asyncio.Event()
        self.failure: Exception | None = None
        """What comes of a batch instead."""
        self._waiting: set[asyncio.Task[None]] = set()
        write = Database.write_and_call

        def held(database: Database, work: Any, done: Callable[[Any], None]) -> None:
            self.begun += 1
            self._waiting.add(asyncio.ensure_future(self._go_on(lambda: write(database, work, done), done)))

        monkeypatch.setattr(Database, "write_and_call", held)

    async def _go_on(self, write: Callable[[], None], done: Callable[[Any], None]) -> None:
        await self.released.wait()
        if self.failure is None:
            write()
        else:
            done(self.failure)


def test_a_keystroke_after_a_pause_is_stored_and_told_without_a_task(tmp_path: Path) -> None:
    async def work() -> None:
        async with _served(tmp_path) as served:
            begun: list[Any] = []

            def factory(loop: Any, coroutine: Any, **options: Any) -> "asyncio.Task[Any]":
                begun.append(coroutine)
                return asyncio.Task(coroutine, loop=loop, **options)

            asyncio.get_running_loop().set_task_factory(factory)
            for key in _KEYS[1:]:
                assert served.type(key)
                assert await served.told() == [key, key]
                await served.room.finish()  # the writer is answered a moment after the readers
            assert begun == []
            asyncio.get_running_loop().set_task_factory(None)
            assert await served.stored() == _KEYS
            assert served.clients[0].versions == list(range(1, len(_KEYS) + 1))

    _run(work)


def test_awareness_is_told_at_once_and_a_sync_step_waits_for_its_task(tmp_path: Path) -> None:
    async def work() -> None:
        async with _served(tmp_path) as served:
            connection = served.clients[0].connection
            assert heed_at_once(served.room, connection, AwarenessMessage((AwarenessState(1, 1, "{}"),)))
            for client in served.clients:
                assert client.sent.get_nowait() == b"\x01\x06\x01\x01\x01\x02{}"
            assert heed_at_once(served.room, connection, QueryAwareness())
            assert served.clients[0].sent.get_nowait() == b"\x01\x06\x01\x01\x01\x02{}"
            for step in ("step_1", "step_2"):
                assert not heed_at_once(served.room, connection, SyncMessage(step, b"\0\0"))  # type: ignore[arg-type]
            assert not served.type(b"\0\0")  # an empty update
            served.room.has_past = True
            assert not served.type(_KEYS[1])
            served.room.has_past = False
            connection.read_only = True
            assert not served.type(_KEYS[1])

    _run(work)


def test_a_long_update_is_copied_out_of_its_message_in_slices(tmp_path: Path) -> None:
    async def work() -> None:
        async with _served(tmp_path, size_limit=2**24) as served:
            document = pycrdt.Doc({"content": pycrdt.Text("long " * 600_000)})
            update = document.get_update()
            said = parse_message(sync_update(update))
            assert not heed_at_once(served.room, served.clients[0].connection, said)
            iterations = Iterations()
            await heed(served.room, served.clients[0].connection, said)
            iterations.stop()
            assert iterations.count >= 2  # the first slice is done at once
            await served.room.finish()
            assert (await served.stored())[-1] == update

    _run(work)


def test_what_comes_while_the_disk_is_busy_is_stored_next_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work() -> None:
        async with _served(tmp_path) as served:
            disk = _HeldDisk(monkeypatch)
            for key in _KEYS[1:5]:
                assert served.type(key)
            for _ in range(20):
                await asyncio.sleep(0)
            assert disk.begun == 1
            assert all(client.sent.empty() for client in served.clients)  # nothing is told before it is durable
            assert not served.room.idle
            disk.released.set()
            assert await served.told() == [_KEYS[1]] * 2
            await served.told()
            await served.room.finish()
            assert len(await served.stored()) == 3
            replica = pycrdt.Doc({"content": (text := pycrdt.Text())})
            for update in await served.stored():
                replica.apply_update(update)
            assert str(text) == "hello"
            assert served.clients[0].versions == [1, 2, 3]

    _run(work)


def test_the_inbox_is_bounded_at_once_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        async with _served(tmp_path) as served:
            disk = _HeldDisk(monkeypatch)
            assert served.type(_KEYS[1])
            assert served.type(bytes(_LIMIT))
            assert not served.type(_KEYS[2])
            served.room._inbox.clear()
            disk.released.set()
            await served.told()

    _run(work)


def test_a_failure_to_store_ends_its_writer_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        async with _served(tmp_path) as served:
            with monkeypatch.context() as patch:
                disk = _HeldDisk(patch)
                disk.failure = StorageUnavailable("a fault")
                disk.released.set()
                assert served.type(_KEYS[1])
                assert await served.clients[0].sent.get() == TRY_LATER
            assert served.clients[0].versions == [1]
            assert not served.clients[1].connection.closing
            assert served.type(_KEYS[1], client=1)  # as a sync of who reconnects does
            assert await served.clients[1].next_update() == _KEYS[1]
            await served.room.finish()
            assert await served.stored() == _KEYS[:2]

    _run(work)


def test_a_version_in_between_is_built_upon(tmp_path: Path) -> None:
    """As another gateway of the database may store one."""

    async def work() -> None:
        async with _served(tmp_path) as served:
            other = typed("other", 2)[0]
            stored = served.storage.append("p", (AppendUpdate("a.md", Version(1), other),))
            assert served.type(_KEYS[1])
            await stored
            assert await served.told() == [other] * 2
            assert await served.told() == [_KEYS[1]] * 2
            await served.room.finish()
            assert await served.stored() == [_KEYS[0], other, _KEYS[1]]
            assert served.clients[0].versions == [1, 3]

    _run(work)


def test_a_keystroke_does_not_outlive_its_file(tmp_path: Path) -> None:
    async def work() -> None:
        async with _served(tmp_path) as served:
            deleted = served.storage.append("p", (DeleteFile("a.md", Version(1), None),))
            assert served.type(_KEYS[1])
            await deleted
            for client in served.clients:
                assert await client.sent.get() == FILE_DELETED
            await served.room.finish()
            assert len(served.rooms) == 0
            assert served.type(_KEYS[2])  # and is not written into the next one
            head = await served.storage.file_head("p", "a.md")
            assert head is not None
            assert (head.version, head.deleted) == (2, True)

    _run(work)


@pytest.mark.parametrize(
    ("offence", "code"),
    [
        (b"\1\2\3\4\5\6\7\x08", INVALID_UPDATE),
        (pycrdt.Doc({"content": pycrdt.Text("x" * 5000)}).get_update(), TOO_LARGE),
    ],
)
def test_an_offender_is_sent_away(tmp_path: Path, offence: bytes, code: int) -> None:
    async def work() -> None:
        async with _served(tmp_path, size_limit=4000) as served:
            assert served.type(offence)
            assert await served.clients[0].sent.get() == code
            assert served.type(_KEYS[1])
            assert served.type(_KEYS[1], client=1)
            assert await served.clients[1].next_update() == _KEYS[1]
            await served.room.finish()
            assert await served.stored() == _KEYS[:2]

    _run(work)


def test_a_gap_is_asked_for(tmp_path: Path) -> None:
    async def work() -> None:
        async with _served(tmp_path) as served:
            assert served.type(_KEYS[2])
            asked = await served.clients[0].sent.get()
            assert isinstance(asked, bytes)
            assert parse_message(asked).step == "step_1"  # type: ignore[union-attr]
            assert await served.stored() == _KEYS[:1]

    _run(work)


def test_one_version_a_window(tmp_path: Path) -> None:
    async def work() -> None:
        async with _served(tmp_path, window=3600.0) as served:
            loop = asyncio.get_running_loop()
            assert served.room._next_commit > loop.time() + 60
            assert served.type(_KEYS[1])  # waits for the window
            await asyncio.sleep(0)
            assert not served.room.idle
            served.room._inbox.clear()
            assert served.room._flushing is not None
            served.room._flushing.cancel()
            served.room._next_commit = 0.0
            await asyncio.wait([served.room._flushing])
            assert served.type(_KEYS[1])
            assert await served.told() == [_KEYS[1]] * 2
            await served.room.finish()
            assert served.room._next_commit > loop.time() + 60

    _run(work)


def test_a_stopping_gateway_stores_what_it_took_in(tmp_path: Path) -> None:
    async def work() -> None:
        async with _served(tmp_path) as served:
            assert served.type(_KEYS[1])
            await served.rooms.close()
            assert await served.stored() == _KEYS[:2]

    _run(work)


def test_the_readers_are_sent_a_keystroke_before_its_writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        async with _served(tmp_path) as served:
            rounds: list[list[Connection]] = []

            def write_to_all(outlets: dict[Outlet, Any], frame: bytes) -> list[Any]:
                rounds.append(list(outlets.values()))
                return rounds[-1]

            connections = [client.connection for client in served.clients]
            for connection in connections:
                served.room.remove(connection)
                connection.outlet = Outlet(lambda rest: None, lambda: False, -1)
                served.room.add(connection)
            monkeypatch.setattr(room_module, "write_to_all", write_to_all)
            for key in _KEYS[1:3]:
                assert served.type(key)
                await served.told()
                await served.room.finish()
            assert rounds == [connections[::-1]] * 2

    _run(work)
