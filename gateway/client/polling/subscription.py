"""The subscriptions of a key, and the manager's record of the key."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeAlias

from msgspec import Struct

from gateway.client.policy import StopReason


class Polled(Struct, frozen=True):
    """The result of a poll function. Subscribers get `value`, which is ignored for a 304 (`changed=False`)."""

    value: Any = None
    changed: bool = True
    terminal: bool = False
    cursor: str | None = None
    """Passed to the next call of the function; adopted once the value has been delivered."""
    position: float | None = None
    backoff_s: float | None = None
    active: bool = False
    """Whether the resource is active: polled as after a change from the start."""


PollFunction: TypeAlias = Callable[[str | None], Awaitable[Polled]]
"""Polls once. Takes the cursor of the last delivered answer. Raises GatewayError."""

Callback: TypeAlias = Callable[[Any], object]
"""A plain or async callback."""


class Owner(Protocol):
    """The interface of the manager to its subscriptions."""

    def leave(self, entry: "Entry", subscription: "Subscription") -> None: ...

    def enable(self, entry: "Entry", subscription: "Subscription", enabled: bool) -> None: ...

    def stop_reason(self, key: str) -> StopReason | None: ...


class Subscription:
    """One subscriber of a key. After `unregister` no callback is called."""

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
        """The last error; None again after the next success."""
        return self.entry.error

    @property
    def stopped(self) -> StopReason | None:
        """Why the key is no longer polled; None if it is polled."""
        return self._owner.stop_reason(self.entry.key) if self.active else None

    def unregister(self) -> None:
        """Unsubscribe. The last subscriber of a key cancels its request in flight."""
        if self.active:
            self._owner.leave(self.entry, self)

    def enable(self, enabled: bool) -> None:
        """Suspend or resume the callbacks."""
        if self.active:
            self._owner.enable(self.entry, self, enabled)


class Callbacks(Struct, frozen=True):
    on_result: Callback
    on_error: Callback | None
    on_stop: Callback | None


class Entry:
    """The manager's record of a key: its poll function, newest value, subscribers and waiters."""

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
    """Deactivate all subscriptions of a key, and cancel its waiters."""
    for subscription in entry.subscriptions.values():
        subscription.active = False
    for future in entry.waiters.values():
        future.cancel()
