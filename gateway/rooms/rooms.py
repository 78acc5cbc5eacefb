"""y-websocket rooms over files: an update is stored before it is sent to any client.

A room holds connections, their awareness, and the updates that they sent and that are not written yet; the document
lives in `documents`. Commits come back from storage, through whichever door they were made, and go out in order.
"""

import asyncio
from collections import Counter
from collections.abc import Iterable

import structlog

from gateway.files.documents import Documents
from gateway.files.store import Files
from gateway.presence.presence import Presence
from gateway.rooms.answers import Answers, Turns
from gateway.rooms.close_codes import RESTART, TRY_LATER
from gateway.rooms.file import RoomFile
from gateway.rooms.member import Member
from gateway.rooms.room import Room, Untold
from gateway.shared_turn import Pieces, SharedTurn
from storage import Commit, Committed, ErasedProject, ProjectHead, Storage

_log = structlog.get_logger("gateway.rooms")

_ANSWERS_BYTES = 32 * 2**20
_BROADCAST = "broadcast:"
"""Begins the topic of a broadcast between gateways. No project id contains a colon, so it is none of presence."""


class Rooms:
    """The rooms of all projects.

    Args:
        window: seconds; what a room receives within this window becomes one version.
        queue_limit: bytes that may wait to be sent to one connection.
        inbox_limit: bytes that may wait to be written for one room.
        connection_limit: the most connections in all rooms.
        turn: what all rooms together may do in one turn of the event loop.
    """

    def __init__(
        self,
        storage: Storage,
        files: Files,
        documents: Documents,
        presence: Presence,
        *,
        window: float,
        queue_limit: int,
        inbox_limit: int,
        connection_limit: int,
        turn: SharedTurn,
    ) -> None:
        self._files = files
        self._documents = documents
        self._storage = storage
        self._presence = presence
        self._rooms: dict[tuple[str, str], Room] = {}
        self._connection_limit = connection_limit
        self.window = window
        self.queue_limit = queue_limit
        self.inbox_limit = inbox_limit
        self.connections = 0
        self.ignored = 0
        """How many messages could not be understood."""
        self.closes: Counter[int] = Counter()
        """How many WebSockets have ended, by the code with which the gateway closed them; 0: the client left."""
        self.answers: Answers[Room] = Answers(_ANSWERS_BYTES)
        self.turns = Turns()
        self.turn = turn
        self.untold = Untold()
        self.draining = False
        storage.listen(self._committed, self._missed, first=True)  # readers are told of a keystroke as soon as can be
        storage.hear(self._hear)

    @property
    def full(self) -> bool:
        """Whether the connection limit is reached."""
        return self.connections >= self._connection_limit

    def __len__(self) -> int:
        return len(self._rooms)

    async def join(self, project: str, path: str, connection: Member) -> Room | None:
        """Add a connection to the room of a file; return None and close the connection if it cannot be admitted."""
        if self.draining or self.full:
            connection.close(RESTART if self.draining else TRY_LATER)
            return None
        room = self._rooms.get((project, path))
        if room is None or room.over:
            room = self._rooms[project, path] = Room(self, RoomFile(self._files, project, path), self._presence)
            _log.debug("room opened", project=project, path=path)
            if self._storage.shared:
                room.followed = asyncio.ensure_future(self._storage.follow(project))
        room.add(connection)  # before the file is read, so that no commit is missed meanwhile
        self.connections += 1
        try:
            if room.followed is not None:
                await asyncio.shield(room.followed)
            head = await self._storage.file_head(project, path)
        except BaseException:
            self.leave(room, connection)
            raise
        if not room.begin(head):  # of another incarnation: the end of this room's will be announced in a moment
            connection.close(TRY_LATER)
            self.leave(room, connection)
            return None
        return room

    def leave(self, room: Room, connection: Member) -> None:
        """Take a connection out of its room."""
        if not room.remove(connection):
            return
        self.connections -= 1
        room.presence.withdraw(connection)
        self.left(room)

    def broadcast(self, room: Room, payload: str) -> None:
        """Relay a message that belongs to no document to the clients of a room, at every gateway of the database."""
        room.tell_stateless(payload)
        if self._storage.shared:
            self._storage.tell(f"{_BROADCAST}{room.project}/{room.path}", payload.encode())

    def _hear(self, gateway: str, topic: str, message: bytes) -> None:
        if topic.startswith(_BROADCAST):
            project, _, path = topic.removeprefix(_BROADCAST).partition("/")
            room = self._rooms.get((project, path))
            if room is not None:
                room.tell_stateless(message.decode())

    def left(self, room: Room) -> None:
        """Forget a room and release its document once the last client has left and everything is written."""
        if room.idle and self.forget(room):
            self._documents.release(room.project, room.path)

    def forget(self, room: Room) -> bool:
        """Forget a room, so that the next client of the file gets a new one; False if the room was forgotten before."""
        self.answers.forget(room)
        if room.forgotten:
            return False
        room.forgotten = True
        key = (room.project, room.path)
        if self._rooms.get(key) is room:
            del self._rooms[key]
        _log.debug("room closed", project=room.project, path=room.path)
        self._presence.part(room.presence, room.tell_awareness)
        if room.followed is not None:
            room.followed.add_done_callback(lambda done: self._unfollow(room.project, done))
        return True

    def _unfollow(self, project: str, done: asyncio.Future[ProjectHead | None]) -> None:
        if not done.cancelled() and done.exception() is None:
            self._storage.unfollow(project)

    def _committed(self, batch: tuple[Commit, ...]) -> None:
        """Note what is new in each room, then tell the rooms: versions of one batch are sent together."""
        news: dict[Room, None] = {}
        for committed in batch:
            if isinstance(committed, ErasedProject):
                erased = [room for room in self._rooms.values() if room.project == committed.project.name]
                for room in erased:
                    room.over = True
                self.turn.run(_end(erased))
            elif isinstance(committed, Committed):
                concerned = self._rooms.get((committed.project.name, committed.head.path))
                if concerned is None or concerned.over:
                    continue
                if committed.update is None and not committed.head.deleted:  # too much was stored to announce it all
                    self._missed((committed,))
                else:
                    concerned.committed(committed.head, committed.update)
                    news[concerned] = None
        for room in news:
            room.tell()

    def _missed(self, batch: tuple[Commit, ...]) -> None:
        """Have the clients of files whose commits were missed reconnect, into a new room without any state."""
        for committed in batch:
            if isinstance(committed, Committed):
                room = self._rooms.get((committed.project.name, committed.head.path))
                if room is not None:
                    self.forget(room)
                    room.close_all(TRY_LATER)

    def drain(self) -> None:
        """Close every connection, so that clients reconnect to another server, or to this one after its restart."""
        self.draining = True
        for room in self._rooms.values():
            room.close_all(RESTART)

    async def close(self) -> None:
        """Write every update that was received."""
        self.drain()
        for room in list(self._rooms.values()):
            await room.finish()


def _end(rooms: Iterable[Room]) -> Pieces:
    """End rooms whose project was deleted."""
    for room in rooms:
        room.end()
        yield 0.0
    return 0.0
