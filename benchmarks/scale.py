"""(q) What PostgreSQL and several gateways cost and bring, beside one gateway on SQLite.

Durable updates a second over HTTP by 16 writers of which each waits for its receipt, with 1, 2 and 4 gateways on one
PostgreSQL database: all writers in one project, and each gateway's in a project of its own. The time from a write at
one gateway until a long poll at another one is answered, beside one at the same gateway. Many long polls on two
gateways, all of one project, until the last of them knows of a write. Polls that are answered 304.

PostgreSQL is a server of the benchmark's own that flushes every commit (`fsync = on`), as SQLite here does. Gateways,
PostgreSQL and the load generator share the cores of the machine: with more gateways than free cores nothing can grow.
With all parts it draws `docs/scaling.svg` and writes the table in `docs/scaling.md`, unless it is a smoke test.
`--only` selects parts: updates, unchanged, woken, crowd. `--clients` is how many long polls the crowd has.
"""

import contextlib
import itertools
import os
import pwd
import resource
import select
import shutil
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from xml.sax.saxutils import escape

from benchmarks.documents import keystrokes
from benchmarks.harness import Aim, Plan, Row, compare, folder, take_turns
from benchmarks.load import Load, compare_rates, complete, fetch, put_under_load, request
from benchmarks.report import machine
from benchmarks.servers import Server, gateway

_DOCS = Path(__file__).parent.parent / "docs"
_PLOT = _DOCS / "scaling.svg"
_PAGE = _DOCS / "scaling.md"
_BEGIN, _END = "<!-- scripts/bench scale -->", "<!-- end -->"
_WRITERS = 16
_MOST_PER_SECOND = 6_000
"""More than anything here can do, so that no writer runs out of updates."""
_MOST_ROUNDS = 3
_WRITE_AIM = Aim(">=", 0.5)
_POLL_AIM = Aim(">=", 0.9)
_POLLS = 20
_PATIENCE_S = 120.0


def run(plan: Plan) -> Iterator[Row]:
    """Measure."""
    plan = replace(plan, rounds=min(plan.rounds, _MOST_ROUNDS))
    counts = plan.size((1, 2, 4), (1, 2))
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with ExitStack() as stack:
        data = stack.enter_context(folder())
        sqlite = stack.enter_context(gateway(data / "gateway.db", on_all_cores=True))
        url = stack.enter_context(_postgres())
        nodes = [stack.enter_context(_gateway_on(url)) for _ in range(counts[-1])]
        parts: dict[str, Callable[[], Iterator[Row]]] = {
            "updates": lambda: _updates(plan, counts, sqlite, nodes),
            "unchanged": lambda: _unchanged(plan, sqlite, nodes[0]),
            "woken": lambda: _woken(plan, sqlite, nodes),
            "crowd": lambda: _crowd(plan, sqlite, nodes),
        }
        rows: dict[str, list[Row]] = {}
        for name, measure in parts.items():
            if not plan.only or any(part in name for part in plan.only):
                rows[name] = list(measure())
                yield from rows[name]
        if not plan.quick and rows.keys() == parts.keys():
            _PLOT.write_text(_plot(rows["updates"]), encoding="utf-8")
            _write_table([row for part in rows.values() for row in part])


def _write_table(rows: Sequence[Row]) -> None:
    """Replace the table in the page about several gateways."""
    about = machine()
    lines = [
        f"Measured on {about['cores']} cores with a load average of {about['load_average']:.0f}, where a flush takes"
        f" {about['flush_ms']:.1f} ms; {_WRITERS} writers, each of which waits for its receipt:",
        "",
        "| | PostgreSQL | beside it | | ratio | lowest–highest |",
        "| --- | ---: | --- | ---: | ---: | ---: |",
    ]
    what = ""
    for row in rows:
        what = row.what or what
        lowest, highest = row.spread
        lines.append(
            f"| {what} | {_figure(row.ours)} {row.unit} | {row.baseline} | {_figure(row.theirs)} {row.unit}"
            f" | {row.ratio:.2f} | {lowest:.2f}–{highest:.2f} |"
        )
    page = _PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    _PAGE.write_text("\n".join([before + _BEGIN, *lines, _END + after]), encoding="utf-8")


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


@contextlib.contextmanager
def _postgres() -> Iterator[str]:
    """The URL of a database of a new server, of the newest release that is installed."""
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda each: int(each.parent.name))
    found = shutil.which("initdb")
    if not installed and not found:
        raise RuntimeError("PostgreSQL is not installed")
    programs = installed[-1] if installed else Path(found or "").resolve().parent
    user = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]

    def program(name: str, *arguments: str) -> None:
        command = [str(programs / name), *arguments]
        command = ["runuser", "-u", user, "--", *command] if os.geteuid() == 0 else command
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=home)

    with tempfile.TemporaryDirectory(prefix="yjsg-bench-", ignore_cleanup_errors=True) as home:
        shutil.chown(home, user)
        data = f"{home}/data"
        program("initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale")
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c max_connections=200"
        program("pg_ctl", "-D", data, "-w", "-l", f"{home}/log", "-o", options, "start")
        try:
            yield f"postgresql://postgres@127.0.0.1:{port}/postgres"
        finally:
            program("pg_ctl", "-D", data, "-w", "-m", "immediate", "stop")


def _gateway_on(url: str) -> Server:
    arguments = ("gateway", "serve", "--port", "0")
    return Server(*arguments, environment={"GATEWAY_DATABASE": url}, on_all_cores=True)


class _Together(Server):
    """Several gateways as one server: each connection is made to the next of them."""

    def __init__(self, servers: Sequence[Server]) -> None:
        self._servers = servers
        self._ports = itertools.cycle([server.port for server in servers])

    @property
    def port(self) -> int:
        return next(self._ports)

    def cpu_seconds(self) -> float:
        return sum(server.cpu_seconds() for server in self._servers)


def _updates(plan: Plan, counts: Sequence[int], sqlite: Server, nodes: list[Server]) -> Iterator[Row]:
    each = int(_MOST_PER_SECOND * plan.seconds / _WRITERS) + 2
    typed = [keystrokes(each, seed=writer + 1) for writer in range(_WRITERS)]
    turns = itertools.count()

    def load(servers: list[Server], projects: int) -> Load:
        turn = next(turns)  # what was written once adds nothing the next time
        paths = [f"/api/projects/{turn}-{writer % projects}/files/{writer}.md" for writer in range(_WRITERS)]
        streams = [
            [request("PATCH", path, update) for update in updates] for path, updates in zip(paths, typed, strict=True)
        ]
        return put_under_load(_Together(servers), streams, seconds=plan.seconds, statuses=(200, 201))

    candidates: dict[tuple[int, int], Callable[[], Load]] = {(0, 1): partial(load, [sqlite], 1)}
    for count in counts:
        for projects in {1, count}:
            candidates[count, projects] = partial(load, nodes[:count], projects)
    taken = take_turns(plan, candidates)
    for count, projects in list(candidates)[1:]:
        gateways = f"{count} gateways" if count > 1 else "1 gateway"
        what = f"updates, {gateways}, {'a project each' if projects > 1 else 'one project'}"
        aim = _WRITE_AIM if count == 1 else None
        yield compare_rates(what, taken[count, projects], "one on SQLite", taken[0, 1], aim=aim)


def _unchanged(plan: Plan, sqlite: Server, node: Server) -> Iterator[Row]:
    def load(server: Server) -> Load:
        path = "/api/projects/unchanged/files/a.md"
        with contextlib.suppress(RuntimeError):  # it is there already
            fetch(server, request("PATCH", path, keystrokes(1)[0]))
        tag = fetch(server, request("GET", path)).header("etag")
        stream = itertools.repeat(request("GET", path, if_none_match=tag))
        return put_under_load(server, [stream] * _WRITERS, seconds=plan.seconds, statuses=(304,))

    taken = take_turns(plan, {"postgres": partial(load, node), "sqlite": partial(load, sqlite)})
    what = "polls answered 304, one gateway"
    yield compare_rates(what, taken["postgres"], "one on SQLite", taken["sqlite"], aim=_POLL_AIM)


def _woken(plan: Plan, sqlite: Server, nodes: list[Server]) -> Iterator[Row]:
    def measure(writer: Server, reader: Server) -> float:
        return statistics.median(_told(writer, [reader], 1, "woken")[0][0] for _ in range(plan.size(_POLLS, 3)))

    first, second = nodes[:2]
    taken = take_turns(
        plan,
        {
            "other": partial(measure, first, second),
            "same": partial(measure, first, first),
            "sqlite": partial(measure, sqlite, sqlite),
        },
    )
    what = "a long poll at another gateway is answered after"
    yield compare(what, "ms", taken["other"], "at the same", taken["same"])
    yield compare("", "ms", taken["other"], "one on SQLite", taken["sqlite"])


def _crowd(plan: Plan, sqlite: Server, nodes: list[Server]) -> Iterator[Row]:
    count = plan.clients or plan.size(10_000, 20)
    refused = {"two": 0, "sqlite": 0}

    def measure(name: str, servers: list[Server]) -> float:
        times, refusals = _told(servers[0], servers, count, "crowd")
        refused[name] += refusals
        return times[-1]

    plan = replace(plan, rounds=1)
    candidates = {"two": partial(measure, "two", nodes[:2]), "sqlite": partial(measure, "sqlite", [sqlite])}
    taken = take_turns(plan, candidates)
    what = (
        f"the last of {count:,} long polls on two gateways is answered after"
        f" (503 on the way: {refused['two']:,}, on SQLite {refused['sqlite']:,})"
    )
    yield compare(what, "ms", taken["two"], "one on SQLite", taken["sqlite"], details={"refused": refused})


def _told(writer: Server, readers: list[Server], count: int, project: str) -> tuple[list[float], int]:
    """The times in ms, in order, from a write until each of so many long polls is answered, and how often one was
    answered 503, and asked again.

    Raises:
        RuntimeError: one was not told.
    """
    files, (update,) = f"/api/projects/{project}/files", keystrokes(1)
    cursor = fetch(writer, request("PATCH", f"{files}/{time.monotonic_ns()}.md", update)).json()["cursor"]
    poll = request("GET", f"/api/projects/{project}/changes?since={cursor}&wait=55")
    with ExitStack() as stack, select.epoll() as waiting:
        sockets = {}
        for number in range(count):
            port = readers[number % len(readers)].port
            client = stack.enter_context(socket.create_connection(("127.0.0.1", port), _PATIENCE_S))
            client.sendall(poll)
            sockets[client.fileno()] = client
            waiting.register(client, select.EPOLLIN)
        while _waiters(readers) < count:
            time.sleep(0.01)
        answers, refused = dict.fromkeys(sockets, b""), 0
        times: list[float] = []
        started = time.perf_counter()
        fetch(writer, request("PATCH", f"{files}/{time.monotonic_ns()}.md", update))
        while len(times) < count:
            ready = waiting.poll(_PATIENCE_S)
            if not ready:
                raise RuntimeError(f"{count - len(times)} of {count} were not told")
            for number, _ in ready:
                answers[number] += sockets[number].recv(2**16)
                if complete(answers[number]):
                    if answers[number].startswith(b"HTTP/1.1 503"):  # as told, it asks again
                        refused += 1
                        answers[number] = b""
                        sockets[number].sendall(poll)
                        continue
                    if b'"changes":[{' not in answers[number]:
                        raise RuntimeError(f"an answer without the change: {answers[number]!r}")
                    times.append((time.perf_counter() - started) * 1e3)
                    waiting.unregister(number)
        return times, refused


def _waiters(servers: list[Server]) -> float:
    """How many long polls wait."""
    figures = (fetch(server, request("GET", "/metrics")).body.decode().splitlines() for server in servers)
    return sum(
        float(line.rpartition(" ")[2]) for lines in figures for line in lines if line.startswith("gateway_waiters")
    )


def _plot(rows: Sequence[Row]) -> str:
    """Updates a second as a multiple of one gateway on SQLite."""
    most, high, left = max(1.0, *(row.ratio for row in rows)), 18, 250
    bars = [("updates, one gateway on SQLite", 1.0), *((row.what, row.ratio) for row in rows)]
    parts = []
    for number, (what, ratio) in enumerate(bars):
        y, width = 10 + number * high, round(ratio / most * 300, 1)
        color = "#3b74c4" if number else "#888"
        parts.append(f'<text x="{left - 6}" y="{y + 11}" text-anchor="end">{escape(what)}</text>')
        parts.append(f'<rect x="{left}" y="{y}" width="{width}" height="13" fill="{color}"/>')
        parts.append(f'<text x="{left + width + 5}" y="{y + 11}">{ratio:.2f}</text>')
    height = 20 + len(bars) * high
    size = f'viewBox="0 0 610 {height}" font-family="sans-serif" font-size="11"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size}>'
    return "\n".join([head, f'<rect width="610" height="{height}" fill="#fff"/>', *parts, "</svg>", ""])
