"""Worker processes: lanes, limits, and what ends one."""

import asyncio
import contextlib
import errno
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import ClientDisconnect

from gateway.wire.problems import Overloaded, TooComplex
from gateway.workers.messages import LENGTH_BYTES, head_of, lengths_in, parts_of, value_of
from gateway.workers.pool import HEAVY_BYTES, Lane, Workers, client_of_request, in_worker, worker_processes
from gateway.workers.process import __file__ as program
from tests.support import heavy
from tests.support.processes import Watched

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="waits for the end of processes as Linux can")


class Spinning:
    """Jobs that never end, and the processes that they run in."""

    def __init__(self, workers: Workers, pipe: Path) -> None:
        self._workers = workers
        self._pipe = pipe
        os.mkfifo(pipe)

    async def begin(self, lane: Lane = Lane.DOCUMENTS) -> tuple[asyncio.Task[Any], Watched]:
        """Begin a job, again and again if its time is over before it has told its process."""
        while True:
            job = asyncio.create_task(self._workers.run(lane, heavy.spin, str(self._pipe)))
            process = await self._told_by(job)
            if process is not None:
                return job, Watched(process)
            with pytest.raises((Overloaded, TooComplex), match="within"):
                await job

    async def _told_by(self, job: asyncio.Task[Any]) -> int | None:
        loop, told, news = asyncio.get_running_loop(), b"", asyncio.Event()
        pipe = os.open(self._pipe, os.O_RDONLY | os.O_NONBLOCK)
        loop.add_reader(pipe, news.set)
        try:
            while not told.endswith(b"\n"):
                waiting = asyncio.create_task(news.wait())
                await asyncio.wait({waiting, job}, return_when=asyncio.FIRST_COMPLETED)
                waiting.cancel()
                if job.done():
                    return None
                news.clear()
                with contextlib.suppress(BlockingIOError):
                    told += os.read(pipe, 100)
            return int(told)
        finally:
            loop.remove_reader(pipe)
            os.close(pipe)


@asynccontextmanager
async def spinning(folder: Path, **limits: Any) -> AsyncIterator[tuple[Workers, Spinning]]:
    async with worker_processes(**{"processes": 1, "queue": 8, "seconds": 600, **limits}) as workers:
        yield workers, Spinning(workers, folder / "pipe")


def test_heavy_work_runs_in_one_process_again_and_again(tmp_path: Path) -> None:
    async def work() -> None:
        async with spinning(tmp_path) as (workers, _):
            first = await workers.run(Lane.DOCUMENTS, heavy.process_id)
            assert first != os.getpid()
            assert await workers.run(Lane.DOCUMENTS, heavy.process_id) == first
            assert workers.metrics[Lane.DOCUMENTS].processes == 1

    asyncio.run(work())


def test_small_work_and_work_where_nobody_is_served_stays_here(tmp_path: Path) -> None:
    large = [bytes(HEAVY_BYTES + 1)]

    async def work() -> None:
        assert await in_worker(heavy.total, large) == HEAVY_BYTES + 1
        async with spinning(tmp_path) as (workers, _):
            await in_worker(heavy.total, [b"small"])
            assert workers.metrics[Lane.DOCUMENTS].jobs == 0
            assert await in_worker(heavy.total, large) == HEAVY_BYTES + 1
            assert workers.metrics[Lane.DOCUMENTS].jobs == 1

    asyncio.run(work())


def test_what_the_work_raises_is_raised_here(tmp_path: Path) -> None:
    async def work() -> None:
        async with spinning(tmp_path) as (workers, _):
            with pytest.raises(ValueError, match="no such number"):
                await workers.run(Lane.DOCUMENTS, heavy.fail, "plain")
            with pytest.raises(RuntimeError, match="this and that"):
                await workers.run(Lane.DOCUMENTS, heavy.fail, "strange")
            assert workers.metrics[Lane.DOCUMENTS].deaths == 0

    asyncio.run(work())


@pytest.mark.parametrize(("lane", "problem"), [(Lane.DOCUMENTS, Overloaded), (Lane.COMPARISONS, TooComplex)])
def test_a_job_over_the_time_limit_ends_with_its_process(tmp_path: Path, lane: Lane, problem: type[Exception]) -> None:
    async def work() -> None:
        async with spinning(tmp_path, seconds=2) as (workers, jobs):
            job, process = await jobs.begin(lane)
            failures = workers.metrics[lane].failures
            with pytest.raises(problem, match="within 2 s"):
                await job
            assert workers.metrics[lane].failures == failures + 1
            assert process.has_ended()
            again, another = await jobs.begin(lane)
            assert another.pid != process.pid
            again.cancel()
            await asyncio.wait([again])

    asyncio.run(work())


def test_a_job_whose_process_is_killed_is_done_in_another_one(tmp_path: Path) -> None:
    async def work() -> None:
        async with spinning(tmp_path) as (workers, _):
            assert await workers.run(Lane.DOCUMENTS, heavy.die_once, str(tmp_path / "trace")) == "done"
            with pytest.raises(Overloaded, match="died"):
                await workers.run(Lane.DOCUMENTS, heavy.die)
            assert await workers.run(Lane.DOCUMENTS, heavy.process_id)
            metrics = workers.metrics[Lane.DOCUMENTS]
            assert (metrics.deaths, metrics.failures, metrics.processes) == (3, 1, 1)

    asyncio.run(work())


def test_a_process_that_is_killed_while_it_rests_is_replaced(tmp_path: Path) -> None:
    async def work() -> None:
        async with spinning(tmp_path) as (workers, _):
            resting = Watched(await workers.run(Lane.DOCUMENTS, heavy.process_id))
            os.kill(resting.pid, signal.SIGKILL)
            assert resting.has_ended()
            assert await workers.run(Lane.DOCUMENTS, heavy.process_id) != resting.pid

    asyncio.run(work())


def test_a_cancelled_job_ends_with_its_process(tmp_path: Path) -> None:
    async def work() -> None:
        async with spinning(tmp_path) as (workers, jobs):
            job, process = await jobs.begin()
            job.cancel()
            with pytest.raises(asyncio.CancelledError):
                await job
            assert process.has_ended()
            assert await workers.run(Lane.DOCUMENTS, heavy.process_id)

    asyncio.run(work())


def test_a_process_gives_back_what_a_job_has_freed() -> None:
    async def work() -> None:
        async with worker_processes(processes=1, queue=1, seconds=60) as workers:
            before = await workers.run(Lane.DOCUMENTS, heavy.memory, 0)
            assert await workers.run(Lane.DOCUMENTS, heavy.memory, 300 * 2**20) > before
            assert await workers.run(Lane.DOCUMENTS, heavy.memory, 0) < before + 50 * 2**20

    asyncio.run(work())


def children() -> set[str]:
    """The processes that were started here and have not been waited for."""
    lists = Path("/proc/self/task").glob("*/children")
    return {process for each in lists for process in each.read_text().split()}


@pytest.mark.parametrize("at", ["gateway.workers.pool.subprocess.Popen", "asyncio.open_connection"])
def test_a_process_that_could_not_be_started_leaves_nothing_behind(at: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    async def work() -> None:
        async with worker_processes(processes=1, queue=1, seconds=60) as workers:
            with monkeypatch.context() as failing:
                failing.setattr(at, fail)
                before = len(os.listdir("/proc/self/fd")), children()
                with pytest.raises(Overloaded, match="Too many open files"):
                    await workers.run(Lane.DOCUMENTS, heavy.process_id)
                assert (len(os.listdir("/proc/self/fd")), children()) == before
            assert await workers.run(Lane.DOCUMENTS, heavy.process_id)

    asyncio.run(work())


def test_a_job_ends_when_its_client_leaves(tmp_path: Path) -> None:
    async def work() -> None:
        left = asyncio.Event()

        async def receive() -> dict[str, str]:
            await left.wait()
            return {"type": "http.disconnect"}

        async with spinning(tmp_path) as (workers, jobs):
            client_of_request.set(receive)
            assert await workers.run(Lane.DOCUMENTS, heavy.process_id)
            job, process = await jobs.begin()
            left.set()
            with pytest.raises(ClientDisconnect):
                await job
            assert process.has_ended()

    asyncio.run(work())


def test_a_comparison_never_holds_up_a_document(tmp_path: Path) -> None:
    async def work() -> None:
        async with spinning(tmp_path) as (workers, jobs):
            busy = [(await jobs.begin(lane))[0] for lane in (Lane.COMPARISONS, Lane.UPKEEP)]
            waiting = asyncio.create_task(workers.run(Lane.COMPARISONS, heavy.process_id))
            assert await workers.run(Lane.DOCUMENTS, heavy.process_id)
            assert not any(job.done() for job in (*busy, waiting))
            for job in (*busy, waiting):
                job.cancel()
            await asyncio.gather(*busy, waiting, return_exceptions=True)

    asyncio.run(work())


def test_the_queue_of_a_lane_is_bounded(tmp_path: Path) -> None:
    async def work() -> None:
        async with spinning(tmp_path, queue=1) as (workers, jobs):
            job, _ = await jobs.begin()
            waiting = asyncio.create_task(workers.run(Lane.DOCUMENTS, heavy.process_id))
            await asyncio.sleep(0)
            assert workers.metrics[Lane.DOCUMENTS].waiting == 1
            with pytest.raises(Overloaded, match="waiting"):
                await workers.run(Lane.DOCUMENTS, heavy.process_id)
            job.cancel()
            assert await waiting
            assert workers.metrics[Lane.DOCUMENTS].waiting == 0

    asyncio.run(work())


_OWNER = """
import asyncio, sys
from gateway.workers.pool import Lane, worker_processes
from gateway.workers.process import __file__ as program
from tests.support import heavy

async def main():
    async with worker_processes(processes=1, queue=1, seconds=600) as workers:
        await workers.run(Lane.DOCUMENTS, heavy.spin, sys.argv[1])

asyncio.run(main())
"""


@pytest.mark.parametrize("before", ["at work", "stopped"])
def test_a_worker_ends_with_a_gateway_that_is_killed(tmp_path: Path, before: str) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    owner = subprocess.Popen([sys.executable, "-c", _OWNER, str(pipe)])
    worker = Watched(int(pipe.read_text()))
    if before == "stopped":
        os.kill(worker.pid, signal.SIGSTOP)
    owner.kill()
    owner.wait()
    assert worker.has_ended()
    worker.close()


def test_a_worker_outlives_the_thread_that_started_it() -> None:
    given, kept = os.pipe()
    started: list[subprocess.Popen[bytes]] = []

    def start() -> None:
        command = [sys.executable, program, str(given)]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        started.append(subprocess.Popen(command, pass_fds=(given,), **pipes))
        assert _ask(started[0], os.getpid) == started[0].pid

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    (worker,) = started
    assert _ask(worker, os.getpid) == worker.pid
    os.close(given)
    os.close(kept)
    assert worker.wait(120) == -signal.SIGKILL
    for stream in (worker.stdin, worker.stdout):
        assert stream is not None
        stream.close()


def _ask(process: "subprocess.Popen[bytes]", work: Callable[[], object]) -> object:
    assert process.stdin is not None
    assert process.stdout is not None
    request = parts_of((work, ()))
    process.stdin.write(head_of(request) + b"".join(request))
    process.stdin.flush()
    count = int.from_bytes(process.stdout.read(LENGTH_BYTES))
    lengths = [*lengths_in(process.stdout.read(count * LENGTH_BYTES))]
    succeeded, result = value_of([process.stdout.read(length) for length in lengths])
    assert succeeded
    return result
