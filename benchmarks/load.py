"""A load generator light enough to saturate a server: raw sockets, prepared bytes, one request at a time on each."""

import contextlib
import gc
import json
import select
import socket
import statistics
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.harness import Aim, Row, compare
from benchmarks.servers import CLIENT_CORE, Server, on_core

_PATIENCE_S = 60.0


def request(method: str, path: str, body: bytes = b"", **headers: str) -> bytes:
    """A request as bytes. Underscores in the names of headers become hyphens."""
    lines = [f"{method} {path} HTTP/1.1", "host: 127.0.0.1"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    if method not in ("GET", "HEAD"):
        lines.append(f"content-length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


@dataclass(frozen=True)
class Answer:
    """An answer, as it came."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str:
        return next(value for found, value in self.headers if found == name)

    def json(self) -> Any:
        return json.loads(self.body)


class _Connection:
    """A connection with at most one request under way."""

    __slots__ = ("buffer", "requests", "sent", "socket")

    def __init__(self, port: int, requests: Iterator[bytes]) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), _PATIENCE_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.requests = requests
        self.buffer = b""
        self.sent = 0.0

    def exchange(self, message: bytes) -> bytes:
        """Send a request and wait for its answer."""
        self.socket.sendall(message)
        answer = b""
        while not complete(answer):
            received = self.socket.recv(2**20)
            if not received:
                raise RuntimeError(f"the server closed the connection after {answer[:200]!r}")
            answer += received
        return answer


def complete(answer: bytes) -> bool:
    """Whether an answer is all there. Chunked ones are not understood; nothing here is answered so."""
    head = answer.find(b"\r\n\r\n")
    if head < 0:
        return False
    start = answer.find(b"content-length: ", 0, head)
    length = int(answer[start + 16 : answer.find(b"\r", start)]) if start >= 0 else 0
    return len(answer) >= head + 4 + length


def fetch(server: Server, message: bytes) -> Answer:
    """The answer to one request, on a connection of its own.

    Raises:
        RuntimeError: it is a problem.
    """
    connection = _Connection(server.port, iter(()))
    with connection.socket:
        answer = connection.exchange(message)
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    status = int(first.split()[1])
    if status >= 400:
        raise RuntimeError(f"{message[:100]!r} was answered {status}: {body[:300]!r}")
    pairs = (line.partition(": ") for line in lines)
    return Answer(status, [(name.lower(), value) for name, _, value in pairs], body)


@dataclass(frozen=True)
class Load:
    """What came of a server under load. Times are seconds."""

    per_second: float
    median: float
    p99: float
    cpu: float
    """The server's CPU time for one request."""
    client_busy: float
    """How much of the time the load generator was running: near 1, it is what was measured."""
    answers: int
    received: int
    """The bytes of the answers."""


def put_under_load(
    server: Server, streams: Sequence[Iterable[bytes]], *, seconds: float, statuses: Collection[int] = (200,)
) -> Load:
    """Send the requests of each stream on a connection of its own, one after the other, until the time is up or all
    streams have ended. The first request of each comes before the clock starts.

    Raises:
        RuntimeError: an answer has none of `statuses`: an error is not a figure.
    """
    expected = {str(status).encode() for status in statuses}
    with contextlib.ExitStack() as stack, on_core(CLIENT_CORE):
        connections = {}
        for stream in streams:
            connection = _Connection(server.port, iter(stream))
            stack.enter_context(connection.socket)
            _check(connection.exchange(next(connection.requests)), expected)
            connections[connection.socket.fileno()] = connection
        gc.collect()
        gc.disable()
        try:
            cpu, busy, started = server.cpu_seconds(), time.process_time(), time.perf_counter()
            latencies, received, ended = _drive(connections, expected, started + seconds)
            busy, cpu = time.process_time() - busy, server.cpu_seconds() - cpu
        finally:
            gc.enable()
    latencies.sort()
    answers, elapsed = len(latencies), ended - started
    return Load(
        per_second=answers / elapsed,
        median=latencies[answers // 2],
        p99=latencies[answers * 99 // 100],
        cpu=cpu / answers,
        client_busy=busy / elapsed,
        answers=answers,
        received=received,
    )


def _check(answer: bytes, expected: set[bytes]) -> None:
    if answer[9:12] not in expected:
        raise RuntimeError(f"unexpected answer: {answer[:500]!r}")


def _drive(
    connections: dict[int, _Connection], expected: set[bytes], deadline: float
) -> tuple[list[float], int, float]:
    """The latencies, the bytes that came, and when the last answer came."""
    clock, latencies, size, ended = time.perf_counter, list[float](), 0, 0.0
    with select.epoll() as waiting:
        for number, connection in connections.items():
            waiting.register(number, select.EPOLLIN)
            message = next(connection.requests)
            connection.sent = clock()
            connection.socket.sendall(message)
        active = len(connections)
        while active:
            ready = waiting.poll(_PATIENCE_S)
            if not ready:
                raise RuntimeError(f"{active} requests are not answered")
            for number, _ in ready:
                connection = connections[number]
                received = connection.socket.recv(2**20)
                if not received:
                    raise RuntimeError("the server closed a connection")
                if connection.buffer:
                    received = connection.buffer + received
                if not complete(received):
                    connection.buffer = received
                    continue
                connection.buffer = b""
                size += len(received)
                ended = clock()
                latencies.append(ended - connection.sent)
                _check(received, expected)
                message = next(connection.requests, b"") if ended < deadline else b""
                if message:
                    connection.sent = clock()
                    connection.socket.sendall(message)
                else:
                    active -= 1
    return latencies, size, ended


def compare_rates(
    what: str, ours: Sequence[Load], baseline: str, theirs: Sequence[Load], *, aim: Aim | None = None
) -> Row:
    """A row of two servers that took turns under the same load, in requests a second."""
    return compare(
        what,
        "req/s",
        [load.per_second for load in ours],
        baseline,
        [load.per_second for load in theirs],
        aim=aim,
        details=_details(ours, theirs, inverse=True),
    )


def compare_times(
    what: str,
    ours: Sequence[Load],
    baseline: str,
    theirs: Sequence[Load],
    *,
    aim: Aim | None = None,
    inverse: bool = False,
) -> Row:
    """The same, in the time that the server, kept busy, takes for one request."""
    return compare(
        what,
        "µs",
        [1e6 / load.per_second for load in ours],
        baseline,
        [1e6 / load.per_second for load in theirs],
        aim=aim,
        inverse=inverse,
        details=_details(ours, theirs, inverse=inverse),
    )


def _details(ours: Sequence[Load], theirs: Sequence[Load], *, inverse: bool) -> dict[str, Any]:
    costs = [(a.cpu, b.cpu) for a, b in zip(ours, theirs, strict=True)]
    return {
        "cpu_ratio": statistics.median(b / a if inverse else a / b for a, b in costs),
        "load": {"ours": _describe(ours), "baseline": _describe(theirs)},
    }


def _describe(loads: Sequence[Load]) -> dict[str, float]:
    """The medians of the rounds. Times are microseconds."""
    return {
        "median_us": statistics.median(load.median for load in loads) * 1e6,
        "p99_us": statistics.median(load.p99 for load in loads) * 1e6,
        "server_cpu_us": statistics.median(load.cpu for load in loads) * 1e6,
        "client_busy": statistics.median(load.client_busy for load in loads),
    }
