"""Bodies in JSON and msgpack: a short one is decoded at once; a long one is decoded in a worker process, and received
in slices."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import msgspec
from starlette.requests import Request

from gateway.http.requests import read_body
from gateway.pace import with_turns
from gateway.wire.json import MOST_VALUES, announced_values, decode_json, holds_many_values, is_short, marks_within
from gateway.wire.problems import InvalidBody
from gateway.wire.slices import Sliced, assembled, sliced
from gateway.workers.pool import run_in_worker

T = TypeVar("T")

_LIGHT_BYTES = 2**20
"""A body of at most this many bytes, and of few values, is decoded in the event loop: in 2 ms."""
_FEW_VALUES = 12_000


async def read_json(request: Request, limit: int, shape: type[T]) -> T:
    """Read a JSON body of the type `shape`.

    Raises:
        BodyTooLarge, InvalidBody
    """
    return await json_of(await read_body(request, limit), shape)


async def json_of(body: bytes, shape: type[T]) -> T:
    """Decode a JSON body into the type `shape`.

    Raises:
        InvalidBody
    """
    if is_light(body):
        return decode_json(body, shape)
    return await long_json_of(body, shape)


async def long_json_of(body: bytes | str, shape: type[T]) -> T:
    """Decode a JSON body into the type `shape`, in a worker process.

    Raises:
        InvalidBody
    """
    return cast(T, await _put_together(await run_in_worker(_sliced_json, body, shape)))


async def msgpack_of(body: bytes, shape: type[T]) -> T:
    """Decode a msgpack body into the type `shape`.

    Raises:
        InvalidBody
    """
    if len(body) <= _FEW_VALUES:  # a value takes a byte
        return _decode_msgpack(body, shape)
    return cast(T, await _put_together(await run_in_worker(_sliced_msgpack, body, shape)))


async def examined(body: bytes, examine: Callable[[bytes], T]) -> T:
    """Return what a pure function makes of a JSON body, in a worker process unless that is done in a short time.

    Raises:
        InvalidBody: it holds too many values.
        Any exception that the function raises.
    """
    return examine(body) if is_light(body) else await run_in_worker(_examine, examine, body)


def is_light(body: bytes) -> bool:
    """Return whether a JSON body is decoded in a short time."""
    return len(body) <= _LIGHT_BYTES and (is_short(body) or marks_within(body, 0, len(body)) <= _FEW_VALUES)


async def _put_together(whole: Sliced) -> Any:
    value: Any = None
    async for value in with_turns(assembled(whole), 1):  # noqa: B007 (the last one is whole)
        pass
    return value


def _examine(examine: Callable[[bytes], T], body: bytes) -> T:
    if holds_many_values(body):
        raise InvalidBody(f"it holds more than {MOST_VALUES} values")
    return examine(body)


def _sliced_json(body: bytes | str, shape: type[Any]) -> Sliced:
    try:
        encoded = body.encode() if isinstance(body, str) else body
    except UnicodeEncodeError as error:
        raise InvalidBody(str(error)) from None
    return _sliced(_examine(lambda body: decode_json(body, shape), encoded))


def _sliced_msgpack(body: bytes, shape: type[Any]) -> Sliced:
    return _sliced(_decode_msgpack(body, shape))


def _sliced(value: Any) -> Sliced:
    try:
        return sliced(value)
    except RecursionError as error:
        raise InvalidBody(str(error)) from None


def _decode_msgpack(body: bytes, shape: type[T]) -> T:
    try:
        if len(body) > MOST_VALUES:
            members = msgspec.msgpack.decode(body, type=dict[str, msgspec.Raw])
            if sum(announced_values(bytes(memoryview(each)[:5])) for each in members.values()) > MOST_VALUES:
                raise InvalidBody(f"it holds more than {MOST_VALUES} values")
        return msgspec.msgpack.decode(body, type=shape)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, OverflowError) as error:
        raise InvalidBody(str(error)) from None
