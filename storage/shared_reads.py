"""Equal reads that are asked for at the same time run once."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Hashable
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, cast

T = TypeVar("T")
P = ParamSpec("P")


class SharedReads:
    """Runs equal reads one after the other, each for all who asked for it before it began.

    Whoever asks while a read is in progress gets the result of the next one, which sees all that was committed before
    the request. So thousands who ask at once take two reads. A result belongs to all of them: it must not be changed.
    """

    def __init__(self) -> None:
        self._next: dict[Hashable, asyncio.Task[Any]] = {}
        """The reads that have not begun."""
        self._running: dict[Hashable, asyncio.Task[Any]] = {}

    async def read(self, question: Hashable, read: Callable[[], Awaitable[T]]) -> T:
        """Return the result of a read that begins after the call; `read` runs unless an equal `question` waits."""
        task: asyncio.Task[T] | None = self._next.get(question)
        if task is None:
            task = self._next[question] = asyncio.create_task(self._run(question, read), name="shared-read")
            task.add_done_callback(_retrieved)
        return await asyncio.shield(task)

    async def _run(self, question: Hashable, read: Callable[[], Awaitable[T]]) -> T:
        task = asyncio.current_task()
        assert task is not None
        try:
            if question in self._running:
                await asyncio.wait([self._running[question]])
        finally:
            del self._next[question]
        self._running[question] = task
        try:
            return await read()
        finally:
            del self._running[question]


class _Reads(Protocol):
    @property
    def reads(self) -> SharedReads: ...


S = TypeVar("S", bound=_Reads)


def read_once(
    method: Callable[Concatenate[S, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[S, P], Coroutine[Any, Any, T]]:
    """Make equal calls of a method share a read. The arguments must be hashable."""

    @wraps(method)
    async def ask(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        question = (method.__name__, args, tuple(kwargs.items()))
        return cast(T, await self.reads.read(question, lambda: method(self, *args, **kwargs)))

    return ask


def _retrieved(task: asyncio.Task[Any]) -> None:
    """Note that the error of a task is known, if all who waited for it are gone."""
    if not task.cancelled():
        task.exception()
