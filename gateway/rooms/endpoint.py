"""`WS P/ws/{path}`: the y-websocket protocol."""

import asyncio
import contextlib
import functools
from collections.abc import Iterator

from starlette.datastructures import QueryParams
from starlette.types import Receive, Scope, Send

from gateway.access.access import OPEN, Access
from gateway.access.audit import Audit
from gateway.access.grants import View, is_name
from gateway.asgi.frames import frame_writer, outlet_of, take_at_once
from gateway.asgi.requests import encoding_fault
from gateway.pace import copied, with_turns
from gateway.rooms.close_codes import FILE_DELETED, FORBIDDEN, INVALID_PATH, INVALID_UPDATE, TRY_LATER, UNAUTHENTICATED
from gateway.rooms.connection import Connection
from gateway.rooms.member import Member
from gateway.rooms.room import Room
from gateway.rooms.rooms import Rooms
from gateway.watch.connected import Connected
from gateway.wire.problems import FileDeleted, Forbidden, InvalidStateVector, Problem, Unauthenticated
from gateway.wire.values import path_fault, valid_project_id
from gateway.yjs.awareness import TooMuchAwareness
from gateway.yjs.messages import (
    STATES_BYTES,
    STATES_TOGETHER,
    AwarenessMessage,
    LongUpdate,
    MalformedMessage,
    MalformedStateVector,
    ManyStates,
    QueryAwareness,
    RoomMessage,
    SyncMessage,
    UnknownMessage,
    awareness_message,
    parse_message,
)
from storage import NOBODY, Author, StorageError

_WORK_IN_A_TURN = 256 * 1024
"""Bytes of work for one client before the event loop runs other tasks: one read may return many messages, and a
short message may ask for much work."""
_WORK_PER_MESSAGE = 16 * 1024
"""The overhead of each message beyond its size and that of its answers, in bytes."""
_WORK_PER_LISTENER = 256
"""The cost of sending to one more client of the room, in bytes."""
SUBPROTOCOL = "yjs-gateway"
"""The subprotocol that a WebSocket client offers beside `bearer.<token>`, and that the gateway selects."""
_LONGEST_REASON = 123
"""Bytes (RFC 6455 §5.5.1)."""


class Work:
    """The work done for one client since the event loop last ran other tasks."""

    __slots__ = ("_done",)

    def __init__(self) -> None:
        self._done = 0

    async def done(self, size: int, listeners: int) -> None:
        """Account for a message and its answers, in bytes; once it adds up to enough, yield to the event loop."""
        self._done += _WORK_PER_MESSAGE + size + _WORK_PER_LISTENER * listeners
        if self._done >= _WORK_IN_A_TURN:
            await asyncio.sleep(0)
            self._done = 0


class RoomEndpoint:
    """The ASGI endpoint of every room."""

    def __init__(self, rooms: Rooms, connected: Connected) -> None:
        self._rooms = rooms
        self._connected = connected

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()  # websocket.connect
        chosen = {"subprotocol": SUBPROTOCOL} if SUBPROTOCOL in scope.get("subprotocols", ()) else {}
        await send({"type": "websocket.accept", **chosen})
        project, path = scope["path_params"]["project"], scope["path_params"]["path"]
        access: Access | None = scope.get("gateway.access", OPEN)
        view = None if access is None else access.view(project)
        author, read_only = author_of(scope, access, view), view is None or not view.may("write")
        subject = None if access is None else access.subject
        client = QueryParams(scope["query_string"]).get("client")
        audit: Audit | None = scope.get("gateway.audit")

        def note(version: int) -> None:
            if audit is not None:
                audit.note("write", access, project=project, path=path, version=version)

        connection = Connection(
            send,
            self._rooms.queue_limit,
            write_frame=frame_writer(scope),
            outlet=outlet_of(scope),
            author=author,
            subject=subject,
            read_only=read_only,
            note=note,
        )
        try:
            fault = _name_fault(scope, project, path)
            if fault is not None:
                connection.close(INVALID_PATH, fault)
            elif access is None:
                connection.close(*refusal_of(scope))
            elif view is None or not view.sees(path):
                connection.close(FORBIDDEN, "the credential does not reach that far")
            else:
                await self._serve_while_it_counts(access, project, path, client, connection, scope, receive)
                return
            await _until_disconnected(receive)
        except asyncio.CancelledError:
            if not connection.closing:
                raise  # the server is stopping; the connection did not cancel itself
        finally:
            self._rooms.closes[connection.close_code] += 1
            await connection.end()

    async def _serve_while_it_counts(
        self,
        access: Access,
        project: str,
        path: str,
        client: str | None,
        connection: Connection,
        scope: Scope,
        receive: Receive,
    ) -> None:
        def end() -> None:
            connection.close(UNAUTHENTICATED, access.ended or "expired")

        access.watch(end)
        try:
            with self._connected.held(project, client):
                await self._serve(access, project, path, connection, scope, receive)
        finally:
            access.unwatch(end)

    async def _serve(
        self, access: Access, project: str, path: str, connection: Connection, scope: Scope, receive: Receive
    ) -> None:
        room = None
        with closing_on_problems(connection):
            room = await self._rooms.join(project, path, connection)
        if room is None:
            await _until_disconnected(receive)
            return
        try:
            await _greet(room, connection)
            take_at_once(scope, functools.partial(self._take_at_once, access, room, connection))
            work, turn = Work(), self._rooms.turn
            while (message := await receive())["type"] != "websocket.disconnect":
                await turn.take()
                frame, sent = message.get("bytes") or b"", connection.sent
                if connection.accepts_updates and access.counts:
                    await self._take(room, connection, frame)
                turn.note()
                size = len(frame)
                del message, frame  # it may be large, and the next one may never come
                await work.done(size + connection.sent - sent, len(room.connections))
            await turn.take()
        finally:
            self._rooms.leave(room, connection)

    async def _take(self, room: Room, connection: Connection, frame: bytes) -> None:
        """Handle a frame of a client. Messages outside the protocol are ignored: an application may send messages that
        only its own clients understand, and the edits after a malformed message still count."""
        try:
            with closing_on_problems(connection):
                await heed(room, connection, parse_message(frame))
        except (UnknownMessage, MalformedMessage, TooMuchAwareness):
            self._rooms.ignored += 1

    def _take_at_once(self, access: Access, room: Room, connection: Connection, frame: bytes) -> bool:
        """Handle a frame of a client where it is read, as nearly all frames can be: the task that `receive` would wake
        is three turns of the loop away from the disk. False: nothing was done, and `_take` must."""
        if not (connection.accepts_updates and access.counts):
            return True
        try:
            return heed_at_once(room, connection, parse_message(frame))
        except MalformedStateVector:
            return False
        except (UnknownMessage, MalformedMessage, TooMuchAwareness):
            self._rooms.ignored += 1
            return True


def refusal_of(scope: Scope) -> tuple[int, str]:
    """Return the close code and the reason for a client whose credential is not valid."""
    problem: Problem = scope.get("gateway.refusal") or Unauthenticated()
    code = TRY_LATER
    if isinstance(problem, Unauthenticated | Forbidden):
        code = UNAUTHENTICATED if isinstance(problem, Unauthenticated) else FORBIDDEN
    return code, problem.detail.encode()[:_LONGEST_REASON].decode(errors="ignore")


def author_of(scope: Scope, access: Access | None, view: View | None) -> Author:
    """Return the author of edits: the subject, or whom an application's backend or a proxy names."""
    if access is None or view is None:
        return NOBODY
    named = next((value for name, value in scope["headers"] if name == b"x-author"), None)
    text = "" if named is None or not view.may("admin") else named.decode("utf-8", "replace")
    return Author(text if is_name(text) else access.subject, access.credential)


def _name_fault(scope: Scope, project: str, path: str) -> str | None:
    if not valid_project_id(project):
        return "not a project"
    fault = path_fault(path) or encoding_fault(scope, path)
    return None if fault is None else f"not a path: {fault}"


async def _until_disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "websocket.disconnect":
        pass


async def _greet(room: Room, connection: Connection) -> None:
    with closing_on_problems(connection):
        await room.greet(connection)


async def heed(room: Room, connection: Member, message: RoomMessage) -> None:
    """Handle a message that concerns the client's document."""
    if heed_at_once(room, connection, message):
        return
    match message:
        case SyncMessage("step_1", state_vector):
            await room.answer_step_1(connection, state_vector)
        case SyncMessage(step, update):
            await room.submit(connection, update, is_step_2=step == "step_2")
        case LongUpdate(step, body):
            await room.submit(connection, await copied(body), is_step_2=step == "step_2")
        case ManyStates():
            async for part in with_turns(message.parts(), 1):
                room.presence.receive(part.states, connection, subject=connection.subject)
        case QueryAwareness():
            await room.introduce(connection)


def heed_at_once(room: Room, connection: Member, message: RoomMessage) -> bool:
    """Handle a message if nothing has to be waited for; False: nothing was done, and `heed` must."""
    match message:
        case SyncMessage("update", update):
            return room.submit_at_once(connection, update)
        case SyncMessage() | LongUpdate() | ManyStates():
            return False
        case AwarenessMessage(states):
            room.presence.receive(states, connection, subject=connection.subject)
        case QueryAwareness():
            awareness = room.presence.awareness
            if len(awareness) > STATES_TOGETHER or awareness.size > STATES_BYTES:
                return False
            connection.enqueue(awareness_message(awareness.states()))
    return True


@contextlib.contextmanager
def closing_on_problems(connection: Member) -> Iterator[None]:
    """Close the client's connection, and no other, if a message of the client causes a problem."""
    try:
        yield
    except (MalformedStateVector, InvalidStateVector):
        connection.close(INVALID_UPDATE, "an invalid state vector")
    except FileDeleted:
        connection.close(FILE_DELETED)
    except (Problem, StorageError):
        connection.close(TRY_LATER)
