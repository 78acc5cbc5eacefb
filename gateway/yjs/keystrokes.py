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
    """What `scan.Scan` has of such an update."""

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


def _read(update: bytes, clocks: Mapping[int, int]) -> Keystroke | None:
    found = _match_typed(update)
    if found is not None:
        name, first, left, left_of_two, right, size, text = found.groups()
        client, clock, length = _client(name), uint(first, 0)[0], len(text)
        end = clock + length
        if length != size[0] or clocks.get(client) != clock or end > LARGEST_CLOCK:
            return None
        needed = uint(left, 0)[0] if right is None else max(uint(left_of_two, 0)[0], uint(right, 0)[0])
        return None if needed >= end else Keystroke([(client, clock, end)], {client: needed}, 1)
    found = _match_deleted(update)
    if found is None:
        return None
    name, first, size = found.groups()
    client, length = _client(name), uint(size, 0)[0]
    end = uint(first, 0)[0] + length
    return Keystroke([], {client: end - 1}, 0) if length and end <= clocks.get(client, 0) else None


@functools.lru_cache(4096)
def _client(name: bytes) -> int:
    return uint(name, 0)[0]
