"""The newest cursor of each project that somebody looks at, the newest heads of its files, and who waits for more.

Everything here follows from what storage commits (`Storage.listen`), is bounded, and can be forgotten at any time:
those who wait hold positions, not messages, and read the log when they are woken.
"""

import asyncio
import heapq
from collections import deque
from collections.abc import Callable

import structlog

from gateway.watch.answers import AnswerBudget
from gateway.watch.filter import ChangeFilter
from gateway.watch.project import TooManyWaiters, Waiter, WatchedProject
from gateway.wire.problems import ProjectNotFound
from storage import Commit, Committed, CommittedTurn, FileHead, Storage, TurnHead

_log = structlog.get_logger("gateway.hub")

_PROJECTS = 4096
_ANSWER_BYTES, _ANSWER_BYTES_PER_PROJECT = 256 * 2**20, 4 * 2**20
_WOKEN_TOGETHER = 100
"""One turn of the loop for all would delay the first of them by all the others."""
_TICKS_PER_SECOND = 10


class Hub:
    """Follows the commits of a storage and wakes those who wait for them.

    Args:
        project_limit: the most requests that may wait on one project.
        limit: the most requests that may wait in all.
    """

    def __init__(
        self,
        storage: Storage,
        *,
        project_limit: int = 20_000,
        limit: int = 50_000,
        question_limit: int = 64 * 2**20,
    ) -> None:
        self._storage = storage
        self._projects: dict[str, WatchedProject] = {}
        self._budget = AnswerBudget(_ANSWER_BYTES, _ANSWER_BYTES_PER_PROJECT)
        self._project_limit = project_limit
        self._limit = limit
        self._question_limit = question_limit
        self.members = 0
        self.question_bytes = 0
        """What those who wait keep of the bodies of their requests."""
        self.wakes = 0
        """How often somebody was woken, for a change or at the deadline."""
        self.draining = False
        self._woken: deque[Waiter] = deque()
        self._ticks: list[int] = []
        self._deadlines: dict[int, dict[Waiter, None]] = {}
        self._timer: asyncio.TimerHandle | None = None
        storage.listen(self._committed, self._missed)

    def get(self, name: str) -> WatchedProject | None:
        """The project, if it is in memory."""
        return self._projects.get(name)

    def _committed(self, batch: tuple[Commit, ...]) -> None:
        for committed in batch:
            project = self._projects.get(committed.project.name)
            if project is None:
                continue
            project.advance(committed.project)
            if isinstance(committed, Committed):
                if project.complete or committed.head.path in project.files:
                    project.update_file(committed.head)
                if project.members:
                    self._wake(project.take_waiters(committed.head))
            elif isinstance(committed, CommittedTurn):
                project.update_turn(committed.turn)
                if project.members:
                    self._wake(project.take_waiters(committed.turn))

    def _missed(self, batch: tuple[Commit, ...]) -> None:
        """Forget the projects of a batch that was not wholly heard of, and let who waits on them look again."""
        for name in {committed.project.name for committed in batch}:
            project = self._projects.pop(name, None)
            if project is not None:
                project.close()
                self._wake(self._take_all(project))

    # Waiting

    def enter(self, project: WatchedProject, question_bytes: int = 0) -> None:
        """Take a place for a request that will wait, once or again and again, until it leaves.

        Args:
            question_bytes: what is kept of its body meanwhile.

        Raises:
            TooManyWaiters
        """
        if self.members >= self._limit or project.members >= self._project_limit:
            raise TooManyWaiters
        if question_bytes and self.question_bytes + question_bytes > self._question_limit:
            raise TooManyWaiters
        self.members += 1
        self.question_bytes += question_bytes
        project.members += 1

    def leave(self, project: WatchedProject, question_bytes: int = 0) -> None:
        self.members -= 1
        self.question_bytes -= question_bytes
        project.members -= 1

    @staticmethod
    def change_place(old: WatchedProject, new: WatchedProject) -> None:
        """Keep the place, where a project was forgotten and read anew."""
        old.members -= 1
        new.members += 1

    def add_waiter(
        self, project: WatchedProject, filter_: ChangeFilter, seconds: float, wake: Callable[[], None]
    ) -> Waiter:
        """Call `wake` at the next change that `filter_` wants, or after `seconds`; at once when the gateway stops."""
        loop = asyncio.get_running_loop()
        waiter = Waiter(project, filter_, int((loop.time() + seconds) * _TICKS_PER_SECOND) + 1, wake)
        if self.draining:
            self._wake([waiter])
            return waiter
        topic = filter_.topic
        (project.general if topic is None else project.by_topic.setdefault(topic, {}))[waiter] = None
        due = self._deadlines.get(waiter.tick)
        if due is None:
            due = self._deadlines[waiter.tick] = {}
            heapq.heappush(self._ticks, waiter.tick)
            self._set_timer(loop)
        due[waiter] = None
        return waiter

    def forget(self, waiter: Waiter) -> None:
        """Do not wake it any more."""
        self._remove(waiter)
        due = self._deadlines.get(waiter.tick)
        if due is not None:
            due.pop(waiter, None)

    @staticmethod
    def waits(waiter: Waiter) -> bool:
        """Whether nothing has happened yet that it waits for."""
        topic = waiter.filter.topic
        return waiter in (waiter.project.general if topic is None else waiter.project.by_topic.get(topic, ()))

    @staticmethod
    def _remove(waiter: Waiter) -> bool:
        """Take a waiter out of its project; False if it was woken already."""
        topic = waiter.filter.topic
        project = waiter.project
        if topic is None:
            return project.general.pop(waiter, waiter) is None
        waiters = project.by_topic.get(topic)
        if waiters is None or waiter not in waiters:
            return False
        del waiters[waiter]
        if not waiters:
            del project.by_topic[topic]
        return True

    def _set_timer(self, loop: asyncio.AbstractEventLoop) -> None:
        """One timer for all deadlines, at the first of them."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = loop.call_at(self._ticks[0] / _TICKS_PER_SECOND, self._deadline, loop) if self._ticks else None

    def _deadline(self, loop: asyncio.AbstractEventLoop) -> None:
        now = int(loop.time() * _TICKS_PER_SECOND)
        while self._ticks and self._ticks[0] <= now:
            due = self._deadlines.pop(heapq.heappop(self._ticks))
            self._wake([waiter for waiter in due if self._remove(waiter)])
        self._set_timer(loop)

    def _wake(self, waiters: list[Waiter]) -> None:
        """Wake them in chunks, after those who hold a receipt of the change have it."""
        if not waiters:
            return
        if not self._woken:
            loop = asyncio.get_running_loop()
            loop.call_soon(loop.call_soon, self._wake_some, 1)  # what the first one reads, the others are sent
        self._woken.extend(waiters)

    def _wake_some(self, count: int) -> None:
        for _ in range(min(count, len(self._woken))):
            waiter = self._woken.popleft()
            due = self._deadlines.get(waiter.tick)
            if due is not None:
                due.pop(waiter, None)
            self.wakes += 1
            try:
                waiter.wake()
            except Exception:
                _log.exception("wake failed")
        if self._woken:
            asyncio.get_running_loop().call_soon(self._wake_some, _WOKEN_TOGETHER)

    def drain(self) -> None:
        """Answer everybody who waits, now and from now on: the gateway is about to stop."""
        self.draining = True
        for project in self._projects.values():
            self._wake(self._take_all(project))

    @staticmethod
    def _take_all(project: WatchedProject) -> list[Waiter]:
        """Everybody who waits on a project, who does not any more."""
        waiters = [*project.general, *(waiter for topic in project.by_topic.values() for waiter in topic)]
        project.general.clear()
        project.by_topic.clear()
        return waiters

    # Reading

    async def require(self, name: str) -> WatchedProject:
        """The project where it stands now, read from storage if need be.

        Raises:
            ProjectNotFound
        """
        project = await self.project(name)
        if project is None:
            raise ProjectNotFound(name)
        return project

    async def project(self, name: str) -> WatchedProject | None:
        """The project, read from storage if need be; None if it does not exist."""
        watched = self._projects.get(name)
        if watched is not None and watched.head is not None:
            return watched
        # Watched before it is read: a commit between the read and the registration would go unheard.
        watched = self._watch(name)
        head = await self._storage.project_head(name)
        if self._projects.get(name) is not watched:  # somebody else found nothing, and let go of it
            return await self.project(name)
        if head is not None:
            watched.advance(head)
        if watched.head is None:
            del self._projects[name]
            return None
        return watched

    def _watch(self, name: str) -> WatchedProject:
        watched = self._projects.get(name)
        if watched is None:
            if len(self._projects) >= _PROJECTS:
                self._forget_one()
            watched = self._projects[name] = WatchedProject(self._budget)
        return watched

    def _forget_one(self) -> None:
        """Make room for a project: the oldest on which nobody waits goes."""
        for name, project in self._projects.items():
            if not project.members:
                project.close()
                del self._projects[name]
                return

    async def file(self, project: WatchedProject, name: str, path: str) -> FileHead | None:
        """The newest head of a file of the project `name`; None if it never existed."""
        known = project.files.get(path)
        if known is not None:
            return known.head
        before = project.head
        head = await self._storage.file_head(name, path)
        if head is not None and project.head is before:  # else a commit came between, which this read may lack
            project.update_file(head)
        return head

    async def turn(self, project: WatchedProject, name: str, session_id: str, turn_id: str) -> TurnHead | None:
        """The newest head of a turn of the project `name`; None if there is no such turn."""
        known = project.turns.get((session_id, turn_id))
        if known is not None:
            return known.head
        before = project.head
        head = await self._storage.turn_head(name, session_id, turn_id)
        if head is not None and project.head is before:
            project.update_turn(head)
        return head

    async def files(self, project: WatchedProject, name: str, paths: list[str]) -> dict[str, FileHead]:
        """The newest heads of those of `paths` that ever existed, as of one moment at or after the call."""
        found = {path: known.head for path in paths if (known := project.files.get(path)) is not None}
        missing = [path for path in paths if path not in found]
        if missing:
            before = project.head
            answer = await self._storage.file_heads(name, missing if len(missing) < len(paths) else paths)
            heads = [] if answer is None else answer[1]
            if project.head is before:
                for head in heads:
                    project.update_file(head)
            elif len(missing) < len(paths):  # two moments were mixed: ask for all at one
                return await self._read_files(name, paths)
            found.update({head.path: head for head in heads})
        return found

    async def all_files(self, project: WatchedProject, name: str) -> list[FileHead]:
        """The newest heads of all files that ever existed, or at least of all that exist."""
        if project.complete:
            return [known.head for known in project.files.values()]
        before = project.head
        answer = await self._storage.files_changed_since(name, 0)
        heads = [] if answer is None else answer[1]
        if project.head is before:
            project.update_all_files(heads)
        return heads

    async def _read_files(self, name: str, paths: list[str]) -> dict[str, FileHead]:
        answer = await self._storage.file_heads(name, paths)
        return {} if answer is None else {head.path: head for head in answer[1]}
