"""Decoded values in slices: what a worker process decodes of a long body is put together in the event loop slice by
slice. Pure."""

import pickle
from collections.abc import Iterator
from typing import Any, NamedTuple

from msgspec import Struct
from msgspec.structs import force_setattr, replace

_SLICE_BYTES = 2**18
"""About how many bytes of pickled entries a slice has, unless it is one entry: less than a millisecond of work."""
_SLICE_ENTRIES = 1024
_SLICE_CHARACTERS = 2**18
_CODING = ("utf-8", "surrogatepass")
_FEW_ENTRIES = 32
"""A list or an object of so few members is not sliced, but its members are."""
_DEEPEST = 4


class Slice(NamedTuple):
    """Some entries of a list or an object, or some characters of a text."""

    place: tuple[Any, ...]
    """The names of the members, and the indexes of lists, that lead to it."""
    held: bytes
    """A pickled list or dict, or characters in UTF-8."""
    is_text: bool = False


class Sliced(NamedTuple):
    """A value whose long texts, lists and objects are empty, and what was in them."""

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


def assembled(whole: Sliced) -> Iterator[Any]:
    """Put a value together; yields the value after each slice. It is whole when this ends.

    A long text is joined in a step of its own, which takes a third of what it would take to decode it at once.
    """
    value = pickle.loads(whole.emptied)
    yield value
    texts: dict[tuple[Any, ...], list[str]] = {}
    for part in whole.slices:
        if part.is_text:
            texts.setdefault(part.place, []).append(part.held.decode(*_CODING))
        else:
            _put_back(_at(value, part.place), pickle.loads(part.held))
        yield value
    for place, pieces in texts.items():
        _set(_at(value, place[:-1]), place[-1], "".join(pieces))
        yield value


def _at(value: Any, place: tuple[Any, ...]) -> Any:
    for name in place:
        value = getattr(value, name) if isinstance(value, Struct) else value[name]
    return value


def _put_back(value: Any, entries: Any) -> None:
    if isinstance(value, dict):
        value.update(entries)
    else:
        value.extend(entries)


def _set(value: Any, name: Any, text: str) -> None:
    if isinstance(value, Struct):
        force_setattr(value, name, text)
    else:
        value[name] = text


def _emptied(value: Any, place: tuple[Any, ...], slices: list[Slice]) -> Any:
    if len(place) < _DEEPEST:
        if isinstance(value, Struct):
            names = value.__struct_fields__
            return replace(value, **{name: _emptied(getattr(value, name), (*place, name), slices) for name in names})
        if isinstance(value, dict) and len(value) <= _FEW_ENTRIES:
            return {name: _emptied(each, (*place, name), slices) for name, each in value.items()}
        if isinstance(value, list) and len(value) <= _FEW_ENTRIES:
            return [_emptied(each, (*place, index), slices) for index, each in enumerate(value)]
    if isinstance(value, str) and len(value) > _SLICE_CHARACTERS and place:
        pieces = (value[start : start + _SLICE_CHARACTERS] for start in range(0, len(value), _SLICE_CHARACTERS))
        slices += [Slice(place, piece.encode(*_CODING), is_text=True) for piece in pieces]
        return ""
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
