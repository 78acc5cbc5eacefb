"""WebSockets on the wire: uvicorn's, able to write without waiting."""

from struct import pack
from typing import cast

from starlette.types import Scope
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request

from gateway import immediate

_FINAL_BINARY = 0x82


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """One connection. Extensions are not negotiated: a frame is its head and the message."""

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        if hasattr(self, "scope"):  # else it was no handshake
            immediate.offer(cast(Scope, self.scope), self)

    def write_now(self, scope: Scope, data: bytes) -> bool:
        """Write a binary message in one frame (RFC 6455 §5.2)."""
        if self.close_sent or self.disconnected or self.transport.is_closing() or not self.writable.is_set():
            return False
        self.transport.write(_head(len(data)) + data)
        return True


def _head(length: int) -> bytes:
    """The head of a server's frame: not masked."""
    if length < 126:
        return bytes((_FINAL_BINARY, length))
    if length < 2**16:
        return pack("!BBH", _FINAL_BINARY, 126, length)
    return pack("!BBQ", _FINAL_BINARY, 127, length)
