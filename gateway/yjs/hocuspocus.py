"""Messages of the Hocuspocus protocol (npm `@hocuspocus/provider` 4) as bytes. Pure.

A frame is a document name followed by a message. Sync and awareness messages are those of y-websocket; the others are
defined here. The name that a provider sends may end in a NUL and a session id, which tells apart several providers of
one document on one socket.
"""

from typing import Literal

from msgspec import Struct

from gateway.yjs.lib0 import MalformedUpdate, Reader, var_bytes, var_uint
from gateway.yjs.messages import (
    MalformedMessage,
    RoomMessage,
    UnknownMessage,
    parse_message,
    parse_sync,
    uncopied,
)

AUTH, SYNC_REPLY, STATELESS, BROADCAST, CLOSE, SYNC_STATUS = 2, 4, 5, 6, 7, 8
TOKEN, PERMISSION_DENIED, AUTHENTICATED = range(3)
LONGEST_NAME = 4096
"""The maximum size in bytes, including the session id. A frame with a longer name is malformed and gets no refusal."""


class TokenMessage(Struct, frozen=True):
    """The credential of a client; empty if the client has none."""

    token: str


class StatelessMessage(Struct, frozen=True):
    """An application message outside the document. `to`: the server's hook, or all clients of the document."""

    payload: str
    to: Literal["server", "all"]


class CloseMessage(Struct, frozen=True):
    """The client leaves the document; the socket stays open."""


Message = RoomMessage | TokenMessage | StatelessMessage | CloseMessage


def split_frame(frame: bytes) -> tuple[str, bytes | memoryview]:
    """Split a frame into the document name and the message, which is a view if it is long.

    Raises:
        UnknownMessage, MalformedMessage
    """
    if len(frame) < 2:
        raise UnknownMessage("it has no name")  # a pong of the protocol is one byte
    try:
        reader = Reader(frame)
        name = reader.text()
    except MalformedUpdate as error:
        raise MalformedMessage(str(error)) from None
    if reader.position > LONGEST_NAME:
        raise MalformedMessage("the name is too long")
    return name, uncopied(frame)[reader.position :]


def path_of(name: str) -> str:
    """Return the document path of a name, without the session id."""
    return name.partition("\0")[0]


def parse(message: bytes | memoryview) -> Message:
    """Parse a message from a client, without the name.

    Raises:
        UnknownMessage, MalformedMessage, MalformedStateVector
    """
    if not message:
        raise UnknownMessage("it is empty")
    try:
        reader = Reader(message)
        match reader.unsigned():
            case 2:
                if reader.unsigned() != TOKEN:
                    raise UnknownMessage("only a server says that")
                return TokenMessage(reader.text())
            case 4:
                return parse_sync(reader)
            case 5:
                return StatelessMessage(reader.text(), "server")
            case 6:
                return StatelessMessage(reader.text(), "all")
            case 7:
                return CloseMessage()
            case _:
                return parse_message(message)
    except MalformedUpdate as error:
        raise MalformedMessage(str(error)) from None


def addressed(name: str) -> bytes:
    """Encode the document name that a frame begins with; the message follows."""
    return var_bytes(name.encode())


def token_request() -> bytes:
    return var_uint(AUTH) + var_uint(TOKEN)


def permission_denied(reason: str) -> bytes:
    return var_uint(AUTH) + var_uint(PERMISSION_DENIED) + var_bytes(reason.encode())


def authenticated(*, read_only: bool) -> bytes:
    return var_uint(AUTH) + var_uint(AUTHENTICATED) + var_bytes(b"readonly" if read_only else b"read-write")


def stateless(payload: str) -> bytes:
    return var_uint(STATELESS) + var_bytes(payload.encode())


def close(reason: str) -> bytes:
    return var_uint(CLOSE) + var_bytes(reason.encode())


def sync_status(*, saved: bool) -> bytes:
    """Encode whether one update of the client was stored."""
    return var_uint(SYNC_STATUS) + var_uint(int(saved))
