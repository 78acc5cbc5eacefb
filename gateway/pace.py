"""Long work in the event loop, in slices: of all such work, one slice is done per iteration of the loop.

Everybody else is served between two slices, however many requests have work to do.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Iterable
from typing import TypeVar
from weakref import WeakKeyDictionary

T = TypeVar("T")

_STEPS = 512
"""How many items are processed in one slice: at a few µs each, a millisecond or two."""
_SLICE_S = 0.003
"""After how many seconds a slice ends before it has processed so many."""


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


class with_turns(AsyncIterator[T]):  # noqa: N801 (it is called like a function)
    """Iterates over items, and waits for the next slice after `steps` of them, and after a few milliseconds.

    Other state may change between two slices; `items` must not.
    """

    __slots__ = ("_ends", "_items", "_left", "_steps")

    def __init__(self, items: Iterable[T], steps: int = _STEPS) -> None:
        self._items = iter(items)
        self._steps = steps
        self._begin()

    def _begin(self) -> None:
        self._left, self._ends = self._steps, time.perf_counter() + _SLICE_S

    async def __anext__(self) -> T:
        if self._left == 0 or time.perf_counter() >= self._ends:
            await next_slice()
            self._begin()
        self._left -= 1
        for item in self._items:
            return item
        raise StopAsyncIteration
