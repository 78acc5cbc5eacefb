"""The requests that wait for a change of a project: admission, deadlines, and waking them in chunks."""

import asyncio
import heapq
from collections import deque
from collections.abc import Callable, Iterable

import structlog

from gateway.shared_turn import SharedTurn
from gateway.watch.connected import Connected
from gateway.watch.filter import ChangeFilter
from gateway.watch.project import Waiter, WatchedProject

_log = structlog.get_logger("gateway.hub")

_WOKEN_TOGETHER = 100
"""Waking all waiters in one turn of the loop would delay the first by all the others."""
_TICKS_PER_SECOND = 10
_EVERYTHING = ChangeFilter()


class TooManyWaiters(Exception):
    """The limit of waiting requests has been reached."""


class Waiters:
    """The waiting requests of all projects.

    Args:
        project_limit: the most requests that may wait on one project.
        limit: the most requests that may wait in total.
        question_limit: the most bytes of request bodies that may be kept while requests wait.
        turn: what may be done for all clients in one turn of the event loop.
    """

    def __init__(
        self,
        *,
        project_limit: int = 20_000,
        limit: int = 50_000,
        question_limit: int = 64 * 2**20,
        turn: SharedTurn | None = None,
    ) -> None:
        self._project_limit = project_limit
        self._limit = limit
        self._question_limit = question_limit
        self.members = 0
        self.question_bytes = 0
        """The bytes of request bodies that are kept by waiting requests."""
        self.wakes = 0
        """The number of wake-ups, for a change or at a deadline."""
        self.draining = False
        self.turn = turn or SharedTurn()
        self.connected = Connected()
        """The clients with an open event stream or room that identify themselves."""
        self._woken: deque[Waiter] = deque()
        self._ticks: list[int] = []
        self._deadlines: dict[int, dict[Waiter, None]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def enter(self, project: WatchedProject, question_bytes: int = 0) -> None:
        """Admit a request that will wait, once or repeatedly, until `leave` is called.

        Args:
            question_bytes: the bytes of its body that are kept meanwhile.

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
        """Move an admitted request to the new object of a project that was dropped and read again."""
        old.members -= 1
        new.members += 1

    def add(self, project: WatchedProject, filter_: ChangeFilter, seconds: float, wake: Callable[[], None]) -> Waiter:
        """Call `wake` at the next change that `filter_` selects or after `seconds`; at once if the gateway stops."""
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
        """Remove a waiter, which will not be woken any more."""
        self._remove(waiter)
        due = self._deadlines.get(waiter.tick)
        if due is not None:
            due.pop(waiter, None)

    @staticmethod
    def waits(waiter: Waiter) -> bool:
        """Return whether a waiter has not been woken yet, and no change has come that may wake it."""
        if waiter.project.unmatched:
            return False
        topic = waiter.filter.topic
        return waiter in (waiter.project.general if topic is None else waiter.project.by_topic.get(topic, ()))

    @staticmethod
    def _remove(waiter: Waiter) -> bool:
        """Remove a waiter from its project; return False if the waiter was woken already."""
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
        """Set the single timer to the earliest deadline."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = loop.call_at(self._ticks[0] / _TICKS_PER_SECOND, self._deadline, loop) if self._ticks else None

    def _deadline(self, loop: asyncio.AbstractEventLoop) -> None:
        now = int(loop.time() * _TICKS_PER_SECOND)
        try:
            while self._ticks and self._ticks[0] <= now:
                due = self._deadlines.pop(heapq.heappop(self._ticks))
                self.wake([waiter for waiter in due if self._remove(waiter)])
        finally:  # without a timer no later deadline would fire
            self._set_timer(loop)

    def wake(self, waiters: list[Waiter]) -> None:
        """Wake waiters in chunks, after the receipts of the change have been delivered."""
        if not waiters:
            return
        if not self._woken:
            loop = asyncio.get_running_loop()
            loop.call_soon(loop.call_soon, self._wake_some, 1)  # the first alone: the others reuse its answer
        self._woken.extend(waiters)

    def wake_later(self, project: WatchedProject, wakes: Iterable[Callable[[], None]]) -> None:
        """Call each of `wakes`, in chunks, as for a change."""
        self.wake([Waiter(project, _EVERYTHING, 0, wake) for wake in wakes])

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
        """Wake all waiters of `projects` now, and new ones immediately: the gateway is about to stop."""
        self.draining = True
        for project in projects:
            self.wake_all(project)

    def wake_all(self, project: WatchedProject) -> None:
        """Wake all waiters of a project."""
        waiters = [*project.general, *(waiter for topic in project.by_topic.values() for waiter in topic)]
        project.general.clear()
        project.by_topic.clear()
        self.wake(waiters)
