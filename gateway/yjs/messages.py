"""Messages of the y-websocket protocol (y-protocols: `sync.js`, `awareness.js`) as bytes. Pure."""

from typing import Literal

from msgspec import Struct

from gateway.yjs.lib0 import MalformedUpdate, Reader, var_uint
from gateway.yjs.state_vectors import check_state_vector, require_few_named

SYNC, AWARENESS, AUTH, QUERY_AWARENESS = range(4)
STEP_1, STEP_2, UPDATE = range(3)
PERMISSION_DENIED = 0
_UPDATE = bytes((SYNC, UPDATE))
_ONE_BYTE = 0x80
"""Shorter lengths are encoded in one byte."""
_LARGE = 64 * 1024
MOST_STATES = 5_000
"""How many awareness states one message may have: about 20 ms. A client tells its own, and that others have left."""


class MalformedMessage(ValueError):
    """The bytes are not a message of the protocol."""


class UnknownMessage(ValueError):
    """The message has a type that clients of the protocol do not send; an application may define its own types."""


class MalformedStateVector(ValueError):
    """The state vector of a sync step 1 is malformed."""


class SyncMessage(Struct, frozen=True):
    """With "step_1", a state vector, to be answered with what the sender is missing; otherwise an update."""

    step: Literal["step_1", "step_2", "update"]
    body: bytes


class AwarenessState(Struct, frozen=True):
    """The state that one client announces: JSON, "null" if the client has left."""

    client: int
    clock: int
    state: str


class AwarenessMessage(Struct, frozen=True):
    states: tuple[AwarenessState, ...]


class QueryAwareness(Struct, frozen=True):
    """A query for the awareness states of all clients."""


def parse_message(message: bytes) -> SyncMessage | AwarenessMessage | QueryAwareness:
    """Parse a message from a client.

    Raises:
        UnknownMessage, MalformedMessage, MalformedStateVector
    """
    if message[:2] == _UPDATE and len(message) > 2 and message[2] == len(message) - 3 < _ONE_BYTE:
        return SyncMessage("update", message[3:])  # as nearly all are
    if not message:
        raise UnknownMessage("it is empty")
    try:
        reader = Reader(message)
        match reader.unsigned():
            case 0:
                return _parse_sync(reader)
            case 1:
                return AwarenessMessage(_parse_states(reader.buffer()))
            case 3:
                return QueryAwareness()
            case kind:
                raise UnknownMessage(f"the message type {kind} is unknown")
    except MalformedUpdate as error:
        raise MalformedMessage(str(error)) from None


def _parse_sync(reader: Reader) -> SyncMessage:
    match reader.unsigned():
        case 0:
            ahead = reader.ahead()
            large = ahead.unsigned() > _LARGE
            try:
                if large:
                    require_few_named(ahead.unsigned())  # before it is copied
            except MalformedUpdate as error:
                raise MalformedStateVector(str(error)) from None
            state_vector = reader.buffer()
            try:
                check_state_vector(state_vector)
            except MalformedUpdate as error:
                raise MalformedStateVector(str(error)) from None
            return SyncMessage("step_1", state_vector)
        case 1:
            return SyncMessage("step_2", reader.buffer())
        case 2:
            return SyncMessage("update", reader.buffer())
        case kind:
            raise UnknownMessage(f"the sync message type {kind} is unknown")


def _parse_states(update: bytes) -> tuple[AwarenessState, ...]:
    reader = Reader(update)
    count = reader.unsigned()
    if count > MOST_STATES:
        raise MalformedMessage(f"it has the states of more than {MOST_STATES} clients")
    return tuple(AwarenessState(reader.unsigned(), reader.unsigned(), reader.text()) for _ in range(count))


def sync_step_1(state_vector: bytes) -> bytes:
    return var_uint(SYNC) + var_uint(STEP_1) + _buffer(state_vector)


def sync_step_2(update: bytes) -> bytes:
    return b"".join((bytes((SYNC, STEP_2)), var_uint(len(update)), update))  # with one copy: it may be large


def sync_update(update: bytes) -> bytes:
    return b"".join((_UPDATE, var_uint(len(update)), update))


def permission_denied(reason: str) -> bytes:
    """Encode the refusal of a client's request (y-protocols `auth.js`)."""
    return var_uint(AUTH) + var_uint(PERMISSION_DENIED) + _buffer(reason.encode())


def awareness_message(states: tuple[AwarenessState, ...]) -> bytes:
    parts = [var_uint(len(states))]
    for state in states:
        parts += [var_uint(state.client), var_uint(state.clock), _buffer(state.state.encode())]
    return var_uint(AWARENESS) + _buffer(b"".join(parts))


def _buffer(data: bytes) -> bytes:
    return var_uint(len(data)) + data
