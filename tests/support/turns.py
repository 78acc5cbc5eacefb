"""Turns of the event loop."""

import asyncio
from collections.abc import Callable


async def until(come: Callable[[], bool]) -> None:
    """Let others have turns of the event loop until something has come, without a sleep."""
    while True:
        if come():
            return
        await asyncio.sleep(0)


class Turns:
    """Counts the turns of the running event loop, until `end`."""

    def __init__(self) -> None:
        self.now = 0
        self._loop = asyncio.get_running_loop()
        self._count()

    def _count(self) -> None:
        self.now += 1
        self._next = self._loop.call_soon(self._count)

    def end(self) -> None:
        self._next.cancel()
