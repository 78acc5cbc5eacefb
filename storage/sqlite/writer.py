"""The single writer with group commit: all queued requests go into one transaction and share one disk flush."""

import asyncio
import functools
import logging
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from storage.contract import CommitListener
from storage.errors import StorageClosed, StorageError, StorageOverloaded, StorageUnavailable
from storage.log import Clock, break_lines, size_of_change
from storage.log import Result as _Result
from storage.records import Change, Commit, TurnChange
from storage.results import AppendDone, HandingOut, resolving
from storage.sqlite.database import Database
from storage.sqlite.log import Log
from storage.times import Times

_log = logging.getLogger(__name__)

_BATCH_CHANGES = 512
"""How many changes are stored, and told to the listeners, together: the latter takes them about 5 µs for each."""
_BATCH_BYTES = 8 * 2**20


class _Request:
    """The changes of one `append`, or the erasure of a project, and what to call with the result."""

    __slots__ = ("bytes", "changes", "done", "erases", "project")

    def __init__(
        self,
        project: str,
        changes: tuple[Change | TurnChange, ...],
        done: AppendDone,
        *,
        erases: bool = False,
    ) -> None:
        self.project = project
        self.changes = changes
        self.done = done
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
        self._batch: list[_Request] = []
        """What is being written, and since when."""
        self._began = 0.0
        self._under_way = False
        """Whether a batch is being written, or one begins in this turn of the loop."""
        self._idle = asyncio.Event()
        self._idle.set()
        self._handing_out = HandingOut(self._rest)
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

    def listen(self, listener: CommitListener, missed: CommitListener | None, *, first: bool) -> None:
        self._listeners.insert(0 if first else len(self._listeners), (listener, missed))

    def require_running(self) -> None:
        """Raise StorageUnavailable if the writer has stopped."""
        if self._stopped and not self._closing:
            raise StorageUnavailable("the writer has stopped")

    def append(self, project: str, changes: tuple[Change | TurnChange, ...]) -> asyncio.Future[tuple[Any, ...]]:
        """Queue changes; the future resolves to the `Commit` of each."""
        future: asyncio.Future[tuple[Any, ...]] = self._loop.create_future()
        self.append_and_call(project, changes, resolving(future))
        return future

    def append_and_call(self, project: str, changes: tuple[Change | TurnChange, ...], done: AppendDone) -> None:
        """Queue changes; `done` is called with the `Commit` of each, or with the error."""
        if self._closing:
            raise StorageClosed("the storage is closed")
        self.require_running()
        if self._waiting + len(changes) > self._queued_changes:
            raise StorageOverloaded(self._waiting, self._queued_changes)
        request = _Request(project, changes, done)
        if self._waiting and self._waiting_bytes + request.bytes > self._queued_bytes:
            raise StorageOverloaded(self._waiting, self._queued_changes)
        self._waiting += len(changes)
        self._waiting_bytes += request.bytes
        self._queue.append(request)
        self._begin_soon()

    def erase(self, project: str) -> asyncio.Future[tuple[Any, ...]]:
        """Queue the erasure of a project; the future resolves to an `ErasedProject`, or to nothing if there is no such
        project. What is queued before is stored first, and erased with the project."""
        if self._closing:
            raise StorageClosed("the storage is closed")
        self.require_running()
        future: asyncio.Future[tuple[Any, ...]] = self._loop.create_future()
        self._queue.append(_Request(project, (), resolving(future), erases=True))
        self._begin_soon()
        return future

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
        self._batch, self._began = self._next_batch(), time.perf_counter()
        try:
            self._database.write_and_call(self._work(self._batch), self._written)
        except Exception as error:
            self._loop.call_soon(self._written, error)

    def _work(self, batch: list[_Request]) -> Callable[[sqlite3.Connection], list[_Result]]:
        """Return what the writer's thread does for a batch, inside of the transaction."""
        if batch[0].erases:
            return functools.partial(self._log.erase, name=batch[0].project)
        return functools.partial(self._log.write, requests=[(request.project, request.changes) for request in batch])

    def _written(self, written: list[_Result] | BaseException) -> None:
        """Tell what became of a batch; then begin the next one, if anything is queued, and hand out the results."""
        batch, self._batch = self._batch, []
        try:
            results = self._finish(batch, written)
        except Exception as error:
            self._stop(batch, error)
            return
        if self._queue:
            self._begin()
        else:
            self._under_way = False
        if self._handing_out.add(results, [request.done for request in batch]) and not self._under_way:
            self._idle.set()

    def _rest(self) -> None:
        """Note that everything was handed out."""
        if not self._under_way:
            self._idle.set()

    def _stop(self, batch: list[_Request], error: Exception) -> None:
        """Refuse everything from now on: what the writer knows of the database may be wrong."""
        _log.critical("the writer has stopped", exc_info=error)
        self._stopped = True
        failure = StorageUnavailable("the writer has stopped", certain=False)
        never = StorageUnavailable("the writer has stopped")
        waiting = [request.done for request in (*batch, *self._queue)]
        self._queue.clear()
        self._idle.set()
        self._handing_out.add([failure] * len(batch) + [never] * (len(waiting) - len(batch)), waiting)

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

    def _finish(self, batch: list[_Request], written: list[_Result] | BaseException) -> Sequence[_Result]:
        """Tell the listeners what was stored of a batch, and return the result of each request."""
        took = time.perf_counter() - self._began
        results: Sequence[_Result]
        if isinstance(written, BaseException):  # all is rolled back; the writer must survive any error
            self._log.forget()
            for request in batch:
                break_lines(request.changes)
            if not isinstance(written, StorageError):
                written = StorageUnavailable(f"the write failed: {written!r}", certain=False)
            results = [written] * len(batch)
        else:
            results = written
        done: list[Commit] = []
        for result in results:
            if type(result) is tuple:
                done += result
        if done:  # before all else: readers of a room wait for it
            self._tell(tuple(done))
            self.commits += 1
            self.changes += len(done)
        if results is written:
            self.times.note(took)
        for request in batch:
            self._waiting -= len(request.changes)
            self._waiting_bytes -= request.bytes
        return results

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
