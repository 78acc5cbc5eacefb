"""Decoding and encoding of JSON bodies."""

import json
from typing import Any, TypeVar

import msgspec

from gateway.wire.problems import InvalidBody

T = TypeVar("T")


def decode_json(body: bytes, shape: type[T]) -> T:
    """Decode a JSON body into the type `shape`.

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
    except UnicodeEncodeError:  # JavaScript strings may hold lone surrogates, which JSON writes as escapes
        return json.dumps(value, separators=(",", ":")).encode()
