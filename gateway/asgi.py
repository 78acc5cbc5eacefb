"""What we add to ASGI: sending without a task, one frame for many, headers by name, whether a path was UTF-8, and
whether a body is there already.

`send` of ASGI is a coroutine: for each of a thousand who are sent the same it would take a task and a turn of the
loop. It nearly always ends without waiting; where it waits, since the client is slow, it is finished all the same.
So a coroutine runs at once as far as it goes, and only what is left of it is waited for.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Coroutine, Generator
from struct import pack
from types import CoroutineType
from typing import Any, Generic, NoReturn, TypeVar
from urllib.parse import unquote_to_bytes

from starlette.types import Scope

T = TypeVar("T")

BODY_IS_HERE = "gateway.body_is_here"
"""In the scope of a request whose whole body had come in before the application was called."""


NAMED_HEADERS = "gateway.headers"
"""In a scope: its headers by name, once somebody has asked for one. Not to be kept while a request waits."""


def named_headers(scope: Scope) -> dict[bytes, bytes]:
    """The headers of a request by their lower-case names; lines of the same name make one list."""
    named: dict[bytes, bytes] | None = scope.get(NAMED_HEADERS)
    if named is None:
        lines: list[tuple[bytes, bytes]] = scope["headers"]
        named = dict(lines)
        if len(named) != len(lines):
            named.clear()
            for name, line in lines:
                named[name] = named[name] + b", " + line if name in named else line
        scope[NAMED_HEADERS] = named
    return named


FRAMES = "yjs-gateway.frames"
"""An ASGI extension of our WebSocket protocol: `{"write": WriteFrame}`. Where a room is sent one message, it is one
frame for all, and takes no coroutine for each."""

WriteFrame = Callable[[bytes], bool]
"""Writes a whole frame at once; False: nothing was written, since the client does not take it now, or has left."""

_FINAL_TEXT, _FINAL_BINARY = 0x81, 0x82


def frame_writer(scope: Scope) -> WriteFrame | None:
    """How to write frames to the client of a WebSocket; None under another server: then `send` is the way."""
    offered = (scope.get("extensions") or {}).get(FRAMES)
    return None if offered is None else offered["write"]


def binary_frame(message: bytes) -> bytes:
    """A server's frame of a binary message (RFC 6455 §5.2): not masked, nothing negotiated."""
    return _frame(_FINAL_BINARY, message)


def text_frame(message: str) -> bytes:
    """The same of a text."""
    return _frame(_FINAL_TEXT, message.encode())


def _frame(kind: int, data: bytes) -> bytes:
    length = len(data)
    if length < 126:
        return bytes((kind, length)) + data
    if length < 2**16:
        return pack("!BBH", kind, 126, length) + data
    return pack("!BBQ", kind, 127, length) + data


def run_at_once(work: Awaitable[None]) -> Awaitable[None] | None:
    """Run a coroutine, in the running loop, until it waits.

    Returns None if it has ended; else what is to be awaited: the rest of it, or the exception that it has raised.
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
    """What is left of a coroutine that waits for something.

    Args:
        work: the coroutine, or what iterates over an awaitable.
        waits_for: what it yielded last.
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


def encoding_fault(scope: Scope, path: str) -> str | None:
    """The server decodes what is not UTF-8 to U+FFFD; a path may also have that character of its own."""
    if "\ufffd" not in path:
        return None
    try:
        unquote_to_bytes(scope.get("raw_path", b"")).decode()
    except UnicodeDecodeError:
        return "it is not UTF-8"
    return None
