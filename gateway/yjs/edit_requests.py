"""Edit requests of a client, in terms of the text that the client has read, resolved to edits of that text. Pure."""

from bisect import bisect_left
from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from gateway.yjs.diff import Work
from gateway.yjs.text_edits import CELLS, Edit, closest_joined, smallest_edits


class ReplaceText(Struct, frozen=True, gc=False):
    """Replace `old`, which must occur in the text exactly once; with `all`, replace every occurrence."""

    old: str
    new: str
    all: bool = False


class ReplaceRange(Struct, frozen=True, gc=False):
    """Replace the UTF-16 code units [start, end) with `text`."""

    start: int
    end: int
    text: str


class EditNotApplicable(ValueError):
    """One of the edits does not fit the text, so none may be made.

    `found` counts how often its old text, or its range, is present and free of other edits: an edit needs exactly one.
    """

    def __init__(self, index: int, found: int, reason: str) -> None:
        super().__init__(reason)
        self.index = index
        self.found = found

    def __reduce__(self) -> tuple[Any, ...]:
        """Let a worker process pickle the error."""
        return EditNotApplicable, (self.index, self.found, str(self))


def edits_of(text: str, requests: Sequence[ReplaceText | ReplaceRange], most: int) -> list[Edit]:
    """Return the smallest edits of `text` that satisfy the requests, in order and without overlap, at most `most`.

    All requests refer to the same text: none sees the result of another.

    Raises:
        EditNotApplicable
    """
    wanted: list[tuple[int, int, str, int]] = []
    units = _CodeUnits(text)
    for index, request in enumerate(requests):
        if isinstance(request, ReplaceRange):
            start, end = units.range(index, request.start, request.end)
            wanted.append((start, end, request.text, index))
        else:
            wanted += [(at, at + len(request.old), request.new, index) for at in _occurrences(text, index, request)]
    wanted.sort(key=lambda each: (each[0], each[1], each[3]))
    work = Work(CELLS)
    edits: list[Edit] = []
    reached = 0
    for start, end, new, index in wanted:
        if start < reached:
            raise EditNotApplicable(index, 0, "the edit overlaps another one")
        reached = end
        smallest = smallest_edits(text[start:end], new, work=work)
        edits += [Edit(start + each.start, start + each.end, each.text) for each in smallest]
    return closest_joined(text, edits, most)


def _occurrences(text: str, index: int, request: ReplaceText) -> list[int]:
    if not request.old:
        raise EditNotApplicable(index, 0, "`old` is empty; name a range to insert text")
    found = text.count(request.old)
    if not found:
        raise EditNotApplicable(index, 0, "`old` is not in the text")
    first = text.index(request.old)
    if not request.all:
        if found == 1 and text.find(request.old, first + 1) >= 0:
            found = 2  # the occurrences overlap
        if found > 1:
            raise EditNotApplicable(index, found, f"`old` is in the text {found} times; quote more, or set `all`")
        return [first]
    places = [first]
    while (at := text.find(request.old, places[-1] + len(request.old))) >= 0:
        places.append(at)
    return places


class _CodeUnits:
    """Positions in a text in UTF-16 code units, as JavaScript counts them."""

    def __init__(self, text: str) -> None:
        self._length = len(text)
        wide = () if text.isascii() else (at for at, character in enumerate(text) if character > "\uffff")
        self._wide = [at + before for before, at in enumerate(wide)]
        """The positions in code units at which a character of two code units begins."""

    def range(self, index: int, start: int, end: int) -> tuple[int, int]:
        """Convert a range of code units to code points."""
        length = self._length + len(self._wide)
        if not 0 <= start <= end <= length:
            raise EditNotApplicable(index, 0, f"{start} to {end} is not a range of a text of {length} code units")
        return self._position(index, start), self._position(index, end)

    def _position(self, index: int, unit: int) -> int:
        before = bisect_left(self._wide, unit)
        if before and self._wide[before - 1] == unit - 1:
            raise EditNotApplicable(index, 0, f"position {unit} is between the two halves of a character")
        return unit - before
