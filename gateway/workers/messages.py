"""Messages between the gateway and its worker processes: pickles, and large bytes beside them.

A pickle copies the bytes that are in it when it is made, and again when it is read. Each copy of 15 MB takes the event
loop 10 to 25 ms, as all of its memory is new; so large bytes are parts of their own, which are sent as they are, and
received a piece at a time.
"""

import pickle
from collections.abc import Iterator, Sequence
from typing import Any

LENGTH_BYTES = 8
"""A message begins with the number of its parts and the length of each, big-endian integers of this many bytes."""
_APART = 64 * 1024
"""Bytes of at least this length are a part of their own."""
_DEEPEST = 6
_MOST_ITEMS = 4096
"""How deep within lists and tuples, and within how long ones, bytes are found that are to be parts of their own."""


def parts_of(value: object) -> list[bytes]:
    """Return a value as the parts of a message: a pickle, and the bytes that are not in it."""
    apart: list[bytes] = []
    order: list[int] = []
    places: dict[int, int] = {}

    def set_apart(buffer: pickle.PickleBuffer) -> None:
        whole = buffer.raw().obj
        assert isinstance(whole, bytes)
        place = places.setdefault(id(whole), len(apart))
        if place == len(apart):
            apart.append(whole)
        order.append(place)

    pickled = pickle.dumps(_with_buffers(value, _DEEPEST), 5, buffer_callback=set_apart)
    return [pickle.dumps((order, pickled), 5), *apart]


def value_of(parts: Sequence[bytes]) -> Any:
    """Return the value that a message holds."""
    order, pickled = pickle.loads(parts[0])
    return pickle.loads(pickled, buffers=[parts[1 + place] for place in order])


def head_of(parts: Sequence[bytes]) -> bytes:
    """Return what comes before the parts of a message."""
    return b"".join(number.to_bytes(LENGTH_BYTES) for number in (len(parts), *map(len, parts)))


def lengths_in(lengths: bytes) -> Iterator[int]:
    """Yield the lengths of the parts, from the bytes behind their number."""
    for start in range(0, len(lengths), LENGTH_BYTES):
        yield int.from_bytes(lengths[start : start + LENGTH_BYTES])


def _with_buffers(value: object, depth: int) -> object:
    """Return a value with its large bytes marked to be parts of their own."""
    kind = type(value)
    if kind is bytes:
        return pickle.PickleBuffer(value) if len(value) >= _APART else value  # type: ignore[arg-type]
    if not depth or not isinstance(value, list | tuple) or len(value) > _MOST_ITEMS:
        return value
    items = [_with_buffers(each, depth - 1) for each in value]
    if all(map(_is, items, value)):
        return value
    make: Any = getattr(kind, "_make", kind)  # a NamedTuple takes its members one by one
    return make(items)


def _is(one: object, other: object) -> bool:
    return one is other
