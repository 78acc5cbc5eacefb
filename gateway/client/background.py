"""A background thread with an event loop, in which synchronous code runs the asynchronous client."""

import asyncio
import contextlib
import threading
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Iterator
from typing import Any, TypeVar

T = TypeVar("T")
S = TypeVar("S")

_END_S = 5.0
"""How long the end of the thread is waited for."""


class BackgroundLoop:
    """An event loop in a thread of its own, which begins with the first call and ends with `close`.

    Calls are made from any thread but the loop's own.

    Args:
        clean_up: run in the loop before it ends, also if the program ends without `close`.
    """

    def __init__(self, clean_up: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._clean_up = clean_up
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._end: weakref.finalize[..., Any] | None = None

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine to its end. If the caller is interrupted, the coroutine is cancelled."""
        future = asyncio.run_coroutine_threadsafe(work, self._started())
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def iterate(self, items: AsyncIterator[T]) -> Iterator[T]:
        """Iterate over an asynchronous iterator, which is closed when the caller stops."""
        end = object()

        async def following() -> T | object:
            return await anext(items, end)

        async def close() -> None:
            aclose = getattr(items, "aclose", None)
            if aclose is not None:
                await aclose()

        try:
            while (item := self.run(following())) is not end:
                yield item  # type: ignore[misc] # the end is excluded
        finally:
            self.run(close())

    def close(self) -> None:
        """Clean up, and end the thread."""
        with self._lock:
            end, self._end, self._loop = self._end, None, None
        if end is not None:
            end()

    def _started(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                thread = threading.Thread(target=_run, args=(self._loop,), name="yjs-gateway client", daemon=True)
                thread.start()
                # Refers to neither this object nor its owner, so that both can be collected.
                self._end = weakref.finalize(self, _end, self._loop, thread, self._clean_up)
            return self._loop


def _run(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    loop.run_forever()
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()


def _end(
    loop: asyncio.AbstractEventLoop, thread: threading.Thread, clean_up: Callable[[], Coroutine[Any, Any, None]]
) -> None:
    with contextlib.suppress(Exception):
        asyncio.run_coroutine_threadsafe(clean_up(), loop).result(_END_S)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(_END_S)


def in_thread(function: Callable[[S], T]) -> Callable[[S], Awaitable[T]]:
    """Return a function that calls `function` outside the event loop, where it may use the synchronous client."""

    async def call(argument: S) -> T:
        return await asyncio.to_thread(function, argument)

    return call


def as_stream(items: bytes | Iterable[bytes]) -> bytes | AsyncIterator[bytes]:
    """Return bytes as they are, and an iterable as an asynchronous one, whose items are made outside the event loop."""
    return items if isinstance(items, bytes) else _stream(iter(items))


async def _stream(items: Iterator[bytes]) -> AsyncIterator[bytes]:
    while (item := await asyncio.to_thread(next, items, None)) is not None:
        yield item
