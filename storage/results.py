"""The results of queued changes: handed to those who wait for them, each in the thread of the event loop."""

import asyncio
import functools
import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from storage.errors import StorageError

_log = logging.getLogger(__name__)

AppendDone = Callable[[tuple[Any, ...] | StorageError], None]
"""Called once, in the thread of the event loop, with the commits of the changes of one `append`, or with the error that
its future would raise. It must not block."""


def resolving(future: asyncio.Future[tuple[Any, ...]]) -> AppendDone:
    """Return a function that resolves a future to the result that it is called with."""
    return functools.partial(_resolve, future)


def _resolve(future: asyncio.Future[tuple[Any, ...]], result: tuple[Any, ...] | StorageError) -> None:
    if future.done():  # the waiting caller was cancelled; the change is stored nevertheless
        return
    if isinstance(result, StorageError):
        future.set_exception(result)
    else:
        future.set_result(result)


_HANDED_OUT_TOGETHER = 128
"""How many results are handed out in one iteration of the event loop: a receipt is answered in about 30 µs. If there
were fewer, the first writers would be back before the last have heard: 64 writers would have two batches of 32."""


class HandingOut:
    """Hands out the results of batches in their order, few of them in one iteration of the event loop.

    Args:
        done: called when everything is handed out of which `add` said that it was not.
    """

    def __init__(self, done: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._done = done
        self._waiting: deque[tuple[AppendDone, tuple[Any, ...] | StorageError]] = deque()

    def add(self, results: Sequence[tuple[Any, ...] | StorageError], waiting: Sequence[AppendDone]) -> bool:
        """Call each of `waiting` with its result: the first ones now, unless others are before them.

        Where one of them is an error, all are called now: who is ahead of what is stored must hear of that at once.
        Returns whether everything is handed out.
        """
        if not self._waiting and len(results) <= _HANDED_OUT_TOGETHER:
            hand_out(results, waiting)
            return True
        begins = not self._waiting
        self._waiting.extend(zip(waiting, results, strict=True))
        if _has_error(results):
            self._hand_out(len(self._waiting))
            return True
        if begins:
            self._hand_out_some()
        return False

    def _hand_out_some(self) -> None:
        self._hand_out(min(len(self._waiting), _HANDED_OUT_TOGETHER))
        if self._waiting:
            self._loop.call_soon(self._hand_out_some)
        else:
            self._done()

    def _hand_out(self, count: int) -> None:
        some = [self._waiting.popleft() for _ in range(count)]
        hand_out([result for _, result in some], [done for done, _ in some])


async def hand_out_in_turns(results: Sequence[tuple[Any, ...] | StorageError], waiting: Sequence[AppendDone]) -> None:
    """Call each of `waiting` with its result, as `HandingOut` does."""
    together = len(results) if _has_error(results) else _HANDED_OUT_TOGETHER
    for start in range(0, len(results), together):
        if start:
            await asyncio.sleep(0)
        hand_out(results[start : start + together], waiting[start : start + together])


def _has_error(results: Iterable[tuple[Any, ...] | StorageError]) -> bool:
    return any(isinstance(result, StorageError) for result in results)


def hand_out(results: Iterable[tuple[Any, ...] | StorageError], waiting: Iterable[AppendDone]) -> None:
    """Call each of `waiting` with its result. One that raises keeps no other from its result."""
    for done, result in zip(waiting, results, strict=True):
        try:
            done(result)
        except Exception:
            _log.exception("a function failed with the result of a write")
