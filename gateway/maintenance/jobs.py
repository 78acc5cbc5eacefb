"""Background jobs: what each one is doing, how often it failed, and how it resumes after a failure."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from typing import Any

import structlog

from gateway.wire.problems import Problem
from storage import StorageError

_log = structlog.get_logger("gateway.jobs")

Work = Callable[[], Coroutine[Any, Any, None]]
"""What a job does until it is cancelled."""

_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 60.0

_EXPECTED = (StorageError, Problem)
"""Failures whose message suffices; any other kind is logged with its traceback."""


class Job:
    """One background job. A failure with one file or turn is noted, and the job continues with the next one."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.failures = 0
        self.stopped: str | None = None
        """Why the job is not working at the moment; None while it is."""

    def failed(self, error: Exception, **where: str) -> None:
        """Note a failure; `where` names the project, the file …"""
        self.failures += 1
        expected = isinstance(error, _EXPECTED)
        _log.error(
            "background job failed",
            job=self.name,
            **where,
            reason=f"{type(error).__name__}: {error}",
            exc_info=None if expected else error,
        )

    async def supervise(self, work: Work) -> None:
        """Run the job until cancelled; if it fails, note the failure, and restart the job after a pause."""
        pause = _FIRST_PAUSE_S
        while True:
            began = asyncio.get_running_loop().time()
            try:
                await work()
                error = RuntimeError("the job ended of itself")
            except Exception as raised:
                error = raised  # type: ignore[assignment]
            self.failed(error)
            if asyncio.get_running_loop().time() - began > _LONGEST_PAUSE_S:
                pause = _FIRST_PAUSE_S
            self.stopped = f"stopped by {type(error).__name__}: {error}; tried again after {pause:g} s"
            await asyncio.sleep(pause)
            self.stopped = None
            pause = min(2 * pause, _LONGEST_PAUSE_S)


@contextlib.asynccontextmanager
async def running(jobs: Mapping[Job, Work]) -> AsyncIterator[None]:
    """Run the jobs in the background; they are ended on leaving the context."""
    tasks = [asyncio.create_task(job.supervise(work), name=job.name) for job, work in jobs.items()]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
