"""Decoding and encoding of JSON bodies, and how many values a body holds."""

import json
import re
import secrets
from collections.abc import Sequence
from itertools import chain
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


def marks_within(body: bytes | bytearray, start: int, end: int) -> int:
    """Return how many bytes of a JSON body, from `start` to before `end`, may precede a value."""
    return sum(body.count(mark, start, end) for mark in _MARKS)


def may_hold_many_values(body: bytes) -> bool:
    """Return whether a JSON body may hold more than `MOST_VALUES` values; its texts count as if they were values."""
    return not is_short(body) and marks_within(body, 0, len(body)) >= MOST_VALUES


def holds_many_values(body: bytes) -> bool:
    """Return whether a JSON body holds more than `MOST_VALUES` values. Slow: for a worker process."""
    return may_hold_many_values(body) and may_hold_many_values(_STRING.sub(b"", body))


def announced_values(packed: bytes) -> int:
    """Return how many values a list or an object of msgpack says that it holds; 0 of anything else."""
    kind = packed[0]
    if 0x80 <= kind <= 0x9F:  # the number is in the low four bits
        return kind & 0xF
    size = {0xDC: 2, 0xDD: 4, 0xDE: 2, 0xDF: 4}.get(kind, 0)
    return int.from_bytes(packed[1 : 1 + size])


def encode_long_texts(value: Any) -> bytes:
    """Encode a value of plain JSON: in less time than usual if it has long texts with very many escapes.

    Raises:
        OverflowError, UnicodeEncodeError
    """
    mark, texts = new_mark(), list[bytes]()
    return b"".join(put_in(msgspec.json.encode(_with_marks(value, mark, texts)), mark, texts))


def _with_marks(value: Any, mark: str, texts: list[bytes]) -> Any:
    """Return a value with a mark in place of each long text, which is added to `texts` as JSON."""
    if isinstance(value, str):
        if len(value) <= _LONG_TEXT or not value.isascii():
            return value
        texts.append(encode_basestring(value).encode())
        return mark
    if isinstance(value, list):
        return [_with_marks(each, mark, texts) for each in value]
    return {name: _with_marks(each, mark, texts) for name, each in value.items()} if isinstance(value, dict) else value


def new_mark() -> str:
    """Return a text that stands in no other one."""
    return secrets.token_hex(16)


def put_in(body: bytes, mark: str, values: Sequence[bytes]) -> list[bytes]:
    """Return the parts of a JSON text with encoded values in place of the marks in it. The encoder would copy them
    several times, as it makes room again and again."""
    if not values:
        return [body]
    first, *rest = body.split(b'"%b"' % mark.encode())
    return [first, *chain.from_iterable(zip(values, rest, strict=True))]


def json_bytes(value: Any) -> bytes:
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:  # JavaScript strings may hold lone surrogates, which JSON writes as escapes
        return json.dumps(value, separators=(",", ":")).encode()
