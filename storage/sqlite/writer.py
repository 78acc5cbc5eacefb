"""The single writer with group commit: all queued requests go into one transaction and share one disk flush."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

from storage.contract import CommitListener
from storage.errors import StorageClosed, StorageError, StorageOverloaded, StorageUnavailable
from storage.log import Clock, break_lines, size_of_change
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
        self._wake = asyncio.Event()
        self._closing = False
        self._task = asyncio.create_task(self._run(), name="group-commit")
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
        if self._task.done() and not self._closing:
            raise StorageUnavailable("the writer has stopped")

    def append(self, project: str, changes: tuple[Change | TurnChange, ...]) -> asyncio.Future[tuple[Any, ...]]:
        """Queue changes; the future resolves to the `Commit` of each."""
        if self._closing:
            raise StorageClosed("the storage is closed")
        self.require_running()
        if self._waiting + len(changes) > self._queued_changes:
            raise StorageOverloaded(self._waiting, self._queued_changes)
        request = _Request(project, changes, asyncio.get_running_loop().create_future())
        if self._waiting and self._waiting_bytes + request.bytes > self._queued_bytes:
            raise StorageOverloaded(self._waiting, self._queued_changes)
        self._waiting += len(changes)
        self._waiting_bytes += request.bytes
        self._queue.append(request)
        self._wake.set()
        return request.future

    def erase(self, project: str) -> asyncio.Future[tuple[Any, ...]]:
        """Queue the erasure of a project; the future resolves to an `ErasedProject`, or to nothing if there is no such
        project. What is queued before is stored first, and erased with the project."""
        if self._closing:
            raise StorageClosed("the storage is closed")
        self.require_running()
        request = _Request(project, (), asyncio.get_running_loop().create_future(), erases=True)
        self._queue.append(request)
        self._wake.set()
        return request.future

    def forget_rows(self) -> None:
        """Clear the cached rows. To be called in the writer's thread."""
        self._log.forget()

    async def close(self) -> None:
        """Write the queued changes, then stop."""
        self._closing = True
        self._wake.set()
        await asyncio.wait([self._task])

    async def _run(self) -> None:
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._queue:
                    batch = self._next_batch()
                    try:
                        await self._commit(batch)
                    except Exception:
                        failure = StorageUnavailable("the writer has stopped", certain=False)
                        self._answer(batch, [failure] * len(batch))
                        raise
                if self._closing:
                    return
        except Exception:
            _log.critical("the writer has stopped", exc_info=True)
        finally:
            self._answer(self._queue, [StorageUnavailable("the writer has stopped")] * len(self._queue))
            self._queue.clear()

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

    async def _commit(self, batch: list[_Request]) -> None:
        requests = [(request.project, request.changes) for request in batch]
        started = time.perf_counter()
        try:
            results: list[tuple[Commit, ...] | StorageError] = await self._database.write(
                lambda connection: (
                    self._log.erase(connection, batch[0].project)
                    if batch[0].erases
                    else self._log.write(connection, requests)
                )
            )
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
    def _answer(requests: Iterable[_Request], results: Sequence[tuple[Commit, ...] | StorageError]) -> None:
        for request, result in zip(requests, results, strict=True):
            if request.future.done():  # the waiting caller was cancelled; the change is stored nevertheless
                continue
            if isinstance(result, StorageError):
                request.future.set_exception(result)
            else:
                request.future.set_result(result)
