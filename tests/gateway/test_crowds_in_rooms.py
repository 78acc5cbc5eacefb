"""What happens in rooms with many clients, or in many rooms at once, holds nobody up: it is told in turns."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path

import pycrdt
import pytest
from starlette.types import Message

from gateway.asgi.frames import binary_frame
from gateway.rooms import room as room_module
from gateway.rooms.close_codes import FILE_DELETED, RESTART, TRY_LATER
from gateway.rooms.connection import Connection
from gateway.rooms.endpoint import heed, heed_at_once
from gateway.rooms.room import Room
from gateway.shared_turn import SharedTurn
from gateway.yjs.messages import (
    AwarenessMessage,
    AwarenessState,
    ManyStates,
    QueryAwareness,
    SyncMessage,
    awareness_message,
    parse_message,
)
from storage import AppendUpdate, DeleteFile, Version
from storage.sqlite import SQLiteStorage
from tests.support.clocks import TickingClock
from tests.support.iterations import Iterations
from tests.support.rooms import open_rooms
from tests.support.turns import until

_LIMIT = 2**20


class _Client:
    """A client of a room, and what it was sent."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.writes = 0
        self.closed = 0
        self.connection = Connection(self._send, _LIMIT, write_frame=self._write)

    def _write(self, frame: bytes) -> bool:
        self.writes += 1
        self.messages.append(frame[2:] if frame[1] < 126 else frame[4:])
        return True

    async def _send(self, message: Message) -> None:
        assert message["type"] == "websocket.close"
        self.closed = message["code"]

    @property
    def updates(self) -> list[bytes]:
        parsed = [parse_message(message) for message in self.messages]
        return [each.body for each in parsed if isinstance(each, SyncMessage) and each.step == "update"]

    @property
    def states(self) -> list[tuple[AwarenessState, ...]]:
        parsed = [parse_message(message) for message in self.messages]
        return [each.states for each in parsed if isinstance(each, AwarenessMessage)]


class _Site:
    def __init__(self, storage: SQLiteStorage, turn: SharedTurn) -> None:
        self.storage = storage
        self.turn = turn
        self.clients: list[_Client] = []
        """Those who have not left: they are closed at the end."""
        self.rooms = open_rooms(storage, queue_limit=_LIMIT, inbox_limit=_LIMIT, connection_limit=1000, turn=turn)

    async def join(self, path: str) -> tuple[_Client, Room]:
        client = _Client()
        self.clients.append(client)
        room = await self.rooms.join("p", path, client.connection)
        assert room is not None
        await room.answer_step_1(client.connection, b"\0")
        client.messages.clear()
        client.writes = 0
        return client, room

    def leave(self, client: _Client, room: Room) -> None:
        self.clients.remove(client)
        self.rooms.leave(room, client.connection)

    def use_up_turn(self) -> None:
        """Let nothing more be done in this turn of the loop."""
        while not self.turn.is_over():
            pass


@contextlib.asynccontextmanager
async def _site(folder: Path, tick: float = 0.001) -> AsyncIterator[_Site]:
    storage = await SQLiteStorage.open(folder / "gateway.db")
    site = _Site(storage, SharedTurn(TickingClock(tick)))
    try:
        yield site
    finally:
        await site.rooms.close()
        await until(lambda: all(client.closed for client in site.clients))
        await storage.close()


def _updates(count: int) -> list[bytes]:
    document: pycrdt.Doc[object] = pycrdt.Doc()
    text, updates = document.get("content", type=pycrdt.Text), list[bytes]()
    document.observe(lambda event: updates.append(event.update))
    for number in range(count):
        text.insert(0, f"{number} ")
    return updates


def test_versions_of_one_commit_are_written_together_and_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[bytes] = []
    write_to_all = room_module.write_to_all
    monkeypatch.setattr(
        room_module, "write_to_all", lambda outlets, frame: written.append(frame) or write_to_all(outlets, frame)
    )

    async def work() -> None:
        async with _site(tmp_path, tick=0.0) as site:
            client, _ = await site.join("a.md")
            updates = _updates(20)
            changes = (AppendUpdate("a.md", Version(number), update) for number, update in enumerate(updates))
            await asyncio.gather(*[site.storage.append("p", (change,)) for change in changes])
            assert client.updates == updates
            assert len(written) == 1
            frames = [binary_frame(message) for message in client.messages]
            assert b"".join(written) == b"".join(frames)

    asyncio.run(work())


def test_many_rooms_are_told_of_one_commit_in_several_turns(tmp_path: Path) -> None:
    async def work() -> None:
        async with _site(tmp_path) as site:
            clients = [(await site.join(f"{number}.md"))[0] for number in range(50)]
            (update,) = _updates(1)
            done = site.storage.append(
                "p", tuple(AppendUpdate(f"{number}.md", Version(0), update) for number in range(50))
            )
            await done
            told = [sum(len(client.updates) for client in clients)]
            while told[-1] < 50:
                await asyncio.sleep(0)
                told.append(sum(len(client.updates) for client in clients))
            assert all(after - before <= 6 for before, after in pairwise(told))
            assert all(client.updates == [update] for client in clients)

    asyncio.run(work())


def test_awareness_of_many_in_one_turn_is_one_message_and_the_newest_of_each(tmp_path: Path) -> None:
    async def work() -> None:
        async with _site(tmp_path) as site:
            client, room = await site.join("a.md")
            site.use_up_turn()
            for clock in (1, 2):
                for number in range(1, 21):
                    states = (AwarenessState(number, clock, f'{{"a":{clock}}}'),)
                    room.presence.receive(states, number)
            await until(lambda: bool(client.states))
            (states,) = client.states
            assert list(states) == [AwarenessState(number, 2, '{"a":2}') for number in range(1, 21)]

    asyncio.run(work())


def test_those_who_stay_are_told_together_of_many_who_leave_at_once(tmp_path: Path) -> None:
    async def work() -> None:
        async with _site(tmp_path) as site:
            stays, room = await site.join("a.md")
            leaving = [(await site.join("a.md"))[0] for _ in range(30)]
            for number, client in enumerate(leaving, 1):
                room.presence.receive((AwarenessState(number, 1, "{}"),), client.connection)
            await until(lambda: sum(map(len, stays.states)) == 30)
            stays.messages.clear()
            site.use_up_turn()
            for client in leaving:
                site.leave(client, room)
            await until(lambda: bool(stays.states))
            (states,) = stays.states
            assert {(state.client, state.state) for state in states} == {(number, "null") for number in range(1, 31)}
            site.leave(stays, room)

    asyncio.run(work())


def test_very_many_states_are_told_in_messages_of_few(tmp_path: Path) -> None:
    async def work() -> None:
        async with _site(tmp_path) as site:
            stays, room = await site.join("a.md")
            site.use_up_turn()
            states = [AwarenessState(number, 1, "{}") for number in range(600)]
            for start in range(0, 600, 100):
                room.presence.receive(tuple(states[start : start + 100]), start)
            await until(lambda: sum(map(len, stays.states)) == 600)
            assert [len(some) for some in stays.states] == [256, 256, 88]
            new, _ = await site.join("a.md")
            stays.messages.clear()
            iterations = Iterations()
            await room.introduce(new.connection)
            iterations.stop()
            assert iterations.count >= 2  # others had a turn
            assert not heed_at_once(room, stays.connection, QueryAwareness())
            await heed(room, stays.connection, QueryAwareness())
            for client in (new, stays):
                assert [len(some) for some in client.states] == [256, 256, 88]
                assert [state for some in client.states for state in some] == states

    asyncio.run(work())


def test_a_message_of_very_many_states_is_taken_in_in_several_turns(tmp_path: Path) -> None:
    async def work() -> None:
        async with _site(tmp_path, tick=0.0) as site:
            client, room = await site.join("a.md")
            room.presence.receive((AwarenessState(1999, 1, "{}"),), client.connection)
            client.messages.clear()
            message = parse_message(awareness_message([AwarenessState(number, 1, "null") for number in range(2000)]))
            assert isinstance(message, ManyStates)
            assert not heed_at_once(room, client.connection, message)
            iterations = Iterations()
            await heed(room, client.connection, message)
            iterations.stop()
            assert iterations.count >= 2000 // 256
            assert not len(room.presence.awareness)
            assert sum(map(len, client.states)) == 2000

    asyncio.run(work())


def test_clients_to_whom_nothing_can_be_written_at_once_are_told_a_few_at_a_time(tmp_path: Path) -> None:
    async def work() -> None:
        async with _site(tmp_path) as site:
            clients = [(await site.join("a.md"))[0] for _ in range(100)]
            (update,) = _updates(1)
            site.use_up_turn()
            await site.storage.append("p", (AppendUpdate("a.md", Version(0), update),))
            told = [sum(len(client.updates) for client in clients)]
            while told[-1] < 100:
                await asyncio.sleep(0)
                told.append(sum(len(client.updates) for client in clients))
            assert all(after - before <= 48 for before, after in pairwise(told))

    asyncio.run(work())


def test_many_messages_that_waited_for_a_client_are_sent_in_several_turns_and_in_order() -> None:
    async def work() -> None:
        written: list[bytes] = []
        reads = asyncio.Event()

        def write(frame: bytes) -> bool:
            if reads.is_set():
                written.append(frame)
            return reads.is_set()

        async def send(message: Message) -> None:
            await reads.wait()
            written.append(binary_frame(message["bytes"]))

        connection = Connection(send, _LIMIT, write_frame=write)
        messages = [b"%d" % number for number in range(3000)]
        for message in messages:
            connection.enqueue(message)
        await asyncio.sleep(0)
        assert written == []
        reads.set()
        frames = b"".join(map(binary_frame, messages))
        sizes = [0]
        while sizes[-1] < len(frames):
            await asyncio.sleep(0)
            sizes.append(sum(map(len, written)))
        assert b"".join(written) == frames
        assert all(after - before <= 6 * 260 for before, after in pairwise(sizes))
        connection.enqueue(b"later")  # nothing waits any more
        assert written[-1] == binary_frame(b"later")
        await connection.end()

    asyncio.run(work())


def test_versions_before_a_deletion_are_sent_before_the_connection_is_closed(tmp_path: Path) -> None:
    async def work() -> None:
        async with _site(tmp_path) as site:
            client, room = await site.join("a.md")
            site.use_up_turn()
            updates = _updates(2)
            appended = [
                site.storage.append("p", (AppendUpdate("a.md", Version(number), update),))
                for number, update in enumerate(updates)
            ]
            await asyncio.gather(*appended, site.storage.append("p", (DeleteFile("a.md", Version(2)),)))
            assert room.over
            await until(lambda: bool(client.closed))
            assert (client.updates, client.closed) == (updates, FILE_DELETED)

    asyncio.run(work())


@pytest.mark.parametrize("deleted", [False, True])
def test_the_connections_of_many_rooms_are_closed_in_several_turns(tmp_path: Path, deleted: bool) -> None:
    async def work() -> None:
        async with _site(tmp_path) as site:
            (update,) = _updates(1)
            clients = []
            for number in range(40):
                await site.storage.append("p", (AppendUpdate(f"{number}.md", Version(0), update),))
                clients.append((await site.join(f"{number}.md"))[0])
            if deleted:
                await site.storage.erase_project("p")
            else:
                site.rooms.drain()
            closing = [sum(client.connection.closing for client in clients)]
            while closing[-1] < 40:
                await asyncio.sleep(0)
                closing.append(sum(client.connection.closing for client in clients))
            assert all(after - before <= 6 for before, after in pairwise(closing))
            await until(lambda: all(client.closed for client in clients))
            assert {client.closed for client in clients} == {FILE_DELETED if deleted else RESTART}

    asyncio.run(work())


def test_many_rooms_end_in_several_turns_and_take_nobody_in_meanwhile(tmp_path: Path) -> None:
    async def work() -> None:
        async with _site(tmp_path) as site:
            (update,) = _updates(1)
            left = []
            for number in range(40):
                await site.storage.append("p", (AppendUpdate(f"{number}.md", Version(0), update),))
                left.append(await site.join(f"{number}.md"))
            erasing = asyncio.ensure_future(site.storage.erase_project("p"))
            await until(lambda: left[0][1].over)
            assert all(room.over for _, room in left)
            ended = [sum(room.forgotten for _, room in left)]
            assert ended[0] < 10
            newcomer, new = await site.join("39.md")
            assert all(new is not room for _, room in left)
            while ended[-1] < 40:
                await asyncio.sleep(0)
                ended.append(sum(room.forgotten for _, room in left))
            await erasing
            await site.storage.append("p", (AppendUpdate("39.md", Version(0), update),))
            await until(lambda: bool(newcomer.updates))
            await until(lambda: all(client.closed == FILE_DELETED for client, _ in left))
            assert newcomer.updates == [update]
            assert not newcomer.closed
            assert not any(client.updates for client, _ in left)
            assert len(site.rooms) == 1

    asyncio.run(work())


def test_clients_that_could_not_be_told_of_a_version_reconnect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        async with _site(tmp_path) as site:
            client, room = await site.join("a.md")
            with monkeypatch.context() as faults:
                faults.setattr(room_module, "read_row", lambda row: 1 / 0)
                await site.storage.append("p", (AppendUpdate("a.md", Version(0), _updates(1)[0]),))
                await until(lambda: bool(client.closed))
            assert client.closed == TRY_LATER
            other, new = await site.join("a.md")
            assert new is not room
            await site.storage.append("p", (AppendUpdate("a.md", Version(1), b"\1\1\7\0\4\1\4root\1x\0"),))
            await until(lambda: bool(other.updates))

    asyncio.run(work())


def test_a_room_is_told_at_once_where_too_much_waits_to_be_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise what waits would grow without a bound where more is written than can be told."""

    async def work() -> None:
        async with _site(tmp_path) as site:
            (update,) = _updates(1)
            (committed,) = await site.storage.append("p", (AppendUpdate("a.md", Version(0), update),))
            client, room = await site.join("a.md")
            monkeypatch.setattr(room_module, "_MOST_UNTOLD", len(update))
            site.use_up_turn()
            room.committed(committed.head, update)
            room.tell()
            assert client.updates == []
            room.committed(committed.head, update)
            room.tell()
            assert client.updates == [update, update]

    asyncio.run(work())
