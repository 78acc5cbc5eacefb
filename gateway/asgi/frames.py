"""Frames of a WebSocket: one for all clients of a room, written without a coroutine for each."""

from collections.abc import Callable
from struct import pack

from starlette.types import Scope

from gateway.asgi.outlets import Outlet

FRAMES = "yjs-gateway.frames"
"""An ASGI extension of the gateway's WebSocket protocol: `{"write": WriteFrame, "outlet": Outlet, "offer": function}`.
A message to a room is encoded as one frame for all clients, and is sent without a coroutine per client. A message of a
client is taken in where it is read, without waking a task."""

WriteFrame = Callable[[bytes], bool]
"""Writes a whole frame at once; False: nothing was written, as the client is not reading or has disconnected."""

TakeMessage = Callable[[bytes], bool]
"""Handles a binary message of a client at once; False: nothing was done, and `receive` returns the message."""

_FINAL_TEXT, _FINAL_BINARY = 0x81, 0x82


def frame_writer(scope: Scope) -> WriteFrame | None:
    """Return the frame writer of a WebSocket; None under another server, where `send` must be used."""
    offered = (scope.get("extensions") or {}).get(FRAMES)
    return None if offered is None else offered["write"]


def outlet_of(scope: Scope) -> Outlet | None:
    """Return the outlet of a WebSocket; None under another server."""
    offered = (scope.get("extensions") or {}).get(FRAMES)
    return None if offered is None else offered["outlet"]


def take_at_once(scope: Scope, take: TakeMessage) -> None:
    """Have messages of a WebSocket taken in where they are read. `take` is called with the first message of each short
    read, while the application awaits `receive` and no other message waits for it. Every other message, and every one
    under another server, comes through `receive`."""
    offered = (scope.get("extensions") or {}).get(FRAMES)
    if offered is not None:
        offered["offer"](take)


def binary_frame(message: bytes) -> bytes:
    """Return a server's frame of a binary message (RFC 6455 §5.2): unmasked, without extensions."""
    return _frame(_FINAL_BINARY, message)


def binary_frame_parts(message: bytes) -> tuple[bytes, bytes]:
    """Return the head of `binary_frame`, and the message."""
    return _head(_FINAL_BINARY, len(message)), message


def text_frame(message: str) -> bytes:
    """Return a server's frame of a text message."""
    return _frame(_FINAL_TEXT, message.encode())


def _head(kind: int, length: int) -> bytes:
    if length < 126:
        return bytes((kind, length))
    return pack("!BBH", kind, 126, length) if length < 2**16 else pack("!BBQ", kind, 127, length)


def _frame(kind: int, data: bytes) -> bytes:
    length = len(data)
    if length < 126:
        return bytes((kind, length)) + data
    if length < 2**16:
        return pack("!BBH", kind, 126, length) + data
    return pack("!BBQ", kind, 127, length) + data
