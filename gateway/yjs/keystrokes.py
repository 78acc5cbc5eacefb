"""Fast path for the updates that editors send most: some characters typed, or one range deleted, by one client. Pure.

Such an update has one form in bytes, which a regular expression tells in a microsecond. Every other update, and every
one that a document does not take in as a whole and at once, is left to `gateway.yjs.preparation`.
"""

import functools
import re
from collections.abc import Mapping
from typing import NamedTuple

from gateway.yjs.lib0 import MalformedUpdate, uint
from gateway.yjs.scan import LARGEST_CLOCK

_NUMBER = rb"([\x80-\xff]{0,7}+[\x00-\x7f])"
"""A variable-length integer, of at most 56 bits here; those of Yjs have 53."""
_LONGEST = 160
_match_typed = re.compile(
    # one client, one struct: a string (4) with a left (0x80) and perhaps a right (0x40) neighbour of the same client
    rb"\x01\x01N N(?:\x84\1N|\xc4\1N\1N)([\x01-\x7f])([\x00-\x7f]+)\x00".replace(b" ", b"").replace(b"N", _NUMBER),
    re.DOTALL,
).fullmatch
_match_deleted = re.compile(rb"\x00\x01N\x01NN".replace(b"N", _NUMBER), re.DOTALL).fullmatch


class Keystroke(NamedTuple):
    """What `scan.Scan` has of such an update, and by how many structs a document grows at most."""

    runs: list[tuple[int, int, int]]
    needs: dict[int, int]
    structs: int


def read_keystroke(update: bytes, clocks: Mapping[int, int]) -> Keystroke | None:
    """Read an update that is a keystroke and the next one of its client in a document with the state vector `clocks`.

    None: it is not one, or the document does not have all that it builds on.
    """
    try:
        return None if len(update) > _LONGEST else _read(update, clocks)
    except MalformedUpdate:  # a number is out of range
        return None


def typed_structs(update: bytes) -> int:
    """Return by how many structs a document grows at most if an update is some typed characters; 0 if it is not."""
    found = _match_typed(update) if len(update) <= _LONGEST else None
    if found is None:
        return 0
    _, first, left, left_of_two, right, size, _ = found.groups()
    if right is None:
        return _grows(_number(left), None, _number(first), size[0])
    return _grows(_number(left_of_two), _number(right), _number(first), size[0])


def _number(data: bytes) -> int:
    """Return a whole variable-length integer; most are short."""
    if len(data) == 1:
        return data[0]
    return data[0] & 0x7F | data[1] << 7 if len(data) == 2 else uint(data, 0)[0]


def _grows(left: int, right: int | None, clock: int, length: int) -> int:
    """Return the growth by a text between two places: it splits what is there, unless this is at the newest text."""
    newest = clock, clock + length
    after_left = left + 1
    splits = after_left not in newest
    if right is None or right == after_left:
        return 1 + splits
    return 1 + splits + (right not in newest)


def _read(update: bytes, clocks: Mapping[int, int]) -> Keystroke | None:
    found = _match_typed(update)
    if found is not None:
        name, first, left, left_of_two, right, size, text = found.groups()
        client, clock, length = _client(name), _number(first), len(text)
        end = clock + length
        if length != size[0] or clocks.get(client) != clock or end > LARGEST_CLOCK:
            return None
        before, after = (_number(left), None) if right is None else (_number(left_of_two), _number(right))
        needed = before if after is None or after < before else after
        if needed >= end:
            return None
        return Keystroke([(client, clock, end)], {client: needed}, _grows(before, after, clock, length))
    found = _match_deleted(update)
    if found is None:
        return None
    name, first, size = found.groups()
    client, length = _client(name), _number(size)
    end = _number(first) + length
    if not length or end > (known := clocks.get(client, 0)):
        return None
    return Keystroke([], {client: end - 1}, 1 if end == known else 2)


@functools.lru_cache(4096)
def _client(name: bytes) -> int:
    return _number(name)
