"""The iterations of an event loop, counted."""

import asyncio


class Iterations:
    """Counts the iterations of the running loop, until it is stopped. Meanwhile the loop does not rest."""

    def __init__(self) -> None:
        self.count = 0
        self._loop = asyncio.get_running_loop()
        self._next()

    def _next(self) -> None:
        self.count += 1
        self._handle = self._loop.call_soon(self._next)

    def stop(self) -> None:
        self._handle.cancel()
