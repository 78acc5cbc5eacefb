"""Messages between the gateway and its worker processes: pickles, and large bytes and texts beside them.

A pickle copies the bytes that are in it when it is made, and again when it is read. Each copy of 15 MB takes the event
loop 10 to 25 ms, as all of its memory is new; so large bytes are parts of their own, which are sent as they are, and
received a piece at a time. Long texts are too: each is copied once on either side, where it is encoded and decoded.
"""

import io
import pickle
from collections.abc import Iterator, Sequence
from typing import Any

LENGTH_BYTES = 8
"""A message begins with the number of its parts and the length of each, big-endian integers of this many bytes."""
_APART = 64 * 1024
"""Bytes of at least this length, and texts of as many characters, are a part of their own."""
_TOGETHER = 256 * 1024
"""The pickle takes in so many bytes of shorter ones, which are copied in one step. Of more, each of at least
`_WORTH_A_PART` is a part of its own: an update may come in a thousand slices of 32 KB."""
_WORTH_A_PART = 1024
_CODING = ("utf-8", "surrogatepass")
"""Texts may hold lone surrogates."""


class _Pickler(pickle.Pickler):
    """Leaves out large bytes and long texts, which are collected."""

    def __init__(self, pickled: io.BytesIO) -> None:
        super().__init__(pickled, 5)
        self.apart: list[bytes | str] = []
        self._together = 0
        self._places: dict[int, int] = {}

    def persistent_id(self, value: Any) -> tuple[int, bool] | None:
        kind = type(value)
        if (kind is not bytes and kind is not str) or (size := len(value)) < _WORTH_A_PART:
            return None
        if size < _APART and self._together < _TOGETHER:
            self._together += size
            return None
        place = self._places.setdefault(id(value), len(self.apart))
        if place == len(self.apart):
            self.apart.append(value)
        return place, kind is str


class _Unpickler(pickle.Unpickler):
    """Puts in what was left out."""

    def __init__(self, parts: Sequence[bytes]) -> None:
        super().__init__(io.BytesIO(parts[0]))
        self._apart = parts[1:]
        self._texts: dict[int, str] = {}

    def persistent_load(self, found: tuple[int, bool]) -> bytes | str:
        place, is_text = found
        if not is_text:
            return self._apart[place]
        if place not in self._texts:
            self._texts[place] = str(self._apart[place], *_CODING)
        return self._texts[place]


def unencoded_parts_of(value: object) -> list[bytes | str]:
    """Return a value as the parts of a message: a pickle, and what is not in it. Texts are yet to be encoded."""
    pickled = io.BytesIO()
    pickler = _Pickler(pickled)
    pickler.dump(value)
    return [pickled.getvalue(), *pickler.apart]


def encoded(part: bytes | str) -> bytes:
    """Return a part of a message as it is sent."""
    return part.encode(*_CODING) if isinstance(part, str) else part


def parts_of(value: object) -> list[bytes]:
    """Return a value as the parts of a message: a pickle, and what is not in it."""
    return [encoded(part) for part in unencoded_parts_of(value)]


def value_of(parts: Sequence[bytes]) -> Any:
    """Return the value that a message holds."""
    return _Unpickler(parts).load()


def head_of(parts: Sequence[bytes]) -> bytes:
    """Return what comes before the parts of a message."""
    return b"".join(number.to_bytes(LENGTH_BYTES) for number in (len(parts), *map(len, parts)))


def lengths_in(lengths: bytes) -> Iterator[int]:
    """Yield the lengths of the parts, from the bytes behind their number."""
    for start in range(0, len(lengths), LENGTH_BYTES):
        yield int.from_bytes(lengths[start : start + LENGTH_BYTES])
