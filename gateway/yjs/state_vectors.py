"""Readers for state vectors and delete sets. Pure."""

from collections.abc import Iterable, Mapping

from gateway.yjs.lib0 import MalformedUpdate, Reader
from gateway.yjs.runs import PackedClocks

MOST_IN_STEP = 10_000
"""The most clients of a state vector that is read in one step of the event loop, which takes 3 ms then."""


def read_state_vector(data: bytes) -> dict[int, int]:
    """Return the clock of each client in a state vector.

    Raises:
        MalformedUpdate: the bytes, to the last one, are not a state vector.
    """
    reader = Reader(data)
    clocks = {}
    for _ in range(reader.unsigned()):
        client = reader.unsigned()
        clocks[client] = reader.unsigned()
    if not reader.at_end:
        raise MalformedUpdate("there are bytes after the end")
    return clocks


def highest_clocks(state_vectors: Iterable[bytes]) -> Mapping[int, int]:
    """Return the highest clock of each client in several state vectors.

    Raises:
        MalformedUpdate
    """
    clocks: dict[int, int] = {}
    for each in state_vectors:
        for client, clock in read_state_vector(each).items():
            clocks[client] = max(clock, clocks.get(client, 0))
    return clocks if len(clocks) <= MOST_IN_STEP else PackedClocks(clocks)


_ENDS_OF_INTEGERS = b"\1" * 0x80 + b"\0" * 0x80
"""Maps a byte that ends an integer to 1, and one that is followed by more of the integer to 0."""
_LONG_INTEGER = b"\0" * 7
_MOST_READ = 100_000
_MOST_NAMED = 250_000
"""How many clients a state vector may name, whatever the document. A document has at most 100,000 clients; a replica
may know of as many more."""


def check_state_vector(data: bytes) -> int:
    """Return how many clients a state vector names, without decoding it: this takes no longer than a byte search.

    Raises:
        MalformedUpdate: the bytes, to the last one, are not a state vector.
    """
    entries = Reader(data).unsigned()
    require_few_named(entries)
    ends = data.translate(_ENDS_OF_INTEGERS)
    if not ends[-1] or ends.count(1) != 1 + 2 * entries:
        raise MalformedUpdate("it does not hold as many clients as it says")
    if _LONG_INTEGER in ends:  # Yjs never writes such; decoded if that is quick
        if entries > _MOST_READ:
            raise MalformedUpdate("its integers are too long for so many clients")
        read_state_vector(data)
    return entries


def require_few_named(entries: int) -> None:
    """Raise MalformedUpdate if a state vector names too many clients."""
    if entries > _MOST_NAMED:
        raise MalformedUpdate(f"it names more than {_MOST_NAMED} clients")


def read_delete_set(reader: Reader) -> list[tuple[int, int, int]]:
    """Return the deleted ranges of an update as (client, first clock, clock after the range's end)."""
    ranges = []
    for _ in range(reader.unsigned()):
        client = reader.unsigned()
        for _ in range(reader.unsigned()):
            clock = reader.unsigned()
            ranges.append((client, clock, clock + reader.unsigned()))
    return ranges
