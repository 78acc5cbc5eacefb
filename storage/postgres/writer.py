"""The writer: the queued requests of one project become one batch, which is stored by one statement.

Writes are optimistic and plan without a lock: a batch names the sequence that it builds on, and is stored only if the
project is still at that sequence. If another gateway was faster, its changes are read and the batch is planned again,
this time with the project's row locked. While another gateway writes to the project all the time, the row is locked
first: busy gateways take turns, and everything that is queued while a gateway waits for its turn is stored in it.
"""

import asyncio
import itertools
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from storage.errors import DataDamaged, StorageClosed, StorageError, StorageOverloaded, StorageUnavailable
from storage.log import Clock, Plan, Result, break_lines, needs, plan
from storage.postgres import batch as batches
from storage.postgres.database import CONTENTION, FAILURES, LOST, Connection, Database, storage_error
from storage.postgres.generations import GENERATION
from storage.postgres.projects import Projects, TrackedProject, WriteRequest
from storage.records import Change, TurnChange
from storage.results import AppendDone, hand_out_in_turns, resolving
from storage.times import Times

_log = logging.getLogger(__name__)

_BATCH_CHANGES = 1024
_BATCH_BYTES = 8 * 2**20
_CONTENDED_BATCHES = 3
_CONTENDED_S, _CONTENDED_PART = 0.025, 8
"""A project's row is locked first for so many batches after a write of another gateway, and for at most so many
seconds, or the time of so many batches where that is more: later, the chance is small that another one is faster."""
_GATHER_PART, _MOST_GATHER_S = 1.0, 0.005
"""How long a batch waits for the writers of the last one: a part of the time that took, and the most seconds."""
_PAUSE_S = 0.02


class _Attempt:
    """A batch in flight. `sent`: a plan that was sent under the number `number` and not answered yet."""

    def __init__(self, requests: list[WriteRequest], number: int, *, alone: bool) -> None:
        self.requests = requests
        self.alone = alone
        """Whether no request may be added."""
        self.number = number
        self.sent: Plan | None = None
        self.generation = ""
        """The generation of the database in which `sent` was planned."""
        self.lost = False
        """Whether an answer to `sent` was lost, so that the plan may have been stored."""
        self.locked = False


class Writer:
    """Queues requests by project, and stores them in batches, one batch per project at a time.

    Args:
        node: the name of this gateway among the gateways of the database.
        tell: called with each project in which something was stored.
    """

    def __init__(
        self,
        database: Database,
        projects: Projects,
        *,
        node: str,
        clock: Clock,
        queued_changes: int,
        queued_bytes: int,
        tell: Callable[[TrackedProject], None],
    ) -> None:
        self._database = database
        self._projects = projects
        self._node = node
        self._clock = clock
        self._queued_changes = queued_changes
        self._queued_bytes = queued_bytes
        self._tell = tell
        self._waiting = 0
        self._waiting_bytes = 0
        self._closing = False
        self._numbers = itertools.count(1)
        self._tasks: set[asyncio.Task[None]] = set()
        self.times = Times()
        self.commits = 0
        self.changes = 0
        self.races_lost = 0
        """How often another gateway was faster."""

    @property
    def queued(self) -> int:
        """The number of changes that are queued or being written."""
        return self._waiting

    @property
    def load(self) -> float:
        """How full the queues are, from 0 to 1."""
        return max(self._waiting / self._queued_changes, self._waiting_bytes / self._queued_bytes)

    def append(self, project: str, changes: tuple[Change | TurnChange, ...]) -> asyncio.Future[tuple[Any, ...]]:
        """Queue changes; the future resolves to the `Commit` of each."""
        future: asyncio.Future[tuple[Any, ...]] = asyncio.get_running_loop().create_future()
        self.append_and_call(project, changes, resolving(future))
        return future

    def append_and_call(self, project: str, changes: tuple[Change | TurnChange, ...], done: AppendDone) -> None:
        """Queue changes; `done` is called with the `Commit` of each, or with the error."""
        if self._closing:
            raise StorageClosed("the storage is closed")
        if self._waiting + len(changes) > self._queued_changes:
            raise StorageOverloaded(self._waiting, self._queued_changes)
        tracked = self._projects.track(project)
        # What is remembered of a project that is not followed may be old: then the changes were made of what was read.
        generation = tracked.generation if tracked.loaded and tracked.followers else None
        request = WriteRequest(changes, done, generation)
        if self._waiting and self._waiting_bytes + request.bytes > self._queued_bytes:
            raise StorageOverloaded(self._waiting, self._queued_changes)
        self._waiting += len(changes)
        self._waiting_bytes += request.bytes
        tracked.queue.append(request)
        if tracked.gathered is not None and len(tracked.queue) >= tracked.last_batch:
            _set(tracked.gathered)
        if tracked.writing is None:
            tracked.writing = asyncio.create_task(self._write(tracked), name="group-commit")
            self._tasks.add(tracked.writing)
            tracked.writing.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Write the queued changes, then stop."""
        self._closing = True
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _write(self, tracked: TrackedProject) -> None:
        loop = asyncio.get_running_loop()
        try:
            while tracked.queue:
                await self._gather(tracked)
                async with tracked.lock:
                    requests, began = list[WriteRequest](), loop.time()
                    _fill(requests, tracked)
                    results = await self._commit(tracked, requests)
                    await self._settle(tracked, requests, results)
                tracked.last_batch, now = len(requests), loop.time()
                tracked.batches_since_other += 1
                tracked.batch_seconds = now - began
                tracked.gather_until = now + min(tracked.batch_seconds * _GATHER_PART, _MOST_GATHER_S)
        finally:
            tracked.writing = None

    async def _gather(self, tracked: TrackedProject) -> None:
        """Wait a moment for the writers of the last batch, who have just been answered and may write again. Otherwise
        the first of them would begin a batch of its own, and all others would wait for that one."""
        loop = asyncio.get_running_loop()
        left = tracked.gather_until - loop.time()
        if self._closing or left <= 0 or len(tracked.queue) >= tracked.last_batch:
            return
        tracked.gathered = loop.create_future()
        timer = loop.call_later(left, _set, tracked.gathered)
        try:
            await tracked.gathered
        finally:
            timer.cancel()
            tracked.gathered = None

    async def _settle(self, tracked: TrackedProject, requests: list[WriteRequest], results: Sequence[Result]) -> None:
        for request in requests:
            self._waiting -= len(request.changes)
            self._waiting_bytes -= request.bytes
        commits = tuple([commit for result in results if type(result) is tuple for commit in result])
        if commits:
            self.commits += 1
            self.changes += len(commits)
            self._projects.tell(commits)
            self._tell(tracked)
        await hand_out_in_turns(results, [request.done for request in requests])

    async def _commit(
        self, tracked: TrackedProject, requests: list[WriteRequest], *, alone: bool = False
    ) -> Sequence[Result]:
        """Store a batch, to which queued requests may be added unless it is to be stored `alone`; never raises."""
        started = time.perf_counter()
        try:
            made = await self._store(tracked, _Attempt(requests, next(self._numbers), alone=alone))
            self.times.note(time.perf_counter() - started)
        except DataDamaged as error:
            if len(requests) > 1:  # the other requests are not affected
                return [result for each in requests for result in await self._commit(tracked, [each], alone=True)]
            break_lines(requests[0].changes)
            return [error]
        except Exception as error:  # the requests fail; the writer must survive any error
            if not isinstance(error, StorageError):
                _log.exception("a batch failed")
            for request in requests:
                break_lines(request.changes)
            return [storage_error(error)] * len(requests)
        if made.stores:
            made.known.id = tracked.id
        made.settle()
        return made.results

    async def _store(self, tracked: TrackedProject, attempt: _Attempt) -> Plan:
        loop = asyncio.get_running_loop()
        patience = self._database.patience
        deadline = loop.time() + patience.write
        attempt.locked = _is_contended(tracked, loop.time())
        tracked.forget_rows()
        while True:
            try:
                async with (
                    asyncio.timeout(patience.attempt),
                    self._database.acquire(self._database.writers) as connection,
                ):
                    made = await self._try(connection, tracked, attempt)
                if made is not None:
                    return made
                self.races_lost += 1
                attempt.locked = True
            except CONTENTION as error:
                attempt.locked = True
                if not attempt.lost:
                    attempt.sent = None
                if loop.time() > deadline:
                    raise storage_error(error, certain=not attempt.lost) from error
                await asyncio.sleep(_PAUSE_S)
            except LOST as error:
                if attempt.sent is not None and not attempt.lost:
                    attempt.lost = True
                if loop.time() > deadline:
                    raise storage_error(error, certain=attempt.sent is None) from error
                await asyncio.sleep(_PAUSE_S)
            except FAILURES as error:
                raise storage_error(error, certain=not attempt.lost) from error

    async def _try(self, connection: Connection, tracked: TrackedProject, attempt: _Attempt) -> Plan | None:
        """Try once; return None if another gateway was faster: what it stored is read with the row locked."""
        if attempt.sent is not None:
            if await connection.fetchval(f"SELECT {GENERATION}") != attempt.generation:
                await self._projects.catch_up(tracked, connection)
                raise _begun_anew(certain=False)
            stored = await batches.was_stored(connection, attempt.sent, self._node, attempt.number)
            if stored:
                return attempt.sent
            if stored is False:
                attempt.sent, attempt.lost = None, False
                return None
            # The first copy may still be stored; then this second one is not: both build on the same sequence.
            if await self._send(connection, attempt.sent, attempt):
                return attempt.sent
            return await self._after_two_copies(connection, attempt)
        await self._projects.load(tracked, connection)
        if attempt.locked:
            return await self._store_locked(connection, tracked, attempt)
        made = await self._plan(connection, tracked, attempt)
        if not made.stores:
            # A conflict is real only if nobody has written since.
            before = tracked.known.head
            await self._projects.catch_up(tracked, connection)
            return made if tracked.known.head is before else None
        attempt.sent = made
        stored = await self._send(connection, made, attempt)
        attempt.sent = None
        return made if stored else None

    async def _after_two_copies(self, connection: Connection, attempt: _Attempt) -> Plan | None:
        """Decide the result after the second copy of a plan was not stored: the first copy was, or another gateway's
        plan."""
        sent = attempt.sent
        assert sent is not None
        if await batches.was_stored(connection, sent, self._node, attempt.number):
            return sent
        attempt.sent, attempt.lost = None, False
        return None

    async def _store_locked(self, connection: Connection, tracked: TrackedProject, attempt: _Attempt) -> Plan | None:
        try:
            # One message. Other gateways wait from here on, so no statement more than necessary follows.
            await connection.execute(f"BEGIN; SELECT 1 FROM project WHERE id = {tracked.id} FOR NO KEY UPDATE")
            await self._projects.catch_up(tracked, connection)
            if not attempt.alone:
                _fill(attempt.requests, tracked)
            made = await self._plan(connection, tracked, attempt)
            stored = not made.stores or await self._send(connection, made, attempt)
        except LOST:
            raise  # with the connection, the transaction ends
        except Exception:
            await connection.execute("ROLLBACK")
            raise
        attempt.sent = made if made.stores else None
        await connection.execute("COMMIT")
        attempt.sent = None
        return made if stored else None  # another gateway has just created the project

    async def _plan(self, connection: Connection, tracked: TrackedProject, attempt: _Attempt) -> Plan:
        attempt.generation = tracked.generation
        if any(request.generation not in (None, tracked.generation) for request in attempt.requests):
            raise _begun_anew(certain=True)
        now = self._clock()
        requests = [request.changes for request in attempt.requests]
        if missing := needs(tracked.known, requests):
            await batches.load(connection, tracked.known, missing, now)
        return plan(tracked.known, requests, now)

    async def _send(self, connection: Connection, made: Plan, attempt: _Attempt) -> bool:
        return await batches.store(connection, made, self._node, attempt.number, attempt.generation)


def _begun_anew(*, certain: bool) -> StorageUnavailable:
    return StorageUnavailable("the database was set back to an earlier state, from which it goes on", certain=certain)


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _is_contended(tracked: TrackedProject, now: float) -> bool:
    """Return whether another gateway probably writes to a project before the next batch is stored."""
    while_s = max(_CONTENDED_S, _CONTENDED_PART * tracked.batch_seconds)
    return tracked.batches_since_other < _CONTENDED_BATCHES and now - tracked.other_wrote_at < while_s


def _fill(batch: list[WriteRequest], tracked: TrackedProject) -> None:
    """Move queued requests into a batch, as many as fit, and at least one into an empty one."""
    queue = tracked.queue
    changes = sum([len(request.changes) for request in batch])
    size = sum([request.bytes for request in batch])
    while queue:
        changes += len(queue[0].changes)
        size += queue[0].bytes
        if batch and (changes > _BATCH_CHANGES or size > _BATCH_BYTES):
            break
        batch.append(queue.popleft())
