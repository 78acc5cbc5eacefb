"""Who wants the results of a key, and what the manager keeps of it."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeAlias

from msgspec import Struct

from gateway.client.policy import StopReason


class Polled(Struct, frozen=True):
    """What a poll function returns. `value` is what subscribers get; of a 304 (`changed=False`) it is not looked at."""

    value: Any = None
    changed: bool = True
    terminal: bool = False
    cursor: str | None = None
    """What the function is to be called with the next time; kept once the value was delivered."""
    position: float | None = None
    backoff_s: float | None = None
    active: bool = False
    """Whether the thing is at work: polled as after a change, also at first."""


PollFunction: TypeAlias = Callable[[str | None], Awaitable[Polled]]
"""Asks once. Is given the cursor of the last answer that was delivered. Raises GatewayError."""

Callback: TypeAlias = Callable[[Any], object]
"""Plain or async."""


class Owner(Protocol):
    """The manager, as its subscriptions know it."""

    def leave(self, entry: "Entry", subscription: "Subscription") -> None: ...

    def enable(self, entry: "Entry", subscription: "Subscription", enabled: bool) -> None: ...

    def stop_reason(self, key: str) -> StopReason | None: ...


class Subscription:
    """One who wants the results of a key. After `unregister` nothing is called back."""

    def __init__(self, owner: Owner, entry: "Entry", name: str, interval: float, callbacks: "Callbacks") -> None:
        self._owner = owner
        self.entry = entry
        self.name = name
        self.interval = interval
        self.callbacks = callbacks
        self.turn = asyncio.Lock()
        self.active = True

    @property
    def error(self) -> Exception | None:
        """The last error, until something succeeds."""
        return self.entry.error

    @property
    def stopped(self) -> StopReason | None:
        """Why it is not polled any more; None if it is."""
        return self._owner.stop_reason(self.entry.key) if self.active else None

    def unregister(self) -> None:
        """Leave. The last one to leave a key ends its request in flight."""
        if self.active:
            self._owner.leave(self.entry, self)

    def enable(self, enabled: bool) -> None:
        """Hold still, or go on."""
        if self.active:
            self._owner.enable(self.entry, self, enabled)


class Callbacks(Struct, frozen=True):
    on_result: Callback
    on_error: Callback | None
    on_stop: Callback | None


class Entry:
    """A key: its poll function, its newest value, who waits for it."""

    def __init__(self, key: str, poll: PollFunction) -> None:
        self.key = key
        self.poll = poll
        self.value: Any = None
        self.has_value = False
        self.error: Exception | None = None
        self.subscriptions: dict[str, Subscription] = {}
        self.waiters: dict[str, asyncio.Future[Any]] = {}
        self.request: asyncio.Task[None] | None = None
        self.receivers: list[str] = []


def forget(entry: Entry) -> None:
    """Nobody is called back any more."""
    for subscription in entry.subscriptions.values():
        subscription.active = False
    for future in entry.waiters.values():
        future.cancel()
