"""Running a coroutine until it suspends.

ASGI's `send` is a coroutine: sending the same message to a thousand clients would take a task and a turn of the loop
for each. `send` nearly always ends without suspending, except when a client is slow. So a coroutine is run immediately
until it suspends, and only the rest of it, if any, is awaited.
"""

import asyncio
import sys
from collections.abc import Awaitable, Coroutine, Generator
from types import CoroutineType
from typing import Any, Generic, NoReturn, TypeVar

T = TypeVar("T")


def run_at_once(work: Awaitable[None]) -> Awaitable[None] | None:
    """Run a coroutine in the running loop until it suspends.

    Returns None if the coroutine has ended; else an awaitable that runs the rest of it or raises its exception.
    """
    coroutine = work if isinstance(work, CoroutineType) else _awaited(work)
    if sys.version_info >= (3, 12):
        task = asyncio.Task(coroutine, loop=asyncio.get_running_loop(), eager_start=True)
        return None if task.done() and not task.cancelled() and task.exception() is None else task
    try:
        waits_for = coroutine.send(None)
    except StopIteration:
        return None
    except Exception as error:
        return _Failed(error)
    return Rest(coroutine, waits_for)


async def _awaited(work: Awaitable[None]) -> None:
    await work


class _Failed:
    """Raises an exception when it is awaited."""

    __slots__ = ("_error",)

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __await__(self) -> NoReturn:
        raise self._error


class Rest(Generic[T]):
    """The rest of a suspended coroutine.

    Args:
        work: the coroutine, or the iterator of an awaitable.
        waits_for: the value that it yielded last.
    """

    __slots__ = ("_waits_for", "_work")

    def __init__(self, work: Coroutine[Any, Any, T] | Generator[Any, Any, T], waits_for: Any) -> None:
        self._work = work
        self._waits_for = waits_for

    def __await__(self) -> Generator[Any, Any, T]:
        waits_for = self._waits_for
        while True:
            try:
                try:
                    came = yield waits_for
                except BaseException as error:
                    waits_for = self._work.throw(error)
                else:
                    waits_for = self._work.send(came)
            except StopIteration as end:
                result: T = end.value
                return result
