"""The single writer with group commit: all queued requests go into one transaction and share one disk flush."""

import asyncio
import functools
import logging
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from storage.contract import CommitListener
from storage.errors import StorageClosed, StorageError, StorageOverloaded, StorageUnavailable
from storage.log import Clock, break_lines, size_of_change
from storage.log import Result as _Result
from storage.records import Change, Commit, TurnChange
from storage.sqlite.database import Database
from storage.sqlite.log import Log
from storage.times import Times

_log = logging.getLogger(__name__)

_BATCH_CHANGES = 1024
_BATCH_BYTES = 8 * 2**20


class _Request:
    """The changes of one `append`, or the erasure of a project, and the future that waits for them."""

    __slots__ = ("bytes", "changes", "erases", "future", "project")

    def __init__(
        self,
        project: str,
        changes: tuple[Change | TurnChange, ...],
        future: asyncio.Future[tuple[Any, ...]],
        *,
        erases: bool = False,
    ) -> None:
        self.project = project
        self.changes = changes
        self.future = future
        self.erases = erases
        self.bytes = size_of_change(changes[0]) if len(changes) == 1 else sum(map(size_of_change, changes))


class GroupCommitWriter:
    """Queues requests in the event loop's thread and commits them in batches in the database's thread."""

    def __init__(self, database: Database, *, clock: Clock, queued_changes: int, queued_bytes: int) -> None:
        self._database = database
        self._log = Log(clock)
        self._queued_changes = queued_changes
        self._queued_bytes = queued_bytes
        self._queue: deque[_Request] = deque()
        self._waiting = 0
        self._waiting_bytes = 0
        self._listeners: list[tuple[CommitListener, CommitListener | None]] = []
        self._loop = asyncio.get_running_loop()
        self._under_way = False
        """Whether a batch is being written, or one begins in this turn of the loop."""
        self._idle = asyncio.Event()
        self._idle.set()
        self._closing = False
        self._stopped = False
        """Whether a failure has stopped the writer for good."""
        self.times = Times()
        self.commits = 0
        self.changes = 0

    @property
    def queued(self) -> int:
        """The number of changes that are queued or being written."""
        return self._waiting

    @property
    def load(self) -> float:
        """How full the queue is, from 0 to 1."""
        return max(self._waiting / self._queued_changes, self._waiting_bytes / self._queued_bytes)

    def listen(self, listener: CommitListener, missed: CommitListener | None = None) -> None:
        self._listeners.append((listener, missed))

    def require_running(self) -> None:
        """Raise StorageUnavailable if the writer has stopped."""
        if self._stopped and not self._closing:
            raise StorageUnavailable("the writer has stopped")

    def append(self, project: str, changes: tuple[Change | TurnChange, ...]) -> asyncio.Future[tuple[Any, ...]]:
        """Queue changes; the future resolves to the `Commit` of each."""
        if self._closing:
            raise StorageClosed("the storage is closed")
        self.require_running()
        if self._waiting + len(changes) > self._queued_changes:
            raise StorageOverloaded(self._waiting, self._queued_changes)
        request = _Request(project, changes, self._loop.create_future())
        if self._waiting and self._waiting_bytes + request.bytes > self._queued_bytes:
            raise StorageOverloaded(self._waiting, self._queued_changes)
        self._waiting += len(changes)
        self._waiting_bytes += request.bytes
        self._queue.append(request)
        self._begin_soon()
        return request.future

    def erase(self, project: str) -> asyncio.Future[tuple[Any, ...]]:
        """Queue the erasure of a project; the future resolves to an `ErasedProject`, or to nothing if there is no such
        project. What is queued before is stored first, and erased with the project."""
        if self._closing:
            raise StorageClosed("the storage is closed")
        self.require_running()
        request = _Request(project, (), self._loop.create_future(), erases=True)
        self._queue.append(request)
        self._begin_soon()
        return request.future

    def forget_rows(self) -> None:
        """Clear the cached rows. To be called in the writer's thread."""
        self._log.forget()

    async def close(self) -> None:
        """Write the queued changes, then stop."""
        self._closing = True
        await self._idle.wait()

    def _begin_soon(self) -> None:
        """Begin a batch once everybody whose turn of the loop it is has queued their changes, unless one is written."""
        if not self._under_way:
            self._under_way = True
            self._idle.clear()
            self._loop.call_soon(self._begin)

    def _begin(self) -> None:
        """Have the next batch written. No task waits for it: beside a small batch, that would be most of the work."""
        batch, started = self._next_batch(), time.perf_counter()
        try:
            written = asyncio.ensure_future(self._database.write(self._work(batch)))
        except Exception as error:
            written = self._loop.create_future()
            written.set_exception(error)
        written.add_done_callback(functools.partial(self._written, batch, started))

    def _work(self, batch: list[_Request]) -> Callable[[sqlite3.Connection], list[_Result]]:
        """Return what the writer's thread does for a batch, inside of the transaction."""
        if batch[0].erases:
            return functools.partial(self._log.erase, name=batch[0].project)
        return functools.partial(self._log.write, requests=[(request.project, request.changes) for request in batch])

    def _written(self, batch: list[_Request], started: float, written: asyncio.Future[list[_Result]]) -> None:
        """Tell and answer what became of a batch; then begin the next one, if anything is queued."""
        try:
            self._finish(batch, started, written)
            if self._queue:
                self._begin()
            else:
                self._under_way = False
                self._idle.set()
        except Exception as error:
            self._stop(batch, error)

    def _stop(self, batch: list[_Request], error: Exception) -> None:
        """Refuse everything from now on: what the writer knows of the database may be wrong."""
        _log.critical("the writer has stopped", exc_info=error)
        self._stopped = True
        failure = StorageUnavailable("the writer has stopped", certain=False)
        self._answer(batch, [failure] * len(batch))
        self._answer(self._queue, [StorageUnavailable("the writer has stopped")] * len(self._queue))
        self._queue.clear()
        self._idle.set()

    def _next_batch(self) -> list[_Request]:
        batch = [self._queue.popleft()]
        changes, size = len(batch[0].changes), batch[0].bytes
        while self._queue and not (batch[0].erases or self._queue[0].erases):
            request = self._queue[0]
            changes += len(request.changes)
            size += request.bytes
            if changes > _BATCH_CHANGES or size > _BATCH_BYTES:
                break
            batch.append(self._queue.popleft())
        return batch

    def _finish(self, batch: list[_Request], started: float, written: asyncio.Future[list[_Result]]) -> None:
        results: list[_Result]
        try:
            results = written.result()
        except Exception as error:  # the batch is rolled back and its requests fail; the writer must survive any error
            self._log.forget()
            for request in batch:
                break_lines(request.changes)
            failure = (
                error
                if isinstance(error, StorageError)
                else StorageUnavailable(f"the write failed: {error!r}", certain=False)
            )
            results = [failure] * len(batch)
        else:
            self.times.note(time.perf_counter() - started)
        for request in batch:
            self._waiting -= len(request.changes)
            self._waiting_bytes -= request.bytes
        done: list[Commit] = []
        for result in results:
            if type(result) is tuple:
                done += result
        if done:
            self.commits += 1
            self.changes += len(done)
            self._tell(tuple(done))
        self._answer(batch, results)

    def _tell(self, done: tuple[Commit, ...]) -> None:
        for listener, missed in self._listeners:
            try:
                listener(done)
            except Exception:
                _log.exception("a listener failed with what was committed")
                try:
                    if missed is not None:
                        missed(done)
                except Exception:
                    _log.exception("a listener failed to forget what it knew")

    @staticmethod
    def _answer(requests: Iterable[_Request], results: Sequence[_Result]) -> None:
        for request, result in zip(requests, results, strict=True):
            if request.future.done():  # the waiting caller was cancelled; the change is stored nevertheless
                continue
            if isinstance(result, StorageError):
                request.future.set_exception(result)
            else:
                request.future.set_result(result)
