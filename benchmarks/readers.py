"""(p) What 10,000 webhooks cost that have nothing to be sent, and how soon 1,000 of them have a change.

Idle: two gateways are started, on a database whose project has 10,000 webhooks and on one whose project has none, and
answer a poll. Their memory is compared; the details have the CPU time of a minute (`idle_ms`).

A change: a file is written that 1,000 of the 10,000 webhooks want. The time is from the first message that the receiver
gets to the last one. Beside it stands the smallest sender: the same client library, as many connections, the same size
and signature, but no database, no feed, no order. Both have the server's core, and the receiver the other one. All
webhooks have one receiver, to which a gateway sends 8 messages at once.
"""

import sqlite3
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from benchmarks.documents import PROJECT
from benchmarks.harness import Aim, Plan, Row, compare, folder, take_turns
from benchmarks.servers import CLIENT_CORE, Server, gateway, on_core

_URL = f"/api/projects/{PROJECT}"
_SETTINGS = {"GATEWAY_HOOK_HOSTS": "127.0.0.1", "GATEWAY_READERS": 20_000}
_MESSAGE_BYTES = 350


def run(plan: Plan) -> Iterator[Row]:
    """Measure."""
    plan = replace(plan, rounds=min(plan.rounds, 5))
    count, wanting = plan.size((10_000, 1_000), (60, 10))
    with folder() as data, on_core(CLIENT_CORE), Server("benchmarks.receiver") as receiver:
        full, empty = data / "full.db", data / "empty.db"
        _fill(full, receiver.port, count, wanting)
        _fill(empty, receiver.port, 0, 0)
        yield _idle(plan, full, empty, count)
        with gateway(full, **_SETTINGS) as server:
            yield _one_change(plan, server, receiver.port, count, wanting)


def _fill(database: Path, receiver: int, count: int, wanting: int) -> None:
    """A project with webhooks, which have nothing to be sent."""
    with gateway(database, **_SETTINGS) as server:
        _put(server, "wanted.md", b"0")
        for number in range(count):
            path = b"wanted.md" if number < wanting else b"other.md"
            body = b'{"url":"http://127.0.0.1:%d/","filter":{"paths":["%b"]}}' % (receiver, path)
            _send(server, "PUT", f"/hooks/{number}", body)
        _send(server, "GET", f"/hooks/{count - 1}" if count else "/hooks", b"")
        while _behind(database):
            time.sleep(0.05)


def _behind(database: Path) -> int:
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
        (count,) = connection.execute("SELECT count(*) FROM reader WHERE stage <> 'idle'").fetchone()
    connection.close()
    return int(count)


def _put(server: Server, path: str, text: bytes) -> None:
    _send(server, "PUT", f"/files/{path}", text, "text/plain")


def _send(server: Server, method: str, path: str, body: bytes, media_type: str = "application/json") -> None:
    url = f"http://127.0.0.1:{server.port}{_URL}{path}"
    headers = {"Content-Type": media_type} if body else {}
    with urllib.request.urlopen(urllib.request.Request(url, body or None, headers, method=method)) as answer:
        answer.read()


def _idle(plan: Plan, full: Path, empty: Path, count: int) -> Row:
    seconds = plan.size(20.0, 0.2)
    idle_ms: dict[str, float] = {}

    def megabytes(database: Path) -> float:
        with gateway(database, **_SETTINGS) as server:
            _send(server, "GET", "/changes", b"")
            before = server.cpu_seconds()
            time.sleep(seconds)
            idle_ms[database.stem] = (server.cpu_seconds() - before) / seconds * 60_000
            return server.resident_bytes() / 2**20

    taken = take_turns(
        replace(plan, rounds=min(plan.rounds, 3)), {"full": lambda: megabytes(full), "empty": lambda: megabytes(empty)}
    )
    return compare(
        f"memory with {count:,} webhooks that have nothing to be sent",
        "MB",
        taken["full"],
        "with none",
        taken["empty"],
        aim=Aim("<=", 1.05),
        details={"idle_ms_a_minute": idle_ms},
    )


def _one_change(plan: Plan, server: Server, receiver: int, count: int, wanting: int) -> Row:
    version = 0
    cpu: list[float] = []

    def seconds() -> float:
        with urllib.request.urlopen(f"http://127.0.0.1:{receiver}/{wanting}") as answer:
            return float(answer.read())

    def ours() -> float:
        nonlocal version
        version += 1
        before = server.cpu_seconds()
        _put(server, "wanted.md", b"%d" % version)
        taken = seconds()
        time.sleep(plan.size(3.0, 0.3))  # the others, which do not want it, are looked at as well
        cpu.append((server.cpu_seconds() - before) * 1000)
        return taken

    def smallest() -> float:
        with Server("benchmarks.receiver", str(receiver), str(wanting), str(_MESSAGE_BYTES)) as sender:
            sender.next_line("Sent")
        return seconds()

    taken = take_turns(plan, {"gateway": ours, "smallest": smallest})
    return compare(
        f"from the first to the last of {wanting:,} webhooks, of {count:,}, that have a change",
        "s",
        taken["gateway"],
        "smallest sender",
        taken["smallest"],
        aim=Aim("<=", 3),
        details={"cpu_ms_a_change": cpu},
    )
