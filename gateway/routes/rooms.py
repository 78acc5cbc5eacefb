"""`WS P/ws/{path}`: the y-websocket protocol."""

import asyncio
import contextlib
from collections.abc import Iterator

from starlette.types import Receive, Scope, Send

from gateway.awareness import TooMuchAwareness
from gateway.problems import FileDeleted, InvalidStateVector, Problem
from gateway.room_connection import FILE_DELETED, INVALID_UPDATE, NOT_ALLOWED, TRY_LATER, Connection
from gateway.room_messages import (
    AwarenessMessage,
    MalformedMessage,
    MalformedStateVector,
    QueryAwareness,
    SyncMessage,
    awareness_message,
    parse_message,
)
from gateway.rooms import Room, Rooms
from gateway.routes.parsing import encoding_fault
from gateway.wire import path_fault, valid_project_id
from storage import StorageError

_TEXT_FRAME = 1003


class RoomEndpoint:
    """The ASGI endpoint of every room."""

    def __init__(self, rooms: Rooms) -> None:
        self._rooms = rooms

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()  # websocket.connect
        await send({"type": "websocket.accept"})
        project, path = scope["path_params"]["project"], scope["path_params"]["path"]
        connection = Connection(send, self._rooms.queue_limit)
        try:
            if valid_project_id(project) and path_fault(path) is None and encoding_fault(scope, path) is None:
                await self._serve(project, path, connection, receive)
            else:
                connection.close(NOT_ALLOWED)
                await _until_disconnected(receive)
        except asyncio.CancelledError:
            if not connection.closing:
                raise  # the server ends us, not the connection itself
        finally:
            await connection.end()

    async def _serve(self, project: str, path: str, connection: Connection, receive: Receive) -> None:
        room = None
        with _closing_on_problems(connection):
            room = await self._rooms.join(project, path, connection)
        if room is None:
            await _until_disconnected(receive)
            return
        try:
            await _greet(room, connection)
            while (message := await receive())["type"] != "websocket.disconnect":
                if connection.heeded:
                    await _take(room, connection, message.get("bytes"))
        finally:
            self._rooms.leave(room, connection)


async def _until_disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "websocket.disconnect":
        pass


async def _greet(room: Room, connection: Connection) -> None:
    with _closing_on_problems(connection):
        await room.greet(connection)


async def _take(room: Room, connection: Connection, frame: bytes | None) -> None:
    """Do what a frame of a client says."""
    if frame is None:
        connection.close(_TEXT_FRAME)
        return
    with _closing_on_problems(connection):
        match parse_message(frame):
            case SyncMessage("step_1", state_vector):
                await room.answer_step_1(connection, state_vector)
            case SyncMessage(step, update):
                await room.submit(connection, update, answer=step == "step_2")
            case AwarenessMessage(states):
                now = asyncio.get_running_loop().time()
                room.tell_awareness(room.awareness.receive(states, connection, now))
            case QueryAwareness():
                connection.enqueue(awareness_message(room.awareness.states()))


@contextlib.contextmanager
def _closing_on_problems(connection: Connection) -> Iterator[None]:
    """Whatever is wrong with one client's message ends its connection, and nobody else's."""
    try:
        yield
    except (MalformedStateVector, InvalidStateVector):
        connection.close(INVALID_UPDATE)
    except (MalformedMessage, TooMuchAwareness):
        connection.close(NOT_ALLOWED)
    except FileDeleted:
        connection.close(FILE_DELETED)
    except (Problem, StorageError):
        connection.close(TRY_LATER)
