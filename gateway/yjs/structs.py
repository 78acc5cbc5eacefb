"""Reads values by the rules of lib0's `decoding.js`: state vectors, delete sets, messages. Pure."""

from gateway.yjs.scan import MalformedUpdate as MalformedUpdate
from gateway.yjs.scan import Place as Place

_LARGEST_INTEGER = 2**53 - 1


class Reader:
    """A position in bytes, read by the rules of lib0's `decoding.js`."""

    __slots__ = ("_bytes", "_position")

    def __init__(self, data: bytes) -> None:
        self._bytes = data
        self._position = 0

    @property
    def position(self) -> int:
        """How many bytes were read."""
        return self._position

    @property
    def at_end(self) -> bool:
        return self._position == len(self._bytes)

    def byte(self) -> int:
        if self._position >= len(self._bytes):
            raise MalformedUpdate("the bytes end too early")
        self._position += 1
        return self._bytes[self._position - 1]

    def unsigned(self) -> int:
        """A variable-length unsigned integer of at most 53 bits."""
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if value > _LARGEST_INTEGER or shift > 63:
                raise MalformedUpdate("an integer is out of range")
            if byte < 0x80:
                return value
            shift += 7

    def skip(self, count: int) -> None:
        if count > len(self._bytes) - self._position:
            raise MalformedUpdate("the bytes end too early")
        self._position += count

    def buffer(self) -> bytes:
        """Bytes after their length."""
        length = self.unsigned()
        start = self._position
        self.skip(length)
        return self._bytes[start : self._position]

    def text(self) -> str:
        try:
            return self.buffer().decode()
        except UnicodeDecodeError as error:
            raise MalformedUpdate("a string is not UTF-8") from error


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
