"""Clients who join a room at once share one answer to their sync step 1, and are sent it one after another."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pycrdt
import pytest
from starlette.types import Message

from gateway.asgi.frames import binary_frame
from gateway.files.reader import Content
from gateway.files.store import Files
from gateway.rooms import answers
from gateway.rooms.connection import Connection
from gateway.rooms.room import Room
from gateway.rooms.rooms import Rooms
from gateway.wire.problems import Overloaded
from gateway.yjs.messages import sync_step_2, sync_update
from storage import AppendUpdate, Version
from storage.sqlite import SQLiteStorage
from tests.support.iterations import Iterations
from tests.support.rooms import open_rooms

_CLIENTS = 12
_EMPTY = b"\0"


def _text(letters: int) -> bytes:
    return pycrdt.Doc({"content": pycrdt.Text("a" * letters)}).get_update()


class _Client:
    def __init__(self, now: Callable[[], int] = lambda: 0) -> None:
        self.frames: list[bytes] = []
        self.at: list[int] = []
        """In which turn of the event loop each frame was written."""
        self._now = now
        self.connection = Connection(self._send, 2**24, write_frame=self._write)

    def _write(self, frame: bytes) -> bool:
        self.frames.append(frame)
        self.at.append(self._now())
        return True

    async def _send(self, message: Message) -> None: ...


async def _with_rooms(folder: Path, update: bytes, work: Callable[[SQLiteStorage, Rooms], Awaitable[None]]) -> None:
    storage = await SQLiteStorage.open(folder / "gateway.db")
    await storage.append("p", (AppendUpdate("a.md", Version(0), update),))
    rooms = open_rooms(storage, queue_limit=2**24, inbox_limit=2**20, connection_limit=100)
    try:
        await work(storage, rooms)
    finally:
        await storage.close()


async def _join(rooms: Rooms, client: _Client) -> Room:
    room = await rooms.join("p", "a.md", client.connection)
    assert room is not None
    return room


def test_those_who_join_at_once_share_one_answer_and_take_turns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, reads = Files.read_lacking, 0

    async def counted(self: Files, project: str, path: str, state_vector: bytes) -> Content:
        nonlocal reads
        reads += 1
        return await read(self, project, path, state_vector)

    monkeypatch.setattr(Files, "read_lacking", counted)
    update = _text(200_000)

    async def work(storage: SQLiteStorage, rooms: Rooms) -> None:
        iterations = Iterations()
        clients = [_Client(lambda: iterations.count) for _ in range(_CLIENTS)]
        joined = [await _join(rooms, client) for client in clients]
        for _ in range(2):  # the first time the answer is read, then it is known
            for client in clients:
                client.frames.clear()
                client.at.clear()
            await asyncio.gather(
                *(room.answer_step_1(each.connection, _EMPTY) for room, each in zip(joined, clients, strict=True))
            )
            assert reads == 1
            frame = clients[0].frames[0]
            assert frame == binary_frame(sync_step_2(update))
            assert all(each.frames == [frame] and each.frames[0] is frame for each in clients)
            assert len({each.at[0] for each in clients}) >= _CLIENTS // 2  # in one turn it would be one, or two
        iterations.stop()

    asyncio.run(_with_rooms(tmp_path, update, work))


def test_who_asks_after_a_change_does_not_share_an_answer_of_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would miss the change: nothing was held back for it when the change was told to all."""
    read, was_read, goes_on = Files.read_lacking, asyncio.Event(), asyncio.Event()

    async def slow(self: Files, project: str, path: str, state_vector: bytes) -> Content:
        content = await read(self, project, path, state_vector)
        if not was_read.is_set():
            was_read.set()
            await goes_on.wait()
        return content

    monkeypatch.setattr(Files, "read_lacking", slow)
    first, second = _text(1), _text(2)

    async def work(storage: SQLiteStorage, rooms: Rooms) -> None:
        before, after = _Client(), _Client()
        room = await _join(rooms, before)
        asked = asyncio.create_task(room.answer_step_1(before.connection, _EMPTY))
        await was_read.wait()
        await storage.append("p", (AppendUpdate("a.md", Version(1), second),))
        await _join(rooms, after)
        async with asyncio.timeout(60):
            await room.answer_step_1(after.connection, _EMPTY)
        goes_on.set()
        await asked
        assert before.frames == [binary_frame(sync_step_2(first)), binary_frame(sync_update(second))]
        (whole,) = after.frames
        assert len(whole) > len(first) + len(second)

    asyncio.run(_with_rooms(tmp_path, first, work))


def test_one_who_leaves_takes_the_answer_from_nobody_and_an_error_goes_to_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, asked, goes_on, failing = Files.read_lacking, asyncio.Event(), asyncio.Event(), False

    async def slow(self: Files, project: str, path: str, state_vector: bytes) -> Content:
        asked.set()
        await goes_on.wait()
        if failing:
            raise Overloaded("too many")
        return await read(self, project, path, state_vector)

    monkeypatch.setattr(Files, "read_lacking", slow)
    update = _text(3)

    async def work(storage: SQLiteStorage, rooms: Rooms) -> None:
        nonlocal failing
        leaving, staying = _Client(), _Client()
        room = await _join(rooms, leaving)
        await _join(rooms, staying)
        left = asyncio.create_task(room.answer_step_1(leaving.connection, _EMPTY))
        await asked.wait()
        stayed = asyncio.create_task(room.answer_step_1(staying.connection, _EMPTY))
        left.cancel()
        await asyncio.wait([left])
        goes_on.set()
        await stayed
        assert left.cancelled()
        assert staying.frames == [binary_frame(sync_step_2(update))]
        failing = True
        both = [room.answer_step_1(each.connection, b"\1\7\1") for each in (leaving, staying)]
        outcomes = await asyncio.gather(*both, return_exceptions=True)
        assert [type(each) for each in outcomes] == [Overloaded, Overloaded]
        assert room._reading == {}

    asyncio.run(_with_rooms(tmp_path, update, work))


@pytest.mark.parametrize(("letters", "copies"), [(1_000, 0), (100_000, 2)])
def test_a_large_answer_is_copied_in_another_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, letters: int, copies: int
) -> None:
    joined: list[int] = []
    join = answers.join_parts

    async def counted(parts: Sequence[bytes]) -> bytes:
        whole = await join(parts)
        joined.append(len(whole))
        return whole

    monkeypatch.setattr(answers, "join_parts", counted)

    async def work(storage: SQLiteStorage, rooms: Rooms) -> None:
        client = _Client()
        room = await _join(rooms, client)
        await room.answer_step_1(client.connection, _EMPTY)
        update = (await room._file.read_lacking(_EMPTY))[0]
        message = sync_step_2(update)
        assert client.frames[0] == binary_frame(message)
        assert joined == [len(message), len(binary_frame(message))][:copies]

    asyncio.run(_with_rooms(tmp_path, _text(letters), work))
