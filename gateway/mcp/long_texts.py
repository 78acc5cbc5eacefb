"""Long texts in a message: they stay out of the message that the protocol's package decodes. Pure.

Its decoder takes 60 ms for 10 MB of a text with many escapes, in one step; ours takes a third of that.
"""

import secrets
from collections.abc import Mapping
from typing import Any

import msgspec

from gateway.wire.json import decode_json
from gateway.wire.problems import InvalidBody

_LIGHT_BYTES = 2**18
"""A message of at most this many bytes is left as it is: it is decoded in 2 ms."""
_LONG = 2**14
"""The fewest characters of a text that is taken out."""


def take_out_long_texts(body: bytes) -> tuple[bytes, Mapping[str, str]]:
    """Return a message with a name in place of each long text of a large one, and the texts by name.

    Raises:
        InvalidBody
    """
    if len(body) <= _LIGHT_BYTES:
        return body, {}
    texts: dict[str, str] = {}
    try:
        return msgspec.json.encode(_shortened(decode_json(body, Any), texts)), texts
    except (ValueError, OverflowError, RecursionError) as error:  # a number that is too large, or too many levels
        raise InvalidBody(str(error)) from None


def put_back_long_texts(arguments: Mapping[str, Any], texts: Mapping[str, str]) -> dict[str, Any]:
    """Return arguments with the long texts in place of their names."""
    return {name: texts.get(value, value) if isinstance(value, str) else value for name, value in arguments.items()}


def _shortened(value: Any, texts: dict[str, str]) -> Any:
    if isinstance(value, str):
        if len(value) < _LONG:
            return value
        name = secrets.token_hex(16)
        texts[name] = value
        return name
    if isinstance(value, list):
        return [_shortened(each, texts) for each in value]
    if isinstance(value, dict):
        if any(len(key) >= _LONG for key in value):
            raise InvalidBody(f"a name in it has {_LONG} characters or more")
        return {key: _shortened(each, texts) for key, each in value.items()}
    return value
