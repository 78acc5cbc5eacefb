"""JSON as it comes and goes."""

import json
from typing import Any, TypeVar

import msgspec

from gateway.wire.problems import InvalidBody

T = TypeVar("T")


def decode_json(body: bytes, shape: type[T]) -> T:
    """A JSON body of a shape.

    Raises:
        InvalidBody
    """
    try:
        return msgspec.json.decode(body, type=shape)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidBody(str(error)) from None


def json_bytes(value: Any) -> bytes:
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:  # JavaScript has texts with half a character in them, and writes that half as an escape
        return json.dumps(value, separators=(",", ":")).encode()
