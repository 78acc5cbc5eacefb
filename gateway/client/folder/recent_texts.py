"""The texts that a folder showed lately, and which of them an editor's save was made from.

An editor saves the text that it read, with its edit. If the file was replaced between the two, the save looks like an
edit of the new text that takes back what had just arrived. `RecentTexts.base_of` tells such a save from one that takes
text back on purpose:

1. A text that was written before the file was replaced was not made from what replaced it, even if it is renamed into
   place later: the times of files, of one clock, prove that.
2. A text that the folder had before is a deliberate return to it: an undo, a checkout.
3. A save that takes back all that arrived within `WITHIN_S`, and that otherwise edits only places that do not touch it,
   was made from the text before. It must be closer to that text than to the present one.
4. Any other save was made from the present text.
"""

import os
from collections import OrderedDict
from collections.abc import Sequence

from msgspec import Struct

from gateway.client.folder.files import sha256
from gateway.yjs.diff import Work
from gateway.yjs.text_edits import CELLS, Edit, smallest_edits

WITHIN_S = 3.0
"""How long after its replacement a text may be what a save was made from."""
_MOST_TEXTS = 64
"""Of one file."""
_MOST_BYTES = 16 * 2**20
"""Of all files."""
_MOST_HASHES = 256
"""Of one file, for the second rule."""
_MOST_FILES = 500
_MOST_EDITS = 256


class Shown(Struct, frozen=True):
    """A text that a file had."""

    content: bytes
    since_ns: int
    """When it replaced the one before, by the clock of the file system; 0 for the first one."""


class RecentTexts:
    """The recent texts of each file since its last save. Times are those of the file system, in nanoseconds."""

    def __init__(self) -> None:
        self._texts: OrderedDict[str, list[Shown]] = OrderedDict()
        """By file, the last one that changed at the end."""
        self._earlier: OrderedDict[str, dict[int, None]] = OrderedDict()
        """Hashes of all texts that a file had."""
        self._bytes = 0

    def replaced(self, path: str, before: bytes, after: bytes, since_ns: int) -> None:
        """Record that a file was replaced on behalf of the gateway."""
        texts = self._texts.get(path, [])
        if not texts or texts[-1].content != before:
            texts = [Shown(before, 0)]
        recent = [*texts, Shown(after, since_ns)]
        first = next(n for n, text in enumerate(recent) if text.since_ns >= since_ns - WITHIN_S * 1e9)
        self._set(path, recent[max(0, first - 1) :][-_MOST_TEXTS:])
        self._had(path, sha256(before), sha256(after))

    def saved(self, path: str, content: bytes, known_sha256: str | None) -> None:
        """Record a save that is about to be sent. What a later save takes back of it is taken back on purpose."""
        if content != self.last(path):  # else it was written on behalf of the gateway
            self._set(path, [])
        self._had(path, *([] if known_sha256 is None else [known_sha256]), sha256(content))

    def last(self, path: str) -> bytes | None:
        """Return the text that the file had last, if it is known."""
        texts = self._texts.get(path)
        return texts[-1].content if texts else None

    def base_of(self, path: str, saved: bytes, about: os.stat_result, present: bytes) -> bytes:
        """Return the text that a save was made from: `present`, which it is to follow, or one before it."""
        texts = self._texts.get(path, [])
        if len(texts) < 2 or texts[-1].content != present or saved == present:
            return present
        chosen = base_of(texts, saved, about.st_mtime_ns, about.st_ctime_ns, self._is_earlier(path, saved))
        return chosen.content

    def _is_earlier(self, path: str, content: bytes) -> bool:
        return _short(sha256(content)) in self._earlier.get(path, ())

    def _set(self, path: str, texts: list[Shown]) -> None:
        self._bytes += sum(len(each.content) for each in texts) - self._size(path)
        self._texts.pop(path, None)
        if texts:
            self._texts[path] = texts
        while self._bytes > _MOST_BYTES or len(self._texts) > _MOST_FILES:
            _, oldest = self._texts.popitem(last=False)
            self._bytes -= sum(len(each.content) for each in oldest)

    def _size(self, path: str) -> int:
        return sum(len(each.content) for each in self._texts.get(path, ()))

    def _had(self, path: str, *hashes: str) -> None:
        earlier = self._earlier.setdefault(path, {})
        self._earlier.move_to_end(path)
        for each in map(_short, hashes):
            earlier.pop(each, None)
            earlier[each] = None
        while len(earlier) > _MOST_HASHES:
            del earlier[next(iter(earlier))]
        while len(self._earlier) > _MOST_FILES:
            self._earlier.popitem(last=False)


def base_of(texts: Sequence[Shown], saved: bytes, mtime_ns: int, ctime_ns: int, is_earlier: bool) -> Shown:
    """Return the text that a save was made from, by the rules of this module. Pure.

    Args:
        texts: in their order.
        mtime_ns: when the save was written; before `ctime_ns` if it was written to another file and renamed.
        ctime_ns: when it came into its place.
        is_earlier: whether the file has had exactly this text.
    """
    window_ns = int(WITHIN_S * 1e9)
    last = sure = len(texts) - 1
    if mtime_ns >= ctime_ns - window_ns:  # else the time was copied along with the text
        while last and texts[last].since_ns > mtime_ns:
            last -= 1
        sure = last
        while sure and texts[sure].since_ns == mtime_ns:  # clocks of file systems tick slowly
            sure -= 1
    present = texts[last]
    if is_earlier:
        return present
    try:
        new = saved.decode()
        old = {number: texts[number].content.decode() for number in range(last + 1)}
    except UnicodeDecodeError:
        return present
    work = Work(CELLS)
    chosen, least = present, _size(smallest_edits(old[last], new, _MOST_EDITS, work))
    for number in reversed(range(last)):
        if number < sure and ctime_ns - texts[number + 1].since_ns > window_ns:
            break
        edits = smallest_edits(old[number], new, _MOST_EDITS, work)
        size = _size(edits)
        if size >= least or 2 * size > len(old[number]) + len(new):
            continue
        if number >= sure or _are_apart(edits, smallest_edits(old[number], old[last], _MOST_EDITS, work)):
            chosen, least = texts[number], size
    return chosen


def _short(hexadecimal: str) -> int:
    return int(hexadecimal[:15], 16)


def _size(edits: Sequence[Edit]) -> int:
    return sum(each.end - each.start + len(each.text) for each in edits)


def _are_apart(left: Sequence[Edit], right: Sequence[Edit]) -> bool:
    """Whether at least one character, which both leave as it is, lies between every edit of one side and the other."""
    marks = sorted([(each.start, each.end, 0) for each in left] + [(each.start, each.end, 1) for each in right])
    reached = [-1, -1]
    for start, end, side in marks:
        if start <= reached[1 - side]:
            return False
        reached[side] = max(reached[side], end)
    return True
