"""Long texts in a message: they stay out of the message that the protocol's package decodes, and in UTF-8. Pure.

The package decodes a message in one step of the event loop, which takes 60 ms for 10 MB of a text with many escapes. So
the message is decoded in a worker process, and its long texts are never decoded in the event loop.
"""

import secrets
from collections.abc import Mapping
from typing import Any

import msgspec

from gateway.wire.json import decode_json
from gateway.wire.problems import InvalidBody

LIGHT_BYTES = 2**18
"""A message of at most this many bytes is left as it is: it is decoded in 2 ms."""
_LONG = 2**14
"""The fewest characters of a text that is taken out."""
_DECODED_BYTES = 2**22
"""The longest text that is decoded for an argument of limited length: every one that is allowed, of four bytes each."""
_TOO_LONG = "x" * (_DECODED_BYTES // 4 + 1)
"""Stands for a longer one, which is refused."""


def take_out_long_texts(body: bytes) -> tuple[bytes, dict[str, bytes]]:
    """Return a message with a name in place of each long text, and the texts by name, in UTF-8. Slow: for a worker
    process.

    Raises:
        InvalidBody
    """
    texts: dict[str, bytes] = {}
    try:
        return msgspec.json.encode(_shortened(decode_json(body, Any), texts)), texts
    except (ValueError, OverflowError, RecursionError) as error:  # a number that is too large, or too many levels
        raise InvalidBody(str(error)) from None


def put_back_long_texts(
    arguments: Mapping[str, Any], texts: Mapping[str, bytes], unlimited: str | None = None
) -> dict[str, Any]:
    """Return arguments with the long texts in place of their names.

    Args:
        unlimited: the argument that may be of any length, whose name stays.
    """
    return {
        name: _decoded(texts[value]) if isinstance(value, str) and value in texts and name != unlimited else value
        for name, value in arguments.items()
    }


def _decoded(text: bytes) -> str:
    return text.decode() if len(text) <= _DECODED_BYTES else _TOO_LONG


def _shortened(value: Any, texts: dict[str, bytes]) -> Any:
    if isinstance(value, str):
        if len(value) < _LONG:
            return value
        name = secrets.token_hex(16)
        texts[name] = value.encode()
        return name
    if isinstance(value, list):
        return [_shortened(each, texts) for each in value]
    if isinstance(value, dict):
        if any(len(key) >= _LONG for key in value):
            raise InvalidBody(f"a name in it has {_LONG} characters or more")
        return {key: _shortened(each, texts) for key, each in value.items()}
    return value
