"""Decoded values in slices: what a worker process decodes of a long body is put together in the event loop slice by
slice. Pure."""

import pickle
from collections.abc import Iterator
from typing import Any, NamedTuple

from msgspec import Struct
from msgspec.structs import replace

_SLICE_BYTES = 2**18
"""About how many bytes of pickled entries a slice has, unless it is one entry: less than a millisecond of work."""
_SLICE_ENTRIES = 1024
_FEW_ENTRIES = 32
"""An object of so few members is not sliced, but its members are."""
_DEEPEST = 4


class Slice(NamedTuple):
    """Some entries of a list or an object."""

    place: tuple[Any, ...]
    """The names of the members that lead to the list or object."""
    entries: bytes
    """A pickled list or dict."""


class Sliced(NamedTuple):
    """A value whose long lists and objects are empty, and what was in them."""

    emptied: bytes
    """Pickled."""
    slices: list[Slice]


def sliced(value: Any) -> Sliced:
    """Return a decoded value in slices.

    Raises:
        RecursionError
    """
    slices = list[Slice]()
    return Sliced(pickle.dumps(_emptied(value, (), slices), 5), slices)


def emptied(whole: Sliced) -> Any:
    """Return the value to which `put_back` adds the slices."""
    return pickle.loads(whole.emptied)


def put_back(value: Any, part: Slice) -> None:
    """Put a slice back into the value that it was taken from. They are put back in order."""
    for name in part.place:
        value = value[name] if isinstance(value, dict) else getattr(value, name)
    entries = pickle.loads(part.entries)
    if isinstance(value, dict):
        value.update(entries)
    else:
        value.extend(entries)


def _emptied(value: Any, place: tuple[str, ...], slices: list[Slice]) -> Any:
    if len(place) < _DEEPEST:
        if isinstance(value, Struct):
            names = value.__struct_fields__
            return replace(value, **{name: _emptied(getattr(value, name), (*place, name), slices) for name in names})
        if isinstance(value, dict) and len(value) <= _FEW_ENTRIES:
            return {name: _emptied(each, (*place, name), slices) for name, each in value.items()}
    if not isinstance(value, dict | list):
        return value
    parts = [*_pickled(value)]
    if len(parts) <= 1 and sum(map(len, parts)) <= _SLICE_BYTES:
        return value
    slices += [Slice(place, part) for part in parts]
    return type(value)()


def _pickled(entries: dict[str, Any] | list[Any]) -> Iterator[bytes]:
    if isinstance(entries, list):
        for start in range(0, len(entries), _SLICE_ENTRIES):
            yield from _parts_of(entries[start : start + _SLICE_ENTRIES])
    else:
        for part in _pickled([*entries.items()]):
            yield pickle.dumps(dict(pickle.loads(part)), 5)


def _parts_of(entries: list[Any]) -> Iterator[bytes]:
    """Yield entries of a list in parts that are short enough, or of one entry."""
    pickled = pickle.dumps(entries, 5)
    if len(pickled) <= _SLICE_BYTES or len(entries) == 1:
        yield pickled
        return
    middle = len(entries) // 2
    yield from _parts_of(entries[:middle])
    yield from _parts_of(entries[middle:])
