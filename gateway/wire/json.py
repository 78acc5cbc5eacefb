"""Decoding and encoding of JSON bodies, and how many values a body holds."""

import json
import re
from json.encoder import encode_basestring
from typing import Any, TypeVar

import msgspec

from gateway.wire.problems import InvalidBody

T = TypeVar("T")

MOST_VALUES = 50_000
"""How many values a body may hold that is decoded in the event loop: about 40 ms."""
_SHORTEST_VALUE = 2
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
_LONG_TEXT = 2**18
_MARKS = (b",", b"[", b"{")
"""Each value but the first follows one of them."""


def decode_json(body: bytes, shape: type[T]) -> T:
    """Decode a JSON body into the type `shape`.

    Raises:
        InvalidBody
    """
    try:
        return msgspec.json.decode(body, type=shape)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidBody(str(error)) from None


def is_short(body: bytes) -> bool:
    """Return whether a JSON body is too short for more than `MOST_VALUES` values."""
    return len(body) <= _SHORTEST_VALUE * MOST_VALUES


def marks_within(body: bytes, start: int, end: int) -> int:
    """Return how many bytes of a JSON body, from `start` to before `end`, may precede a value."""
    return sum(body.count(mark, start, end) for mark in _MARKS)


def may_hold_many_values(body: bytes) -> bool:
    """Return whether a JSON body may hold more than `MOST_VALUES` values; its texts count as if they were values."""
    return not is_short(body) and marks_within(body, 0, len(body)) >= MOST_VALUES


def holds_many_values(body: bytes) -> bool:
    """Return whether a JSON body holds more than `MOST_VALUES` values. Slow: for a worker process."""
    return may_hold_many_values(_STRING.sub(b"", body))


def announced_values(packed: bytes) -> int:
    """Return how many values a list or an object of msgpack says that it holds; 0 of anything else."""
    kind = packed[0]
    if 0x80 <= kind <= 0x9F:  # the number is in the low four bits
        return kind & 0xF
    size = {0xDC: 2, 0xDD: 4, 0xDE: 2, 0xDF: 4}.get(kind, 0)
    return int.from_bytes(packed[1 : 1 + size])


def with_raw_texts(value: Any) -> Any:
    """Return a value of plain JSON with its long texts encoded: in a third of the time if they have many escapes."""
    if isinstance(value, str):
        is_slow = len(value) > _LONG_TEXT and value.isascii()
        return msgspec.Raw(encode_basestring(value).encode()) if is_slow else value
    if isinstance(value, list):
        return [with_raw_texts(each) for each in value]
    return {name: with_raw_texts(each) for name, each in value.items()} if isinstance(value, dict) else value


def json_bytes(value: Any) -> bytes:
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:  # JavaScript strings may hold lone surrogates, which JSON writes as escapes
        return json.dumps(value, separators=(",", ":")).encode()
