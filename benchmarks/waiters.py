"""(g) What those who wait cost, and how soon all of them know.

1,000 and 10,000 clients, each on a connection of its own, wait for a change of one project: by long polls, or on event
streams. Compared with the smallest raw ASGI application on the same uvicorn that holds as many, and tells all of them
the same bytes after one write; it has no cursors, no filters, no deadlines.

Memory is that of the server's process beyond what it has before the first of them connects: the connection is part of
it. Times are from the acknowledgement of the write to the first, the median and the last client that has the news. A
client that is not told ends the benchmark. Idle is the server's CPU while all wait and nobody writes, for longer than
an event stream is silent.
"""

import resource
import select
import socket
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from types import TracebackType
from typing import Self

from benchmarks.documents import PROJECT, keystrokes
from benchmarks.harness import Aim, Plan, Row, compare, folder, take_turns
from benchmarks.load import complete, fetch, request
from benchmarks.servers import CLIENT_CORE, Server, baseline, gateway, on_core

_URL = f"/api/projects/{PROJECT}"
_PATIENCE_S = 60.0
_MOST_ROUNDS = 3
"""It takes its time to connect so many."""
_SLOWER_THAN_THE_SMALLEST = Aim("<=", 1.15)
_Done = Callable[[bytes], bool]


def run(plan: Plan) -> Iterator[Row]:
    """Measure."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    plan = replace(plan, rounds=min(plan.rounds, _MOST_ROUNDS))
    for streams in (False, True):
        for count in plan.size((1_000, 10_000), (20,)):
            yield from _compared(plan, count, streams=streams)


@dataclass(frozen=True)
class _Held:
    """What came of one crowd that waited. Times are milliseconds."""

    bytes_each: float
    idle_percent: float
    first: float
    median: float
    last: float


def _compared(plan: Plan, count: int, *, streams: bool) -> Iterator[Row]:
    taken = take_turns(
        plan,
        {
            "ours": partial(_measure, plan, count, _Gateway, streams),
            "smallest": partial(_measure, plan, count, _Smallest, streams),
        },
    )
    what = f"{count:,} {'event streams' if streams else 'long polls'}"

    def row(name: str, unit: str, figure: str, aim: Aim | None = None) -> Row:
        ours, theirs = ([getattr(held, figure) for held in taken[who]] for who in ("ours", "smallest"))
        return compare(f"{what}, {name}", unit, ours, "smallest ASGI", theirs, aim=aim)

    yield row("memory of each with its connection", "B", "bytes_each", Aim("<=", 10 * 1024, of="ours"))
    yield row("first woken", "ms", "first")
    yield row("median woken", "ms", "median")
    yield row("last woken", "ms", "last", _SLOWER_THAN_THE_SMALLEST)
    idle = [held.idle_percent for held in taken["ours"]]
    theirs = [max(held.idle_percent, 0.001) for held in taken["smallest"]]
    yield compare(f"{what}, CPU while idle", "%", idle, "smallest ASGI", theirs, aim=Aim("<=", 1, of="ours"))


class _Gateway:
    """The gateway, and how one waits there."""

    def __init__(self, stack: ExitStack, *, streams: bool) -> None:
        self.server = stack.enter_context(gateway(stack.enter_context(folder()) / "gateway.db"))
        self._updates = iter(keystrokes(100))
        self._streams = streams
        self.write()

    def write(self) -> None:
        update = next(self._updates)
        self._cursor = fetch(self.server, request("PATCH", f"{_URL}/files/a.md", update)).json()["cursor"]

    def question(self) -> bytes:
        if self._streams:
            return request("GET", f"{_URL}/changes?since={self._cursor}", accept="text/event-stream")
        return request("GET", f"{_URL}/changes?since={self._cursor}&wait=50")

    def waiting(self) -> int:
        figures = fetch(self.server, request("GET", "/metrics")).body.decode()
        (line,) = (line for line in figures.splitlines() if line.startswith("gateway_waiters "))
        return int(float(line.split()[1]))


class _Smallest:
    """The smallest application that does it, with the bytes that the gateway sends."""

    def __init__(self, stack: ExitStack, *, streams: bool) -> None:
        entry = '{"kind":"file","path":"a.md","last_modified":"2025-01-06T10:00:00.000Z","version":2,'
        entry += '"change_type":"modified"}'
        cursor = "0123456789.2"
        answer = f'{{"changes":[{entry}],"cursor":"{cursor}","more":false}}'
        event = f"id: {cursor}\nevent: change\ndata: {entry}\n\n"
        self.server: Server = stack.enter_context(baseline("hold", answer=answer, event=event, tag=f'"{cursor}"'))
        self._streams = streams

    def write(self) -> None:
        fetch(self.server, request("POST", "/write"))

    def question(self) -> bytes:
        return request("GET", "/stream" if self._streams else "/wait")

    def waiting(self) -> int:
        return int(fetch(self.server, request("GET", "/waiting")).body)


def _measure(plan: Plan, count: int, kind: type[_Gateway] | type[_Smallest], streams: bool) -> _Held:
    with ExitStack() as stack:
        held = kind(stack, streams=streams)
        fetch(held.server, request("GET", "/healthz" if kind is _Gateway else "/waiting"))
        before = held.server.resident_bytes()
        stack.enter_context(on_core(CLIENT_CORE))
        crowd = stack.enter_context(Crowd(held.server.port, count))
        _wait_again(held, crowd, count, streams=streams)
        bytes_each = (held.server.resident_bytes() - before) / count
        idle = _idle_percent(held.server, plan.size(16.0 if streams else 3.0, 0.1))
        wakes = []
        for number in range(plan.size(5, 1)):
            if number and not streams:
                _wait_again(held, crowd, count, streams=False)
            held.write()
            written = time.perf_counter()
            times = crowd.gather(_event_is_there if streams else complete)
            wakes.append([(then - written) * 1e3 for then in sorted(times)])
    first, median, last = (statistics.median(wake[place] for wake in wakes) for place in (0, count // 2, -1))
    return _Held(bytes_each, idle, first, median, last)


def _wait_again(held: _Gateway | _Smallest, crowd: "Crowd", count: int, *, streams: bool) -> None:
    """Let all ask, and return when the server holds them."""
    crowd.send(held.question())
    if streams:
        crowd.gather(_is_ready)
    deadline = time.monotonic() + _PATIENCE_S
    while (waiting := held.waiting()) != count:
        if time.monotonic() > deadline:
            raise RuntimeError(f"{waiting} of {count} wait")
        time.sleep(0.02)


def _is_ready(received: bytes) -> bool:
    return b"event: ready" in received and received.endswith(b"\n\n\r\n")


def _event_is_there(received: bytes) -> bool:
    return b"event: change" in received and received.endswith(b"\n\n\r\n")


def _idle_percent(server: Server, seconds: float) -> float:
    cpu, started = server.cpu_seconds(), time.perf_counter()
    time.sleep(seconds)
    return (server.cpu_seconds() - cpu) / (time.perf_counter() - started) * 100


class Crowd:
    """Clients, each with a connection."""

    def __init__(self, port: int, count: int) -> None:
        self._sockets = [socket.create_connection(("127.0.0.1", port), _PATIENCE_S) for _ in range(count)]

    def send(self, message: bytes) -> None:
        for connection in self._sockets:
            connection.sendall(message)

    def gather(self, done: _Done) -> list[float]:
        """When each had all that it waits for.

        Raises:
            RuntimeError: somebody was not told, or not what was expected.
        """
        times, parts = list[float](), dict[int, bytes]()
        with select.epoll() as waiting:
            connections = {connection.fileno(): connection for connection in self._sockets}
            for number in connections:
                waiting.register(number, select.EPOLLIN)
            while len(times) < len(connections):
                ready = waiting.poll(_PATIENCE_S)
                if not ready:
                    raise RuntimeError(f"{len(connections) - len(times)} of {len(connections)} were not told")
                for number, _ in ready:
                    received = parts.pop(number, b"") + connections[number].recv(65536)
                    now = time.perf_counter()
                    if done(received):
                        times.append(now)
                        waiting.unregister(number)
                    elif not received:
                        raise RuntimeError("the server closed a connection")
                    else:
                        parts[number] = received
        return times

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for connection in self._sockets:
            connection.close()
