"""Work in the background: what each job is doing, how often it failed, and how it goes on after a failure."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import structlog

from gateway.wire.problems import Problem
from storage import StorageError

_log = structlog.get_logger("gateway.jobs")

_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 60.0

_EXPECTED = (StorageError, Problem)
"""Failures that say all there is to say; of any other kind the log has the traceback."""


class Job:
    """One job in the background. A failure with one file or turn is noted, and the job goes on with the next."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.failures = 0
        self.stopped: str | None = None
        """Why the job does not work at the moment; None while it does."""

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

    async def supervise(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run the job until cancelled: what ends it is noted, and after a pause it is begun again."""
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
async def running(jobs: dict[Job, Callable[[], Coroutine[Any, Any, None]]]) -> AsyncIterator[None]:
    """Jobs at work, ended on leaving."""
    tasks = [asyncio.create_task(job.supervise(work), name=job.name) for job, work in jobs.items()]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
