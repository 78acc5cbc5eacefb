"""The projects that this gateway writes or follows: their known state, and the listeners."""

import asyncio
import logging
from collections import deque

from storage.contract import CommitListener
from storage.log import KnownProject, new_project, size_of_change
from storage.postgres.database import Connection, Database, project_id
from storage.postgres.erasing import was_erased
from storage.postgres.files import PROJECT, project_from_row
from storage.postgres.generations import GENERATION, generation_of
from storage.postgres.news import read_news
from storage.records import (
    Change,
    Commit,
    CommittedSession,
    ErasedProject,
    Milliseconds,
    ProjectHead,
    SessionHead,
    TurnChange,
)
from storage.results import AppendDone

_log = logging.getLogger(__name__)

_REMEMBERED_ROWS = 16_384
_IDLE_PROJECTS = 4096
"""How many projects that are no longer followed or written are kept in the cache."""


class WriteRequest:
    """The changes of one `append`, and what to call with the result."""

    __slots__ = ("bytes", "changes", "done", "generation")

    def __init__(self, changes: tuple[Change | TurnChange, ...], done: AppendDone, generation: str | None) -> None:
        self.changes = changes
        self.done = done
        self.generation = generation
        """The generation of the database in which the changes were made; None: unknown."""
        self.bytes = sum(map(size_of_change, changes))


class TrackedProject:
    """What this gateway knows of a project: valid as long as the project's row is at the known sequence.

    `lock` is held while reads advance the known state, and while a batch is stored.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.id = project_id(name)
        self.known: KnownProject = new_project(name, 0)
        self.generation = ""
        """The generation of the database in which the known state was read."""
        self.loaded = False
        """Whether listeners hear of everything after the known state."""
        self.lock = asyncio.Lock()
        self.next_read: asyncio.Task[None] | None = None
        """A read of what was stored that has not begun yet: who asks for one meanwhile waits for this one."""
        self.followers = 0
        self.queue: deque[WriteRequest] = deque()
        self.writing: asyncio.Task[None] | None = None
        self.last_batch = 0
        """The number of requests of the last batch."""
        self.gather_until = float("-inf")
        """Until when the next batch waits for as many requests."""
        self.gathered: asyncio.Future[None] | None = None
        """Done when there are as many."""
        self.told: float = 0
        """The newest sequence of the project that another gateway announced."""
        self.catching_up: asyncio.Task[None] | None = None
        self.batch_seconds = 0.0
        """How long the last batch took."""
        self.other_wrote_at = float("-inf")
        """When a write of another gateway to the project was last noticed."""
        self.batches_since_other = 0
        """The number of batches since then."""

    @property
    def exists(self) -> bool:
        return self.known.id != 0

    @property
    def head(self) -> ProjectHead | None:
        """The project's head as of what the listeners have heard."""
        return self.known.head if self.exists else None

    @property
    def idle(self) -> bool:
        return not (
            self.followers or self.queue or self.writing or self.catching_up or self.next_read or self.lock.locked()
        )

    def forget_rows(self) -> None:
        """Clear the known files and turns if there are many."""
        if self.known.size > _REMEMBERED_ROWS:
            known = KnownProject(self.known.id, self.known.head)
            self.known = known


class Projects:
    """All tracked projects, and the listeners."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._tracked: dict[str, TrackedProject] = {}
        self._by_id: dict[int, TrackedProject] = {}
        self._listeners: list[tuple[CommitListener, CommitListener | None]] = []
        self.catch_ups = 0
        """How often changes that another gateway had stored were read."""

    def listen(self, listener: CommitListener, missed: CommitListener | None, *, first: bool) -> None:
        self._listeners.insert(0 if first else len(self._listeners), (listener, missed))

    def get(self, name: str) -> TrackedProject | None:
        return self._tracked.get(name)

    def by_id(self, id: int) -> TrackedProject | None:
        return self._by_id.get(id)

    def track(self, name: str) -> TrackedProject:
        tracked = self._tracked.pop(name, None)
        if tracked is None:
            if len(self._tracked) >= _IDLE_PROJECTS:
                self._forget_one()
            tracked = TrackedProject(name)
            self._by_id[tracked.id] = tracked
        self._tracked[name] = tracked  # the most recent last
        return tracked

    def _forget_one(self) -> None:
        for name, tracked in self._tracked.items():
            if tracked.idle:
                del self._tracked[name]
                self._by_id.pop(tracked.id, None)
                return

    @property
    def followed(self) -> list[TrackedProject]:
        return [tracked for tracked in self._tracked.values() if tracked.followers]

    def tell(self, commits: tuple[Commit, ...]) -> None:
        """Notify the listeners of commits."""
        for listener, missed in self._listeners:
            try:
                listener(commits)
            except Exception:
                _log.exception("a listener failed with what was committed")
                try:
                    if missed is not None:
                        missed(commits)
                except Exception:
                    _log.exception("a listener failed to forget what it knew")

    async def load(self, tracked: TrackedProject, connection: Connection) -> None:
        """Load a project's head. The caller holds its lock."""
        if not tracked.loaded:
            row = await connection.fetchrow(f"SELECT {PROJECT} FROM project p WHERE p.id = $1", tracked.id)
            if row is None:
                tracked.known = new_project(tracked.name, 0)
                tracked.generation = await connection.fetchval(f"SELECT {GENERATION}")
            else:
                if row[0] != tracked.name:
                    raise RuntimeError(f"the projects {row[0]!r} and {tracked.name!r} have one id")
                tracked.known = KnownProject(tracked.id, project_from_row(row))
                tracked.generation = generation_of(row[1])
            tracked.loaded = True

    async def catch_up(self, tracked: TrackedProject, connection: Connection) -> None:
        """Read what other gateways stored, and notify the listeners. The caller holds the project's lock."""
        if not tracked.loaded:
            await self.load(tracked, connection)
            return
        known = tracked.known
        news = await read_news(connection, tracked.id, tracked.name, known)
        if (
            known.id
            and (news is None or news.head.epoch != known.head.epoch)
            and await was_erased(connection, tracked.id, known.head.epoch)
        ):
            self.erased(tracked, known.head)
            await self.load(tracked, connection)
            return
        if known.id and (news is None or news.head.sequence < known.head.sequence):
            # What was read before was durable. Commits are lost, unless somebody has noticed that already.
            await self._database.begin_generation(tracked.generation)
            news = await read_news(connection, tracked.id, tracked.name, known)
        if news is None or (known.id and news.head.epoch != known.head.epoch):
            tracked.loaded = False
            await self.load(tracked, connection)
            if known.id:
                _log.warning("the project %r is not what it was: everybody starts over", tracked.name)
                self._forget(tracked, known.head)
            return
        tracked.generation = news.generation
        if news.head.sequence == known.head.sequence:
            return
        self.catch_ups += 1
        tracked.other_wrote_at, tracked.batches_since_other = asyncio.get_running_loop().time(), 0
        if not known.id:
            known = tracked.known = KnownProject(tracked.id, news.head)
        known.head = news.head
        for path, file in news.files.items():
            if path in known.files:
                known.files[path] = file
        for key, turn in news.turns.items():
            if key in known.turns:
                known.turns[key] = turn
        self.tell(news.commits)

    def erased(self, tracked: TrackedProject, head: ProjectHead) -> None:
        """Note that a project was erased, and notify the listeners. The caller holds its lock."""
        tracked.loaded = False
        tracked.known = new_project(tracked.name, 0)
        self.tell((ErasedProject(head),))

    def _forget(self, tracked: TrackedProject, before: ProjectHead) -> None:
        """Have the listeners drop what they know of a project. `before`: its head as they heard of it last."""
        head = tracked.known.head if tracked.exists else before
        commit = CommittedSession(head, SessionHead("", None, head.sequence, Milliseconds(0)))
        for _, missed in self._listeners:
            if missed is not None:
                missed((commit,))
