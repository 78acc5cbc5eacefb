"""WebSockets on the wire: uvicorn's, with bounds on what a client can make it keep and log.

Nothing of uvicorn's that is private is used: only what asyncio and ASGI call.
"""

import asyncio
from struct import pack
from typing import Any, cast

import structlog
from starlette.types import Message
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

_log = structlog.get_logger("gateway.http")

_FINAL_BINARY = 0x82
_PONGS_LIMIT = 64 * 2**10
"""How many bytes of answers to pings may wait for a client; one read from the socket may bring more."""


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """One connection. Extensions are not negotiated: a frame is its head and the message."""

    _flow: "_Flow"
    _accepted = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._flow = _Flow(cast(asyncio.Transport, transport))
        super().connection_made(cast(asyncio.Transport, self._flow))

    def pause_writing(self) -> None:
        self._flow.block()
        super().pause_writing()

    def resume_writing(self) -> None:
        self._flow.unblock()
        super().resume_writing()

    def data_received(self, data: bytes) -> None:
        waiting = self._flow.get_write_buffer_size()
        try:
            super().data_received(data)
        except Exception as error:  # of bytes that uvicorn does not expect after those before them
            _log.debug("WebSocket ended", reason=repr(error))
            self._flow.abort()
        else:
            self._flow.owe(self._flow.get_write_buffer_size() - waiting)

    async def send(self, message: Message) -> None:  # type: ignore[override]
        """A binary message in one frame (RFC 6455 §5.2), if nothing is in its way; uvicorn sends all else.

        The general way through the state machine of `websockets` takes three times as long.
        """
        data = message.get("bytes")
        if data is not None and self._accepted and not self._flow.blocked and not self._flow.is_closing():
            self._flow.write(_head(len(data)) + data)
            return
        if message["type"] == "websocket.close":
            self._accepted = False
        await super().send(cast(Any, message))
        if message["type"] == "websocket.accept":
            self._accepted = True


class _Flow:
    """A transport that does not read for ever while its client does not: a ping that is read is answered by bytes that
    wait. uvicorn pauses and resumes reading for reasons of its own.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._reading = True
        self._paused = False
        self.blocked = False
        """Whether the client does not take what it is sent."""
        self._owed = 0
        """How many bytes of answers to what was read wait since then."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def block(self) -> None:
        self.blocked = True

    def owe(self, size: int) -> None:
        if self.blocked:
            self._owed += size
            self._regulate()

    def unblock(self) -> None:
        self.blocked, self._owed = False, 0
        self._regulate()

    def pause_reading(self) -> None:
        self._paused = True
        self._regulate()

    def resume_reading(self) -> None:
        self._paused = False
        self._regulate()

    def _regulate(self) -> None:
        if self._transport.is_closing():
            return
        wanted = not self._paused and self._owed <= _PONGS_LIMIT
        if wanted != self._reading:
            self._reading = wanted
            (self._transport.resume_reading if wanted else self._transport.pause_reading)()


def _head(length: int) -> bytes:
    """The head of a server's frame: not masked."""
    if length < 126:
        return bytes((_FINAL_BINARY, length))
    if length < 2**16:
        return pack("!BBH", _FINAL_BINARY, 126, length)
    return pack("!BBQ", _FINAL_BINARY, 127, length)
