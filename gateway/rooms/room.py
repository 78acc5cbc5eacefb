"""One room: the messages of its connections, and the versions committed to its file."""

import asyncio
import functools
from collections import deque
from collections.abc import Iterable, Iterator
from typing import NamedTuple, Protocol, TypeVar

import structlog

from gateway.asgi.frames import binary_frame
from gateway.asgi.outlets import PART_BYTES, Outlet, write_to_all
from gateway.files.past_incarnations import has_past
from gateway.files.preconditions import Preconditions
from gateway.pace import with_turns
from gateway.presence.presence import Presence
from gateway.rooms.answers import Answer, Answers, Turns, answer_with
from gateway.rooms.close_codes import FILE_DELETED, INVALID_UPDATE, TOO_LARGE, TRY_LATER
from gateway.rooms.file import RoomFile
from gateway.rooms.member import CLOSE_S, Member
from gateway.shared_turn import Pieces, SharedTurn
from gateway.wire.problems import DocumentTooLarge, FileDeleted, Problem
from gateway.yjs.messages import (
    AwarenessState,
    awareness_messages,
    sync_update,
)
from gateway.yjs.stored_form import to_wire
from gateway.yjs.surrogates import read_row
from gateway.yjs.updates import EMPTY_UPDATE, InvalidUpdate
from storage import Author, Committed, FileHead, ProjectHead, StorageError, VersionConflict

T = TypeVar("T")

_log = structlog.get_logger("gateway.rooms")

_WORK_TOGETHER = 128 * 1024
"""Upper bound in bytes for what is merged into one version: that much occupies the event loop for 4 ms."""
_READ_ONLY = "this file may be read only"
_LONGEST_AUTHOR = 200
_WORK_PER_UPDATE = 256
"""The overhead of each update beyond its size, in bytes."""
_TOLD_TOGETHER = 64 * 1024
"""How many bytes of versions are written to a client at once."""
_COPIED_TOGETHER = 2**20
"""How many bytes are copied to clients before others have a turn."""
_WORK_PER_FRAME = 16 * 2**10
"""The overhead of each frame to a client, in bytes."""
_OTHERS_TOGETHER = 16
"""How many clients are told before others have a turn that do not simply take a frame."""
_MOST_UNTOLD = 64 * 2**20
"""How many bytes may wait to be sent to the clients of all rooms."""


class _Received(NamedTuple):
    """An update of a client."""

    connection: Member
    update: bytes
    receipt: int
    """Passed back to the client's `stored` once the update is stored."""
    is_step_2: bool
    """Whether the update answers a sync step 1: it holds all that the client had and the gateway was missing."""


class Untold:
    """How many bytes the clients of all rooms have yet to be sent, beside what waits for one client.

    Beyond a bound a room is told at once: this holds the loop, and so whoever writes faster than can be told.
    """

    __slots__ = ("_size",)

    def __init__(self) -> None:
        self._size = 0

    def add(self, size: int) -> None:
        self._size += size

    @property
    def is_full(self) -> bool:
        return self._size > _MOST_UNTOLD


class Keeper(Protocol):
    """Keeps the rooms: owns what they share, and is told when a room is idle or over."""

    @property
    def window(self) -> float:
        """Seconds; what a room receives within this window becomes one version."""

    @property
    def inbox_limit(self) -> int:
        """Bytes that may wait to be written for one room."""

    @property
    def answers(self) -> "Answers[Room]": ...

    @property
    def turns(self) -> Turns:
        """The queue for work that walks over a whole document."""

    @property
    def untold(self) -> "Untold": ...

    @property
    def turn(self) -> SharedTurn:
        """What all rooms together may do in one turn of the event loop."""

    def left(self, room: "Room") -> None:
        """Note that a client has left the room, or that everything is written."""

    def forget(self, room: "Room") -> bool:
        """Forget a room, so that the next client of the file gets a new one; False if the room was forgotten before."""


class Room:
    """One file that clients are connected to."""

    def __init__(self, keeper: Keeper, file: RoomFile, presence: Presence) -> None:
        self._keeper = keeper
        self._file = file
        self.project = file.project
        self.path = file.path
        self.connections: dict[Member, None] = {}
        self._outlets: dict[Outlet, Member] = {}
        self._without_outlet: dict[Member, None] = {}
        self.presence = presence.join(file.project, file.path, self.tell_awareness)
        self.incarnation: str | None = None
        self.tombstone: int | None = None
        """The version of the tombstone when the room was opened, 0 if there was none: a new incarnation of the file may
        begin here on this tombstone only. None: the file has not been looked at yet."""
        self.has_past = False
        """Whether the file had earlier incarnations, of which clients may still send something."""
        self.followed: asyncio.Future[ProjectHead | None] | None = None
        """Done once commits of other gateways are received here; None: there are no other gateways."""
        self._version = 0
        """The newest version that the room has been told of."""
        self._reading: dict[bytes, asyncio.Task[Answer]] = {}
        """The answers to sync step 1 that are being read, by the state vector of those who wait for them."""
        self.over = False
        """Whether the file was deleted: later updates are not written, even if a new file has this path."""
        self.forgotten = False
        """Whether the next client of the file gets a new room."""
        self._inbox: deque[_Received] = deque()
        self._inbox_bytes = 0
        self._room_in_inbox = asyncio.Event()
        self._flushing: asyncio.Future[None] | None = None
        """Done when the inbox, or the update that was queued for storing at once, is written."""
        self._next_commit = 0.0
        self._untold: deque[tuple[int, bytes]] = deque()
        """Versions that the clients have yet to be sent, and their rows of the log."""
        self._unsaid: dict[int, AwarenessState] = {}
        """The newest states that the clients have yet to be sent, by client."""
        self._stateless: deque[str] = deque()
        """Messages that belong to no document, and that the clients have yet to be sent."""
        self._code = 0
        """The code with which all clients are to be closed after that; 0: they are not."""
        self._telling: Pieces | None = None
        """Sends the clients what they have yet to be sent."""

    @property
    def idle(self) -> bool:
        """Whether there are no clients and no pending writes."""
        return not self.connections and self._flushing is None

    @property
    def _life(self) -> Preconditions:
        """The incarnation of the file that the room belongs to."""
        return Preconditions(incarnation=self.incarnation, tombstone=self.tombstone or 0)

    def add(self, connection: Member) -> None:
        """Add a client."""
        self.connections[connection] = None
        if connection.outlet is None:
            self._without_outlet[connection] = None
        else:
            self._outlets[connection.outlet] = connection

    def remove(self, connection: Member) -> bool:
        """Remove a client; False if it was not there."""
        if connection not in self.connections:
            return False
        del self.connections[connection]
        self._without_outlet.pop(connection, None)
        if connection.outlet is not None:
            del self._outlets[connection.outlet]
        return True

    def begin(self, head: FileHead | None) -> bool:
        """Note the incarnation that the file has, or may begin; False if the room belongs to another incarnation."""
        incarnation = None if head is None or head.deleted else head.incarnation
        tombstone = head.version if head is not None and head.deleted else 0
        if self.incarnation is not None and incarnation != self.incarnation:
            return False
        if incarnation is None and self.tombstone not in (None, tombstone):
            return False
        if self.tombstone is None:
            self.tombstone = tombstone
        self.incarnation, self.has_past = incarnation, has_past(head)
        return True

    # Messages of connections

    async def submit(self, connection: Member, update: bytes, *, is_step_2: bool) -> None:
        """Queue an update of a client for writing. Waits while the inbox is full."""
        receipt = connection.received(is_step_2=is_step_2)
        if update == EMPTY_UPDATE:
            connection.stored(receipt, whole=True, is_step_2=is_step_2)
            return
        if self.has_past and await self._file.is_past(update):
            connection.close(FILE_DELETED, "it holds what is of an earlier incarnation of the file")
            return
        if connection.read_only:
            if not await self._refuse_addition(connection, update):
                connection.stored(receipt, whole=True, is_step_2=is_step_2)
            return
        while not self._has_room_for(update):
            self._room_in_inbox.clear()
            await self._room_in_inbox.wait()
        self._take_in(_Received(connection, update, receipt, is_step_2))

    def submit_at_once(self, connection: Member, update: bytes) -> bool:
        """Queue an update of a client if nothing has to be waited for; False: nothing was done, and `submit` must."""
        if self.has_past or connection.read_only or update == EMPTY_UPDATE or not self._has_room_for(update):
            return False
        receipt = connection.received(is_step_2=False)
        self._take_in(_Received(connection, update, receipt, is_step_2=False))
        return True

    def _has_room_for(self, update: bytes) -> bool:
        return not self._inbox or self._inbox_bytes + len(update) <= self._keeper.inbox_limit

    def _take_in(self, received: _Received) -> None:
        """Have an update written: at once after a pause, else behind the others of the inbox."""
        if self.over:
            return
        self._send_last_to(received.connection)
        if self._flushing is None and self._write_at_once(received):
            return
        self._inbox.append(received)
        self._inbox_bytes += len(received.update)
        if self._flushing is None:
            self._flushing = asyncio.create_task(self._flush())

    def _send_last_to(self, writer: Member) -> None:
        """Have the next version sent to its writer after all others, who do not know it yet."""
        outlet = writer.outlet
        if outlet is not None and self._outlets.pop(outlet, None) is not None:
            self._outlets[outlet] = writer

    async def _refuse_addition(self, connection: Member, update: bytes) -> bool:
        """Refuse the update of a read-only client if it adds something. Return False if it adds nothing, as the answer
        of an up-to-date client does."""
        try:
            if not await self._file.lacks(update):
                return False
            connection.refuse_addition(_READ_ONLY)
        except InvalidUpdate:
            connection.close(INVALID_UPDATE)
        return True

    def tell_awareness(self, states: tuple[AwarenessState, ...]) -> None:
        """Relay awareness to every client, its sender included, which sees by it that the connection is alive."""
        for state in states:
            self._unsaid[state.client] = state
        self.tell()

    def tell_stateless(self, payload: str) -> None:
        """Relay a message that belongs to no document to the clients whose protocol has such messages."""
        self._stateless.append(payload)
        self._keeper.untold.add(len(payload))
        self.tell()

    def tell(self) -> None:
        """Send the clients what they have yet to be sent, as far as it fits into this turn of the event loop."""
        if self._telling is None:
            self._telling = self._tell_in_pieces()
            self._keeper.turn.run(self._telling)
        elif self._keeper.untold.is_full:
            for _ in self._telling:
                pass

    def _tell_in_pieces(self) -> Pieces:
        """Send the clients what they have yet to be sent. What comes meanwhile is sent as well, with what waits."""
        try:
            while self._untold or self._unsaid or self._stateless:
                while self._untold:
                    yield from self._tell_versions()
                if self._unsaid:
                    states, self._unsaid = self._unsaid, {}
                    for message in awareness_messages(states.values()):
                        yield from self._tell_states(message)
                while self._stateless:
                    payload = self._stateless.popleft()
                    self._keeper.untold.add(-len(payload))
                    for some in _parts(list(self.connections), _OTHERS_TOGETHER):
                        for connection in some:
                            connection.tell_stateless(payload)
                        yield 0.0
        except Exception:
            _log.exception("room not told", project=self.project, path=self.path)
            self._give_up()
        code, self._code = self._code, 0
        for connection in list(self.connections) if code else ():
            connection.close(code)
            yield CLOSE_S
        self._telling = None
        return 0.0

    def _tell_versions(self) -> Pieces:
        """Send the oldest versions, few enough to be written at once."""
        frames: list[tuple[int, bytes, bytes]] = []
        size = 0
        while self._untold and (not frames or size + len(self._untold[0][1]) <= _TOLD_TOGETHER):
            version, row = self._untold.popleft()
            self._keeper.untold.add(-len(row))
            message = sync_update(to_wire(read_row(row)[0]))
            if len(row) > _COPIED_TOGETHER:  # each of these copies is a step of the event loop
                yield 0.0
            frames.append((version, message, binary_frame(message)))
            size += len(row)
        if size > _COPIED_TOGETHER:
            yield 0.0
        together = frames[0][2] if len(frames) == 1 else b"".join([frame for _, _, frame in frames])
        for others in self._write_to_all(together):
            for connection in others:
                for version, message, frame in frames:
                    connection.deliver(version, message, frame)
            yield 0.0
        return 0.0

    def _tell_states(self, message: bytes) -> Pieces:
        frame = binary_frame(message)
        for others in self._write_to_all(frame):
            for connection in others:
                connection.enqueue(message, frame)
            yield 0.0
        return 0.0

    def _write_to_all(self, frame: bytes) -> Iterator[list[Member]]:
        """Write a frame to the clients to which it can be written at once; yield the others, some at a time."""
        others: list[Member] = []
        most = max(1, _COPIED_TOGETHER // (_WORK_PER_FRAME + min(len(frame), PART_BYTES)))
        if len(self._outlets) <= most:
            others += write_to_all(self._outlets, frame)
            yield []
        else:
            for some in _parts(list(self._outlets.items()), most):
                others += write_to_all(dict(some), frame)
                yield []
        others += self._without_outlet
        yield from _parts(others, min(most, _OTHERS_TOGETHER))

    def _give_up(self) -> None:
        """Have every client reconnect, into a new room: what the clients were to be sent is lost."""
        untold = sum(len(row) for _, row in self._untold) + sum(map(len, self._stateless))
        self._keeper.untold.add(-untold)
        self._untold.clear()
        self._unsaid.clear()
        self._stateless.clear()
        self._keeper.forget(self)
        self._code = self._code or TRY_LATER

    async def greet(self, connection: Member) -> None:
        """Ask a new client for what the gateway is missing, and tell it who is present."""
        await self.ask(connection)
        await self.introduce(connection)

    async def ask(self, connection: Member) -> None:
        """Ask a client for what the gateway is missing."""
        connection.ask(await self._file.state_vector())

    async def introduce(self, connection: Member) -> None:
        """Tell a new client who is present."""
        async for message in with_turns(awareness_messages(self.presence.awareness.states()), 1):
            connection.enqueue(message)

    async def answer_step_1(self, connection: Member, state_vector: bytes) -> None:
        """Send a client what it is missing, and from then on every later version."""
        if self.has_past and await self._file.is_replica_of_past(state_vector):
            connection.close(FILE_DELETED, "it holds what is of an earlier incarnation of the file")
            return
        answer = self._keeper.answers.find(self, state_vector)
        if answer is None:
            await self._keeper.turns.take()
            answer = self._keeper.answers.find(self, state_vector)  # somebody else may have asked for the same
        connection.hold()
        if answer is None:
            answer = await self._shared_answer(state_vector)
        if answer.large:
            await self._keeper.turns.take()
        connection.enqueue(answer.message, answer.frame)
        connection.release(answer.version)

    async def _shared_answer(self, state_vector: bytes) -> Answer:
        """Read the answer to a sync step 1 once for all who ask for the same before the file changes."""
        reading = self._reading.get(state_vector)
        if reading is None:
            reading = self._reading[state_vector] = asyncio.create_task(self._read_answer(state_vector))
            reading.add_done_callback(functools.partial(_forget, self._reading, state_vector))
        return await asyncio.shield(reading)

    async def _read_answer(self, state_vector: bytes) -> Answer:
        update, version = await self._file.read_lacking(state_vector)
        answer = await answer_with(update, version)
        if version >= self._version:
            self._keeper.answers.keep(self, state_vector, answer)
        return answer

    # Commits

    def committed(self, head: FileHead, update: bytes | None) -> None:
        """Note a new version, which `tell` sends to every client; a deletion ends the room."""
        if head.deleted or update is None:
            if head.version != self.tombstone:
                self.end()
            return
        self.has_past = has_past(head)
        self.incarnation, self._version = head.incarnation, head.version
        self._keeper.answers.forget(self)
        self._reading = {}  # an answer that is read now may lack this version, which those who ask later are not sent
        self._untold.append((head.version, update))
        self._keeper.untold.add(len(update))

    def end(self) -> None:
        """Close every connection for good: the file was deleted."""
        self.over = True
        self._inbox.clear()
        self._inbox_bytes = 0
        self._room_in_inbox.set()
        self._keeper.forget(self)
        self.close_all(FILE_DELETED)

    def close_all(self, code: int) -> None:
        """Close every connection, after it was sent what it has yet to be sent. The first code wins."""
        self._code = self._code or code
        self.tell()

    def _write_at_once(self, received: _Received) -> bool:
        """Queue an update for storing without a task; False: nothing was done, and `_flush` must write it."""
        loop, author = asyncio.get_running_loop(), received.connection.author
        if received.connection.refused or loop.time() < self._next_commit:
            return False
        stored = loop.create_future()
        done = functools.partial(self._written_at_once, received, stored)
        try:
            if not self._file.append_at_once(received.update, self._life, author, done):
                return False
        except Exception:  # `_flush` will meet it again, and knows what to do
            return False
        self._flushing = stored
        return True

    def _written_at_once(
        self, received: _Received, stored: asyncio.Future[None], result: tuple[Committed, ...] | StorageError
    ) -> None:
        """Note what became of an update that was queued for storing at once."""
        self._flushing = None
        self._next_commit = asyncio.get_running_loop().time() + self._keeper.window
        if not isinstance(result, StorageError):
            (committed,) = result
            received.connection.note(committed.head.version)
            self._heed([received], ())
        elif not isinstance(result, VersionConflict):
            self._not_written([received], result)
        elif not self.over:  # another gateway has stored a version meanwhile
            self._inbox.appendleft(received)
            self._inbox_bytes += len(received.update)
        if self._inbox:
            self._flushing = asyncio.create_task(self._flush())
        else:
            self._keeper.left(self)
        stored.set_result(None)

    async def _flush(self) -> None:
        """Write the inbox: the first update after a pause at once, then one version per window."""
        loop = asyncio.get_running_loop()
        try:
            while self._inbox:
                delay = self._next_commit - loop.time()
                if delay > 0:
                    await asyncio.sleep(delay)
                batch = self._take_batch()
                pause = 0.0 if self._inbox else self._keeper.window
                await self._write(batch)
                self._next_commit = loop.time() + pause
        finally:
            self._flushing = None
            self._keeper.left(self)

    def _take_batch(self) -> list[_Received]:
        """Take the oldest updates of the inbox, few enough that merging them does not delay other work noticeably."""
        batch: list[_Received] = []
        work = 0
        while self._inbox and (not batch or work + _work(self._inbox[0]) <= _WORK_TOGETHER):
            batch.append(self._inbox.popleft())
            work += _work(batch[-1])
        self._inbox_bytes -= sum(len(received.update) for received in batch)
        self._room_in_inbox.set()
        return _worth_trying(batch)

    async def _write(self, batch: list[_Received]) -> None:
        """Write a batch without the updates that are refused; after each refusal the rest is tried again."""
        try:
            while batch and not self.over:
                author = _together([received.connection.author for received in batch])
                written = await self._file.append([received.update for received in batch], self._life, author)
                if written.refused is None:
                    if written.version is not None:
                        for writer in {received.connection: None for received in batch}:
                            writer.note(written.version)
                    self._heed(batch, written.lacking)
                    return
                index, problem = written.refused
                _log.info("update refused", project=self.project, path=self.path, reason=str(problem))
                batch[index].connection.refused = True
                batch[index].connection.close(TOO_LARGE if isinstance(problem, DocumentTooLarge) else INVALID_UPDATE)
                batch = batch[:index] + _worth_trying(batch[index + 1 :])
        except Exception as error:
            self._not_written(batch, error)

    def _not_written(self, batch: list[_Received], error: BaseException) -> None:
        """Close the connections whose updates were not written: the clients must reconnect, and their sync sends the
        updates again."""
        if isinstance(error, FileDeleted):
            self.end()
            return
        expected = isinstance(error, Problem | StorageError)
        _log.error(
            "room not written",
            project=self.project,
            path=self.path,
            reason=str(error),
            exc_info=None if expected else error,
        )
        for received in batch:
            received.connection.close(TRY_LATER)

    def _heed(self, batch: list[_Received], lacking: tuple[int, ...]) -> None:
        """Ask the clients whose updates were stored only in part for the rest."""
        incomplete = {batch[index].connection for index in lacking}
        for index, received in enumerate(batch):
            whole = index not in lacking
            received.connection.stored(received.receipt, whole=whole, is_step_2=received.is_step_2)
            if received.is_step_2 and received.connection not in incomplete:
                received.connection.questions.answered()
        for connection in incomplete:
            if not connection.questions.pending:
                connection.questions.pending = asyncio.create_task(self._ask(connection))

    async def _ask(self, connection: Member) -> None:
        """Ask a client for what the gateway is missing, with back-off: other clients may have it instead."""
        try:
            await connection.questions.due()
            if not self.over:
                await self.ask(connection)
        except (Problem, StorageError):
            connection.close(TRY_LATER)
        finally:
            connection.questions.pending = None

    async def finish(self) -> None:
        """Wait until the inbox is written."""
        while self._flushing is not None:
            await asyncio.wait([self._flushing])


def _forget(reading: dict[bytes, asyncio.Task[Answer]], state_vector: bytes, done: asyncio.Task[Answer]) -> None:
    """Forget an answer that was read; those who wait for it get it, or the error."""
    if not done.cancelled():
        done.exception()  # marks the error as seen: all who waited may have left
    if reading.get(state_vector) is done:
        del reading[state_vector]


def _together(authors: list[Author]) -> Author:
    """Return several authors as one."""

    def joined(names: Iterable[str | None]) -> str | None:
        return ", ".join(sorted({name for name in names if name is not None}))[:_LONGEST_AUTHOR] or None

    return Author(joined(each.name for each in authors), joined(each.credential for each in authors))


def _work(received: _Received) -> int:
    return _WORK_PER_UPDATE + len(received.update)


def _parts(items: list[T], most: int) -> Iterator[list[T]]:
    """Part a list into lists of at most so many."""
    return (items[start : start + most] for start in range(0, len(items), most))


def _worth_trying(received: list[_Received]) -> list[_Received]:
    """Return the updates that may be written: none of a client that has sent an invalid update."""
    return [each for each in received if not each.connection.refused]
