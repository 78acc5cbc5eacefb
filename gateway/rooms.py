"""y-websocket rooms over files: an update is stored before anybody is sent it.

A room holds connections, their awareness, and what they sent that is not written yet; the document lives in
`documents`. What is committed comes back from storage, whichever door it came through, and goes out in order.
"""

import asyncio
from collections import deque

import structlog
from starlette.types import Send

from gateway.awareness import Awareness
from gateway.conditional import Preconditions
from gateway.documents import Documents
from gateway.files import Files
from gateway.problems import FileDeleted, FileNotFound, MissingPredecessors, Problem, ProjectNotFound
from gateway.room_messages import AwarenessState, awareness_message, sync_step_1, sync_step_2, sync_update
from gateway.updates import EMPTY_UPDATE
from storage import Commit, Committed, FileHead, Storage, StorageError

_log = structlog.get_logger("gateway.rooms")

FILE_DELETED, INVALID_UPDATE, NOT_ALLOWED, TOO_LARGE, RESTART, TRY_LATER = 4404, 4422, 1008, 1009, 1012, 1013

_CLOSE_S = 5.0
"""How long a connection that does not read may take to hear why it is closed."""
_ASK_AGAIN_S = 1.0
"""How often at most a client with a gap is asked for what is missing."""
_AWARENESS_CHECK_S = 10.0


class Connection:
    """One client of a room: what waits to be sent to it. `run` sends it; the task that opened it receives."""

    __slots__ = ("_bytes", "_closing", "_limit", "_queue", "_receiver", "_send", "_wake", "asked_at", "held")

    def __init__(self, send: Send, limit: int) -> None:
        self._send = send
        self._limit = limit
        self._receiver = asyncio.current_task()
        self._queue: deque[bytes] = deque()
        self._bytes = 0
        self._closing = 0
        self._wake = asyncio.Event()
        self.held: list[tuple[int, bytes]] | None = []
        """Versions committed before the client was sent the document: in order, or a replica would have holes."""
        self.asked_at = float("-inf")

    @property
    def closing(self) -> bool:
        return self._closing != 0

    def enqueue(self, message: bytes) -> None:
        """Send a message after those that wait. Past the bound the client is too slow, and is closed."""
        if self._closing:
            return
        if self._queue and self._bytes + len(message) > self._limit:
            self.close(TRY_LATER)
            return
        self._queue.append(message)
        self._bytes += len(message)
        self._wake.set()

    def close(self, code: int) -> None:
        """Send nothing more, and end the connection. The first code counts."""
        if not self._closing:
            self._closing = code
            self._queue.clear()
            self._wake.set()
            asyncio.get_running_loop().call_later(_CLOSE_S, self._give_up)

    def _give_up(self) -> None:
        """The client does not even take the close frame: end it without."""
        if self._receiver is not None:
            self._receiver.cancel()

    def ended(self) -> None:
        """Note that the task that receives has ended."""
        self._receiver = None

    async def run(self) -> None:
        """Send what is queued until the connection is to be closed; then close it."""
        try:
            while not self._closing:
                while self._queue:
                    message = self._queue.popleft()
                    self._bytes -= len(message)
                    await self._send({"type": "websocket.send", "bytes": message})
                if not self._closing:
                    await self._wake.wait()
                    self._wake.clear()
            await self._send({"type": "websocket.close", "code": self._closing})
        except OSError:
            self._closing = self._closing or 1006  # the client has left; the receiver hears it as well


class Room:
    """One file that clients are connected to."""

    def __init__(self, rooms: "Rooms", project: str, path: str) -> None:
        self._rooms = rooms
        self.project = project
        self.path = path
        self.connections: dict[Connection, None] = {}
        self.awareness = Awareness()
        self.incarnation: str | None = None
        self._inbox: list[tuple[Connection, bytes]] = []
        self._inbox_bytes = 0
        self._room_in_inbox = asyncio.Event()
        self._flushing: asyncio.Task[None] | None = None
        self._next_commit = 0.0

    @property
    def idle(self) -> bool:
        """Whether nobody is connected and nothing waits to be written."""
        return not self.connections and self._flushing is None

    # What connections say

    async def submit(self, connection: Connection, update: bytes) -> None:
        """Take an update of a client, to be written soon. Waits while too much is waiting already."""
        if update == EMPTY_UPDATE:
            return
        while self._inbox and self._inbox_bytes + len(update) > self._rooms.inbox_limit:
            self._room_in_inbox.clear()
            await self._room_in_inbox.wait()
        self._inbox.append((connection, update))
        self._inbox_bytes += len(update)
        if self._flushing is None:
            self._flushing = asyncio.create_task(self._flush())

    def tell_awareness(self, states: tuple[AwarenessState, ...]) -> None:
        """Relay awareness to everybody, those who sent it included: it shows them that the connection lives."""
        if states:
            message = awareness_message(states)
            for connection in self.connections:
                connection.enqueue(message)

    async def greet(self, connection: Connection) -> None:
        """Ask a new client for what the gateway lacks, and tell it who is there."""
        connection.enqueue(sync_step_1(await self._rooms.state_vector(self)))
        if len(self.awareness):
            connection.enqueue(awareness_message(self.awareness.states()))

    async def answer_step_1(self, connection: Connection, state_vector: bytes) -> None:
        """Send a client what it lacks, and from then on every version after that."""
        update, version = await self._rooms.read_lacking(self, state_vector)
        connection.enqueue(sync_step_2(update))
        held, connection.held = connection.held or [], None
        for held_version, message in held:
            if held_version > version:
                connection.enqueue(message)

    # What is committed

    def committed(self, head: FileHead, update: bytes | None) -> None:
        """Send a new version to everybody; a deletion ends the room."""
        if head.deleted or update is None:
            self.close_all(FILE_DELETED)
            return
        self.incarnation = head.incarnation
        message = sync_update(update)
        for connection in self.connections:
            if connection.held is None:
                connection.enqueue(message)
            else:
                connection.held.append((head.version, message))

    def close_all(self, code: int) -> None:
        for connection in self.connections:
            connection.close(code)

    async def _flush(self) -> None:
        """Write what waits: at once after a pause, else what came within a window as one version."""
        loop = asyncio.get_running_loop()
        try:
            while self._inbox:
                await asyncio.sleep(max(0.0, self._next_commit - loop.time()))
                batch, self._inbox, self._inbox_bytes = self._inbox, [], 0
                self._room_in_inbox.set()
                await self._write(batch)
                self._next_commit = loop.time() + self._rooms.window
        finally:
            self._flushing = None
            self._rooms.left(self)

    async def _write(self, batch: list[tuple[Connection, bytes]]) -> None:
        try:
            refused = await self._rooms.append(self, [update for _, update in batch])
        except FileDeleted:
            self.close_all(FILE_DELETED)
            return
        except (Problem, StorageError) as error:
            # Not written: the clients must connect again, and their sync sends it again.
            _log.warning("room not written", project=self.project, path=self.path, reason=str(error))
            for connection, _ in batch:
                connection.close(TRY_LATER)
            return
        for index, problem in refused.items():
            connection = batch[index][0]
            if isinstance(problem, MissingPredecessors):
                self._ask_for_missing(connection, problem.server_state)
            else:
                connection.close(INVALID_UPDATE)

    def _ask_for_missing(self, connection: Connection, state_vector: bytes) -> None:
        now = asyncio.get_running_loop().time()
        if now - connection.asked_at >= _ASK_AGAIN_S:
            connection.asked_at = now
            connection.enqueue(sync_step_1(state_vector))

    async def finish(self) -> None:
        """Wait until nothing waits to be written."""
        while self._flushing is not None:
            await asyncio.wait([self._flushing])


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
        self.draining = False
        storage.listen(self._committed)

    def __len__(self) -> int:
        return len(self._rooms)

    async def join(self, project: str, path: str, connection: Connection) -> Room | None:
        """Put a connection into the room of a file; None (and the connection closes) where there is no room for it."""
        if self.draining or self.connections >= self._connection_limit:
            connection.close(RESTART if self.draining else TRY_LATER)
            return None
        room = self._rooms.get((project, path))
        if room is None:
            room = self._rooms[project, path] = Room(self, project, path)
        room.connections[connection] = None  # before the file is read: nothing that is committed meanwhile is missed
        self.connections += 1
        head = await self._storage.file_head(project, path)
        if head is not None and head.deleted:
            connection.close(FILE_DELETED)
            self.leave(room, connection)
            return None
        if head is not None:
            room.incarnation = head.incarnation
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
        key = (room.project, room.path)
        if room.idle and self._rooms.get(key) is room:
            del self._rooms[key]
            self._documents.release(*key)

    def _committed(self, batch: tuple[Commit, ...]) -> None:
        for committed in batch:
            if isinstance(committed, Committed):
                room = self._rooms.get((committed.project.name, committed.head.path))
                if room is not None:
                    room.committed(committed.head, committed.update)

    async def append(self, room: Room, updates: list[bytes]) -> dict[int, Problem]:
        """Write updates as one version; returns what was refused, by its place.

        Raises:
            FileDeleted, another Problem, StorageError: nothing was written.
        """
        life = Preconditions(incarnation=room.incarnation, unless_deleted=True)
        return await self._files.append_together(room.project, room.path, updates, life)

    async def state_vector(self, room: Room) -> bytes:
        return await self._files.state_vector(room.project, room.path)

    async def read_lacking(self, room: Room, state_vector: bytes) -> tuple[bytes, int]:
        """What a replica lacks of the file, and the version that it has then."""
        try:
            content = await self._files.read_lacking(room.project, room.path, state_vector)
        except (FileNotFound, ProjectNotFound):
            return EMPTY_UPDATE, 0
        return content.update, content.version

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
