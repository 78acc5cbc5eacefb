"""Reads state vectors and delete sets. Pure."""

from gateway.yjs.lib0 import MalformedUpdate, Reader


def read_state_vector(data: bytes) -> dict[int, int]:
    """The clock of each client in a state vector.

    Raises:
        MalformedUpdate: it is not one, to the last byte.
    """
    reader = Reader(data)
    clocks = {}
    for _ in range(reader.unsigned()):
        client = reader.unsigned()
        clocks[client] = reader.unsigned()
    if not reader.at_end:
        raise MalformedUpdate("there are bytes after the end")
    return clocks


_ENDS_OF_INTEGERS = b"\1" * 0x80 + b"\0" * 0x80
"""1 for a byte that ends an integer, 0 for one that is continued."""
_LONG_INTEGER = b"\0" * 7
_MOST_READ = 100_000


def check_state_vector(data: bytes) -> int:
    """How many clients a state vector names. It is not read for that: the time is that of a search in its bytes.

    Raises:
        MalformedUpdate: it is not a state vector, to the last byte.
    """
    entries = Reader(data).unsigned()
    ends = data.translate(_ENDS_OF_INTEGERS)
    if not ends[-1] or ends.count(1) != 1 + 2 * entries:
        raise MalformedUpdate("it does not hold as many clients as it says")
    if _LONG_INTEGER in ends:  # Yjs writes none so long; such a state vector is read, if that takes but a moment
        if entries > _MOST_READ:
            raise MalformedUpdate("its integers are too long for so many clients")
        read_state_vector(data)
    return entries


def read_delete_set(reader: Reader) -> list[tuple[int, int, int]]:
    """The deleted ranges of an update as (client, first clock, clock after the range's end)."""
    ranges = []
    for _ in range(reader.unsigned()):
        client = reader.unsigned()
        for _ in range(reader.unsigned()):
            clock = reader.unsigned()
            ranges.append((client, clock, clock + reader.unsigned()))
    return ranges
