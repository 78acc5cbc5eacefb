"""Pure functions that read one line of an agent's output: its JSON objects, and what a dialect makes of them.

A short line is read in the event loop; a long one in a worker process, which returns the changes of blocks in slices,
with contents that are encoded.
"""

import json
from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from gateway.turns.dialects import DIALECTS, Change, Grow, Line, Memory, Outcome, Put, Reading, dialect_of
from gateway.wire.json import encode_long_texts

MOST_ITEMS = 50_000
"""The most values, including nested ones, that one line may have."""
_LIGHT_BYTES = 64 * 1024
"""An object of at most this many bytes is read inline, whatever it contains: it is parsed in a millisecond."""
LONGEST_LIGHT, _LIGHT_ITEMS = 256 * 1024, 5_000
"""So is one of so many bytes that has few values."""
_ODD_BYTES = 2048
"""A line of at most this many bytes is read inline even if it is not a single object."""
_SLICE_CHANGES, _SLICE_BYTES = 200, 64 * 1024
"""How many changes, of about how many bytes, are a slice. A larger change is one alone."""

_decoder = json.JSONDecoder()


class Effect(Struct, frozen=True, array_like=True):
    """A change of a line, encoded; or, behind its changes, what else the line tells."""

    change: Change | None
    outcome: Outcome | None = None
    works: bool = False


Slice: TypeAlias = bytes | Effect
"""Some effects, encoded for `effects_in`, or one with a large content."""
_slice_decoder = msgspec.msgpack.Decoder(list[Effect])


class LongLine(Struct, frozen=True):
    """A line that takes too long to be read in the event loop, and what its reader knows."""

    pieces: list[bytes]
    """The line as it arrived: to join them would take long, too."""
    dialect: str | None
    memory: Memory


class LineRead(Struct, frozen=True):
    """What a line does, and what its reader knows then; or the fault of the line."""

    dialect: str | None = None
    memory: Memory = {}
    slices: list[Slice] = []
    fault: str | None = None


def read_light(line: bytes) -> Line | None:
    """Parse a line of at most `LONGEST_LIGHT` bytes that is a single object; None if it is not, or if that may take
    long."""
    if not is_short(line) and line.count(b",") + line.count(b"{") + line.count(b"[") > _LIGHT_ITEMS:
        return None
    try:
        value = msgspec.json.decode(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def is_short(line: bytes) -> bool:
    """Whether any object in a line is parsed in a short time."""
    return len(line) <= _LIGHT_BYTES


def is_very_short(line: bytes) -> bool:
    """Whether `read_line` takes a short time whatever the line is."""
    return len(line) <= _ODD_BYTES


def read_object(line: Line, dialect: str | None, memory: Memory) -> tuple[str | None, Reading]:
    """Return what a line does, and its dialect, which the first line decides that a dialect knows. Changes `memory`.

    A line that its dialect does not know is kept as it is.
    """
    if dialect is None and (found := dialect_of(line)) is not None:
        dialect = found.name
    known = DIALECTS.get(dialect or "")
    return dialect, (known and known.read(line, memory)) or Reading([Put("text", line)])


def read_line(asked: LongLine) -> LineRead:
    """Read a line, which may hold several objects, or a list of objects.

    Bytes that are not UTF-8 become U+FFFD. A lone surrogate, which JavaScript writes where it cut a text, becomes `?`.
    """
    dialect, memory, line = asked.dialect, asked.memory, b"".join(asked.pieces).strip()
    if not line:
        return LineRead(dialect, memory)
    try:
        values = _values(line)
    except (ValueError, RecursionError) as error:
        return LineRead(dialect, memory, fault=str(error))
    objects = [each for value in values for each in (value if isinstance(value, list) else [value])]
    if not objects or not all(isinstance(each, dict) for each in objects):
        return LineRead(dialect, memory, fault="it is not a JSON object")
    if not _within(objects, MOST_ITEMS):
        return LineRead(dialect, memory, fault=f"it has more than {MOST_ITEMS} values")
    effects = list[Effect]()
    for each in objects:
        dialect, reading = read_object(each, dialect, memory)
        effects += map(Effect, map(_encoded, reading.changes))
        effects.append(Effect(None, reading.outcome, reading.works))
    return LineRead(dialect, memory, [*_slices(effects)])


def effects_in(part: Slice) -> list[Effect]:
    """Return the effects of a slice, in order."""
    return _slice_decoder.decode(part) if isinstance(part, bytes) else [part]


def encoded(value: Any, *, long: bool = False) -> bytes:
    """Encode a value that was parsed from JSON: its integers may have any number of digits, and if `long` its texts
    very many characters."""
    try:
        return encode_long_texts(value) if long else msgspec.json.encode(value)
    except OverflowError:
        return json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")


def encoded_text(text: str, *, long: bool = False) -> bytes:
    """Return what stands between the quotes of an encoded text: the pieces of a text can be joined in this form."""
    return encoded(text, long=long)[1:-1]


def _encoded(change: Change) -> Change:
    if isinstance(change, Put):
        return replace(change, content=encoded(change.content, long=True))
    if isinstance(change, Grow) and isinstance(change.text, str):
        return replace(change, text=encoded_text(change.text, long=True))
    return change


def _slices(effects: Iterable[Effect]) -> Iterator[Slice]:
    part, size = list[Effect](), 0
    for effect in effects:
        content = _size(effect.change)
        if part and (len(part) == _SLICE_CHANGES or size + content > _SLICE_BYTES):
            yield msgspec.msgpack.encode(part)
            part, size = [], 0
        if content > _SLICE_BYTES:
            yield effect
        else:
            part.append(effect)
            size += content
    if part:
        yield msgspec.msgpack.encode(part)


def _size(change: Change | None) -> int:
    if isinstance(change, Put):
        return len(change.content)
    return len(change.text) if isinstance(change, Grow) else 0


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
