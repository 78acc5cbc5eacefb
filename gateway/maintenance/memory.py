"""Returns free memory to the operating system: the C library would keep it for the next peak."""

import asyncio
from collections.abc import Callable

from gateway.heap import Heap, free_bytes, trim
from gateway.maintenance.jobs import Job

_LOOK_EVERY_S = 1.0


class FreeMemory:
    """Returns free memory to the system, as soon as no more of it becomes free."""

    def __init__(self, measure: Callable[[], int] = free_bytes, trim: Callable[[], None] = trim) -> None:
        self._measure = measure
        self._before = measure()
        self._heap = Heap(self._before, trim)
        self.job = Job("memory")

    async def run(self) -> None:
        """Run until cancelled."""
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            await self.look()

    async def look(self) -> None:
        """Trim if it is time to.

        The C library walks over all pieces of free memory, which takes 10 ms after 2,000 connections were closed: so it
        is asked in another thread, without the interpreter.
        """
        await asyncio.to_thread(self._look)

    def _look(self) -> None:
        now = self._measure()
        if now <= self._before:
            self._heap.look(now)
        self._before = now
