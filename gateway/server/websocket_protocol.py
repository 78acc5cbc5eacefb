"""The WebSocket protocol class: that of uvicorn, with limits on what a client can make it buffer and log.

It uses nothing private of uvicorn, only methods that asyncio and ASGI call.
"""

import asyncio
import logging
import re
from collections.abc import Callable
from struct import pack
from typing import Any, cast

import structlog
from starlette.types import Message
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame, Opcode
from websockets.protocol import State

from gateway.asgi.frames import FRAMES, TakeMessage, binary_frame, text_frame
from gateway.http.half_messages import HalfMessages
from gateway.http.unread import Unread
from gateway.rooms.close_codes import TOO_LARGE
from gateway.server.client_frames import (
    FrameBoundaries,
    LargeMessage,
    is_part_of_head,
    large_message,
    whole_message,
)
from gateway.server.garbage import ClosedByGateway
from gateway.server.leaving import is_closed_later
from gateway.server.outlets import outlet_of
from gateway.server.parted_writes import Blocked, PartedWrites, bound_unsent
from gateway.settings import ConnectionLimits
from gateway.shared_turn import Pieces, SharedTurn

_log = structlog.get_logger("gateway.http")
_server_log = logging.getLogger("uvicorn.error")

_closed_by_gateway = ClosedByGateway()
_OPEN = State.OPEN
_FINAL_CLOSE = 0x88
_CLOSE_1009 = re.compile(rb"\x88[\x02-\x7d]\x03\xf1.*\Z", re.DOTALL)
"""The frame by which `websockets` refuses a message over the limit. Stock providers reconnect after this code and send
the same message again, for ever."""
_LINGER_S = 30.0
"""How long the rest of such a message is read and dropped: closing a socket with unread bytes discards the code."""
_PART_BYTES = 4 * 2**10
"""How many bytes of one read are processed together: they may be hundreds of messages."""
_LARGE_PART_BYTES = 64 * 2**10
"""The same of a large message."""
_PONG_BYTES = ConnectionLimits().pong_bytes
_LARGE_FRAME_BYTES = 2**16
_EMPTY_PONG = b"\x8a\x80\0\0\0\0"
"""A frame without effect. The parser keeps the last frame until the next one, which may never come."""
_FRAGMENTS_LIMIT = 2**14
"""The maximum number of frames of a message: each, even an empty one, is kept until the last has arrived."""


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """One connection. No extensions are negotiated, so a frame is just its header and the message.

    A message that is one whole frame, as nearly all are, is read here: `websockets` would take ten times as long, and
    would decode a large message in one step. All other frames are left to it.
    """

    _flow: "_Flow"
    _accepted = False
    _unread: bytes = b""
    """What was read and is not processed yet. Reading pauses until it is if it is long."""
    _boundaries: FrameBoundaries | None = None
    """None until the first read, which is the head of the handshake."""
    _large: LargeMessage | None = None
    """The message of which the rest is next."""
    _head: bytes = b""
    """The beginning of a frame of which the head is not all there."""
    _taker: TakeMessage | None = None
    """Where messages are offered before they are queued."""
    _receiving = False
    """Whether the application awaits `receive`."""
    _stopping = False
    """Whether the server has closed the connection since it stops."""

    def __init__(
        self,
        *arguments: Any,
        pong_bytes: int = _PONG_BYTES,
        unread: Unread | None = None,
        turn: SharedTurn | None = None,
        half_messages: HalfMessages | None = None,
        **named: Any,
    ) -> None:
        super().__init__(*arguments, **named)
        self._pong_bytes = pong_bytes
        self._unread_messages = unread
        self._turn = turn or SharedTurn()
        self._half_messages = half_messages
        self._half: list[bytes] = []
        """The frames of the message that has begun."""
        self._half_frames = self._half_bytes = 0
        """How many of these frames were counted, and their size."""
        self._noted = 0
        """How many bytes are counted of a message that is not complete."""
        self._kept = 0
        """The least size of a large frame that the parser keeps."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        bound_unsent(cast(asyncio.Transport, transport))
        self._flow = _Flow(cast(asyncio.Transport, transport), self._pong_bytes, self._turn, self)
        super().connection_made(cast(asyncio.Transport, self._flow))

    def pause_writing(self) -> None:
        self._flow.parts.hold()
        self.block_writing()

    def resume_writing(self) -> None:
        if not self._flow.parts.go_on():
            self.unblock_writing()

    def block_writing(self) -> None:
        """Let nothing be written until what waits is sent."""
        if self._flow.blocked:
            return
        self._flow.block()
        if self._unread_messages is not None:
            self._unread_messages.add(self._flow)
        super().pause_writing()

    def unblock_writing(self) -> None:
        """Let more be written: nothing waits."""
        self._flow.unblock()
        self._forget_unread()
        super().resume_writing()

    def _forget_unread(self) -> None:
        if self._unread_messages is not None:
            self._unread_messages.remove(self._flow)

    def eof_received(self) -> bool:  # type: ignore[override]
        return is_closed_later(self._flow.transport, self._turn)

    def connection_lost(self, exc: Exception | None) -> None:
        self._flow.outlet.end()
        if self._flow.blocked:
            self._forget_unread()
        if self._turn.is_over():
            self._turn.run(self._end_later(exc))
        else:
            self._end(exc)
            self._turn.note()

    def _end_later(self, exc: Exception | None) -> Pieces:
        yield from ()
        self._end(exc)
        return 0.0

    def _end(self, exc: Exception | None) -> None:
        """Tell the application that the connection is lost, and let go of what was received."""
        self._take_all()
        self._flow.lost()
        super().connection_lost(exc)
        self.frames, self._large = [], None  # this object is freed late, in a cycle
        self.conn.reader.buffer.clear()
        self.conn.parser.close()
        if self._half_messages is not None:
            self._half_messages.note(self._flow.transport, 0)

    def shutdown(self) -> None:
        if self._flow.refused:
            self._flow.abort()
        elif not self._stopping:
            self._stopping = True
            self._take_all()
            super().shutdown()

    def data_received(self, data: bytes) -> None:
        if self._boundaries is None:
            self._boundaries = FrameBoundaries(len(data))
        if not self._unread and len(data) <= _PART_BYTES and not self._turn.is_over():
            self._take(data, offer=True)
            self._turn.note()
            return
        waits, self._unread = bool(self._unread), self._unread + data
        if len(self._unread) > _PART_BYTES:  # to pause for less takes longer than to read on, where hundreds speak
            self._flow.take_turns(True)
        if not waits:
            self._turn.run(self._take_in_pieces())

    def _take_in_pieces(self) -> Pieces:
        """Process what was read, and then read on."""
        offer = len(self._unread) <= _PART_BYTES
        while self._unread:
            size = _PART_BYTES if self._large is None else _LARGE_PART_BYTES
            part, self._unread = self._unread[:size], self._unread[size:]
            self._take(part, offer=offer)
            if self._unread:
                yield 0.0
        if self._flow.takes_turns:
            self.loop.call_soon(self._read_on)  # not at once: libuv reads several times in one iteration of the loop
        return 0.0

    def _read_on(self) -> None:
        if not self._unread:
            self._flow.take_turns(False)

    def _take_all(self) -> None:
        """Process everything that was read before the connection closes."""
        unread, self._unread = self._unread, b""
        if unread:
            self._take(unread)

    def _take(self, data: bytes, *, offer: bool = False) -> None:
        """Process a part of a read.

        Args:
            offer: whether the first message may be taken in at once.
        """
        if self._flow.refused:
            return
        assert self._boundaries is not None
        if self._head:
            data, self._head = self._head + data, b""
        if self._large is not None:
            data = self._take_large(self._large, data)
        elif not self._boundaries.between and 0 < (end := self._boundaries.end_in(data)) < len(data):
            self._parse(data[:end])  # the rest of a frame: those behind it are read here again
            self._take(data[end:])
            return
        if self._accepted and self._boundaries.between and not self.frames and self.conn.state is _OPEN:
            data = self._take_messages(data, offer=offer)
        if data:
            self._parse(data)
        elif self._large is None and not self._noted:
            return
        self._count_half_message()

    def _parse(self, data: bytes) -> None:
        """Have `websockets` process a part of a read."""
        assert self._boundaries is not None
        self._boundaries.follow(data)
        missing = len(self.conn.reader.buffer)
        waiting = self._flow.get_write_buffer_size()
        self._flow.answering = True
        _server_log.addFilter(_log_at_debug)
        try:
            super().data_received(data)
            if missing >= _LARGE_FRAME_BYTES and len(self.conn.reader.buffer) < missing:
                self._kept = missing
            if self._kept and self._boundaries.between and self.conn.state is _OPEN:
                self._kept = 0
                super().data_received(_EMPTY_PONG)
            if self.conn.handshake_exc is not None and not self.handshake_initiated:
                self._flow.abort()  # uvicorn would not answer, and would wait for ever
            if len(self.frames) > _FRAGMENTS_LIMIT:
                self.frames = []
                self.conn.fail(1009, "too many fragments")
                self.handle_parser_exception()
        except Exception as error:  # caused by bytes that uvicorn does not expect at this point
            _log.debug("WebSocket ended", reason=repr(error))
            self._flow.abort()
        finally:
            self._flow.answering = False
            _server_log.removeFilter(_log_at_debug)
        if not self._flow.is_closing():
            self._flow.owe(self._flow.get_write_buffer_size() - waiting)

    def _count_half_message(self) -> None:
        """Count what has arrived of a message that is not complete."""
        if self._half_messages is None:
            return
        if self._half is not self.frames:
            self._half, self._half_frames, self._half_bytes = self.frames, 0, 0
        self._half_bytes += sum(map(len, self.frames[self._half_frames :]))
        self._half_frames = len(self.frames)
        kept = 0 if self.frames else self._kept
        large = 0 if self._large is None else self._large.received
        size = self._half_bytes + kept + len(self.conn.reader.buffer) + large
        if size or self._noted:
            self._noted = size
            self._half_messages.note(self._flow.transport, size)

    def _take_messages(self, data: bytes, *, offer: bool) -> bytes:
        """Take in the messages that `data` begins with, each in a frame of its own; return what follows them.

        The beginning of a head is kept until the rest is there: `websockets` would be given a large message then.
        """
        at, most, size = 0, self.config.ws_max_size, len(data)
        read = None
        while at < size and (read := whole_message(data, at)) is not None:
            message, end = read
            if len(message) > most:
                break
            at = end
            if offer and self._receiving and self.queue.empty() and self._offer(message):
                offer = False
                continue
            offer = False
            self.handle_bytes(Frame(Opcode.BINARY, message))
        if at == size:
            return b""
        if read is None and is_part_of_head(data, at):
            self._head = data[at:]
            return b""
        begun = large_message(data, at, most)
        if begun is None:
            return data[at:]
        self._large, start = begun
        rest = self._take_large(self._large, data[start:])
        return self._take_messages(rest, offer=False) if rest else rest

    def _take_large(self, large: LargeMessage, data: bytes) -> bytes:
        """Take in the next bytes of a large message; return what follows it."""
        rest = data[large.add(data) :]
        if large.complete:
            self._large = None
            self.handle_bytes(Frame(Opcode.BINARY, large.message()))
        return rest

    def _offer(self, message: bytes) -> bool:
        """Return whether the application has taken in a message at once."""
        if self._taker is None:
            return False
        try:
            return self._taker(message)
        except Exception:
            _log.exception("a message failed")
            self._flow.abort()
            return True

    def _offer_to(self, taker: TakeMessage) -> None:
        """Implements `gateway.asgi.frames.take_at_once`."""
        self._taker = taker

    async def receive(self) -> Any:
        self._receiving = True
        try:
            return await super().receive()
        finally:
            self._receiving = False

    async def run_asgi(self) -> None:
        """Run the application, which may also write whole frames, and take in messages at once."""
        extensions = cast(dict[str, Any], self.scope["extensions"])
        extensions[FRAMES] = {"write": self.write_frame, "outlet": self._flow.outlet, "offer": self._offer_to}
        try:
            await super().run_asgi()
        finally:
            self._taker = None
            del extensions[FRAMES]  # breaks the reference cycle of scope and connection

    def write_frame(self, frame: bytes) -> bool:
        """Implements `gateway.asgi.frames.WriteFrame`."""
        flow = self._flow
        if not self._accepted or flow.blocked or flow.refused or flow.transport.is_closing():
            return False
        flow.parts.write(frame)
        return True

    async def send(self, message: Message) -> None:  # type: ignore[override]
        """Send a message as one frame (RFC 6455 §5.2) if possible; otherwise uvicorn sends it.

        The general path through the state machine of `websockets` takes three times as long.
        """
        data, text = message.get("bytes"), message.get("text")
        # A frame is made, which is a copy of the message, only for a client that can be written to.
        if self._accepted and self._flow.blocked and not self._flow.is_closing():
            await self.writable.wait()
        if self._flow.is_closing():
            raise ClientDisconnected
        if data is not None and self.write_frame(binary_frame(data)):
            return
        if text is not None and self.write_frame(text_frame(text)):
            return
        if message["type"] == "websocket.close":
            self._accepted = False
            self._flow.outlet.end()
            _closed_by_gateway.note()
        try:
            await super().send(cast(Any, message))
        except (AssertionError, RuntimeError) as error:
            if self._flow.is_closing():  # closed while waiting for a client that did not read
                raise ClientDisconnected from error
            raise
        if message["type"] == "websocket.accept":
            self._accepted = True
        elif message["type"] == "websocket.http.response.body" and not message.get("more_body", False):
            self.handshake_complete = True  # the handshake was refused: otherwise uvicorn logs an error


def _log_at_debug(record: logging.LogRecord) -> bool:
    """Log filter: what uvicorn logs while parsing input is the client's fault, so it is logged at debug level."""
    _log.debug("WebSocket", reason=record.getMessage())
    return False


class _Flow:
    """A transport that stops reading while its client does not read, since each ping adds a pong to the write buffer.
    uvicorn pauses and resumes reading for its own reasons as well.

    A message over the limit is refused here: the close frame gets our code, and the client may finish sending.
    """

    def __init__(self, transport: asyncio.Transport, pong_bytes: int, turn: SharedTurn, protocol: Blocked) -> None:
        self.transport = transport
        self.parts = PartedWrites(transport, turn, protocol)
        self._then: Callable[[], None] | None = None
        """What is to be done once everything is written."""
        self._pong_bytes = pong_bytes
        self._reading = True
        self._paused = False
        self.takes_turns = False
        """Whether reading pauses while the last read is processed in parts."""
        self.blocked = False
        """Whether something is buffered, as the client is not reading what it is sent."""
        self._owed = 0
        """How many bytes of control-frame answers have been buffered since the client stopped reading."""
        self.answering = False
        """Whether writes answer what was just read, so they are control frames and not messages."""
        self.refused = False
        """Whether a message was refused: nothing more is sent, and further input is dropped."""
        self._ending: asyncio.TimerHandle | None = None
        self.outlet = outlet_of(transport, self.parts.write, self._is_empty)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.transport, name)

    def write(self, data: bytes) -> None:
        if self.refused:
            return
        refusal = _CLOSE_1009.search(data) if self.answering else None
        if refusal is None:
            self.parts.write(data)
        else:
            self._refuse(data[: refusal.start()])

    def _refuse(self, before: bytes) -> None:
        reason = b"the message is too large"
        frame = pack("!BBH", _FINAL_CLOSE, 2 + len(reason), TOO_LARGE) + reason
        self.parts.write(before + frame)
        if self.transport.can_write_eof():
            self._finally(self.transport.write_eof)
        self.refused, self._paused, self._owed = True, False, 0
        self.outlet.end()
        self._regulate()
        self._ending = asyncio.get_running_loop().call_later(_LINGER_S, self.transport.abort)

    def close(self) -> None:
        self.outlet.end()
        if not self.refused:
            self._finally(self.transport.close)

    def _finally(self, then: Callable[[], None]) -> None:
        """Do something once everything is written."""
        if len(self.parts):
            self._then = then
        else:
            then()

    def is_closing(self) -> bool:
        return self.refused or self._then is not None or self.transport.is_closing()

    def get_write_buffer_size(self) -> int:
        """How many bytes wait to be sent."""
        return self.transport.get_write_buffer_size() + len(self.parts)

    def kept_bytes(self) -> int:
        """How much memory is kept for what waits."""
        return self.transport.get_write_buffer_size() + self.parts.kept_bytes

    def lost(self) -> None:
        self.parts.end()
        self._then = None
        if self._ending is not None:
            self._ending.cancel()

    def _is_empty(self) -> bool:
        return not self.blocked and not self.is_closing() and self.get_write_buffer_size() == 0

    def block(self) -> None:
        self.blocked = True
        self.outlet.close()

    def owe(self, size: int) -> None:
        if self.blocked:
            self._owed += size
            self._regulate()

    def unblock(self) -> None:
        self.blocked, self._owed = False, 0
        then, self._then = self._then, None
        if then is not None:
            then()
        self._regulate()

    def take_turns(self, whether: bool) -> None:
        """Pause reading, or read on."""
        self.takes_turns = whether
        self._regulate()

    def pause_reading(self) -> None:
        self._paused = True
        self._regulate()

    def resume_reading(self) -> None:
        self._paused = False
        self._regulate()

    def _regulate(self) -> None:
        if self.transport.is_closing():
            return
        wanted = not self._paused and not self.takes_turns and self._owed <= self._pong_bytes
        if wanted != self._reading:
            self._reading = wanted
            (self.transport.resume_reading if wanted else self.transport.pause_reading)()
