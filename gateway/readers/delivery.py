"""Sends each reader the changes of its project: in order, at least once, compacted while it cannot be reached.

The log of the project is the queue, and a reader is a row in the database. Of readers with nothing to send, only the
names of their projects are in memory.
"""

import asyncio
import contextlib
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from typing import Protocol

import structlog
from msgspec import UNSET
from msgspec.structs import replace

from gateway.changes.cursors import parse_cursor
from gateway.changes.feed import Batch, Feed, Scans
from gateway.maintenance.jobs import Job
from gateway.pace import next_slice
from gateway.readers.door import Door, Sent
from gateway.readers.reader import (
    ReaderSettings,
    ReaderState,
    by_clock,
    encoded,
    newest_time,
    send_time,
    settings_of,
    state_of,
)
from gateway.trusted_clock import TrustedClock
from gateway.watch.filter import ChangeFilter
from gateway.watch.hub import Hub
from gateway.wire.problems import InvalidCursor
from gateway.wire.readers import LastAnswer
from gateway.wire.values import rfc3339
from storage import (
    FINISHED,
    Commit,
    CommittedTurn,
    Milliseconds,
    Reader,
    ReaderFigures,
    ReaderStep,
    Storage,
    wall_clock,
)

_log = structlog.get_logger("gateway.readers")

RETRIES_S = (5, 300, 1800, 7200, 18_000, 36_000, 86_400, 86_400, 86_400)
"""The pauses, in seconds, after failed attempts; an attempt that fails after the last pause ends the reader."""

_PAGE = 100
_AT_ONCE, _AT_ONCE_PER_HOST = 64, 8
_WAITING_PER_HOST = 1000
_REMEMBERED_BATCHES = 16
_LEASE_MS = 10 * 60 * 1000
"""How long a message in flight is left alone if nothing is heard of it."""
_BUSY_MS = 1000
_FAILED_MS = 60_000
_DOUBTED_MS = 60_000
_SET_BACK_MS = 1000
"""Clocks are adjusted by less all the time."""
_CONNECTED_MS = 20_000
"""How long after a change a connected client has either been told of it, or its connection is known to be dead."""
_HELD_S, _LOOK_MS = 5.0, 1000
_FIGURES_S = 5.0


class Clock(Protocol):
    """Tells the time, and waits."""

    def now(self) -> int:
        """Return milliseconds since 1970."""

    async def wait(self, news: asyncio.Event, until: int | None) -> None:
        """Wait for news, or until a time."""


class WallClock:
    """The system clock."""

    def now(self) -> int:
        return wall_clock()

    async def wait(self, news: asyncio.Event, until: int | None) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(None if until is None else max((until - self.now()) / 1000, 0.001)):
                await news.wait()


class _Message:
    """A message to send to a reader."""

    __slots__ = ("batch", "reader", "settings", "state")

    def __init__(self, reader: Reader, settings: ReaderSettings, state: ReaderState, batch: Batch) -> None:
        self.reader, self.settings, self.state, self.batch = reader, settings, state, batch

    @property
    def host(self) -> str:
        return _host(self.settings)

    @property
    def key(self) -> tuple[str, str, str]:
        return _key(self.reader)


class Deliveries:
    """The job that sends messages to readers.

    Args:
        doors: by kind of reader.
        connected: whether a client of a project has an event stream or a room open.
        trusted: decides whether a credential has expired, which ends readers for good.
    """

    def __init__(
        self,
        storage: Storage,
        hub: Hub,
        feed: Feed,
        doors: Mapping[str, Door],
        connected: Callable[[str, str], bool],
        clock: Clock,
        trusted: TrustedClock,
    ) -> None:
        self.job = Job("readers")
        self.delivered: dict[str, int] = dict.fromkeys(doors, 0)
        """Messages delivered since the start, by kind."""
        self.failed: dict[str, int] = dict.fromkeys(doors, 0)
        """Failed attempts since the start, by kind."""
        self.figures: list[ReaderFigures] = []
        """Figures of the readers, as last read."""
        self._figures_at = float("-inf")
        self._storage = storage
        self._hub = hub
        self._feed = feed
        self._doors = doors
        self._connected = connected
        self._clock = clock
        self._trusted = trusted
        self._latest = 0
        """The latest time that the clock has shown."""
        self._projects: set[str] = set()
        """Projects that have readers."""
        self._moved: set[str] = set()
        """Those of the projects that have news."""
        self._urgent: set[str] = set()
        """Those of the projects in which a turn has ended."""
        self._look_at_all = True
        self._news = asyncio.Event()
        self._sending: dict[tuple[str, str, str], str] = {}
        """The receiving host of each reader with a message in flight or waiting."""
        self._waiting: dict[str, deque[_Message]] = {}
        """Messages waiting to be sent, by host."""
        self._busy: dict[str, int] = {}
        """The number of messages in flight, by host."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._results: list[ReaderStep] = []
        self._storing = asyncio.Lock()
        self._batches: OrderedDict[object, Batch] = OrderedDict()
        self._scans: Scans = {}
        """Pages of the log that were scanned for several readers, whose filters differ."""
        storage.listen(self._committed, self._missed)

    def _committed(self, commits: tuple[Commit, ...]) -> None:
        for commit in commits:
            name = commit.project.name
            if name in self._projects:
                self._moved.add(name)
                if isinstance(commit, CommittedTurn) and commit.turn.status in FINISHED:
                    self._urgent.add(name)
                self._news.set()

    def _missed(self, commits: tuple[Commit, ...]) -> None:
        self._look_at_all = True
        self._news.set()

    def wake(self, project: str) -> None:
        """Look at the readers of a project: one was added or changed, or is to be sent something again."""
        self._projects.add(project)
        self._moved.add(project)
        self._news.set()

    async def run(self) -> None:
        """Run until cancelled."""
        held, asked = False, 0
        try:
            while True:
                self._news.clear()
                await self._look_at_clock()
                if self._storage.shared and not 0 <= self._now() - asked < _LOOK_MS:
                    # Commits of other gateways are not announced: the gateway that holds the job looks every second.
                    asked = self._now()
                    if not await self._storage.hold(self.job.name, _HELD_S):
                        held, asked = False, 0
                        await asyncio.sleep(_LOOK_MS / 1000)
                        continue
                    self._look_at_all = True
                    await self._storage.hasten("pause", None, Milliseconds(asked))  # a turn may have ended elsewhere
                if not held:
                    held, self._look_at_all = True, True
                    await self._storage.hasten("sending", None, Milliseconds(self._now()))
                    self._projects |= set(await self._storage.reader_projects())
                await self._round()
                due = await self._storage.next_due()
                if self._storage.shared:
                    due = Milliseconds(min(due or 2**62, self._now() + _LOOK_MS))
                await self._clock.wait(self._news, due)
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            self._sending.clear()
            self._waiting.clear()
            self._busy.clear()  # tasks that had not started did not decrement the count

    def _now(self) -> int:
        now = self._clock.now()
        self._latest = max(self._latest, now)
        return now

    async def _look_at_clock(self) -> None:
        """If the clock was set back, let no reader wait for a time by the clock as it was before."""
        now = self._clock.now()
        if self._latest:
            set_back = now < self._latest - _SET_BACK_MS
        else:
            await self._trusted.now()
            set_back = self._trusted.was_set_back
        if set_back:
            _log.warning("the clock was set back: what waits for a time is looked at now")
            await self._storage.bring_forward(Milliseconds(now))
            self._latest = now

    async def _round(self) -> None:
        """Look at all readers for which there may be something to do by now."""
        moved, self._moved = self._moved, set()
        urgent, self._urgent = self._urgent, set()
        everything, self._look_at_all = self._look_at_all, False
        for finished in urgent:
            await self._storage.hasten("pause", finished, Milliseconds(self._now()))
        places: list[str | None] = [None] if everything else [*sorted(moved)]
        for project in places:
            while readers := await self._storage.idle_readers(project, limit=_PAGE):
                await self._look(readers)
        while readers := await self._storage.due_readers(Milliseconds(self._now()), limit=_PAGE):
            await self._look(readers)
        self._batches.clear()
        self._scans.clear()
        await self._read_figures()

    async def _read_figures(self) -> None:
        now = time.monotonic()
        if now - self._figures_at >= _FIGURES_S:
            self._figures_at = now
            self.figures = await self._storage.reader_figures()

    async def _look(self, readers: list[Reader]) -> None:
        """Decide the next step of some readers, and store it before anything is sent."""
        steps: list[ReaderStep] = []
        messages: list[_Message] = []
        ended: dict[str, str | None] = {}
        for reader in readers:
            await next_slice()  # what has changed is read for each filter
            try:
                planned = await self._plan(reader, ended)
            except Exception as error:
                self.job.failed(error, project=reader.project, reader=f"{reader.kind} {reader.name}")
                planned = _step(reader, due=self._now() + _FAILED_MS)
            if isinstance(planned, _Message):
                messages.append(planned)
                due = Milliseconds(self._now() + _LEASE_MS)
                state, looked = encoded(planned.state), planned.batch.sequence
                steps.append(ReaderStep(reader, reader.cursor, looked, state, due, "sending"))
            else:
                steps.append(planned)
        async with self._storing:
            await self._storage.note_steps(steps)
        for message in messages:
            self._sending[message.key] = message.host
            self._waiting.setdefault(message.host, deque()).append(message)
        self._start_sending()

    def _start_sending(self) -> None:
        """Send waiting messages within the limits: a receiver that hangs delays few others."""
        for host in list(self._waiting):
            waiting = self._waiting.pop(host)
            while waiting and len(self._tasks) < _AT_ONCE and self._busy.get(host, 0) < _AT_ONCE_PER_HOST:
                self._busy[host] = self._busy.get(host, 0) + 1
                task = asyncio.create_task(self._send(waiting.popleft()))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            if waiting:  # behind the other hosts
                self._waiting[host] = waiting

    async def _plan(self, reader: Reader, ended: dict[str, str | None]) -> ReaderStep | _Message:
        now = self._now()
        if not reader.intact:
            return _step(reader, state=ReaderState(ended="its row in the database is damaged"), stage="ended")
        settings, state = settings_of(reader), by_clock(state_of(reader), now)
        expires = settings.owner.expires
        if expires is not None and await self._trusted.now() < expires * 1000 <= now:
            return _step(reader, due=now + _DOUBTED_MS)  # it ends for good, which a wrong clock must not decide
        why = await self._ended(settings, now, ended)
        if why is not None:
            return _step(reader, state=replace(state, ended=why), stage="ended")
        if _key(reader) in self._sending or len(self._waiting.get(_host(settings), ())) >= _WAITING_PER_HOST:
            return _step(reader, due=now + _BUSY_MS)
        door = self._doors[reader.kind]
        until = _until(reader.cursor, state.pending)
        batch = await self._batch(reader, settings, until, door.most_changes)
        if until is not None and not batch.changes and not batch.since.reset:
            # Everything that was to be sent has changed again since: it is part of what follows.
            reader, state, until = replace(reader, cursor=batch.cursor), replace(state, pending=None), None
            batch = await self._batch(reader, settings, None, door.most_changes)
        if not batch.changes and not batch.since.reset:
            state = replace(state, pending=None, news_at=None)
            due = now if batch.more else None
            return _step(reader, cursor=batch.cursor, looked=batch.sequence, state=state, due=due)
        if until is None and not batch.since.reset:
            at = send_time(batch.changes, state, settings.quiet_seconds, door.spacing_seconds, now)
            if reader.kind == "push" and self._connected(reader.project, reader.name):
                at = newest_time(batch.changes, state, now) + _CONNECTED_MS
                if at <= now:
                    state = replace(state, news_at=None)
                    return _step(reader, cursor=batch.cursor, looked=batch.sequence, state=state)
            if at > now:
                state = state if state.news_at is not None else replace(state, news_at=now)
                return _step(reader, looked=batch.sequence, state=state, due=at, stage="pause")
        return _Message(reader, settings, replace(state, pending=batch.cursor), batch)

    async def _ended(self, settings: ReaderSettings, now: int, known: dict[str, str | None]) -> str | None:
        """Return why the credential that made a reader is no longer valid; None: it is valid, or there was none."""
        owner = settings.owner
        if owner.expires is not None and owner.expires * 1000 <= now:
            return "the credential by which it was made has expired"
        identifier = owner.credential
        if identifier is None or identifier.startswith("jwt"):
            return None
        if identifier not in known:
            token = await self._storage.token(identifier)
            gone = token is None or token.revoked is not None
            known[identifier] = "the token by which it was made was revoked" if gone else None
        return known[identifier]

    async def _batch(self, reader: Reader, settings: ReaderSettings, until: int | None, most: int) -> Batch:
        """Return what there is to send, read once for all readers with the same filter and position."""
        filter_ = settings.change_filter
        head = (await self._hub.require(reader.project)).head
        key = (reader.project, filter_, settings.filter.turns, reader.cursor, until, most, head)
        batch = self._batches.get(key)
        if batch is None:
            batch = await self._read(reader, filter_, until, most)
            wanted = [entry for entry in batch.changes if settings.wants(entry)]
            batch = self._batches[key] = replace(batch, changes=wanted)
            if len(self._batches) > _REMEMBERED_BATCHES:
                self._batches.popitem(last=False)
        return batch

    async def _read(self, reader: Reader, filter_: ChangeFilter, until: int | None, most: int) -> Batch:
        return await self._feed.batch(reader.project, filter_, reader.cursor, most, until, self._scans)

    async def _send(self, message: _Message) -> None:
        try:
            try:
                door = self._doors[message.reader.kind]
                sent = await door.send(message.reader, message.settings, message.batch, self._now())
            except Exception as error:
                reader = message.reader
                self.job.failed(error, project=reader.project, reader=f"{reader.kind} {reader.name}")
                sent = Sent(False, error=f"{type(error).__name__}: {error}")
            self._results.append(self._outcome(message, sent))
        finally:
            self._busy[message.host] -= 1
            if not self._busy[message.host]:
                del self._busy[message.host]
        await self._store_results(message)

    def _outcome(self, message: _Message, sent: Sent) -> ReaderStep:
        """Return the step to store after an attempt."""
        reader, state, batch, now = message.reader, message.state, message.batch, self._now()
        answer = LastAnswer(rfc3339(now), UNSET if sent.status is None else sent.status, sent.error or UNSET)
        if sent.delivered:
            self.delivered[reader.kind] += 1
            done = ReaderState(sent_at=now, answer=answer)
            due = now if batch.more else None
            return _step(reader, cursor=batch.cursor, looked=batch.sequence, state=done, due=due)
        self.failed[reader.kind] += 1
        attempts = state.attempts + 1
        ended = sent.ended
        if ended is None and attempts > len(RETRIES_S):
            ended = f"{attempts} attempts failed"
        state = replace(state, attempts=attempts, answer=answer, ended=ended)
        if ended is not None:
            return _step(reader, looked=batch.sequence, state=state, stage="ended")
        pause = max(RETRIES_S[attempts - 1], sent.retry_after or 0)
        return _step(reader, looked=batch.sequence, state=state, due=now + int(pause * 1000))

    async def _store_results(self, message: _Message) -> None:
        """Store the results of attempts; those that arrive during a write are stored together by the next one."""
        try:
            async with self._storing:
                results, self._results = self._results, []
                if results:
                    await self._storage.note_steps(results)
        except Exception as error:  # the message is sent once more when its lease expires
            self.job.failed(error, project=message.reader.project)
        finally:
            self._sending.pop(message.key, None)
            # The project may have changed while the message was sent.
            self._moved.add(message.reader.project)
            self._news.set()
            asyncio.get_running_loop().call_soon(self._start_sending)


def _step(
    reader: Reader,
    *,
    cursor: str | None = None,
    looked: int | None = None,
    state: ReaderState | None = None,
    due: int | None = None,
    stage: str | None = None,
) -> ReaderStep:
    """Return the next step of a reader. Without a stage it waits: until `due`, or without `due` for project changes."""
    return ReaderStep(
        reader,
        reader.cursor if cursor is None else cursor,
        reader.looked if looked is None else looked,
        reader.state if state is None else encoded(state),
        None if due is None else Milliseconds(due),
        stage or ("idle" if due is None else "retry"),  # type: ignore[arg-type]
    )


def _key(reader: Reader) -> tuple[str, str, str]:
    return reader.project, reader.kind, reader.name


def _host(settings: ReaderSettings) -> str:
    """Return the host that the messages of a reader go to."""
    url = settings.hook.url if settings.hook is not None else settings.push.endpoint if settings.push else ""
    return url.split("/", 3)[2] if url.count("/") > 1 else url


def _until(cursor: str, pending: str | None) -> int | None:
    """Return the last sequence of a message that is sent again."""
    if pending is None:
        return None
    try:
        since, until = parse_cursor(cursor), parse_cursor(pending)
    except InvalidCursor:
        return None
    return until.sequence if since.epoch == until.epoch else None
