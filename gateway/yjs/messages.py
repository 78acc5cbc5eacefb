"""Messages of the y-websocket protocol (y-protocols: `sync.js`, `awareness.js`) as bytes. Pure."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

from msgspec import Struct

from gateway.yjs.lib0 import MalformedUpdate, Reader, block, uint, var_uint
from gateway.yjs.state_vectors import check_state_vector, require_few_named

SYNC, AWARENESS, AUTH, QUERY_AWARENESS = range(4)
STEP_1, STEP_2, UPDATE = range(3)
PERMISSION_DENIED = 0
_UPDATE = bytes((SYNC, UPDATE))
_AWARENESS = bytes((AWARENESS,))
_ONE_BYTE = 0x80
"""Shorter lengths are encoded in one byte."""
_LARGE = 64 * 1024
_LONG = 2**20
"""A longer message is parsed as a view: no part of it is copied in one step."""
MOST_STATES = 5_000
"""How many awareness states one message may have. A client tells its own, and that others have left."""
_MOST_STATES_BYTES = 5 * 2**20
"""How many bytes these states may have together: more than all states of a room may have."""
STATES_TOGETHER = 256
"""How many awareness states are read or written in one step."""
STATES_BYTES = 64 * 1024
"""How many bytes of awareness states are written in one step; one state may be longer."""


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


class ManyStates(Struct, frozen=True):
    """An awareness message with the states of very many clients."""

    update: bytes

    def parts(self) -> Iterator[AwarenessMessage]:
        """Read the states, a part of them in each step.

        Raises:
            MalformedMessage: what comes next is malformed.
        """
        count, at = _count_of_states(self.update)
        while count:
            states, at = _read_states(self.update, at, min(count, STATES_TOGETHER))
            count -= len(states)
            yield AwarenessMessage(states)


class LongUpdate(Struct, frozen=True):
    """An update that is long, as a view of the message."""

    step: Literal["step_2", "update"]
    body: memoryview


class QueryAwareness(Struct, frozen=True):
    """A query for the awareness states of all clients."""


RoomMessage = SyncMessage | LongUpdate | AwarenessMessage | ManyStates | QueryAwareness


def uncopied(message: bytes | memoryview) -> bytes | memoryview:
    """Return a message, or a view of a long one, of which parts are views, too."""
    return message if len(message) <= _LONG else memoryview(message)


def parse_message(message: bytes | memoryview) -> RoomMessage:
    """Parse a message from a client. A long one may be a view.

    Raises:
        UnknownMessage, MalformedMessage, MalformedStateVector
    """
    if message[:2] == _UPDATE and len(message) > 2 and message[2] == len(message) - 3 < _ONE_BYTE:
        return SyncMessage("update", message[3:])  # type: ignore[arg-type]  # as nearly all are, in bytes
    if not message:
        raise UnknownMessage("it is empty")
    try:
        reader = Reader(uncopied(message))
        match reader.unsigned():
            case 0:
                return parse_sync(reader)
            case 1:
                if len(message) > _LARGE:
                    _require_few_states(reader.ahead())
                return _parse_states(reader.buffer())
            case 3:
                return QueryAwareness()
            case kind:
                raise UnknownMessage(f"the message type {kind} is unknown")
    except MalformedUpdate as error:
        raise MalformedMessage(str(error)) from None


def parse_sync(reader: Reader) -> SyncMessage | LongUpdate:
    """Parse what follows the type of a message about the document.

    Raises:
        UnknownMessage, MalformedStateVector, MalformedUpdate
    """
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
            return _update_in("step_2", reader)
        case 2:
            return _update_in("update", reader)
        case kind:
            raise UnknownMessage(f"the sync message type {kind} is unknown")


def _update_in(step: Literal["step_2", "update"], reader: Reader) -> SyncMessage | LongUpdate:
    update = reader.view()
    return SyncMessage(step, update) if isinstance(update, bytes) else LongUpdate(step, update)


def _require_few_states(ahead: Reader) -> None:
    """Check the size of a large awareness message before it is copied."""
    if ahead.unsigned() > _MOST_STATES_BYTES:
        raise MalformedMessage(f"its states have more than {_MOST_STATES_BYTES} bytes")
    _check_count(ahead.unsigned())


def _parse_states(update: bytes) -> AwarenessMessage | ManyStates:
    count, at = _count_of_states(update)
    if count <= STATES_TOGETHER:
        return AwarenessMessage(_read_states(update, at, count)[0])
    _check_count(count)
    return ManyStates(update)


def _check_count(count: int) -> None:
    if count > MOST_STATES:
        raise MalformedMessage(f"it has the states of more than {MOST_STATES} clients")


def _count_of_states(update: bytes) -> tuple[int, int]:
    """Return how many states an awareness update has, and where the first begins."""
    try:
        return uint(update, 0)
    except (IndexError, MalformedUpdate):
        raise MalformedMessage("the bytes end too early") from None


def _read_states(update: bytes, at: int, count: int) -> tuple[tuple[AwarenessState, ...], int]:
    """Read states of an awareness update; return where the next one begins, too."""
    states = []
    try:
        for _ in range(count):
            client, at = uint(update, at)
            clock, at = uint(update, at)
            start, at = block(update, at)
            states.append(AwarenessState(client, clock, update[start:at].decode()))
    except (IndexError, MalformedUpdate, UnicodeDecodeError):
        raise MalformedMessage("it does not hold the states that it says") from None
    return tuple(states), at


def sync_step_1(state_vector: bytes) -> bytes:
    return var_uint(SYNC) + var_uint(STEP_1) + _buffer(state_vector)


def sync_step_2(update: bytes) -> bytes:
    return b"".join(sync_step_2_parts(update))  # with one copy: it may be large


def sync_step_2_parts(update: bytes) -> tuple[bytes, bytes]:
    """Return what `sync_step_2` joins."""
    return bytes((SYNC, STEP_2)) + var_uint(len(update)), update


def sync_update(update: bytes) -> bytes:
    return b"".join((_UPDATE, var_uint(len(update)), update))


def permission_denied(reason: str) -> bytes:
    """Encode the refusal of a client's request (y-protocols `auth.js`)."""
    return var_uint(AUTH) + var_uint(PERMISSION_DENIED) + _buffer(reason.encode())


def awareness_message(states: Sequence[AwarenessState]) -> bytes:
    parts = [var_uint(len(states))]
    for state in states:
        text = state.state.encode()
        parts += [var_uint(state.client), var_uint(state.clock), var_uint(len(text)), text]
    return b"".join([_AWARENESS, var_uint(sum(map(len, parts))), *parts])


def awareness_messages(states: Iterable[AwarenessState]) -> Iterator[bytes]:
    """Encode states as messages, each of which takes no longer than a step of the event loop should."""
    some: list[AwarenessState] = []
    size = 0
    for state in states:
        if some and (len(some) == STATES_TOGETHER or size + len(state.state) > STATES_BYTES):
            yield awareness_message(some)
            some, size = [], 0
        some.append(state)
        size += len(state.state)
    if some:
        yield awareness_message(some)


def _buffer(data: bytes) -> bytes:
    return var_uint(len(data)) + data
