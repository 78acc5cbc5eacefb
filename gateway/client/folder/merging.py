"""Pure functions that merge texts changed by two sides, without losing anything that either side wrote."""

from difflib import SequenceMatcher
from typing import Any

import pycrdt

from gateway.yjs.text_edits import apply_edits, smallest_edits

_ROOT = "content"


class NoText(Exception):
    """The content of a file is not text."""


def text_of(content: bytes) -> str:
    """Return the text of a file.

    Raises:
        NoText: it is not UTF-8.
    """
    try:
        return content.decode()
    except UnicodeDecodeError as fault:
        raise NoText(f"it is not UTF-8 text (byte {fault.start})") from None


def merged(base: str, ours: str, theirs: str) -> str:
    """Merge both sides' edits of a text as Yjs does: all insertions are kept, and deletions of either side apply."""
    if ours in (base, theirs):
        return theirs
    if theirs == base:
        return ours
    origin: pycrdt.Doc[Any] = pycrdt.Doc()
    origin.get(_ROOT, type=pycrdt.Text).insert(0, base)
    start = origin.get_update()
    for text in (ours, theirs):
        side: pycrdt.Doc[Any] = pycrdt.Doc()
        side.apply_update(start)
        apply_edits(side.get(_ROOT, type=pycrdt.Text), smallest_edits(base, text))
        origin.apply_update(side.get_update())
    return str(origin.get(_ROOT, type=pycrdt.Text))


def united(ours: str, theirs: str) -> str:
    """Combine two texts without a common base: the lines of both, with common lines only once."""
    left, right = theirs.splitlines(keepends=True), ours.splitlines(keepends=True)
    lines: list[str] = []
    for kind, start, end, new_start, new_end in SequenceMatcher(None, left, right, autojunk=False).get_opcodes():
        chosen = left[start:end] if kind == "equal" else [*left[start:end], *right[new_start:new_end]]
        for line in chosen:
            if lines and not lines[-1].endswith("\n"):
                lines[-1] += "\n"
            lines.append(line)
    return "".join(lines)
