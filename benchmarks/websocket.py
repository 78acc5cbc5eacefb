"""(h) How soon a keystroke in a room has reached those who read it.

One writer and 1, 100 or 1,000 readers in one room, all on one and the same client program: raw sockets that speak
y-websocket. Each keystroke is sent when the one before has arrived everywhere, and not sooner than the gateway's window
of 50 ms, as somebody types; the time is from its sending to its arrival at the only reader, or at the last of them.
What the gateway sends is durable by then.

Compared with npm's `@hocuspocus/server` (its protocol names the document in each message, and lets a client in after
it has shown a token) and `@y/websocket-server`, in memory and with `y-leveldb`, where there is npm to install them; and
with `pycrdt-websocket`'s own server, up to 100 readers: 1,000 that join one of its rooms take minutes. All of them send
an edit on before they store it, or store nothing.

The others do not wait for a disk. What that takes alone is measured too: one commit of sqlite3, after such a pause.

Memory is what the server's process grows by with each reader that joins.
"""

import select
import shutil
import socket
import sqlite3
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from benchmarks.documents import PROJECT, keystrokes
from benchmarks.harness import Aim, Plan, Row, compare, folder, take_turns
from benchmarks.servers import CLIENT_CORE, SERVER_CORE, Server, baseline, gateway, on_core, rooms_in_node

_PATIENCE_S = 60.0
_PAUSE_S = 0.06
"""Between two keystrokes: longer than the gateway's window."""
_MOST_ROUNDS = 5
_ROOM = "room"
_NO_MORE_THAN = 100
"""Readers of pycrdt-websocket."""


def run(plan: Plan) -> Iterator[Row]:
    """Measure."""
    plan = replace(plan, rounds=min(plan.rounds, _MOST_ROUNDS))
    for readers in plan.size((1, 100, 1_000), (1, 3)):
        yield from _compared(plan, readers)


@dataclass(frozen=True)
class _Server:
    """A server of rooms: how it is started, and where its rooms are."""

    name: str
    path: str
    document: str = ""
    """What each message begins with."""
    most_readers: int = 1_000_000

    in_node: bool = True

    def start(self, data: Path) -> Server:
        if self.in_node:
            return rooms_in_node(self.name, data)
        return gateway(data / "gateway.db") if self is _OURS else baseline("pycrdt_rooms")


_OURS = _Server("ours", f"/api/projects/{PROJECT}/ws/{_ROOM}", in_node=False)
_OTHERS = (
    _Server("hocuspocus", "/", document=_ROOM),
    _Server("websocket-server", f"/{_ROOM}"),
    _Server("leveldb", f"/{_ROOM}"),
    _Server("pycrdt-websocket", f"/{_ROOM}", most_readers=_NO_MORE_THAN, in_node=False),
)


@dataclass(frozen=True)
class _Delivered:
    """What came of one room."""

    milliseconds: float
    """The median over the keystrokes."""
    bytes_each: float


def _compared(plan: Plan, readers: int) -> Iterator[Row]:
    servers = [server for server in (_OURS, *_OTHERS) if readers <= server.most_readers]
    if shutil.which("npm") is None:
        servers = [server for server in servers if not server.in_node]
    candidates = {server.name: partial(_measure, plan, server, readers) for server in servers}
    if readers == 1:
        candidates["a bare commit"] = partial(_commit, plan)
    taken = take_turns(plan, candidates)
    what = "to one reader" if readers == 1 else f"to the last of {readers:,} readers"
    ours = [delivered.milliseconds for delivered in taken["ours"]]
    if readers == 1:
        yield compare(what, "ms", ours, "a bare commit", [each.milliseconds for each in taken["a bare commit"]])
    aims = {1: Aim("<=", 1.2, of="ours"), 1_000: Aim("<=", 1.0)}
    for server in servers[1:]:
        theirs = [delivered.milliseconds for delivered in taken[server.name]]
        yield compare(what, "ms", ours, server.name, theirs, aim=aims.get(readers))
    if readers == max(plan.size((1_000,), (3,))):
        memory = {name: [delivered.bytes_each / 1024 for delivered in each] for name, each in taken.items()}
        for server in servers[1:]:
            aim = Aim("<=", 30, of="ours")
            yield compare("memory of each connection", "KB", memory["ours"], server.name, memory[server.name], aim=aim)


def _measure(plan: Plan, server: _Server, readers: int) -> _Delivered:
    count = plan.size(25, 2)
    with ExitStack() as stack:
        process = stack.enter_context(server.start(stack.enter_context(folder())))
        port = process.port
        stack.enter_context(on_core(CLIENT_CORE))
        writer = stack.enter_context(_Client(port, server))
        before = process.resident_bytes()
        crowd = [stack.enter_context(_Client(port, server)) for _ in range(readers)]
        bytes_each = max(1.0, (process.resident_bytes() - before) / readers)
        times = []
        for update in keystrokes(count):
            time.sleep(_PAUSE_S)
            started = time.perf_counter()
            writer.send(b"\0\2" + _bytes(update))
            times.append((_last_has_update([writer, *crowd], readers) - started) * 1e3)
    return _Delivered(statistics.median(times[count // 5 :]), bytes_each)


def _commit(plan: Plan) -> _Delivered:
    """What sqlite3 by itself takes to make a keystroke durable after such a pause, when disk and caches have cooled."""
    with folder() as data, closing(sqlite3.connect(data / "log.db", isolation_level=None)) as log, on_core(SERVER_CORE):
        for statement in ("PRAGMA journal_mode = WAL", "PRAGMA synchronous = FULL", "CREATE TABLE log (body)"):
            log.execute(statement)
        times = []
        for update in keystrokes(plan.size(25, 2)):
            time.sleep(_PAUSE_S)
            started = time.perf_counter()
            log.execute("INSERT INTO log VALUES (?)", (update,))
            times.append((time.perf_counter() - started) * 1e3)
    return _Delivered(statistics.median(times), 0.0)


def _last_has_update(clients: "Sequence[_Client]", readers: int) -> float:
    """When the last but the first of the clients, who wrote it, has been sent an edit. What the writer is sent is read,
    and is not waited for.

    Raises:
        RuntimeError: somebody was not sent it.
    """
    by_number = {client.number: client for client in clients}
    writer, told = clients[0].number, 0
    with select.epoll() as waiting:
        for number in by_number:
            waiting.register(number, select.EPOLLIN)
        while True:
            ready = waiting.poll(_PATIENCE_S)
            if not ready:
                raise RuntimeError(f"{readers - told} of {readers} readers were not sent an edit")
            for number, _ in ready:
                is_edit = any(_is_edit(message) for message in by_number[number].receive())
                told += is_edit and number != writer
            if told == readers:
                return time.perf_counter()


def _is_edit(message: bytes) -> bool:
    return message[:2] == b"\0\2"


class _Client:
    """A WebSocket (RFC 6455) in a room, as a provider is after it has synced."""

    def __init__(self, port: int, server: _Server) -> None:
        self._prefix = _bytes(server.document.encode()) if server.document else b""
        self._socket = socket.create_connection(("127.0.0.1", port), _PATIENCE_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.number = self._socket.fileno()
        self._buffer = b""
        self._shake_hands(server.path)
        if server.document:
            self.send(b"\2\0" + _bytes(b"token") + _bytes(b"4.7.0"))
        self.send(b"\0\0\1\0")  # sync step 1, of an empty document
        while not any(message[:2] == b"\0\1" for message in self.receive()):
            pass

    def _shake_hands(self, path: str) -> None:
        head = [f"GET {path} HTTP/1.1", "Host: 127.0.0.1", "Upgrade: websocket", "Connection: Upgrade"]
        head += ["Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "", ""]
        self._socket.sendall("\r\n".join(head).encode())
        while b"\r\n\r\n" not in self._buffer:
            self._buffer += self._read()
        answer, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        if b" 101 " not in answer.partition(b"\r\n")[0]:
            raise RuntimeError(f"the room was refused: {answer!r}")

    def send(self, message: bytes) -> None:
        self._send_frame(0x82, self._prefix + message)

    def _send_frame(self, head: int, payload: bytes) -> None:
        size = len(payload)
        length = bytes([0x80 | size]) if size < 126 else b"\xfe" + size.to_bytes(2, "big")
        self._socket.sendall(bytes([head]) + length + bytes(4) + payload)

    def receive(self) -> list[bytes]:
        """The messages that are complete after some more bytes came."""
        self._buffer += self._read()
        messages, at = [], 0
        while (frame := self._frame(at)) is not None:
            start, end = frame
            if self._buffer[at] == 0x89:
                self._send_frame(0x8A, self._buffer[start:end])
            elif self._buffer[at] == 0x82:
                messages.append(self._buffer[start:end].removeprefix(self._prefix))
            else:
                raise RuntimeError(f"the server sent {self._buffer[at:end]!r}")
            at = end
        self._buffer = self._buffer[at:]
        return messages

    def _frame(self, at: int) -> tuple[int, int] | None:
        """Where the payload of the frame there begins and ends, if it is all there."""
        if len(self._buffer) < at + 2:
            return None
        size, start = self._buffer[at + 1], at + 2
        if size >= 126:
            start += 2 if size == 126 else 8
            size = int.from_bytes(self._buffer[at + 2 : start], "big")
        return (start, start + size) if len(self._buffer) >= start + size else None

    def _read(self) -> bytes:
        received = self._socket.recv(65536)
        if not received:
            raise RuntimeError("the server closed a connection")
        return received

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()


def _bytes(content: bytes) -> bytes:
    """Bytes after their length, as lib0 writes them."""
    size, length = len(content), bytearray()
    while size > 0x7F:
        length.append(0x80 | (size & 0x7F))
        size >>= 7
    length.append(size)
    return bytes(length) + content
