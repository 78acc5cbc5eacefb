"""Long work in the event loop, in slices: of all such work, one slice is done per iteration of the loop.

Everybody else is served between two slices, however many requests have work to do.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable
from typing import TypeVar
from weakref import WeakKeyDictionary

T = TypeVar("T")

_STEPS = 512
"""How many items are processed in one slice: at a few µs each, a millisecond or two."""


class _Line:
    """Those who wait for their next slice, in one event loop."""

    __slots__ = ("_begun", "_loop", "_waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._begun = False
        """Whether somebody has the next iteration of the loop."""
        self._waiting: deque[asyncio.Future[None]] = deque()

    def join(self) -> asyncio.Future[None] | None:
        """Return what to wait for; None: the caller has the next iteration."""
        if not self._begun:
            self._begun = True
            self._loop.call_soon(self._admit)
            return None
        place = self._loop.create_future()
        self._waiting.append(place)
        return place

    def _admit(self) -> None:
        """Give the next iteration of the loop to the first who still waits."""
        while self._waiting:
            place = self._waiting.popleft()
            if not place.done():  # it was not cancelled
                place.set_result(None)
                self._loop.call_soon(self._admit)
                return
        self._begun = False


_lines: WeakKeyDictionary[asyncio.AbstractEventLoop, _Line] = WeakKeyDictionary()


async def next_slice() -> None:
    """Wait for the iteration of the event loop in which the caller may do the next slice of its work.

    A slice should take no more than a few milliseconds.
    """
    loop = asyncio.get_running_loop()
    line = _lines.get(loop)
    if line is None:
        line = _lines[loop] = _Line(loop)
    place = line.join()
    if place is None:
        await asyncio.sleep(0)
    else:
        await place


async def with_turns(items: Iterable[T], steps: int = _STEPS) -> AsyncIterator[T]:
    """Iterate over items and wait for the next slice after every `steps` of them.

    Other state may change between two turns; `items` must not.
    """
    for count, item in enumerate(items, 1):
        yield item
        if count % steps == 0:
            await next_slice()
