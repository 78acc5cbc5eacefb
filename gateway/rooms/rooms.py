"""y-websocket rooms over files: an update is stored before anybody is sent it.

A room holds connections, their awareness, and what they sent that is not written yet; the document lives in
`documents`. What is committed comes back from storage, whichever door it came through, and goes out in order.
"""

import asyncio

from gateway.files.documents import Documents
from gateway.files.store import Files
from gateway.rooms.answers import Answers, Turns
from gateway.rooms.close_codes import RESTART, TRY_LATER
from gateway.rooms.connection import Connection
from gateway.rooms.file import RoomFile
from gateway.rooms.room import Room
from gateway.yjs.messages import AwarenessMessage, AwarenessState, awareness_message, parse_message
from storage import Commit, Committed, ProjectHead, Storage

_AWARENESS_CHECK_S = 10.0
_ANSWERS_BYTES = 32 * 2**20
_WHO_IS_THERE = b"?"
"""What a gateway that opens a room asks the others; no message of the protocol is so short."""


def _topic(room: Room) -> str:
    """The name of a room between gateways. No id of a project has a slash."""
    return f"{room.project}/{room.path}"


class Rooms:
    """The rooms of all projects.

    Args:
        window: seconds; what a room receives within it becomes one version.
        queue_limit: bytes that may wait to be sent to one connection.
        inbox_limit: bytes that may wait to be written for one room.
        connection_limit: the most connections in all rooms.
    """

    def __init__(
        self,
        storage: Storage,
        files: Files,
        documents: Documents,
        *,
        window: float,
        queue_limit: int,
        inbox_limit: int,
        connection_limit: int,
    ) -> None:
        self._files = files
        self._documents = documents
        self._storage = storage
        self._rooms: dict[tuple[str, str], Room] = {}
        self._connection_limit = connection_limit
        self.window = window
        self.queue_limit = queue_limit
        self.inbox_limit = inbox_limit
        self.connections = 0
        self.ignored = 0
        """How many messages were none that is understood."""
        self.answers: Answers[Room] = Answers(_ANSWERS_BYTES)
        self.turns = Turns()
        self.draining = False
        self._gateways: dict[str, str] = {}
        """Other gateways whose clients are in rooms here: each owns what it says."""
        storage.listen(self._committed, self._missed)
        storage.hear(self._hear)

    def __len__(self) -> int:
        return len(self._rooms)

    async def join(self, project: str, path: str, connection: Connection) -> Room | None:
        """Put a connection into the room of a file; None (and the connection closes) where there is no room for it."""
        if self.draining or self.connections >= self._connection_limit:
            connection.close(RESTART if self.draining else TRY_LATER)
            return None
        room = self._rooms.get((project, path))
        if room is None:
            room = self._rooms[project, path] = Room(self, RoomFile(self._files, project, path))
            if self._storage.shared:
                room.followed = asyncio.ensure_future(self._storage.follow(project))
                self._storage.tell(_topic(room), _WHO_IS_THERE)
        room.connections[connection] = None  # before the file is read: nothing that is committed meanwhile is missed
        self.connections += 1
        try:
            if room.followed is not None:
                await asyncio.shield(room.followed)
            head = await self._storage.file_head(project, path)
        except BaseException:
            self.leave(room, connection)
            raise
        if not room.begin(head):  # of another life: that the one of this room is over will be heard of in a moment
            connection.close(TRY_LATER)
            self.leave(room, connection)
            return None
        return room

    def leave(self, room: Room, connection: Connection) -> None:
        """Take a connection out of its room."""
        if room.connections.pop(connection, connection) is connection:
            return
        self.connections -= 1
        room.tell_awareness(room.awareness.withdraw(connection))
        self.left(room)

    def left(self, room: Room) -> None:
        """Forget a room, and its document, when the last client has left and all is written."""
        if room.idle and self.forget(room):
            self._documents.release(room.project, room.path)

    def forget(self, room: Room) -> bool:
        """Let the next client of the file have a room of its own; False if that is so already."""
        self.answers.forget(room)
        key = (room.project, room.path)
        if self._rooms.get(key) is not room:
            return False
        del self._rooms[key]
        if room.followed is not None:
            room.followed.add_done_callback(lambda done: self._unfollow(room.project, done))
        return True

    def _unfollow(self, project: str, done: asyncio.Future[ProjectHead | None]) -> None:
        if not done.cancelled() and done.exception() is None:
            self._storage.unfollow(project)

    def relay(self, room: Room, states: tuple[AwarenessState, ...]) -> None:
        """Tell the other gateways what clients of this one say of themselves."""
        if self._storage.shared:
            for state in states:
                self._storage.tell(_topic(room), awareness_message((state,)))

    def _hear(self, gateway: str, topic: str, message: bytes) -> None:
        """Take what another gateway says of its clients; with no topic, that it is no more."""
        owner = self._gateways.setdefault(gateway, gateway)
        if not topic:
            del self._gateways[gateway]
            for room in self._rooms.values():
                room.tell_awareness(room.awareness.withdraw(owner), relayed=True)
            return
        project, _, path = topic.partition("/")
        room_ = self._rooms.get((project, path))
        if room_ is None:
            return
        if message == _WHO_IS_THERE:
            self.relay(room_, room_.awareness.states_but(self._gateways.values()))
            return
        said = parse_message(message)
        if isinstance(said, AwarenessMessage):
            now = asyncio.get_running_loop().time()
            room_.tell_awareness(room_.awareness.receive(said.states, owner, now, bounded=False), relayed=True)

    def _committed(self, batch: tuple[Commit, ...]) -> None:
        for committed in batch:
            if isinstance(committed, Committed):
                room = self._rooms.get((committed.project.name, committed.head.path))
                if room is None:
                    continue
                if committed.update is None and not committed.head.deleted:  # too much was stored by others to be told
                    self._missed((committed,))
                else:
                    room.committed(committed.head, committed.update)

    def _missed(self, batch: tuple[Commit, ...]) -> None:
        """Have the clients of a batch that was not wholly heard of come again, into a room that knows nothing yet."""
        for committed in batch:
            if isinstance(committed, Committed):
                room = self._rooms.get((committed.project.name, committed.head.path))
                if room is not None:
                    self.forget(room)
                    room.close_all(TRY_LATER)

    async def expire_awareness(self) -> None:
        """Withdraw, now and then, the awareness of clients that are silent. Runs until cancelled."""
        while True:
            await asyncio.sleep(_AWARENESS_CHECK_S)
            now = asyncio.get_running_loop().time()
            for room in list(self._rooms.values()):
                room.tell_awareness(room.awareness.expire(now))

    def drain(self) -> None:
        """Send every client away, to another server or to this one when it is back."""
        self.draining = True
        for room in self._rooms.values():
            room.close_all(RESTART)

    async def close(self) -> None:
        """Write what was received."""
        self.drain()
        for room in list(self._rooms.values()):
            await room.finish()
