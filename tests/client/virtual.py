"""An event loop whose time passes at once: days of polling in milliseconds, without a sleep."""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class _Selector(selectors.SelectSelector):
    """Instead of waiting until a time it makes it that time."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        assert timeout is not None, "everybody waits, and no timer is set: nothing will ever happen again"
        self.now += max(timeout, 0)
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """`time` is virtual; real I/O is not waited for."""

    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)

    def time(self) -> float:
        return self._virtual.now

    def timers(self) -> int:
        """How many timers are set."""
        return sum(not handle.cancelled() for handle in self._scheduled)  # type: ignore[attr-defined]


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run in virtual time; fails if a task or a timer is left."""
    loop = VirtualLoop()
    try:
        result = loop.run_until_complete(work)
        assert asyncio.all_tasks(loop) == set()
        assert loop.timers() == 0
        return result
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
