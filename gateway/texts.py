"""A document's text and back: the smallest edit from one text to another, and where it goes in the document.

Pure. Positions in text are code points; positions in a document are what yrs counts: UTF-8 bytes, and 1 for an embed.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import pycrdt
from msgspec import Struct
from rapidfuzz.distance import Indel

_EXACT_CELLS = 2**28
"""Bound of (length of old) × (length of new) up to which the smallest edit is searched: some milliseconds, 32 MiB."""


class Edit(Struct, frozen=True, gc=False):
    """Replace the code points [start, end) of the old text with `text`."""

    start: int
    end: int
    text: str


def smallest_edits(old: str, new: str) -> list[Edit]:
    """Edits, in order and apart from each other, that make `new` of `old`.

    Whole lines are matched first, then the characters of those that differ, so that what did not change is not
    touched. Past a bound on the work the middle that differs is replaced as a whole.
    """
    start = _common_prefix(old, new)
    end = _common_suffix(old, new, start)
    old_middle, new_middle = old[start : len(old) - end], new[start : len(new) - end]
    if not old_middle or not new_middle:
        return [Edit(start, start + len(old_middle), new_middle)] if old_middle or new_middle else []
    if len(old_middle) * len(new_middle) <= _EXACT_CELLS:
        return list(_character_edits(old_middle, new_middle, start))
    return list(_line_edits(old_middle, new_middle, start))


def _line_edits(old: str, new: str, offset: int) -> Iterator[Edit]:
    old_lines, new_lines = old.splitlines(keepends=True), new.splitlines(keepends=True)
    if len(old_lines) * len(new_lines) > _EXACT_CELLS:
        yield Edit(offset, offset + len(old), new)
        return
    old_starts, new_starts = _starts(old_lines), _starts(new_lines)
    for old_from, old_to, new_from, new_to in _differing(old_lines, new_lines):
        start, end = old_starts[old_from], old_starts[old_to]
        replacement = new[new_starts[new_from] : new_starts[new_to]]
        if (end - start) * len(replacement) <= _EXACT_CELLS:
            yield from _character_edits(old[start:end], replacement, offset + start)
        else:
            yield Edit(offset + start, offset + end, replacement)


def _character_edits(old: str, new: str, offset: int) -> Iterator[Edit]:
    for old_from, old_to, new_from, new_to in _differing(old, new):
        yield Edit(offset + old_from, offset + old_to, new[new_from:new_to])


def _differing(old: Sequence[str], new: Sequence[str]) -> Iterator[tuple[int, int, int, int]]:
    """The ranges (of old, of new) that differ, neighbours as one."""
    pending: tuple[int, int, int, int] | None = None
    for operation in Indel.opcodes(old, new):
        if operation.tag == "equal":
            if pending is not None:
                yield pending
            pending = None
        elif pending is None:
            pending = (operation.src_start, operation.src_end, operation.dest_start, operation.dest_end)
        else:
            pending = (pending[0], operation.src_end, pending[2], operation.dest_end)
    if pending is not None:
        yield pending


def _starts(lines: list[str]) -> list[int]:
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))
    return starts


def _common_prefix(left: str, right: str) -> int:
    """How many code points both begin with, by halving: comparing slices runs at memory speed."""
    low, high = 0, min(len(left), len(right))
    while low < high:
        middle = (low + high + 1) // 2
        if left[low:middle] == right[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _common_suffix(left: str, right: str, prefix: int) -> int:
    """How many code points both end with, beyond a common prefix."""
    low, high = 0, min(len(left), len(right)) - prefix
    while low < high:
        middle = (low + high + 1) // 2
        if left[len(left) - middle : len(left) - low] == right[len(right) - middle : len(right) - low]:
            low = middle
        else:
            high = middle - 1
    return low


def apply_edits(text: pycrdt.Text | pycrdt.XmlText, edits: Sequence[Edit]) -> None:
    """Apply edits of the text's present characters. Embeds between characters stay where they are, as they are."""
    pieces = _Pieces(text)
    for edit in reversed(edits):
        ranges = list(pieces.ranges(edit.start, edit.end))
        position = ranges[0][0] if ranges else pieces.position(edit.start)
        for start, end in reversed(ranges):
            _delete(text, start, end, pieces)
        if edit.text:
            text.insert(position, edit.text)


def _delete(text: pycrdt.Text | pycrdt.XmlText, start: int, end: int, pieces: "_Pieces") -> None:
    """Delete a range. yrs takes the end of a format before an embedded shared type for superfluous, and drops it: what
    comes behind the range is given its formats back."""
    if not pieces.shared:
        del text[start:end]
        return
    kept = list(formats(text, end))
    del text[start:end]
    for first, last, attributes in kept:
        first, last = first - end + start, last - end + start
        for from_, to, present in list(formats(text, first)):
            if from_ < last and present != attributes:
                names = present.keys() | attributes.keys()
                text.format(from_, min(to, last), {name: attributes.get(name) for name in names})


def formats(text: pycrdt.Text | pycrdt.XmlText, start: int = 0) -> Iterator[tuple[int, int, dict[str, Any]]]:
    """The ranges from a position on, as yrs counts, and the attributes of each."""
    position = 0
    for content, attributes in text.diff():
        end = position + (len(content.encode()) if isinstance(content, str) else 1)
        if end > start:
            yield max(position, start), end, attributes or {}
        position = end


class _Pieces:
    """Where the characters of a text lie in the document, with embeds between them."""

    def __init__(self, text: pycrdt.Text | pycrdt.XmlText) -> None:
        self._pieces: list[tuple[int, int, str]] = []
        self.shared = False
        """Whether shared types are embedded."""
        characters = position = 0
        for content, _ in _content(text):
            if isinstance(content, str):
                self._pieces.append((characters, position, content))
                characters += len(content)
                position += len(content.encode())
            else:
                position += 1
                self.shared = self.shared or not isinstance(content, dict | list | int | float | None)
        self._end = position

    def position(self, character: int) -> int:
        """Where an insertion in front of a character goes: behind the character before it."""
        for first, position, content in reversed(self._pieces):
            if character > first:
                return position + len(content[: character - first].encode())
        return self._pieces[0][1] if self._pieces else self._end

    def ranges(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """The ranges of the document that hold the characters [start, end)."""
        for first, position, content in self._pieces:
            low, high = max(start - first, 0), min(end - first, len(content))
            if low < high:
                begin = position + len(content[:low].encode())
                yield begin, begin + len(content[low:high].encode())


def characters(text: pycrdt.Text | pycrdt.XmlText) -> str:
    """The characters of a text, without its embeds. (pycrdt gives an XML text with its formats as tags.)"""
    if isinstance(text, pycrdt.Text):
        return str(text)
    return "".join(content for content, _ in text.diff() if isinstance(content, str))


def _content(text: pycrdt.Text | pycrdt.XmlText) -> list[tuple[Any, Any]]:
    if isinstance(text, pycrdt.Text) and len((plain := str(text)).encode()) == len(text):
        return [(plain, None)]
    return text.diff()
