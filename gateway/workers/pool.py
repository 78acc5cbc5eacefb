"""Worker processes for heavy work: pycrdt and difflib hold the GIL and would block all other requests.

Each *lane* has its own processes and queue, so that comparisons never delay documents. A job has a time limit and ends
with its request; a process that dies takes no other job with it. (`concurrent.futures` loses the whole pool with one
process and cannot end a job; pebble can, but polls for work every 0.1 s; `anyio.to_process` has neither lanes nor
limits, and its processes outlive a gateway that is killed.)
"""

import asyncio
import contextlib
import gc
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from contextvars import ContextVar
from enum import StrEnum
from typing import Any, Self, TypeVar

import structlog
from anyio.lowlevel import RunVar
from starlette.requests import ClientDisconnect
from starlette.types import Receive

from gateway.pace import join_parts, next_slice, put_together
from gateway.wire.problems import Overloaded, TooComplex
from gateway.workers.messages import LENGTH_BYTES, encoded, head_of, lengths_in, unencoded_parts_of, value_of
from gateway.yjs.lib0 import MalformedUpdate
from gateway.yjs.scan import TooMuch, scan

T = TypeVar("T")

_log = structlog.get_logger("gateway.worker")

HEAVY_BYTES = 2**18
"""pycrdt holds the GIL during every call: building a larger document would delay all other requests."""
LIGHT_UNITS = 512
"""This many structs are read as Python values, and written as JSON, in a few ms; they make a document in about 15 ms if
each competes for its place with all others, which takes yrs as many steps as the square of their number."""
_LEAST_BYTES_PER_UNIT = 4
_PIPE_BYTES = 2**20
_PIECE_BYTES = 2**19
_LARGE_ANSWER = 2**20
_MOST_KEPT = 256
"""Of how many names it is known which process keeps something under them."""
_UNHURRIED = 10
"""The factor by which the time limit of background jobs is longer, as no request waits for them."""


class Lane(StrEnum):
    """Kinds of work that never wait for each other."""

    DOCUMENTS = "documents"
    """A request waits for a document to be built, read or written."""
    COMPARISONS = "comparisons"
    """A request waits for the difference of two texts."""
    UPKEEP = "upkeep"
    """Snapshots and squashing, in the background."""


class LaneMetrics:
    """The counters of a lane since the start, and its present load."""

    def __init__(self) -> None:
        self.jobs = 0
        """Jobs started."""
        self.failures = 0
        """Jobs without a result: over the time limit, no process could be started, or their process died twice."""
        self.deaths = 0
        """Processes that died without being stopped by the gateway."""
        self.processes = 0
        """Processes running."""
        self.waiting = 0
        """Jobs waiting for a process."""


class _Process:
    """One worker process, which runs one job at a time."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        lifeline: int,
        answers: asyncio.StreamReader,
        requests: asyncio.StreamWriter,
    ) -> None:
        self._process = process
        self._lifeline = lifeline
        self._answers = answers
        self._requests = requests

    @classmethod
    async def start(cls, lane: Lane) -> Self:
        """Start a process.

        Raises:
            OSError: there are not enough processes, descriptors or memory.
        """
        process, lifeline, ours = _spawn(lane)
        try:
            answers, requests = await asyncio.open_connection(sock=ours, limit=_PIPE_BYTES)
        except BaseException:
            ours.close()
            os.close(lifeline)
            process.kill()
            process.wait()
            raise
        return cls(process, lifeline, answers, requests)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    async def run(self, request: Sequence[bytes]) -> list[bytes]:
        """Send the parts of a request and wait for those of its answer.

        Raises:
            EOFError, OSError: the process died.
        """
        self._requests.write(head_of(request))
        for part in request:
            # The kernel would take as much in one step as the process reads meanwhile.
            for start in range(0, len(part), _PIECE_BYTES):
                piece = part if len(part) <= _PIECE_BYTES else memoryview(part)[start : start + _PIECE_BYTES]
                self._requests.write(piece)
                await self._requests.drain()
        return await receive(self._answers)

    async def end(self) -> None:
        """Kill the process, whatever it is doing."""
        os.close(self._lifeline)
        self._process.kill()
        self._requests.close()
        await asyncio.to_thread(self._process.wait)


def _spawn(lane: Lane) -> tuple[subprocess.Popen[bytes], int, socket.socket]:
    """Start a process, and return it with the kept end of its lifeline and the gateway's end of its connection.

    `subprocess` does not copy the gateway's page tables (vfork(2)). An event loop's own way of starting processes may:
    it stops the gateway for a time that grows with its memory.
    """
    given, kept = os.pipe()  # the gateway keeps the write end, which the kernel closes when the gateway ends
    ours, theirs = socket.socketpair()
    try:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "gateway.workers.process", str(given), lane.value],
            stdin=theirs.fileno(),
            stdout=theirs.fileno(),
            stderr=subprocess.DEVNULL,
            pass_fds=(given,),
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)},
        )
    except BaseException:
        os.close(kept)
        ours.close()
        raise
    finally:
        os.close(given)
        theirs.close()
    return process, kept, ours


async def receive(answers: asyncio.StreamReader) -> list[bytes]:
    """Receive the parts of an answer.

    Raises:
        EOFError: the process died.
    """
    count = int.from_bytes(await answers.readexactly(LENGTH_BYTES))
    lengths = await answers.readexactly(count * LENGTH_BYTES)
    return [await _receive_part(answers, length) for length in lengths_in(lengths)]


async def _receive_part(answers: asyncio.StreamReader, length: int) -> bytes:
    if length <= _PIECE_BYTES:
        return await answers.readexactly(length)
    pieces = list[bytes]()
    while length:
        piece = await answers.read(min(length, _PIECE_BYTES))
        if not piece:
            raise EOFError
        pieces.append(piece)
        length -= len(piece)
        await asyncio.sleep(0)
    return await join_parts(pieces)


class _Pool:
    """The processes of one lane, started on demand and reused."""

    def __init__(self, lane: Lane, processes: int, *, queue: int, seconds: float) -> None:
        self._lane = lane
        self._places = asyncio.Semaphore(processes)
        self._queue = queue
        self._seconds = seconds
        self._idle: list[_Process] = []
        self._ending: set[asyncio.Task[None]] = set()
        self._keepers: dict[str, _Process] = {}
        """The processes that keep something for the next job with a name, by this name; least recently used first."""
        self.metrics = LaneMetrics()

    async def run(self, work: Callable[..., T], arguments: tuple[Any, ...], kept: str | None = None) -> T:
        if self.metrics.waiting >= self._queue:
            raise Overloaded(f"{self.metrics.waiting} pieces of heavy work are waiting ({self._lane})")
        self.metrics.waiting += 1
        try:
            await self._places.acquire()
        finally:
            self.metrics.waiting -= 1
        try:
            self.metrics.jobs += 1
            answer = await self._attempt(await _request((work, arguments)), kept)
        finally:
            self._places.release()
        large = sum(map(len, answer)) > _LARGE_ANSWER
        if large:  # to take it from the pipe, to decode it, and to use it are a step of the event loop each
            await next_slice()
            with _uncollected():
                succeeded, result = value_of(answer)
            await next_slice()
        else:
            succeeded, result = value_of(answer)
        if not succeeded:
            raise result
        return result  # type: ignore[no-any-return]

    async def _attempt(self, request: Sequence[bytes], kept: str | None) -> list[bytes]:
        """Return the answer to a request; if the process dies, retry once in a new process."""
        self._idle = [process for process in self._idle if process.alive or self._buried(process)]
        process = self._take_idle(kept) if self._idle else await self._start()
        self._note_keeper(kept, process)
        try:
            return await self._run(process, request)
        except (EOFError, OSError):
            self._bury(process)
        process = await self._start()
        self._note_keeper(kept, process)
        try:
            return await self._run(process, request)
        except (EOFError, OSError):
            self._bury(process)
            self.metrics.failures += 1
            raise Overloaded(
                "the process that worked on this died, and so did the next one: the machine may be short of memory"
            ) from None

    def _take_idle(self, kept: str | None) -> _Process:
        """Take an idle process: the one that has what is kept under a name, else one that keeps nothing, if any.

        What is kept is of no use in another process: a document would be built there again.
        """
        keeper = self._keepers.get(kept) if kept is not None else None
        if keeper not in self._idle:
            keepers = set(self._keepers.values())
            keeper = next((process for process in reversed(self._idle) if process not in keepers), self._idle[-1])
        self._idle.remove(keeper)
        return keeper

    def _note_keeper(self, kept: str | None, process: _Process) -> None:
        if kept is not None:
            self._keepers.pop(kept, None)
            self._keepers[kept] = process
            if len(self._keepers) > _MOST_KEPT:
                del self._keepers[next(iter(self._keepers))]

    async def _start(self) -> _Process:
        try:
            process = await _Process.start(self._lane)
        except OSError as error:
            self.metrics.failures += 1
            raise Overloaded(f"no process could be started for this work: {error.strerror}") from None
        self.metrics.processes += 1
        return process

    async def _run(self, process: _Process, request: Sequence[bytes]) -> list[bytes]:
        """Run a request in a process, which is killed if it gives no answer."""
        try:
            async with asyncio.timeout(self._seconds):
                answer = await process.run(request)
        except TimeoutError:
            self._end(process)
            self.metrics.failures += 1
            _log.warning("heavy work ended: over the time limit", lane=self._lane, seconds=self._seconds)
            raise self._too_long() from None
        except BaseException:
            self._end(process)
            raise
        self._idle.append(process)
        return answer

    def _too_long(self) -> Exception:
        if self._lane is Lane.COMPARISONS:
            return TooComplex(
                f"the two texts could not be compared within {self._seconds:g} s; compare nearer versions"
            )
        return Overloaded(f"the work on this document was not done within {self._seconds:g} s")

    def _buried(self, process: _Process) -> bool:
        self._end(process)
        self._bury(process)
        return False

    def _bury(self, process: _Process) -> None:
        self.metrics.deaths += 1
        _log.warning("a worker process died", lane=self._lane, process=process.pid)

    def _end(self, process: _Process) -> None:
        self.metrics.processes -= 1
        for kept in [kept for kept, keeper in self._keepers.items() if keeper is process]:
            del self._keepers[kept]
        task = asyncio.create_task(process.end())
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def close(self) -> None:
        """End all processes. All running jobs must have been cancelled before."""
        while self._idle:
            self._end(self._idle.pop())
        await asyncio.gather(*self._ending)


async def _request(value: object) -> list[bytes]:
    """Return the parts of a message; a long text is encoded in slices."""
    return [part if isinstance(part, bytes) else await _encoded(part) for part in unencoded_parts_of(value)]


async def _encoded(text: str) -> bytes:
    starts = range(0, len(text), _PIECE_BYTES)
    return await put_together(encoded(text[start : start + _PIECE_BYTES]) for start in starts)


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Collect no garbage meanwhile: 100,000 objects that are made and kept would be looked at again and again."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


class Workers:
    """All lanes of one gateway."""

    def __init__(self, *, processes: int, queue: int, seconds: float) -> None:
        self._pools = {
            Lane.DOCUMENTS: _Pool(Lane.DOCUMENTS, processes, queue=queue, seconds=seconds),
            Lane.COMPARISONS: _Pool(Lane.COMPARISONS, processes, queue=queue, seconds=seconds),
            Lane.UPKEEP: _Pool(Lane.UPKEEP, 1, queue=queue, seconds=seconds * _UNHURRIED),
        }

    async def run(self, lane: Lane, work: Callable[..., T], *arguments: Any, kept: str | None = None) -> T:
        """Run a module-level function in the next free process of a lane.

        Args:
            kept: a name of what the function keeps in its process. The next job with the same name runs there if the
                process is free then.

        Raises:
            Overloaded: the queue is full, the process died twice, or the work on a document took too long.
            TooComplex: a comparison took too long.
            ClientDisconnect: the client that requested the work disconnected.
            Any exception that the function raises.
        """
        return await _unless_client_leaves(self._pools[lane].run(work, arguments, kept))

    @property
    def metrics(self) -> Mapping[Lane, LaneMetrics]:
        return {lane: pool.metrics for lane, pool in self._pools.items()}

    async def close(self) -> None:
        for pool in self._pools.values():
            await pool.close()


_current: RunVar[Workers | None] = RunVar("gateway_workers", None)


@contextlib.asynccontextmanager
async def worker_processes(*, processes: int, queue: int, seconds: float) -> AsyncIterator[Workers]:
    """Provide worker processes to everything in this event loop, and end them on exit.

    Args:
        processes: the most processes of each lane; upkeep has one.
        queue: how many jobs may wait in each lane.
        seconds: the time limit of a job; for upkeep it is ten times as long.
    """
    workers = Workers(processes=processes, queue=queue, seconds=seconds)
    former = _current.get()
    _current.set(workers)
    try:
        yield workers
    finally:
        _current.set(former)
        await workers.close()


async def in_worker(
    work: Callable[[Sequence[bytes]], T],
    parts: Sequence[bytes],
    *,
    lane: Lane = Lane.DOCUMENTS,
    units: int | None = None,
) -> T:
    """Run a pure function of updates: here if they are small or there are no workers, else in a worker process.

    Args:
        units: the most work of reading the updates (in units of `scan`) that is done here; None: only bytes count.

    Raises:
        As `Workers.run`.
    """
    workers = _current.get()
    if workers is None or not is_heavy(parts, units):
        return work(parts)
    return await workers.run(lane, work, list(parts))


def is_heavy(parts: Sequence[bytes], units: int | None) -> bool:
    """Return whether a pure function of updates is to run in a worker process; the arguments are as of `in_worker`."""
    size = sum(map(len, parts))
    if units is None or size <= units * _LEAST_BYTES_PER_UNIT:
        return size > HEAVY_BYTES
    if size > HEAVY_BYTES:
        return True
    try:
        for part in parts:
            found = scan(part, units)
            units -= len(found.structs) + len(found.deletes)
    except (TooMuch, MalformedUpdate):  # a row that names surrogate pairs is not an update, and is slow to read
        return True
    return False


async def run_in_worker(work: Callable[..., T], *arguments: Any, kept: str | None = None) -> T:
    """Run a pure function for a document in a worker process, or here if there are no workers.

    Args:
        kept: as of `Workers.run`.

    Raises:
        As `Workers.run`.
    """
    workers = _current.get()
    return work(*arguments) if workers is None else await workers.run(Lane.DOCUMENTS, work, *arguments, kept=kept)


async def compare_in_worker(compare: Callable[..., T], *texts: bytes) -> T:
    """Run a comparison of texts in a worker process, or here if there are no workers.

    Raises:
        As `Workers.run`.
    """
    workers = _current.get()
    return compare(*texts) if workers is None else await workers.run(Lane.COMPARISONS, compare, *texts)


client_of_request: ContextVar[Receive | None] = ContextVar("client_of_request", default=None)
"""The `receive` of the HTTP request that a task answers, to cancel work when the client disconnects."""


async def _unless_client_leaves(job: Coroutine[Any, Any, T]) -> T:
    receive = client_of_request.get()
    if receive is None:
        return await job
    working, leaving = asyncio.create_task(job), asyncio.create_task(_client_left(receive))
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ClientDisconnect
    finally:
        await _cancel(working, leaving)


async def _client_left(receive: Callable[[], Awaitable[Any]]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _cancel(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
