"""Pure functions that parse one line of an agent's output into JSON objects, with bounded work."""

import json
from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct

from gateway.wire.json import encode_long_texts

MOST_ITEMS = 50_000
"""The most values, including nested ones, that one line may have."""
_LIGHT_BYTES = 64 * 1024
"""A line of at most this many bytes is parsed inline, whatever it contains."""

_decoder = json.JSONDecoder()


class Prepared(Struct, frozen=True):
    """The objects of a line as well-formed JSON within the bounds, or the fault of the line."""

    objects: list[bytes] = []
    fault: str | None = None


def read_light(line: bytes) -> list[dict[str, Any]] | None:
    """Parse the object of a line that `has_few_values`; None if the line must go through `prepare`."""
    try:
        value = msgspec.json.decode(line)
    except (ValueError, RecursionError):
        return None
    return [value] if isinstance(value, dict) else None


def is_short(line: bytes) -> bool:
    return len(line) <= _LIGHT_BYTES


def has_few_values(line: bytes) -> bool:
    """Whether a long line is parsed in a short time."""
    return line.count(b",") + line.count(b"{") + line.count(b"[") <= MOST_ITEMS


def prepare(parts: Sequence[bytes]) -> Prepared:
    """Parse a line, the only element of `parts`, that is not a single object, or may have very many values.

    A line may hold several objects, or a list of objects. Bytes that are not UTF-8 become U+FFFD. A lone surrogate,
    which JavaScript writes where it cut a text, becomes `?`.
    """
    try:
        values = _values(parts[0])
    except (ValueError, RecursionError) as error:
        return Prepared(fault=str(error))
    objects = [each for value in values for each in (value if isinstance(value, list) else [value])]
    if not objects or not all(isinstance(each, dict) for each in objects):
        return Prepared(fault="it is not a JSON object")
    if not _within(objects, MOST_ITEMS):
        return Prepared(fault=f"it has more than {MOST_ITEMS} values")
    return Prepared([encoded(each) for each in objects])


def encoded(value: Any, *, long: bool = False) -> bytes:
    """Encode a value that was parsed from JSON: its integers may have any number of digits, and if `long` its texts
    very many characters."""
    try:
        return encode_long_texts(value) if long else msgspec.json.encode(value)
    except OverflowError:
        return json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")


def _values(line: bytes) -> list[Any]:
    """Parse all JSON values of a line.

    Raises:
        ValueError, RecursionError
    """
    try:
        return [msgspec.json.decode(line)]
    except ValueError:
        text, place = line.decode("utf-8-sig", "replace").strip(), 0
    values = []
    while place < len(text):
        value, place = _decoder.raw_decode(text, place)
        while text[place : place + 1].isspace():
            place += 1
        strict = json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")
        values.append(msgspec.json.decode(strict))
    return values


def _within(values: list[Any], most: int) -> bool:
    """Whether there are at most `most` values, including nested ones."""
    waiting: list[Any] = [values]
    count = 0
    while waiting:
        value = waiting.pop()
        within = value.values() if isinstance(value, dict) else value
        count += len(within)
        if count > most:
            return False
        waiting += [each for each in within if isinstance(each, (dict, list))]
    return True
