"""The polling manager: runs the schedule with a clock, one timer, and requests as tasks."""

import asyncio
import itertools
import logging
import random as system_random
from collections.abc import Awaitable, Callable, Coroutine
from types import TracebackType
from typing import Any, Protocol, Self

import msgspec

from gateway.client.errors import GatewayError
from gateway.client.policy import (
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
)
from gateway.client.polling.schedule import PollSchedule
from gateway.client.polling.subscription import Callback, Callbacks, Entry, PollFunction, Subscription, forget

_log = logging.getLogger("gateway.client")

_NOT_RETRIED = 0
"""A pseudo status for an error that is not the gateway's: a bug in a poll function."""


class Listener(Protocol):
    """A source of change signals for a manager. A manager that does not poll suspends its listeners."""

    def suspend(self, suspended: bool) -> None: ...


class PollingManager:
    """Polls according to the policy within its `async with`; no task, timer or request outlives it.

    Args:
        max_concurrent: how many requests may be in flight at once.
        settings: the rest of the policy; `PollSettings.unattended()` is for programs without a user.
        random: returns numbers from 0 to 1 for the jitter.
        on_fault: called with an exception that a callback or a poll function raised; by default it is logged.
    """

    def __init__(
        self,
        max_concurrent: int = 3,
        *,
        settings: PollSettings | None = None,
        random: Callable[[], float] = system_random.random,
        on_fault: Callable[[str, Exception], object] | None = None,
    ) -> None:
        self.settings = msgspec.structs.replace(settings or PollSettings(), max_concurrent=max_concurrent)
        self.random = random
        self._schedule = PollSchedule(self.settings, random)
        self._on_fault = on_fault
        self._entries: dict[str, Entry] = {}
        self._listeners: dict[str, Listener] = {}
        self._names = itertools.count(1)
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._group: asyncio.TaskGroup | None = None
        self._suspended = False
        self._paused = False

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._group = await asyncio.TaskGroup().__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._group is not None
        group, self._group = self._group, None
        if self._timer is not None:
            self._timer.cancel()
        for entry in self._entries.values():
            forget(entry)
        self._entries.clear()
        for task in self._tasks:
            task.cancel()
        await group.__aexit__(None, None, None)

    # Subscribers

    def register(
        self,
        key: str,
        poll: PollFunction,
        interval: float | None = None,
        *,
        on_result: Callback,
        on_error: Callback | None = None,
        on_stop: Callback | None = None,
        cursor: str | None = None,
        enabled: bool = True,
    ) -> Subscription:
        """Call back with every new result of a key. All subscribers of a key share the poll function registered first.

        Args:
            interval: seconds; default 3 (`document_interval_ms`).
            on_error: called with the exception of every failed attempt.
            on_stop: called with the reason when the poll has stopped.
            cursor: passed to the first poll of a new key.
        """
        entry = self._entries.get(key)
        if entry is None:
            entry = self._entries[key] = Entry(key, poll)
        name = f"subscriber-{next(self._names)}"
        milliseconds = self.settings.document_interval_ms if interval is None else interval * 1000
        subscription = Subscription(self, entry, name, milliseconds, Callbacks(on_result, on_error, on_stop))
        entry.subscriptions[name] = subscription
        self._act(self._schedule.register(self._now(), key, name, milliseconds, enabled=enabled, cursor=cursor))
        return subscription

    def unregister(self, key: str) -> None:
        """Remove a key and all its subscribers: its request and timer are cancelled, and no callback is called."""
        entry = self._entries.get(key)
        for subscription in list(entry.subscriptions.values()) if entry is not None else ():
            subscription.unregister()

    def leave(self, entry: Entry, subscription: Subscription) -> None:
        """Implement `Subscription.unregister`."""
        subscription.active = False
        del entry.subscriptions[subscription.name]
        if not entry.subscriptions:
            del self._entries[entry.key]
            forget(entry)
        self._act(self._schedule.unregister(self._now(), entry.key, subscription.name), entry)

    def enable(self, entry: Entry, subscription: Subscription, enabled: bool) -> None:
        """Implement `Subscription.enable`."""
        if enabled:
            self._act(
                self._schedule.enable(self._now(), entry.key, subscription.name, subscription.interval),
            )
        else:
            self._act(self._schedule.disable(self._now(), entry.key, subscription.name))

    # Events from the application

    def pause(self) -> None:
        """Send no requests until `resume`; no timer runs."""
        self._paused = True
        self._act(self._schedule.pause(self._now()))

    def resume(self) -> None:
        """Poll immediately what is due, and restart stopped polls."""
        self._paused = False
        self._act(self._schedule.resume(self._now()))

    def touch(self) -> None:
        """Note user activity: restart polls that stopped for lack of changes or of user activity, or failed."""
        self._act(self._schedule.touch(self._now()))

    def online(self) -> None:
        """Note that the network is back: restart failed polls."""
        self._act(self._schedule.online(self._now()))

    def constrain(self, constrained: bool) -> None:
        """Turn saving of battery or data on or off."""
        self._act(self._schedule.constrain(self._now(), constrained))

    def note_write(self, key: str) -> None:
        """Note that this client wrote the resource of a key."""
        self._act(self._schedule.note_write(self._now(), key))

    def signal(self, key: str) -> None:
        """Note that there may be news: poll immediately."""
        self._act(self._schedule.signal(self._now(), key))

    def upgrade(self, key: str, upgraded: bool) -> None:
        """Set whether a key is polled on signals only, instead of by time."""
        change = self._schedule.upgrade if upgraded else self._schedule.downgrade
        self._act(change(self._now(), key))

    async def refresh(self, key: str) -> Any:
        """Return the current result of a key, or a cached one (`PollSettings.cache_ms`, half a second by default).

        Raises:
            GatewayError: the request failed.
            KeyError: the key is not registered.
        """
        entry = self._entries[key]
        if entry.request is asyncio.current_task():
            raise RuntimeError("a callback cannot wait for the poll that it is called by")
        waiter = f"waiter-{next(self._names)}"
        future = entry.waiters[waiter] = self._loop.create_future()
        try:
            self._act(self._schedule.refresh(self._now(), key, waiter))
            return await future
        finally:
            entry.waiters.pop(waiter, None)

    def stop_reason(self, key: str) -> StopReason | None:
        """Return why a key is no longer polled; None if it is polled."""
        return self._schedule.stop_reason(key)

    def __contains__(self, key: str) -> bool:
        """Whether a key has subscribers."""
        return key in self._entries

    # Tasks and listeners

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Start a task that is cancelled when the manager exits."""
        if self._group is None:
            work.close()
            raise RuntimeError("the manager is not entered, or was left")
        task = self._group.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def listener(self, name: str, make: Callable[[], Listener]) -> Listener:
        """Return the listener of a name, creating it if necessary."""
        if name not in self._listeners:
            self._listeners[name] = make()
        return self._listeners[name]

    def remove_listener(self, name: str) -> None:
        """Remove a listener."""
        del self._listeners[name]

    @property
    def suspended(self) -> bool:
        """Whether the manager is paused, or all polls have stopped."""
        return self._suspended

    # Internals

    def _now(self) -> float:
        if self._group is None:
            raise RuntimeError("the manager is not entered, or was left")
        return self._loop.time() * 1000

    def _act(self, decisions: list[Decision], leaving: Entry | None = None) -> None:
        """Carry out the decisions, and set the timer."""
        for decision in decisions:
            self._do(decision, leaving)
        self._set_timer()
        suspended = self._paused or not self._schedule.running
        if suspended != self._suspended:
            self._suspended = suspended
            for listener in list(self._listeners.values()):
                listener.suspend(suspended)

    def _do(self, decision: Decision, leaving: Entry | None) -> None:
        if isinstance(decision, Abort):
            assert leaving is not None
            assert leaving.request is not None
            leaving.request.cancel()
            return
        entry = self._entries[decision.key]
        match decision:
            case Poll():
                entry.request = self.spawn(self._ask(entry))
            case Deliver(to=to, cached=True):
                self.spawn(self._deliver(entry, to))
            case Deliver(to=to):
                entry.receivers = to
            case Fail(to=to):
                for name in to:
                    self._tell_error(entry, name)
            case Recover():
                entry.error = None
            case Drop():  # the value was not kept
                pass
            case Stop(reason=reason):
                for subscription in entry.subscriptions.values():
                    self.tell(subscription, subscription.callbacks.on_stop, reason)
            case WarnFastLoop():
                _log.warning("polls of %s follow each other without pause and bring nothing; slowing down", entry.key)

    def _set_timer(self) -> None:
        """Set the one timer for all keys. A timer may fire too early, but must not run if nothing is due."""
        wake = self._schedule.wake
        if self._timer is not None and (wake is None or self._timer.when() * 1000 > wake):
            self._timer.cancel()
            self._timer = None
        if wake is not None and self._timer is None:
            self._timer = self._loop.call_at(wake / 1000, self._timer_fired, wake)

    def _timer_fired(self, wake: float) -> None:
        self._timer = None
        self._act(self._schedule.advance(max(wake, self._now())))

    async def _ask(self, entry: Entry) -> None:
        """Send one request, and deliver its result."""
        cursor = self._schedule.cursor(entry.key)
        try:
            polled = await entry.poll(cursor)
        except Exception as error:
            if self._is_current(entry):
                self._note_failure(entry, error)
            return
        if not self._is_current(entry):
            return
        answer = Answer(
            polled.changed, polled.terminal, polled.cursor, cursor, polled.position, polled.backoff_s, polled.active
        )
        entry.receivers = []
        decisions = self._schedule.answered(self._now(), entry.key, answer)
        if (polled.changed or not entry.has_value) and not any(isinstance(each, Drop) for each in decisions):
            entry.value, entry.has_value = polled.value, True
        self._act(decisions)
        if entry.receivers:
            await self._deliver(entry, entry.receivers)
            if self._is_current(entry):
                self._act(self._schedule.delivered(self._now(), entry.key))

    def _is_current(self, entry: Entry) -> bool:
        return self._group is not None and self._entries.get(entry.key) is entry

    def _note_failure(self, entry: Entry, error: Exception) -> None:
        entry.error = error
        if isinstance(error, GatewayError):
            failure = Failure(error.status, error.retry_after_s, error.backoff_s)
        else:
            failure = Failure(_NOT_RETRIED)
            self._report(entry.key, error)
        self._act(self._schedule.failed(self._now(), entry.key, failure))

    async def _deliver(self, entry: Entry, receivers: list[str]) -> None:
        value = entry.value
        for name in receivers:
            if name in entry.waiters and not entry.waiters[name].done():
                entry.waiters[name].set_result(value)
            subscription = entry.subscriptions.get(name)
            if subscription is not None:
                await self._call(subscription, subscription.callbacks.on_result, value)

    def _tell_error(self, entry: Entry, name: str) -> None:
        assert entry.error is not None
        if name in entry.waiters and not entry.waiters[name].done():
            entry.waiters[name].set_exception(entry.error)
        subscription = entry.subscriptions.get(name)
        if subscription is not None:
            self.tell(subscription, subscription.callbacks.on_error, entry.error)

    def tell(self, subscription: Subscription, callback: Callback | None, value: object) -> None:
        """Call back after the earlier calls have finished, unless the subscription has ended by then."""
        if callback is not None:
            self.spawn(self._call(subscription, callback, value))

    async def _call(self, subscription: Subscription, callback: Callback, value: object) -> None:
        """Call back, one call at a time; an exception of a callback does not affect other subscribers."""
        async with subscription.turn:
            if not subscription.active:
                return
            try:
                outcome = callback(value)
                if isinstance(outcome, Awaitable):
                    await outcome
            except Exception as error:
                self._report(subscription.entry.key, error)

    def _report(self, key: str, error: Exception) -> None:
        if self._on_fault is not None:
            self._on_fault(key, error)
        else:
            _log.error("a callback or a poll function for %s failed", key, exc_info=error)
