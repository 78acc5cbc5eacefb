"""Who waits for a change of a project: places for them, deadlines, and waking them in chunks."""

import asyncio
import heapq
from collections import deque
from collections.abc import Callable, Iterable

import structlog

from gateway.watch.connected import Connected
from gateway.watch.filter import ChangeFilter
from gateway.watch.project import Waiter, WatchedProject

_log = structlog.get_logger("gateway.hub")

_WOKEN_TOGETHER = 100
"""One turn of the loop for all would delay the first of them by all the others."""
_TICKS_PER_SECOND = 10


class TooManyWaiters(Exception):
    """There is no room for one more request that waits."""


class Waiters:
    """Everybody who waits, on whichever project.

    Args:
        project_limit: the most requests that may wait on one project.
        limit: the most requests that may wait in all.
        question_limit: the most bytes of the bodies of requests that may be kept while these wait.
    """

    def __init__(self, *, project_limit: int = 20_000, limit: int = 50_000, question_limit: int = 64 * 2**20) -> None:
        self._project_limit = project_limit
        self._limit = limit
        self._question_limit = question_limit
        self.members = 0
        self.question_bytes = 0
        """What those who wait keep of the bodies of their requests."""
        self.wakes = 0
        """How often somebody was woken, for a change or at the deadline."""
        self.draining = False
        self.connected = Connected()
        """Which clients have an event stream or a room open, of those that say who they are."""
        self._woken: deque[Waiter] = deque()
        self._ticks: list[int] = []
        self._deadlines: dict[int, dict[Waiter, None]] = {}
        self._timer: asyncio.TimerHandle | None = None

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

    def add(self, project: WatchedProject, filter_: ChangeFilter, seconds: float, wake: Callable[[], None]) -> Waiter:
        """Call `wake` at the next change that `filter_` wants, or after `seconds`; at once when the gateway stops."""
        loop = asyncio.get_running_loop()
        waiter = Waiter(project, filter_, int((loop.time() + seconds) * _TICKS_PER_SECOND) + 1, wake)
        if self.draining:
            self.wake([waiter])
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
        try:
            while self._ticks and self._ticks[0] <= now:
                due = self._deadlines.pop(heapq.heappop(self._ticks))
                self.wake([waiter for waiter in due if self._remove(waiter)])
        finally:  # without a timer nobody would hear of a deadline any more
            self._set_timer(loop)

    def wake(self, waiters: list[Waiter]) -> None:
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

    def drain(self, projects: Iterable[WatchedProject]) -> None:
        """Wake everybody who waits, on any of `projects`, now and from now on: the gateway is about to stop."""
        self.draining = True
        for project in projects:
            self.wake_all(project)

    def wake_all(self, project: WatchedProject) -> None:
        """Wake everybody who waits on a project."""
        waiters = [*project.general, *(waiter for topic in project.by_topic.values() for waiter in topic)]
        project.general.clear()
        project.by_topic.clear()
        self.wake(waiters)
