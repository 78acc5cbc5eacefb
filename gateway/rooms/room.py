"""One room: what its connections say, and what is committed of its file."""

import asyncio
from collections import deque
from typing import NamedTuple, Protocol

import structlog

from gateway.asgi import binary_frame
from gateway.files.past_incarnations import has_past
from gateway.files.preconditions import Preconditions
from gateway.presence.presence import Presence
from gateway.rooms.answers import Answers, Turns
from gateway.rooms.close_codes import FILE_DELETED, INVALID_UPDATE, TOO_LARGE, TRY_LATER
from gateway.rooms.file import RoomFile
from gateway.rooms.member import Member
from gateway.wire.problems import DocumentTooLarge, FileDeleted, Problem
from gateway.yjs.messages import (
    AwarenessState,
    awareness_message,
    sync_step_2,
    sync_update,
)
from gateway.yjs.stored_form import to_wire
from gateway.yjs.surrogates import read_row
from gateway.yjs.updates import EMPTY_UPDATE, InvalidUpdate
from storage import FileHead, ProjectHead, StorageError

_log = structlog.get_logger("gateway.rooms")

_WORK_TOGETHER = 256 * 1024
"""How much is merged into one version at most, in bytes; what takes a moment of the loop."""
_READ_ONLY = "this file may be read only"
_LONGEST_AUTHOR = 200
_WORK_PER_UPDATE = 512
"""What each update takes beside its bytes, as so many more of them."""


class _Received(NamedTuple):
    """An update of a client."""

    connection: Member
    update: bytes
    receipt: int
    """What its client is told of it once it is stored."""
    is_step_2: bool
    """Whether it answers a sync step 1: it holds all that the client has and the gateway had not."""


class Keeper(Protocol):
    """Who keeps the rooms: what all rooms have together, and who is told that a room is at its end."""

    @property
    def window(self) -> float:
        """Seconds; what a room receives within them becomes one version."""

    @property
    def inbox_limit(self) -> int:
        """Bytes that may wait to be written for one room."""

    @property
    def answers(self) -> "Answers[Room]": ...

    @property
    def turns(self) -> Turns:
        """For what walks over a whole document."""

    def left(self, room: "Room") -> None:
        """A client has left, or all is written."""

    def forget(self, room: "Room") -> bool:
        """Let the next client of the file have a room of its own; False if that is so already."""


class Room:
    """One file that clients are connected to."""

    def __init__(self, keeper: Keeper, file: RoomFile, presence: Presence) -> None:
        self._keeper = keeper
        self._file = file
        self.project = file.project
        self.path = file.path
        self.connections: dict[Member, None] = {}
        self.presence = presence.join(file.project, file.path, self.tell_awareness)
        self.incarnation: str | None = None
        self.tombstone: int | None = None
        """The version of the tombstone that was there when the room was opened, 0 if none was: on this one a new
        incarnation of the file may begin here. None: the file was not looked at yet."""
        self.has_past = False
        """Whether the file had an incarnation before, of which somebody may bring something."""
        self.followed: asyncio.Future[ProjectHead | None] | None = None
        """Done when what other gateways store is heard of here; None: there are no others."""
        self._version = 0
        """The newest version that was heard of."""
        self.over = False
        """Whether the file was deleted: what comes in is not written, not even if there is a new file of this name."""
        self._inbox: deque[_Received] = deque()
        self._inbox_bytes = 0
        self._room_in_inbox = asyncio.Event()
        self._flushing: asyncio.Task[None] | None = None
        self._next_commit = 0.0

    @property
    def idle(self) -> bool:
        """Whether nobody is connected and nothing waits to be written."""
        return not self.connections and self._flushing is None

    @property
    def _life(self) -> Preconditions:
        """The incarnation of the file that the room is of."""
        return Preconditions(incarnation=self.incarnation, tombstone=self.tombstone or 0)

    def begin(self, head: FileHead | None) -> bool:
        """Note the incarnation that the file has, or may begin; False if the room is one of another incarnation."""
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

    # What connections say

    async def submit(self, connection: Member, update: bytes, *, is_step_2: bool) -> None:
        """Take an update of a client, to be written soon. Waits while too much is waiting already."""
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
        while self._inbox and self._inbox_bytes + len(update) > self._keeper.inbox_limit:
            self._room_in_inbox.clear()
            await self._room_in_inbox.wait()
        if self.over:
            return
        self._inbox.append(_Received(connection, update, receipt, is_step_2))
        self._inbox_bytes += len(update)
        if self._flushing is None:
            self._flushing = asyncio.create_task(self._flush())

    async def _refuse_addition(self, connection: Member, update: bytes) -> bool:
        """Refuse what a client adds that may not. What adds nothing, as the answer of a client that is up to date, is
        right: False."""
        try:
            if not await self._file.lacks(update):
                return False
            connection.refuse_addition(_READ_ONLY)
        except InvalidUpdate:
            connection.close(INVALID_UPDATE)
        return True

    def tell_awareness(self, states: tuple[AwarenessState, ...]) -> None:
        """Relay awareness to everybody, those who sent it included: it shows them that the connection lives."""
        message = awareness_message(states)
        frame = binary_frame(message)
        for connection in self.connections:
            connection.enqueue(message, frame)

    def tell_stateless(self, payload: str) -> None:
        """Relay what is of no document to those whose protocol has such messages."""
        for connection in self.connections:
            connection.tell_stateless(payload)

    async def greet(self, connection: Member) -> None:
        """Ask a new client for what the gateway lacks, and tell it who is there."""
        await self.ask(connection)
        self.introduce(connection)

    async def ask(self, connection: Member) -> None:
        """Ask a client for what the gateway lacks."""
        connection.ask(await self._file.state_vector())

    def introduce(self, connection: Member) -> None:
        """Tell a new client who is there."""
        states = self.presence.awareness.states()
        if states:
            connection.enqueue(awareness_message(states))

    async def answer_step_1(self, connection: Member, state_vector: bytes) -> None:
        """Send a client what it lacks, and from then on every version after that."""
        if self.has_past and await self._file.is_replica_of_past(state_vector):
            connection.close(FILE_DELETED, "it holds what is of an earlier incarnation of the file")
            return
        known = self._keeper.answers.find(self, state_vector)
        if known is None:
            await self._keeper.turns.take()
        connection.hold()
        message, version = known or await self._read_answer(state_vector)
        connection.enqueue(message)
        connection.release(version)

    async def _read_answer(self, state_vector: bytes) -> tuple[bytes, int]:
        update, version = await self._file.read_lacking(state_vector)
        message = sync_step_2(update)
        if version >= self._version:
            self._keeper.answers.keep(self, state_vector, message, version)
        return message, version

    # What is committed

    def committed(self, head: FileHead, update: bytes | None) -> None:
        """Send a new version to everybody; a deletion ends the room."""
        if head.deleted or update is None:
            if head.version != self.tombstone:
                self.end()
            return
        self.has_past = has_past(head)
        self.incarnation, self._version = head.incarnation, head.version
        self._keeper.answers.forget(self)
        message = sync_update(to_wire(read_row(update)[0]))
        frame = binary_frame(message)
        for connection in self.connections:
            connection.deliver(head.version, message, frame)

    def end(self) -> None:
        """Send everybody away for good: the file was deleted."""
        self.over = True
        self._inbox.clear()
        self._inbox_bytes = 0
        self._room_in_inbox.set()
        self._keeper.forget(self)
        self.close_all(FILE_DELETED)

    def close_all(self, code: int) -> None:
        for connection in self.connections:
            connection.close(code)

    async def _flush(self) -> None:
        """Write what waits: at once after a pause, else what came within a window as one version."""
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
        """The oldest of what waits: not so much that everybody else would feel the time that it takes to merge it."""
        batch: list[_Received] = []
        work = 0
        while self._inbox and (not batch or work + _work(self._inbox[0]) <= _WORK_TOGETHER):
            batch.append(self._inbox.popleft())
            work += _work(batch[-1])
        self._inbox_bytes -= sum(len(received.update) for received in batch)
        self._room_in_inbox.set()
        return _worth_trying(batch)

    async def _write(self, batch: list[_Received]) -> None:
        """Write a batch, without those that are refused. Each time the rest is tried anew."""
        try:
            while batch and not self.over:
                authors = {author for received in batch if (author := received.connection.author) is not None}
                author = ", ".join(sorted(authors))[:_LONGEST_AUTHOR] or None
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
        except FileDeleted:
            self.end()
        except Exception as error:
            # Not written: the clients must connect again, and their sync sends it again.
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
        """Ask for the rest those of whose updates a part was left out."""
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
        """Ask a client for what the gateway lacks. Later again, if the client cannot tell: others may bring it."""
        try:
            await connection.questions.due()
            if not self.over:
                await self.ask(connection)
        except (Problem, StorageError):
            connection.close(TRY_LATER)
        finally:
            connection.questions.pending = None

    async def finish(self) -> None:
        """Wait until nothing waits to be written."""
        while self._flushing is not None:
            await asyncio.wait([self._flushing])


def _work(received: _Received) -> int:
    return _WORK_PER_UPDATE + len(received.update)


def _worth_trying(received: list[_Received]) -> list[_Received]:
    """What may be written: nothing of a client that sent what is no update."""
    return [each for each in received if not each.connection.refused]
