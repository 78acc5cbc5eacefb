"""Smallest edits from one text to another, and their application to a document's text.

Pure. Positions in a text are in code points; positions in a document are in yrs's units: UTF-8 bytes, and 1 per embed.
"""

import math
import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import Any

import pycrdt
from msgspec import Struct

from gateway.yjs.diff import Difference, Work, differences

CELLS = 2**27
"""The comparison budget of one edit of a text: about 15 ms."""
_MOST_EDITS = 2048
_MOST_STEPS = 8_000_000
"""yrs walks over all pieces of a text before an edit; this many steps take about 35 ms."""
_BYTES_PER_PIECE = 8
"""The minimum size in bytes of a piece of text in the encoded document, besides its characters."""
_WORDY = 100_000
"""Words are matched only in texts of at most this many characters in total."""
_FEW = 100
_WORD = re.compile(r"\w+|\s+|.", re.DOTALL)
_MOST_AROUND_TYPES = 64
"""The most edits of a text that holds shared types: there each edit reads the whole text."""
_STOP = 1024


class Edit(Struct, frozen=True, gc=False):
    """Replace the code points [start, end) of the old text with `text`."""

    start: int
    end: int
    text: str


def smallest_edits(old: str, new: str, most: int = _MOST_EDITS, work: Work | None = None) -> list[Edit]:
    """Return edits, in order and disjoint, that turn `old` into `new`.

    The edits are the smallest within bounds on the work and on their number (`most`). In long texts whole lines are
    matched first, then the words of lines that differ, then their characters. If there are very many edits, those that
    are closest to each other are joined, and short coincidental matches are replaced along with the text around them.
    """
    work = work or Work(CELLS)
    if len(old) * len(new) <= work.left:
        edits = [_edit(new, each) for each in differences(old, new, work)]
    else:
        edits = _finer(old, Edit(0, len(old), new), _lines, work)
        edits = [finer for each in closest_joined(old, edits, most) for finer in _by_characters(old, each, work)]
    if len(edits) > _FEW:
        edits = _without_coincidences(old, edits)
    return closest_joined(old, edits, most)


def most_edits(text: str, encoded_size: int) -> int:
    """Return how many edits of a text may be made at once in a document of `encoded_size` bytes.

    Each edit adds a piece, and walks over the pieces before it.
    """
    pieces = most_pieces(text, encoded_size)
    bearable = (math.isqrt(pieces * pieces + 4 * _MOST_STEPS) - pieces) // 2
    return max(_FEW // 2, min(_MOST_EDITS, bearable))


def most_pieces(text: str, encoded_size: int) -> int:
    """Estimate how many pieces a text consists of in a document of `encoded_size` bytes."""
    return max(1, (encoded_size - len(text.encode())) // _BYTES_PER_PIECE)


def _edit(new: str, found: Difference, offset: int = 0) -> Edit:
    return Edit(offset + found.old_start, offset + found.old_end, new[found.new_start : found.new_end])


def _by_characters(old: str, edit: Edit, work: Work) -> list[Edit]:
    """Break an edit into edits of characters, or of words if there are too many characters to compare."""
    length = edit.end - edit.start
    if length * len(edit.text) <= work.left:
        return _finer(old, edit, str, work)
    if length + len(edit.text) > _WORDY:
        return [edit]
    return [finer for each in _finer(old, edit, _WORD.findall, work) for finer in _finer(old, each, str, work)]


def _finer(old: str, edit: Edit, split: Callable[[str], Sequence[str]], work: Work) -> list[Edit]:
    """Break an edit into edits of the parts that `split` gives, as far as the remaining work allows."""
    replaced = old[edit.start : edit.end]
    if not replaced or not edit.text or not work.left:
        return [edit]
    parts, new_parts = split(replaced), split(edit.text)
    starts, new_starts = _starts(parts), _starts(new_parts)
    return [
        Edit(
            edit.start + starts[found.old_start],
            edit.start + starts[found.old_end],
            edit.text[new_starts[found.new_start] : new_starts[found.new_end]],
        )
        for found in differences(parts, new_parts, work)
    ]


def _lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


def _starts(parts: Sequence[str]) -> list[int]:
    return [0, *accumulate(map(len, parts))]


def _without_coincidences(old: str, edits: list[Edit]) -> list[Edit]:
    """Join neighbouring edits if the gap between them is no longer than either edit."""
    joined: list[Edit] = []
    for edit in edits:
        while joined and edit.start - joined[-1].end <= min(_size(joined[-1]), _size(edit)):
            edit = _join(old, joined.pop(), edit)
        joined.append(edit)
    return joined


def closest_joined(old: str, edits: Sequence[Edit], most: int) -> list[Edit]:
    """Join edits until at most `most` are left; the widest gaps between edits are kept."""
    if len(edits) <= most:
        return list(edits)
    gaps = sorted(range(1, len(edits)), key=lambda place: edits[place - 1].end - edits[place].start)
    kept = set(gaps[: most - 1])
    joined = [edits[0]]
    for place, edit in enumerate(edits[1:], 1):
        joined.append(edit if place in kept else _join(old, joined.pop(), edit))
    return joined


def _size(edit: Edit) -> int:
    return max(edit.end - edit.start, len(edit.text))


def _join(old: str, first: Edit, second: Edit) -> Edit:
    return Edit(first.start, second.end, first.text + old[first.end : second.start] + second.text)


def apply_edits(text: pycrdt.Text | pycrdt.XmlText, edits: Sequence[Edit]) -> None:
    """Apply edits, relative to the text's present characters. Embeds between characters stay in place, unchanged."""
    pieces = _Pieces(text)
    if pieces.shared:
        edits = closest_joined(characters(text), edits, _MOST_AROUND_TYPES)
    _apply_halves(text, edits, pieces, 0)


def _apply_halves(text: pycrdt.Text | pycrdt.XmlText, edits: Sequence[Edit], pieces: "_Pieces", shift: int) -> None:
    """Apply the middle edit first: this splits a piece that yrs would otherwise copy whole for each of the edits.

    Args:
        shift: how far earlier edits have moved the text that these edits are in.
    """
    if not edits:
        return
    middle = len(edits) // 2
    edit, moved, inserted = edits[middle], 0, 0
    ranges = list(pieces.ranges(edit.start, edit.end))
    position = ranges[0][0] if ranges else pieces.position(edit.start)
    if edit.text:  # before any deletion: yrs would insert after the deleted text, where others may be inserting too
        text.insert(shift + position, edit.text)
        moved = inserted = len(edit.text.encode())
    for start, end in reversed(ranges):
        _delete(text, shift + inserted + start, shift + inserted + end, pieces)
        moved -= end - start
    _apply_halves(text, edits[middle + 1 :], pieces, shift + moved)
    _apply_halves(text, edits[:middle], pieces, shift)


def _delete(text: pycrdt.Text | pycrdt.XmlText, start: int, end: int, pieces: "_Pieces") -> None:
    """Delete a range, and restore the formats of the content after the range.

    yrs takes the end of a format before an embedded shared type to be redundant, and drops it.
    """
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
    """Yield the ranges from a position on, in yrs's units, with the attributes of each."""
    position = 0
    for content, attributes in text.diff():
        end = position + (len(content.encode()) if isinstance(content, str) else 1)
        if end > start:
            yield max(position, start), end, attributes or {}
        position = end


class _Pieces:
    """Maps the characters of a text to positions in the document, which also counts the embeds between them."""

    def __init__(self, text: pycrdt.Text | pycrdt.XmlText) -> None:
        self._pieces: list[_Piece] = []
        self.shared = False
        """Whether shared types are embedded."""
        character = position = 0
        for content, _ in _content(text):
            if isinstance(content, str):
                self._pieces.append(_Piece(character, position, content))
                character += len(content)
                position += self._pieces[-1].size
            else:
                position += 1
                self.shared = self.shared or not isinstance(content, dict | list | int | float | None)
        self._firsts = [piece.character for piece in self._pieces]
        self._end = position

    def position(self, character: int) -> int:
        """Return the position of an insertion in front of a character: right after the preceding character."""
        place = bisect_left(self._firsts, character) - 1
        if place >= 0:
            return self._pieces[place].offset(character)
        return self._pieces[0].position if self._pieces else self._end

    def ranges(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Yield the ranges of the document that hold the characters [start, end)."""
        for place in range(max(bisect_right(self._firsts, start) - 1, 0), bisect_left(self._firsts, end)):
            piece = self._pieces[place]
            low, high = max(start, piece.character), min(end, piece.character + len(piece.content))
            if low < high:
                yield piece.offset(low), piece.offset(high)


class _Piece:
    """A contiguous run of characters: the index of the first one, and its position in the document."""

    __slots__ = ("_stops", "character", "content", "position", "size")

    def __init__(self, character: int, position: int, content: str) -> None:
        self.character = character
        self.position = position
        self.content = content
        self._stops: list[int] | None = None
        """The number of bytes before every 1,024th character; None if every character takes one byte."""
        self.size = len(content)
        if not content.isascii():
            stops = [0]
            for start in range(0, len(content), _STOP):
                stops.append(stops[-1] + len(content[start : start + _STOP].encode()))
            self._stops, self.size = stops, stops[-1]

    def offset(self, character: int) -> int:
        """Return the position in the document in front of a character."""
        index = character - self.character
        if self._stops is None:
            return self.position + index
        stop, rest = divmod(index, _STOP)
        return self.position + self._stops[stop] + (len(self.content[index - rest : index].encode()) if rest else 0)


def characters(text: pycrdt.Text | pycrdt.XmlText) -> str:
    """Return the characters of a text without its embeds. (pycrdt's `str` of an XML text has the formats as tags.)"""
    if isinstance(text, pycrdt.Text):
        return str(text)
    return "".join(content for content, _ in text.diff() if isinstance(content, str))


def _content(text: pycrdt.Text | pycrdt.XmlText) -> list[tuple[Any, Any]]:
    if isinstance(text, pycrdt.Text) and len((plain := str(text)).encode()) == len(text):
        return [(plain, None)]
    return text.diff()
