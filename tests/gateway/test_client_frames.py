"""Messages of WebSocket clients, in whatever frames and pieces they come: each arrives once, whole and in order."""

import asyncio
import itertools
import random
import struct
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import pytest
import uvicorn
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.types import Message, Receive, Scope, Send
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState

from gateway.asgi.frames import TakeMessage, take_at_once
from gateway.server.client_frames import FrameBoundaries, LargeMessage, whole_message
from gateway.server.websocket_protocol import WebSocketProtocol
from gateway.shared_turn import SharedTurn
from tests.support.clocks import TickingClock

_TEXT, _BINARY, _CONTINUATION, _CLOSE, _PING, _PONG = 1, 2, 0, 8, 9, 10
_HEAD = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n"
)
_LIMIT = 100_000


def frame(payload: bytes, kind: int = _BINARY, *, final: bool = True, mask: bytes = b"\x01\x80\xff\0") -> bytes:
    """A frame of a client (RFC 6455 §5.2)."""
    size = len(payload)
    if size < 126:
        length = bytes([0x80 | size])
    elif size < 2**16:
        length = struct.pack("!BH", 0x80 | 126, size)
    else:
        length = struct.pack("!BQ", 0x80 | 127, size)
    masked = bytes(byte ^ key for byte, key in zip(payload, itertools.cycle(mask), strict=False))
    return bytes([final << 7 | kind]) + length + mask + masked


# Frames as bytes


@given(st.binary(max_size=300), st.binary(min_size=4, max_size=4), st.binary(max_size=20), st.binary(max_size=20))
def test_a_whole_message_is_found_where_it_is(payload: bytes, mask: bytes, before: bytes, after: bytes) -> None:
    sent = frame(payload, mask=mask)
    data = before + sent + after
    assert whole_message(data, len(before)) == (payload, len(before) + len(sent))
    for end in range(len(sent)):
        assert whole_message(before + sent[:end], len(before)) is None


@pytest.mark.parametrize(
    "other",
    [
        frame(b"text", _TEXT),
        frame(b"begun", final=False),
        frame(b"rest", _CONTINUATION),
        frame(b"ping", _PING),
        frame(b"pong", _PONG),
        frame(b"\x03\xe8", _CLOSE),
        bytes([0x82 | 0x40]) + frame(b"compressed")[1:],
        b"\x82\x04not masked",
        b"\x82\x7e\0\x04not masked",
        frame(bytes(2**16)),
    ],
)
def test_what_is_no_whole_message_of_the_usual_kind_is_left_alone(other: bytes) -> None:
    assert whole_message(other, 0) is None


_PAYLOADS = st.one_of(st.binary(max_size=10), st.sampled_from((125, 126, 200, 65_535, 65_536)).map(bytes))
_FRAMES = st.builds(frame, _PAYLOADS, st.sampled_from((_TEXT, _BINARY, _CONTINUATION, _PING)), final=st.booleans())


@settings(deadline=None)
@given(st.lists(_FRAMES, max_size=5), st.integers(0, 50), st.data())
def test_boundaries_are_where_frames_end_whatever_the_pieces_are(
    frames: list[bytes], before: int, data: st.DataObject
) -> None:
    sent = bytes(before) + b"".join(frames)
    ends = set(itertools.accumulate(map(len, frames), initial=before))
    boundaries, at = FrameBoundaries(before), 0
    assert boundaries.between == (0 in ends)
    for size in data.draw(st.lists(st.one_of(st.integers(1, 15), st.integers(1, 80_000)), max_size=30)):
        boundaries.follow(sent[at : at + size])
        at = min(len(sent), at + size)
        assert boundaries.between == (at in ends)


# A connection


class _Transport(asyncio.Transport):
    """A socket of which each side does in this test what it is told to."""

    def __init__(self) -> None:
        super().__init__({})
        self.sent = b""
        self.readable = asyncio.Event()
        self.readable.set()
        self.closed = False
        self.pauses = 0

    def write(self, data: Any) -> None:
        self.sent += data

    def get_write_buffer_size(self) -> int:
        return 0

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        pass

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    abort = close

    @property
    def reading(self) -> bool:
        return self.readable.is_set()

    def pause_reading(self) -> None:
        self.readable.clear()
        self.pauses += 1

    def resume_reading(self) -> None:
        self.readable.set()


class _Connection:
    """A WebSocket of which all messages are noted as they arrive, at once or through `receive`."""

    def __init__(self, take: TakeMessage | None, turn: SharedTurn | None = None) -> None:
        self.came: list[bytes | str | int] = []
        """Messages, and the code of the disconnection."""
        self.received: list[bytes | str] = []
        """Those of the messages that came through `receive`."""
        self.transport = _Transport()
        self._news = asyncio.Event()
        self.may_receive = asyncio.Event()
        self.may_receive.set()
        self.send: Send | None = None
        self._take = take
        config = uvicorn.Config(
            self._app,
            log_config=None,
            proxy_headers=False,
            ws_max_size=_LIMIT,
            ws_per_message_deflate=False,
            lifespan="off",
            interface="asgi3",
        )
        config.load()
        turn = turn or SharedTurn(lambda: 0.0)  # a turn that no load of the machine ends
        self.protocol = WebSocketProtocol(config=config, server_state=ServerState(), app_state={}, turn=turn)

    async def _app(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        self.send = send
        if self._take is not None:
            take_at_once(scope, self._taken)
        while True:
            await self.may_receive.wait()
            message: Message = await receive()
            if message["type"] == "websocket.disconnect":
                self.came.append(message["code"])
                return
            said = message["text"] if message.get("bytes") is None else message["bytes"]
            self.came.append(said)
            self.received.append(said)
            self._news.set()

    def _taken(self, message: bytes) -> bool:
        assert self._take is not None
        if not self._take(message):
            return False
        self.came.append(message)
        self._news.set()
        return True

    async def open(self) -> None:
        self.protocol.connection_made(self.transport)
        self.protocol.data_received(_HEAD)
        await settled()
        assert b" 101 " in self.transport.sent
        assert b"permessage-deflate" not in self.transport.sent  # it was offered, and is not negotiated
        self.transport.sent = b""

    async def until(self, count: int) -> None:
        """Wait until so many messages have come."""
        while len(self.came) < count:
            self._news.clear()
            await self._news.wait()

    async def read(self, pieces: Iterable[bytes], *, slowly: bool = True) -> None:
        """Read pieces, as the loop does: only while reading is not paused."""
        for piece in pieces:
            await self.transport.readable.wait()
            self.protocol.data_received(piece)
            if slowly:
                await settled()


async def settled() -> None:
    """Let everybody do all that they can do now."""
    for _ in range(20):
        await asyncio.sleep(0)


def served(work: Callable[[_Connection], Awaitable[None]], take: TakeMessage | None = None) -> None:
    """Work with a connection that is open."""

    async def run() -> None:
        connection = _Connection(take)
        await connection.open()
        await work(connection)
        connection.transport.closed = True
        connection.protocol.connection_lost(None)
        await settled()

    asyncio.run(run())


def in_pieces(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


def _always(message: bytes) -> bool:
    return True


def _seldom(message: bytes) -> bool:
    return len(message) % 3 == 0


_MESSAGES: list[bytes | str] = [
    b"first", b"", b"abc", "text", b"x" * 125, b"y" * 126, b"z" * 4000, b"six...", "more text", b"w" * 5000, b"",
    bytes(range(256)), b"last",
]  # fmt: skip
_SENT = b"".join(
    frame(message.encode(), _TEXT) if isinstance(message, str) else frame(message) for message in _MESSAGES
)
_IN_FRAGMENTS = (
    frame(b"one ", final=False)
    + frame(b"ping", _PING)
    + frame(b"message", _CONTINUATION, final=False)
    + frame(b"pong", _PONG)
    + frame(b"", _CONTINUATION)
    + frame(b"", final=False)
    + frame(b"two", _CONTINUATION)
    + frame(b"three")
)


@pytest.mark.parametrize("take", [None, _always, _seldom])
@pytest.mark.parametrize("size", [1, 3, 100, 4096, 5001, 10**6])
def test_messages_arrive_in_order_however_they_are_cut(size: int, take: TakeMessage | None) -> None:
    async def work(connection: _Connection) -> None:
        await connection.read(in_pieces(_SENT, size), slowly=size >= 100)
        await settled()
        assert connection.came == _MESSAGES
        assert connection.transport.reading

    served(work, take)


_LARGE_MESSAGES = [
    b"before", bytes(range(256)) * 256, b"between", random.Random(1).randbytes(70_001), b"after",
    random.Random(2).randbytes(_LIMIT), b"\0" * 65_535, b"last",
]  # fmt: skip


@pytest.mark.parametrize("take", [None, _always])
@pytest.mark.parametrize("size", [13, 1000, 4096, 5001, 65_537, 10**6])
def test_large_messages_arrive_in_order_however_they_are_cut(size: int, take: TakeMessage | None) -> None:
    sent = b"".join(frame(message, mask=b"\x01\x80\xff\x33") for message in _LARGE_MESSAGES)
    sent += frame(b"ping", _PING) + _IN_FRAGMENTS

    async def work(connection: _Connection) -> None:
        await connection.read(in_pieces(sent, size), slowly=size > 10_000)
        await connection.until(len(_LARGE_MESSAGES) + 3)
        assert connection.came == [*_LARGE_MESSAGES, b"one message", b"two", b"three"]
        assert connection.transport.sent == b"\x8a\x04ping" * 2
        await settled()
        assert connection.transport.reading

    served(work, take)


@pytest.mark.parametrize("size", [100, 1000, 4096])
def test_of_frames_that_are_cut_no_more_than_one_of_each_read_is_left_to_the_general_parser(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    left: list[int] = []
    parse = WebSocketsSansIOProtocol.data_received

    def note(self: WebSocketsSansIOProtocol, data: bytes) -> None:
        left.append(len(data))
        parse(self, data)

    messages = [b"%019d" % number for number in range(1000)]
    sent = b"".join(map(frame, messages))

    async def work(connection: _Connection) -> None:
        monkeypatch.setattr(WebSocketsSansIOProtocol, "data_received", note)
        await connection.read(in_pieces(sent, size))
        await settled()
        assert connection.came == messages

    served(work)
    assert sum(left) <= len(frame(messages[0])) * len(in_pieces(sent, size))


@pytest.mark.parametrize("begun", range(1, 14))
def test_a_large_message_is_never_left_to_the_general_parser_wherever_its_head_is_cut(
    begun: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: WebSocketsSansIOProtocol, data: bytes) -> None:
        raise AssertionError(len(data))

    async def work(connection: _Connection) -> None:
        monkeypatch.setattr(WebSocketsSansIOProtocol, "data_received", refuse)
        sent, message = frame(b"before"), bytes(range(256)) * 300
        large = frame(message)
        await connection.read([sent + large[:begun], large[begun:5000], large[5000:] + sent])
        await connection.until(3)
        assert connection.came == [b"before", message, b"before"]

    served(work)


def test_a_large_message_is_decoded_as_it_arrives_one_read_in_a_turn_of_the_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    added: list[int] = []
    add = LargeMessage.add

    def note(self: LargeMessage, data: bytes) -> int:
        added.append(add(self, data))
        return added[-1]

    monkeypatch.setattr(LargeMessage, "add", note)
    message = random.Random(1).randbytes(_LIMIT)

    async def work(connection: _Connection) -> None:
        for at, piece in enumerate(in_pieces(frame(message), 20_000), 1):
            reading = [connection.transport.reading]
            connection.protocol.data_received(piece)
            assert [*reading, connection.transport.reading] == [True, False]
            assert sum(added) == min(20_000 * at - 14, _LIMIT)
            await settled()
        assert connection.came == [message]

    served(work)


@pytest.mark.parametrize("begun", [14, 30_000])
def test_a_large_message_that_is_not_finished_is_none(begun: int) -> None:
    async def left(connection: _Connection) -> None:
        await connection.read([frame(b"before"), frame(bytes(_LIMIT))[:begun]])
        assert connection.came == [b"before"]

    async def closed(connection: _Connection) -> None:
        assert connection.send is not None
        large = frame(b"x" * _LIMIT)
        await connection.read([frame(b"before"), large[:begun]])
        await connection.send({"type": "websocket.close", "code": 1013})
        await connection.read([large[begun:] + frame(b"after")])
        assert connection.came == [b"before", 1013]

    served(left)
    served(closed)


@pytest.mark.parametrize("take", [None, _always, _seldom])
@pytest.mark.parametrize("size", [1, 2, 5, 10**6])
def test_fragments_are_one_message_with_control_frames_between(size: int, take: TakeMessage | None) -> None:
    async def work(connection: _Connection) -> None:
        await connection.read(in_pieces(_IN_FRAGMENTS * 2, size), slowly=size > 10)
        await settled()
        assert connection.came == [b"one message", b"two", b"three"] * 2
        assert connection.transport.sent == b"\x8a\x04ping" * 2

    served(work, take)


def test_the_first_message_of_a_read_is_taken_in_at_once_while_nobody_is_before_it() -> None:
    async def work(connection: _Connection) -> None:
        connection.protocol.data_received(frame(b"1"))
        assert connection.came == [b"1"]
        assert connection.transport.pauses == 0  # nothing waits, so reading goes on
        connection.protocol.data_received(frame(b"2") + frame(b"3") + frame(b"4"))
        assert connection.came == [b"1", b"2"]
        connection.protocol.data_received(frame(b"5"))  # behind 3 and 4, which wait
        assert connection.came == [b"1", b"2"]
        assert not connection.transport.reading
        await settled()
        assert connection.came == [b"1", b"2", b"3", b"4", b"5"]
        assert connection.received == [b"3", b"4", b"5"]
        assert connection.transport.reading
        connection.protocol.data_received(frame(b"6"))
        assert connection.came[-1] == b"6"

    served(work, _always)


def test_nothing_is_taken_in_while_the_application_is_busy_and_reading_pauses() -> None:
    async def work(connection: _Connection) -> None:
        connection.may_receive.clear()
        connection.protocol.data_received(frame(b"1") + frame(b"2"))
        await settled()
        assert connection.came == [b"1", b"2"]  # it awaited one message, and is busy with it now
        for number in b"34":
            connection.protocol.data_received(frame(bytes([number])))
            assert not connection.transport.reading
        await settled()
        assert connection.came == [b"1", b"2"]
        connection.may_receive.set()
        await settled()
        assert connection.came == [b"1", b"2", b"3", b"4"]
        assert connection.transport.reading

    served(work, _always)


def test_a_flood_waits_outside() -> None:
    async def work(connection: _Connection) -> None:
        connection.may_receive.clear()
        flood = frame(bytes(1000)) * 1000
        at = 0
        for piece in in_pieces(flood, 4000):
            if not connection.transport.reading:
                break
            connection.protocol.data_received(piece)
            at += len(piece)
        assert at <= 2 * 4000
        connection.may_receive.set()
        await connection.read(in_pieces(flood[at:], 65_536))
        await connection.until(1000)
        assert connection.came == [bytes(1000)] * 1000

    served(work, lambda message: False)


def test_a_message_has_the_largest_size_and_no_more() -> None:
    async def work(connection: _Connection) -> None:
        await connection.read(in_pieces(frame(bytes(_LIMIT)), 65_536))
        await connection.until(1)
        assert connection.came == [bytes(_LIMIT)]
        await connection.read([frame(bytes(_LIMIT + 1))[:14]])
        assert connection.transport.sent[:4] == b"\x88\x1a\x11\x3d"  # 4413
        await connection.read([frame(b"more")])
        assert connection.came == [bytes(_LIMIT), 1009]

    served(work, _always)


def test_a_small_limit_holds_for_small_messages() -> None:
    async def work(connection: _Connection) -> None:
        connection.protocol.config.ws_max_size = 10
        connection.protocol.conn.max_message_size = 10
        await connection.read([frame(b"x" * 10) + frame(b"y" * 11)])
        assert connection.came == [b"x" * 10, 1009]
        assert connection.transport.sent[:4] == b"\x88\x1a\x11\x3d"

    served(work, _always)


@pytest.mark.parametrize(
    ("refused", "code"),
    [
        (bytes([0x82 | 0x40]) + frame(b"said to be compressed")[1:], 1002),
        (b"\x82\x04none", 1002),
        (frame(b"of nothing", _CONTINUATION), 1002),
        (frame(b"begun", final=False) + frame(b"and another one"), 1002),
        (frame(b"\xff\xfe", _TEXT), 1007),
    ],
)
@pytest.mark.parametrize("size", [1, 10**6])
def test_what_breaks_the_protocol_ends_the_connection(refused: bytes, code: int, size: int) -> None:
    async def work(connection: _Connection) -> None:
        await connection.read(in_pieces(frame(b"before") + refused, size))
        assert connection.came[0] == b"before"
        sent = connection.transport.sent
        assert (sent[0], int.from_bytes(sent[2:4])) == (0x88, code)
        connection.protocol.data_received(frame(b"after"))
        await settled()
        assert b"after" not in connection.came

    served(work, _always)


@pytest.mark.parametrize("size", [1, 10**6])
def test_nothing_is_taken_in_after_a_close(size: int) -> None:
    async def of_the_client(connection: _Connection) -> None:
        await connection.read(in_pieces(frame(b"before") + frame(b"\x03\xe8", _CLOSE) + frame(b"after"), size))
        assert connection.came == [b"before", 1000]
        assert connection.transport.sent == b"\x88\x02\x03\xe8"

    async def of_the_gateway(connection: _Connection) -> None:
        assert connection.send is not None
        await connection.read([frame(b"before") + frame(b"begun")[:3]])
        await connection.send({"type": "websocket.close", "code": 1013})
        await connection.read(in_pieces(frame(b"begun")[3:] + frame(b"after"), size))
        assert connection.came == [b"before", 1013]
        assert connection.transport.sent == b"\x88\x02\x03\xf5"

    served(of_the_client, _always)
    served(of_the_gateway, _always)


def test_a_failure_to_take_in_ends_the_connection() -> None:
    def fail(message: bytes) -> bool:
        raise ZeroDivisionError

    async def work(connection: _Connection) -> None:
        connection.protocol.data_received(frame(b"any"))
        assert connection.transport.closed

    served(work, fail)


def test_messages_right_behind_the_handshake_are_received() -> None:
    async def run() -> None:
        connection = _Connection(_always)
        connection.protocol.connection_made(connection.transport)
        connection.protocol.data_received(_HEAD)
        connection.protocol.data_received(frame(b"early") + frame(b"begun")[:4])  # it is not accepted yet
        await settled()
        await connection.read([frame(b"begun")[4:], frame(b"late")])
        assert connection.came == [b"early", b"begun", b"late"]
        connection.transport.closed = True
        connection.protocol.connection_lost(None)
        await settled()

    asyncio.run(run())


def test_a_long_head_ends_where_it_ends() -> None:
    async def run() -> None:
        connection = _Connection(_always)
        connection.protocol.connection_made(connection.transport)
        head = _HEAD[:-2] + b"".join(b"X-%d: %b\r\n" % (number, b"x" * 500) for number in range(20)) + b"\r\n"
        connection.protocol.data_received(head)
        connection.protocol.data_received(frame(b"early"))
        await settled()
        await connection.read([frame(b"late")])
        assert connection.came == [b"early", b"late"]
        connection.transport.closed = True
        connection.protocol.connection_lost(None)
        await settled()

    asyncio.run(run())


async def _crowd(turn: SharedTurn) -> list[_Connection]:
    """Open connections in a turn that is over then."""
    connections = [_Connection(None, turn) for _ in range(40)]
    for each in connections:
        await each.open()
    while not turn.is_over():
        pass
    return connections


def test_many_who_speak_at_once_wait_for_their_turn_and_are_read_from_meanwhile() -> None:
    async def run() -> None:
        turn = SharedTurn(TickingClock(0.0005))
        connections = await _crowd(turn)
        for _ in range(2):
            for each in connections:
                each.protocol.data_received(frame(b"said"))
        assert all(each.transport.pauses == 0 for each in connections)  # what is read is short

        def heard() -> int:
            return sum(map(len, (each.came for each in connections)))

        assert heard() == 0
        while (before := heard()) < 80:
            await asyncio.sleep(0)
            assert heard() - before <= 10
        assert all(each.came == [b"said"] * 2 for each in connections)
        while not turn.is_over():
            pass
        (first, *_) = connections
        first.protocol.data_received(frame(bytes(5000)))
        assert not first.transport.reading
        await settled()
        assert first.transport.reading
        assert first.came[2:] == [bytes(5000)]
        for each in connections:
            each.transport.closed = True
            each.protocol.connection_lost(None)
        await settled()

    asyncio.run(run())


def test_many_who_leave_at_once_are_let_go_in_several_turns() -> None:
    async def run() -> None:
        turn = SharedTurn(TickingClock(0.0005))
        connections = await _crowd(turn)
        for each in connections:
            each.transport.closed = True
            each.protocol.connection_lost(None)

        def left() -> int:
            return sum(each.protocol.disconnected for each in connections)

        assert left() == 0
        while (before := left()) < 40:
            await asyncio.sleep(0)
            assert left() - before <= 5
        await settled()
        assert [each.came for each in connections] == [[1005]] * 40

    asyncio.run(run())
