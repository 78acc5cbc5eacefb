"""(n) Whether a gateway stays as it is under a crowd, with heavy requests between: memory, descriptors, log, times.

By default 200 clients for 15 minutes (`--clients`, `--minutes`): editors who type in rooms, pollers with mirrors of
files, long polls, event streams, agents that put texts, turns with output, readers of histories. Beside them one client
sends the heavy requests of `stalls`, one every few seconds, and a neighbour polls an unchanged project every 5 ms.
Every few seconds it is noted what the gateway and its worker processes hold, and how long polls and writes took.

Then all stop, and every client must have what the gateway has; when they have left, the waiters and rooms must be gone;
`yjs-gateway verify` must find nothing. Where that is not so, the command fails. What is compared is the second half of
the run with the first: what grows without a bound is higher in it.

Open documents are kept up to `GATEWAY_HOT_DOCUMENT_BYTES`, also when all have left, and a soak that is not long enough
to fill the 192 MiB of the default would show nothing else. So the gateway has 32 MiB for them here. Beside them up to
64 MiB that the C library has free stay with the process.

It draws `docs/soak.svg`, unless it is a smoke test. The machine is shared with the clients, all of them in one process.
"""

import asyncio
import itertools
import math
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import httpx

from benchmarks.crowd import Crowd
from benchmarks.harness import Aim, Plan, Row, compare, folder
from benchmarks.held_loop import held
from benchmarks.neighbour import Neighbour
from benchmarks.servers import Server, gateway, memory_of

_REPOSITORY = Path(__file__).parent.parent
_PLOT = _REPOSITORY / "docs" / "soak.svg"
_PATIENCE_S = 120.0
_HOT_BYTES = 32 * 2**20
_SAMPLES = 180
"""In the whole run; never more often than each half second."""
_LEFT_S = 20.0
"""How long the gateway is looked at after everybody has left."""


@dataclass(frozen=True)
class Sample:
    """What was seen in one part of the run. Times are milliseconds, sizes MiB."""

    minute: float
    gateway_mib: float
    workers_mib: float
    descriptors: int
    wal_mib: float
    poll_p50: float
    poll_p99: float
    write_p50: float
    write_p99: float
    held: float


@dataclass(frozen=True)
class _Run:
    """What came of it."""

    samples: list[Sample]
    """While the crowd was there."""
    left: list[Sample]
    """When all had left."""
    about: dict[str, Any]


def run(plan: Plan) -> Iterator[Row]:
    """Measure."""
    minutes = plan.minutes or plan.size(15.0, 0.05)
    clients = plan.clients or plan.size(200, 20)
    soaked = asyncio.run(_soak(plan, minutes * 60, clients))
    if not plan.quick:
        _PLOT.write_text(_plot(soaked, clients), encoding="utf-8")
    yield from _rows(soaked)


def _rows(soaked: _Run) -> Iterator[Row]:
    half = len(soaked.samples) // 2
    first, second = soaked.samples[: max(1, half)], soaked.samples[half:]
    for what, unit, name, among, one, aim in (
        ("memory, at most", "MiB", "gateway_mib", second, max, Aim("<=", 1.2)),
        ("memory, all have left", "MiB", "gateway_mib", soaked.left, min, Aim("<=", 1.0)),
        ("descriptors, at most", "", "descriptors", second, max, Aim("<=", 1.2)),
        ("descriptors, all have left", "", "descriptors", soaked.left, min, Aim("<=", 0.5)),
        ("log of the database, at most", "MiB", "wal_mib", second, max, None),
        ("99 of 100 polls", "ms", "poll_p99", second, statistics.median, Aim("<=", 10.0, of="ours")),
        ("99 of 100 writes", "ms", "write_p99", second, statistics.median, None),
        ("the loop was held, at most", "ms", "held", second, max, Aim("<=", 50.0, of="ours")),
    ):
        beside = max if one is min else one
        ours, theirs = one(getattr(each, name) for each in among), beside(getattr(each, name) for each in first)
        about = soaked.about if what == "memory, at most" else None
        yield compare(what, unit, [ours], "the first half", [max(theirs, 0.01)], aim=aim, details=about)
    unanswered, asked = len(soaked.about["unanswered"]), sum(soaked.about["done"].values())
    yield compare("no answer for a minute", "", [unanswered], "all that was done", [asked], aim=Aim("<=", 0, of="ours"))


async def _soak(plan: Plan, seconds: float, clients: int) -> _Run:
    """Have the crowd at work.

    Raises:
        RuntimeError: a client differs from the gateway, something is left of the clients, or `verify` finds a fault.
    """
    with folder() as data:
        database = data / "gateway.db"
        soaked = await _soak_on(plan, seconds, clients, database)
        _verify(database)
    return soaked


async def _soak_on(plan: Plan, seconds: float, clients: int, database: Path) -> _Run:
    with ExitStack() as stack:
        server = stack.enter_context(
            gateway(
                database,
                module="benchmarks.held_loop",
                on_all_cores=True,
                GATEWAY_LOG_LEVEL="error",
                GATEWAY_HOT_DOCUMENT_BYTES=_HOT_BYTES,
            )
        )
        crowd = Crowd(server.port, clients)
        watch = _Watch(server, database, crowd, stack.enter_context(Neighbour()))
        heavy = stack.enter_context(_heavy(server.port, quick=plan.quick))
        every = max(0.5, seconds / _SAMPLES)
        sampling = asyncio.create_task(watch.sample(every))
        try:
            differ = await crowd.run(asyncio.sleep(seconds))
        finally:
            sampling.cancel()
        told, _ = heavy.communicate()
        if differ:
            raise RuntimeError(f"{len(differ)} clients differ from the gateway: " + "; ".join(differ[:5]))
        during, watch.samples = watch.samples, []
        await _all_gone(server.port)
        watch.left = True
        resting = asyncio.create_task(watch.sample(every))
        await asyncio.sleep(min(_LEFT_S, 3 * every) if plan.quick else _LEFT_S)
        resting.cancel()
    about = {
        "clients": clients,
        "seconds": seconds,
        "done": dict(crowd.done),
        "refused": dict(crowd.refused),
        "unanswered": crowd.unanswered,
        "heavy": told.splitlines(),
        "samples": [vars(sample) for sample in during],
        "left": [vars(sample) for sample in watch.samples],
    }
    return _Run(during, watch.samples, about)


class _Watch:
    """Looks at a gateway from time to time."""

    def __init__(self, server: Server, database: Path, crowd: Crowd, neighbour: Neighbour) -> None:
        self._server, self._log, self._crowd, self._neighbour = server, Path(f"{database}-wal"), crowd, neighbour
        self._started = time.monotonic()
        self.samples: list[Sample] = []
        self.left = False
        """Whether everybody has left: else nothing is noted once the crowd is told to stop."""

    async def sample(self, every: float) -> None:
        """Until the crowd is told to stop, or cancelled."""
        while not self._crowd.stopping.is_set() or self.left:
            await asyncio.to_thread(self._neighbour.begin, self._server.port)
            try:
                await asyncio.sleep(every)
            finally:
                polls = await asyncio.shield(asyncio.to_thread(self._neighbour.end))
            found = await asyncio.to_thread(held, self._server, patience=_PATIENCE_S)
            if self.left or not self._crowd.stopping.is_set():
                self.samples.append(self._look(polls, found.longest))

    def _look(self, polls: dict[str, float], longest: float) -> Sample:
        writes, self._crowd.writes = sorted(self._crowd.writes) or [0.0], []
        pid = self._server.pid
        workers = map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
        return Sample(
            minute=(time.monotonic() - self._started) / 60,
            gateway_mib=self._server.resident_bytes() / 2**20,
            workers_mib=sum(map(_resident, workers)) / 2**20,
            descriptors=len(os.listdir(f"/proc/{pid}/fd")),
            wal_mib=self._log.stat().st_size / 2**20 if self._log.exists() else 0.0,
            poll_p50=polls["p50"],
            poll_p99=polls["p99"],
            write_p50=writes[len(writes) // 2] * 1e3,
            write_p99=writes[len(writes) * 99 // 100] * 1e3,
            held=longest,
        )


def _resident(pid: int) -> int:
    try:
        return memory_of(pid, "VmRSS")
    except (OSError, StopIteration):  # it has ended meanwhile
        return 0


def _heavy(port: int, *, quick: bool) -> "subprocess.Popen[str]":
    arguments = [str(port), "1", "0.2" if quick else "5", "quick" if quick else "full"]
    return subprocess.Popen(
        [sys.executable, "-m", "benchmarks.heavy", *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


async def _all_gone(port: int) -> None:
    """Wait until the gateway knows of nobody any more.

    Raises:
        RuntimeError: it still does after a while.
    """
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=_PATIENCE_S, verify=False) as http:
        for _ in range(100):
            figures = (await http.get("/metrics")).text
            found = re.findall(r"^(gateway_(?:waiters|room_connections)[^ ]*) ([0-9.e+]+)$", figures, re.MULTILINE)
            assert found, figures
            if not any(float(value) for _, value in found):
                return
            await asyncio.sleep(0.2)
    raise RuntimeError(f"20 s after everybody has left: {found}")


def _verify(database: Path) -> None:
    command = [sys.executable, "-m", "gateway", "verify", "--database", f"sqlite:///{database}"]
    verified = subprocess.run(command, capture_output=True, text=True, check=False, cwd=_REPOSITORY)
    if verified.returncode != 0:
        raise RuntimeError(f"verify found faults:\n{verified.stdout}{verified.stderr}")


# The plot.

_PANELS: tuple[tuple[str, tuple[tuple[str, str, str], ...]], ...] = (
    ("memory, MiB", (("gateway_mib", "gateway", "#0072b2"), ("workers_mib", "its worker processes", "#999999"))),
    ("open descriptors", (("descriptors", "gateway", "#0072b2"),)),
    ("log of the database (WAL), MiB", (("wal_mib", "", "#0072b2"),)),
    ("a poll, ms", (("poll_p50", "half within", "#56b4e9"), ("poll_p99", "99 of 100 within", "#0072b2"))),
    ("a durable write, ms", (("write_p50", "half within", "#56b4e9"), ("write_p99", "99 of 100 within", "#0072b2"))),
    ("the event loop was held, at most, ms", (("held", "", "#d55e00"),)),
)
_WIDTH, _LEFT, _RIGHT, _HIGH, _GAP = 720, 60, 16, 90, 44


def _plot(soaked: _Run, clients: int) -> str:
    """Lines over minutes, a panel for each figure; a dashed line is where everybody has left. Times are logarithmic."""
    samples = [*soaked.samples, *soaked.left]
    most = samples[-1].minute
    parts = [_text(_LEFT, 20, f"{clients} clients, and heavy requests between", weight="bold")]
    for number, (title, lines) in enumerate(_PANELS):
        values = {name: [getattr(sample, name) for sample in samples] for name, _, _ in lines}
        scale = _Scale(max(map(max, values.values())), 44 + number * (_HIGH + _GAP), logarithmic=title.endswith("ms"))
        parts += _frame(title, scale, most)
        parts.append(_dashed(_x(soaked.samples[-1].minute, most), scale.top))
        for place, (name, label, color) in enumerate(lines):
            drawn = [(sample.minute, value) for sample, value in zip(samples, values[name], strict=True)]
            if title.endswith("ms"):  # where nothing was timed there is no time
                drawn = [(minute, value) for minute, value in drawn if value > 0]
            parts.append(_line([(_x(minute, most), scale.y(value)) for minute, value in drawn], color))
            if label:
                x = _WIDTH - _RIGHT - 130 * (len(lines) - place)
                parts.append(f'<rect x="{x}" y="{scale.top - 13}" width="10" height="10" fill="{color}"/>')
                parts.append(_text(x + 14, scale.top - 4, label))
    height = 44 + len(_PANELS) * (_HIGH + _GAP) + 8
    parts.append(_text(_WIDTH - _RIGHT, height - 10, "minutes", anchor="end"))
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif"'
    background = f'<rect width="{_WIDTH}" height="{height}" fill="#fff"/>'
    return "\n".join([f'{head} font-size="10">', background, *parts, "</svg>", ""])


class _Scale:
    """The values of a panel from bottom to top: from 0, or logarithmic from a tenth."""

    def __init__(self, highest: float, top: float, *, logarithmic: bool) -> None:
        self.top = top
        self._logarithmic = logarithmic
        if logarithmic:
            decades = max(1, math.ceil(math.log10(max(highest, 1.0))))
            self.ticks = [10.0**power for power in range(-1, decades + 1)]
        else:
            steps = (factor * 10.0**power for power in itertools.count(-1) for factor in (1, 2, 5))
            rounded = next(step for step in steps if step >= highest)
            self.ticks = [0.0, rounded / 2, rounded]

    def y(self, value: float) -> float:
        first, last = self.ticks[0], self.ticks[-1]
        if self._logarithmic:
            value, first, last = math.log10(max(value, first)), math.log10(first), math.log10(last)
        return round(self.top + _HIGH * (1 - (value - first) / (last - first)), 1)


def _x(minute: float, most: float) -> float:
    return round(_LEFT + minute / most * (_WIDTH - _LEFT - _RIGHT), 1)


def _frame(title: str, scale: _Scale, most: float) -> Iterator[str]:
    yield _text(_LEFT, scale.top - 4, title, weight="bold")
    for tick in scale.ticks:
        y = scale.y(tick)
        yield f'<path d="M{_LEFT} {y}H{_WIDTH - _RIGHT}" stroke="#ddd" fill="none"/>'
        yield _text(_LEFT - 6, y + 3, f"{tick:g}", anchor="end")
    step = max(1, round(most / 8))
    for minute in range(0, int(most) + 1, step):
        yield _text(_x(minute, most), scale.top + _HIGH + 14, str(minute), anchor="middle")


def _dashed(x: float, top: float) -> str:
    return f'<path d="M{x} {top}V{top + _HIGH}" stroke="#222" stroke-dasharray="3 3" fill="none"/>'


def _line(points: Iterable[tuple[float, float]], color: str) -> str:
    path = "L".join(f"{x} {y}" for x, y in points)
    return f'<path d="M{path}" stroke="{color}" stroke-width="1.2" fill="none"/>'


def _text(x: float, y: float, text: str, anchor: str = "start", weight: str = "normal") -> str:
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}" font-weight="{weight}" fill="#222">{escape(text)}</text>'
