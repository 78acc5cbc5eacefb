"""Long work in the event loop, in slices: of all such work, one slice is done per iteration of the loop.

Everybody else is served between two slices, however many requests have work to do, and what is done for them at once
shares the iteration with the slice (`gateway.shared_turn`).
"""

import asyncio
import io
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import TypeVar
from weakref import WeakKeyDictionary

from gateway.shared_turn import SharedTurn

T = TypeVar("T")

_STEPS = 512
"""How many items are processed in one slice: at a few µs each, about a millisecond."""
_LEAST_PIECE_BYTES = 2**16
_AT_ONCE_BYTES = 2**20
"""How many bytes are joined at once: to memory that is new in a millisecond."""
_SLICE_S = 0.0015
"""After how many seconds a slice ends before it has processed so many."""

_turns: WeakKeyDictionary[asyncio.AbstractEventLoop, SharedTurn] = WeakKeyDictionary()


def share_turns(turn: SharedTurn) -> None:
    """Have long work in the running event loop share the turns of other work."""
    _turns[asyncio.get_running_loop()] = turn


async def next_slice() -> None:
    """Wait for the iteration of the event loop in which the caller may do the next slice of its work.

    A slice should take no more than a few milliseconds.
    """
    loop = asyncio.get_running_loop()
    turn = _turns.get(loop)
    if turn is None:
        turn = _turns[loop] = SharedTurn()
    await turn.next_slice()


async def join_parts(parts: Sequence[bytes]) -> bytes:
    """Return parts joined: much of it in another thread, beside which the event loop goes on.

    `bytes.join` releases the GIL while it copies parts that are `bytes` themselves, and no views of them.
    """
    if sum(map(len, parts)) <= _AT_ONCE_BYTES:
        return b"".join(parts)
    return await asyncio.get_running_loop().run_in_executor(None, b"".join, parts)


async def copied(data: memoryview) -> bytes:
    """Return the bytes of a view, copied in slices: memory that is new takes a millisecond for a megabyte."""
    copy = io.BytesIO()  # gives the bytes over without another copy
    async for start in with_turns(range(0, len(data), _AT_ONCE_BYTES), 1):
        copy.write(data[start : start + _AT_ONCE_BYTES])
    return copy.getvalue()


def add_piece(pieces: list[bytes], piece: bytes) -> None:
    """Add to pieces that are to be joined: to the last one if that is short. Very many bytes may arrive one by one."""
    if pieces and len(pieces[-1]) < _LEAST_PIECE_BYTES:
        piece = pieces.pop() + piece
    pieces.append(piece)


async def put_together(pieces: Iterable[bytes]) -> bytes:
    """Return pieces joined, of which one is made in each slice."""
    return await join_parts([piece async for piece in with_turns(pieces, 1)])


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
