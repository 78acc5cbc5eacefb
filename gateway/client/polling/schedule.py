"""The schedule of all polls of one manager, a state machine: timed events in, decisions out. No clock, timer or I/O.

Every method takes the current time (monotonic, in milliseconds) and returns the decisions to carry out, in order.
Between events the caller calls `advance` at the time given by `wake`.
"""

import heapq
import itertools
from collections.abc import Callable

from gateway.client.policy import (
    RESTARTED_BY_RESUME,
    RESTARTED_BY_TOUCH,
    Abort,
    Answer,
    Decision,
    Deliver,
    Drop,
    Fail,
    Failure,
    Poll,
    PollSettings,
    Recover,
    Stop,
    StopReason,
    WarnFastLoop,
    gives_up,
    interval_ms,
    is_retried,
    retry_delay_ms,
)
from gateway.client.polling.poll_state import INFINITY, PollState


class PollSchedule:
    """The polls of one manager. The caller chooses the names of keys and subscribers."""

    def __init__(self, settings: PollSettings, random: Callable[[], float]) -> None:
        self._settings = settings
        self._random = random
        self._polls: dict[str, PollState] = {}
        self._stopped: dict[str, PollState] = {}
        self._timers: list[tuple[float, int, PollState]] = []
        self._ready: list[tuple[float, int, PollState]] = []
        self._order = itertools.count()
        self._in_flight = 0
        self._not_before = -INFINITY
        self._touched = -INFINITY
        self._paused_at: float | None = None
        self._constrained = False

    # Queries

    @property
    def wake(self) -> float | None:
        """When `advance` must be called if no event happens before."""
        if self._paused_at is not None:
            return None
        while self._timers and not self._timers[0][2].counts(self._timers[0][0]):
            heapq.heappop(self._timers)
        while self._ready and not self._ready[0][2].queued:
            heapq.heappop(self._ready)
        times = [self._timers[0][0]] if self._timers else []
        if self._ready and self._in_flight < self._settings.max_concurrent:
            times.append(self._not_before)
        if self._settings.inactive_stop_ms is not None and self.running:
            times.append(self._touched + self._settings.inactive_stop_ms)
        return min(times, default=None)

    @property
    def running(self) -> bool:
        """Whether any poll has not stopped; a pause does not count."""
        return len(self._stopped) < len(self._polls)

    def cursor(self, key: str) -> str | None:
        """Return the cursor at which the next poll of a key continues."""
        return self._polls[key].cursor

    def stop_reason(self, key: str) -> StopReason | None:
        """Return why a key is no longer polled; None if it is polled."""
        return self._polls[key].stopped

    # Subscribers

    def register(
        self,
        now: float,
        key: str,
        subscriber: str,
        interval: float,
        *,
        enabled: bool = True,
        cursor: str | None = None,
    ) -> list[Decision]:
        """Add a subscriber to a key. `cursor` is where the first poll of a new key starts."""
        poll = self._polls.get(key)
        if poll is None:
            poll = self._polls[key] = PollState(key, next(self._order), now, self._settings, cursor)
        poll.subscribers.add(subscriber)
        self._touched = now
        return self._enable(now, poll, subscriber, interval) if enabled else self.advance(now)

    def enable(self, now: float, key: str, subscriber: str, interval: float) -> list[Decision]:
        """Enable a disabled subscriber again."""
        return self._enable(now, self._polls[key], subscriber, interval)

    def _enable(self, now: float, poll: PollState, subscriber: str, interval: float) -> list[Decision]:
        poll.intervals[subscriber] = interval
        if self._has_cached(poll, now):
            if poll.stopped in RESTARTED_BY_RESUME:
                self._restart(poll, now)
            if not poll.busy and poll.stopped is None:
                self._reschedule(poll, now)
            return [Deliver(poll.key, [subscriber], cached=True), *self.advance(now)]
        poll.fresh[subscriber] = None
        if poll.stopped is not None:
            self._restart(poll, now)
        self._set_due(poll, now)
        return self.advance(now)

    def disable(self, now: float, key: str, subscriber: str) -> list[Decision]:
        """Disable a subscriber: it gets no results until it is enabled."""
        poll = self._polls[key]
        poll.intervals.pop(subscriber, None)
        poll.fresh.pop(subscriber, None)
        if not poll.busy and poll.stopped is None:
            self._reschedule(poll, now)
        return self.advance(now)

    def unregister(self, now: float, key: str, subscriber: str) -> list[Decision]:
        """Remove a subscriber; removing the last one removes the poll and aborts its request in flight."""
        poll = self._polls[key]
        poll.subscribers.discard(subscriber)
        if poll.subscribers:
            return self.disable(now, key, subscriber)
        del self._polls[key]
        self._stopped.pop(key, None)
        poll.gone, poll.queued, poll.timer = True, False, None
        if not poll.in_flight:
            return self.advance(now)
        self._in_flight -= 1
        return [Abort(key), *self.advance(now)]

    # Results

    def answered(self, now: float, key: str, answer: Answer) -> list[Decision]:
        """Handle the answer of the request in flight."""
        poll = self._request_done(now, key, answer.backoff_s)
        decisions: list[Decision] = [Recover(key)] if poll.failing else []
        poll.failing, poll.attempts, poll.not_before = False, 0, -INFINITY
        if self._is_stale(poll, answer):
            poll.answered_at = now
            return [*decisions, Drop(key), *self._settle(poll, now, None), *self.advance(now)]
        if answer.active and poll.changed_at is None:
            poll.changed_at = now
        if answer.changed:
            self._note_change(poll, now)
            receivers = [*poll.intervals, *(name for name in poll.fresh if name not in poll.intervals)]
        else:
            receivers = list(poll.fresh)
        poll.answered_at = now
        poll.fresh.clear()
        if receivers:
            poll.answer = answer
            return [*decisions, Deliver(key, receivers), *self.advance(now)]
        return [*decisions, *self._settle(poll, now, answer), *self.advance(now)]

    def delivered(self, now: float, key: str) -> list[Decision]:
        """Note that the callbacks for an answer have returned."""
        poll = self._polls[key]
        answer, poll.answer = poll.answer, None
        return [*self._settle(poll, now, answer), *self.advance(now)]

    def failed(self, now: float, key: str, failure: Failure) -> list[Decision]:
        """Handle the failure of the request in flight."""
        poll = self._request_done(now, key, failure.backoff_s)
        receivers = [*poll.intervals, *(name for name in poll.fresh if name not in poll.intervals)]
        poll.fresh = {name: None for name in poll.fresh if name in poll.intervals}
        poll.failing, poll.again = True, False
        retried = is_retried(failure.status)
        if not retried or gives_up(self._settings, poll.attempts):
            stop = self._stop(poll, "failed" if retried else "refused")
            return [Fail(key, receivers), *stop, *self.advance(now)]
        poll.attempts += 1
        delay = retry_delay_ms(self._settings, poll.attempts, self._random(), failure.retry_after_s)
        poll.not_before = now + delay
        self._set_due(poll, now)
        return [Fail(key, receivers, delay), *self.advance(now)]

    def _request_done(self, now: float, key: str, backoff_s: float | None) -> PollState:
        poll = self._polls[key]
        poll.in_flight = False
        self._in_flight -= 1
        if backoff_s:
            self._not_before = max(self._not_before, now + backoff_s * 1000)
        return poll

    def _is_stale(self, poll: PollState, answer: Answer) -> bool:
        """Whether a newer answer has already been delivered."""
        if answer.based_on is not None and answer.based_on != poll.cursor:
            return True
        return answer.position is not None and answer.position < poll.position

    def _note_change(self, poll: PollState, now: float) -> None:
        """Record news; the first result of a key is the initial state, not a change."""
        if poll.answered_at is not None:
            poll.changed_at = now
        poll.idle_since = now
        poll.fast_loop.news()

    def _settle(self, poll: PollState, now: float, answer: Answer | None) -> list[Decision]:
        """Finish an answer: adopt its cursor, and plan the next poll."""
        decisions: list[Decision] = []
        if answer is not None:
            poll.cursor = poll.cursor if answer.cursor is None else answer.cursor
            poll.position = poll.position if answer.position is None else answer.position
            if answer.terminal:
                return self._stop(poll, "completed")
        if (answer is None or not answer.changed) and poll.fast_loop.empty(now):
            decisions.append(WarnFastLoop(poll.key))
            poll.not_before = now + retry_delay_ms(self._settings, poll.fast_loop.found, self._random())
        if poll.again or poll.fresh:
            poll.again = False
            self._set_due(poll, now)
        else:
            self._reschedule(poll, now)
        return decisions

    # External events

    def touch(self, now: float) -> list[Decision]:
        """Note user activity."""
        self._touched = now
        self._restart_stopped(now, RESTARTED_BY_TOUCH)
        return self.advance(now)

    def note_write(self, now: float, key: str) -> list[Decision]:
        """Note that this client wrote the resource of a key."""
        poll = self._polls[key]
        self._touched = now
        if poll.stopped in RESTARTED_BY_TOUCH:
            self._restart(poll, now)
        poll.changed_at = poll.idle_since = now
        due = poll.due
        if due is not None and not poll.queued:
            self._reschedule(poll, now)
            if poll.due is None or due < poll.due:
                self._set_due(poll, due)
        return self.advance(now)

    def signal(self, now: float, key: str) -> list[Decision]:
        """Poll immediately because of news, and again if a request in flight may have missed them."""
        poll = self._polls[key]
        if poll.busy:
            poll.again = True
        elif poll.stopped is None:
            self._set_due(poll, now)
        return self.advance(now)

    def refresh(self, now: float, key: str, waiter: str) -> list[Decision]:
        """Get the current result for a waiter."""
        poll = self._polls[key]
        self._touched = now
        if self._has_cached(poll, now):
            return [Deliver(key, [waiter], cached=True), *self.advance(now)]
        poll.fresh[waiter] = None
        if poll.stopped is not None:
            self._restart(poll, now)
        if poll.failing:
            poll.not_before = -INFINITY
        self._set_due(poll, now)
        return self.advance(now)

    def pause(self, now: float) -> list[Decision]:
        """Pause while the page is hidden: no new requests and no timer. Requests in flight may still finish."""
        if self._paused_at is None:
            self._paused_at = now
        return []

    def resume(self, now: float) -> list[Decision]:
        """Resume when the page is shown: poll what is due immediately, and restart stopped polls."""
        if self._paused_at is not None:
            away, self._paused_at = now - self._paused_at, None
            for poll in self._polls.values():
                poll.idle_since += away
                if poll.changed_at is not None:
                    poll.changed_at += away
                if poll.timer is not None and poll.due is not None:
                    self._set_due(poll, poll.due)
        self._touched = now
        self._restart_stopped(now, RESTARTED_BY_RESUME)
        return self.advance(now)

    def online(self, now: float) -> list[Decision]:
        """Note that the network is back: restart failed polls."""
        self._restart_stopped(now, frozenset(["failed"]))
        return self.advance(now)

    def constrain(self, now: float, constrained: bool) -> list[Decision]:
        """Turn saving of battery or data on or off."""
        self._constrained = constrained
        for poll in self._polls.values():
            if not poll.busy and not poll.queued and poll.stopped is None and not poll.failing:
                self._reschedule(poll, now)
        return self.advance(now)

    def upgrade(self, now: float, key: str) -> list[Decision]:
        """Poll on signals only, since a stream now reports changes; poll once for changes just before that."""
        poll = self._polls[key]
        poll.upgraded = True
        return self.signal(now, key)

    def downgrade(self, now: float, key: str) -> list[Decision]:
        """Poll by time again, the first time immediately: the stream has disconnected."""
        poll = self._polls[key]
        poll.upgraded, poll.idle_since = False, now
        return self.signal(now, key)

    def advance(self, now: float) -> list[Decision]:
        """Handle the passing of time: stop idle polls, and start due ones in order, up to `max_concurrent`."""
        if self._paused_at is not None:
            return []
        decisions: list[Decision] = []
        if self._settings.inactive_stop_ms is not None and now >= self._touched + self._settings.inactive_stop_ms:
            for poll in [poll for poll in self._polls.values() if poll.stopped is None]:
                decisions += self._stop(poll, "inactive")
        while self._timers and self._timers[0][0] <= now:
            entry = heapq.heappop(self._timers)
            if entry[2].counts(entry[0]):
                decisions += self._timer_fired(entry[2])
        while self._ready and self._in_flight < self._settings.max_concurrent and now >= self._not_before:
            poll = heapq.heappop(self._ready)[2]
            if poll.queued:
                poll.queued, poll.in_flight, poll.due = False, True, None
                self._in_flight += 1
                decisions.append(Poll(poll.key))
        return decisions

    # Internals

    def _timer_fired(self, poll: PollState) -> list[Decision]:
        """Handle the timer of a poll: the poll is due, or has been idle too long."""
        assert poll.due is not None
        poll.timer = None
        if self._idle_end(poll) <= poll.due:
            return self._stop(poll, "timed_out")
        poll.queued = True
        heapq.heappush(self._ready, (poll.due, poll.order, poll))
        return []

    def _idle_end(self, poll: PollState) -> float:
        limit = self._settings.idle_stop_ms
        return INFINITY if limit is None or poll.upgraded else poll.idle_since + limit

    def _has_cached(self, poll: PollState, now: float) -> bool:
        return poll.answered_at is not None and not poll.failing and now - poll.answered_at < self._settings.cache_ms

    def _reschedule(self, poll: PollState, now: float) -> None:
        """Plan the next poll, counted from the last answer, with the current interval."""
        if poll.failing:
            self._set_due(poll, now)
        elif poll.upgraded or not poll.intervals or poll.stopped is not None:
            self._cancel(poll)
        else:
            age = None if poll.changed_at is None else now - poll.changed_at
            asked = min(poll.intervals.values())
            interval = interval_ms(self._settings, asked, age, constrained=self._constrained)
            answered_at = now if poll.answered_at is None else poll.answered_at
            self._set_due(poll, max(now, answered_at + interval))

    def _set_due(self, poll: PollState, due: float) -> None:
        if poll.busy or poll.stopped is not None or not (poll.intervals or poll.fresh):
            return
        poll.queued = False
        poll.due = max(due, poll.not_before)
        poll.timer = min(poll.due, self._idle_end(poll))
        heapq.heappush(self._timers, (poll.timer, poll.order, poll))

    def _cancel(self, poll: PollState) -> None:
        poll.timer = poll.due = None
        poll.queued = False

    def _stop(self, poll: PollState, reason: StopReason) -> list[Decision]:
        self._cancel(poll)
        poll.again = False
        poll.stopped = reason
        self._stopped[poll.key] = poll
        return [Stop(poll.key, reason)]

    def _restart(self, poll: PollState, now: float) -> None:
        del self._stopped[poll.key]
        poll.stopped, poll.changed_at, poll.idle_since = None, None, now
        poll.attempts, poll.not_before = 0, -INFINITY
        self._set_due(poll, now)

    def _restart_stopped(self, now: float, reasons: frozenset[StopReason]) -> None:
        for poll in [poll for poll in self._stopped.values() if poll.stopped in reasons]:
            self._restart(poll, now)
