"""The results of queued changes: handed to those who wait for them, each in the thread of the event loop."""

import asyncio
import functools
import logging
from collections.abc import Callable, Iterable
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


def hand_out(results: Iterable[tuple[Any, ...] | StorageError], waiting: Iterable[AppendDone]) -> None:
    """Call each of `waiting` with its result. One that raises keeps no other from its result."""
    for done, result in zip(waiting, results, strict=True):
        try:
            done(result)
        except Exception:
            _log.exception("a function failed with the result of a write")
