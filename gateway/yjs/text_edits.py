"""A document's text and back: the smallest edit from one text to another, and where it goes in the document.

Pure. Positions in text are code points; positions in a document are what yrs counts: UTF-8 bytes, and 1 for an embed.
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
"""How much is compared for one edit of a text: about 15 ms."""
_MOST_EDITS = 2048
_MOST_STEPS = 8_000_000
"""yrs walks over the pieces of a text that lie before an edit: so many steps take about 35 ms."""
_BYTES_PER_PIECE = 8
"""What each piece of a text takes at least in the encoded document, beside its characters."""
_WORDY = 100_000
"""Words are matched in texts of at most so many characters together."""
_FEW = 100
_WORD = re.compile(r"\w+|\s+|.", re.DOTALL)
_MOST_AROUND_TYPES = 64
"""In a text with shared types in it an edit looks at all of the text."""
_STOP = 1024


class Edit(Struct, frozen=True, gc=False):
    """Replace the code points [start, end) of the old text with `text`."""

    start: int
    end: int
    text: str


def smallest_edits(old: str, new: str, most: int = _MOST_EDITS, work: Work | None = None) -> list[Edit]:
    """Edits, in order and apart from each other, that make `new` of `old`.

    They are the smallest within bounds on the work and on their number (`most`). In long texts whole lines are matched
    first, then the words of those that differ, then their characters. Of very many edits those that lie closest to each
    other become one, and what texts have in common only by chance is replaced with what surrounds it.
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
    """How many edits of a text may be made at once, in a document of so many bytes: each adds a piece, and walks over
    those before it."""
    pieces = most_pieces(text, encoded_size)
    bearable = (math.isqrt(pieces * pieces + 4 * _MOST_STEPS) - pieces) // 2
    return max(_FEW // 2, min(_MOST_EDITS, bearable))


def most_pieces(text: str, encoded_size: int) -> int:
    """How many pieces a text is in, about, in a document of so many bytes."""
    return max(1, (encoded_size - len(text.encode())) // _BYTES_PER_PIECE)


def _edit(new: str, found: Difference, offset: int = 0) -> Edit:
    return Edit(offset + found.old_start, offset + found.old_end, new[found.new_start : found.new_end])


def _by_characters(old: str, edit: Edit, work: Work) -> list[Edit]:
    """An edit as edits of characters; of words where there are too many characters to be compared."""
    length = edit.end - edit.start
    if length * len(edit.text) <= work.left:
        return _finer(old, edit, str, work)
    if length + len(edit.text) > _WORDY:
        return [edit]
    return [finer for each in _finer(old, edit, _WORD.findall, work) for finer in _finer(old, each, str, work)]


def _finer(old: str, edit: Edit, split: Callable[[str], Sequence[str]], work: Work) -> list[Edit]:
    """An edit as edits of parts of what it replaces, as far as there is work left to find them."""
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
    """Edits joined over what lies between them where that is no longer than either of them is."""
    joined: list[Edit] = []
    for edit in edits:
        while joined and edit.start - joined[-1].end <= min(_size(joined[-1]), _size(edit)):
            edit = _join(old, joined.pop(), edit)
        joined.append(edit)
    return joined


def closest_joined(old: str, edits: Sequence[Edit], most: int) -> list[Edit]:
    """At most so many edits: the widest gaps between them stay."""
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
    """Apply edits of the text's present characters. Embeds between characters stay where they are, as they are."""
    pieces = _Pieces(text)
    if pieces.shared:
        edits = closest_joined(characters(text), edits, _MOST_AROUND_TYPES)
    _apply_halves(text, edits, pieces, 0)


def _apply_halves(text: pycrdt.Text | pycrdt.XmlText, edits: Sequence[Edit], pieces: "_Pieces", shift: int) -> None:
    """The edit in the middle first: it parts what yrs would else copy as a whole for each of them.

    Args:
        shift: how far the text that they are in was moved by the edits before it.
    """
    if not edits:
        return
    middle = len(edits) // 2
    edit, moved, inserted = edits[middle], 0, 0
    ranges = list(pieces.ranges(edit.start, edit.end))
    position = ranges[0][0] if ranges else pieces.position(edit.start)
    if edit.text:  # before anything is deleted: yrs would insert behind that, where others may be inserting too
        text.insert(shift + position, edit.text)
        moved = inserted = len(edit.text.encode())
    for start, end in reversed(ranges):
        _delete(text, shift + inserted + start, shift + inserted + end, pieces)
        moved -= end - start
    _apply_halves(text, edits[middle + 1 :], pieces, shift + moved)
    _apply_halves(text, edits[:middle], pieces, shift)


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
        """Where an insertion in front of a character goes: behind the character before it."""
        place = bisect_left(self._firsts, character) - 1
        if place >= 0:
            return self._pieces[place].offset(character)
        return self._pieces[0].position if self._pieces else self._end

    def ranges(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """The ranges of the document that hold the characters [start, end)."""
        for place in range(max(bisect_right(self._firsts, start) - 1, 0), bisect_left(self._firsts, end)):
            piece = self._pieces[place]
            low, high = max(start, piece.character), min(end, piece.character + len(piece.content))
            if low < high:
                yield piece.offset(low), piece.offset(high)


class _Piece:
    """Characters that lie together: from which on, and at which position of the document."""

    __slots__ = ("_stops", "character", "content", "position", "size")

    def __init__(self, character: int, position: int, content: str) -> None:
        self.character = character
        self.position = position
        self.content = content
        self._stops: list[int] | None = None
        """The bytes before every 1,024th character, unless each takes one."""
        self.size = len(content)
        if not content.isascii():
            stops = [0]
            for start in range(0, len(content), _STOP):
                stops.append(stops[-1] + len(content[start : start + _STOP].encode()))
            self._stops, self.size = stops, stops[-1]

    def offset(self, character: int) -> int:
        """The position in the document in front of a character."""
        index = character - self.character
        if self._stops is None:
            return self.position + index
        stop, rest = divmod(index, _STOP)
        return self.position + self._stops[stop] + (len(self.content[index - rest : index].encode()) if rest else 0)


def characters(text: pycrdt.Text | pycrdt.XmlText) -> str:
    """The characters of a text, without its embeds. (pycrdt gives an XML text with its formats as tags.)"""
    if isinstance(text, pycrdt.Text):
        return str(text)
    return "".join(content for content, _ in text.diff() if isinstance(content, str))


def _content(text: pycrdt.Text | pycrdt.XmlText) -> list[tuple[Any, Any]]:
    if isinstance(text, pycrdt.Text) and len((plain := str(text)).encode()) == len(text):
        return [(plain, None)]
    return text.diff()
