"""How far yrs walks through a list to find the place of a struct that somebody else's struct may compete with. Pure.

A struct names its neighbours of the moment when it was made. Where something else stands between them by now, yrs
walks over that, struct by struct, and where very many stand there, one struct takes as long as the integration of a
whole document. Which structs of an update may have to walk is told by the update alone: those beside something that
the document has, and those that compete with each other. How far is not known before; all structs of the document
are the most.
"""

from collections.abc import Mapping
from typing import NamedTuple, TypeVar

from gateway.yjs.lib0 import text_block, uint
from gateway.yjs.scan import GC, SKIP, Place, Scan, ScannedStruct

_HAS_KEY = 0x20
_UNKNOWN = (-1, -1)
"""Of a right neighbour: equal to none that a struct names."""

T = TypeVar("T")


class _Newest(NamedTuple):
    """The struct that stands directly behind another one, or at the beginning of a list."""

    start: Place
    right: Place | None
    """The right neighbour that the struct names."""


class Walks:
    """Tells of the structs of an update, given in the order in which they are integrated, which of them may walk.

    Args:
        clocks: the state vector of the document before the update.
    """

    def __init__(self, update: bytes, scanned: Scan, clocks: Mapping[int, int]) -> None:
        self._update = update
        self._clocks = clocks
        self._ends = {(each.client, each.clock + each.length - 1) for each in scanned.structs}
        self._behind: dict[Place, _Newest | None] = {}
        """By the struct in front; None: not known any more."""
        self._beginnings: dict[bytes, _Newest | None] = {}
        """The same by the list that begins there."""
        self._firsts: dict[Place, bytes] = {}
        """The structs that are known to be the first of their list, and the list."""
        self._keys: set[bytes] = set()

    def __call__(self, struct: ScannedStruct) -> bool:
        """Whether the next struct may walk."""
        if struct.kind in (GC, SKIP):
            return False
        known = self._clocks.get(struct.client, 0)
        if struct.clock < known:
            return struct.clock + struct.length > known
        if struct.left is not None:
            return self._walks_from(struct.left, struct)
        if struct.right is not None:
            return self._walks_to_first(struct.right, struct)
        if self._update[struct.start] & _HAS_KEY:
            return self._walks_in_key(struct)
        return self._walks_in_list(struct)

    def _walks_from(self, left: Place, struct: ScannedStruct) -> bool:
        if self._is_known(left):
            return True
        if left not in self._behind and left not in self._ends:  # within a struct, the rest of which is behind
            self._behind[left] = _Newest((left[0], left[1] + 1), _UNKNOWN)
        return _walks_behind(self._behind, left, struct)

    def _walks_to_first(self, right: Place, struct: ScannedStruct) -> bool:
        held_in = self._firsts.get(right)
        if held_in is None:
            self._forget_beginnings()
            return True
        return self._walks_in(held_in, struct)

    def _walks_in_list(self, struct: ScannedStruct) -> bool:
        if self._clocks and (struct.parent is None or self._is_known(struct.parent)):
            self._forget_beginnings()
            return True
        return self._walks_in(self._holder(struct)[1], struct)

    def _walks_in(self, held_in: bytes, struct: ScannedStruct) -> bool:
        former = self._beginnings.get(held_in)
        if _walks_behind(self._beginnings, held_in, struct):
            self._forget_beginnings()
            return True
        if former is not None:
            del self._firsts[former.start]
        self._firsts[struct.client, struct.clock] = held_in
        return False

    def _forget_beginnings(self) -> None:
        """A struct without a left neighbour may come to stand first in any list."""
        self._firsts.clear()
        self._beginnings = dict.fromkeys(self._beginnings)

    def _walks_in_key(self, struct: ScannedStruct) -> bool:
        """The values of a key stand in a list of their own: all lists together are no longer than one walk."""
        start, holder = self._holder(struct)
        first, last = text_block(self._update, start)
        key = holder + b"\0" + self._update[first:last]
        if key not in self._keys:
            self._keys.add(key)
            return len(self._keys) == 1
        return True

    def _holder(self, struct: ScannedStruct) -> tuple[int, bytes]:
        """Return the offset behind the list or map that holds a struct, and its name."""
        named, at = uint(self._update, struct.start + 1)
        if named == 1:
            start, at = text_block(self._update, at)
            return at, b"root " + self._update[start:at]
        client, at = uint(self._update, at)
        clock, at = uint(self._update, at)
        return at, b"%d %d" % (client, clock)

    def _is_known(self, place: Place) -> bool:
        return place[1] < self._clocks.get(place[0], 0)


def _walks_behind(behind: dict[T, _Newest | None], anchor: T, struct: ScannedStruct) -> bool:
    if anchor in behind and not _is_beside(struct, behind[anchor]):
        behind[anchor] = None
        return True
    behind[anchor] = _Newest((struct.client, struct.clock), struct.right)
    return False


def _is_beside(struct: ScannedStruct, newest: _Newest | None) -> bool:
    """Whether a struct comes to stand directly before the newest one behind the same anchor."""
    if newest is None:
        return False
    return struct.right == newest.start or (struct.right == newest.right and struct.client <= newest.start[0])


def count_walks(update: bytes, scanned: Scan, clocks: Mapping[int, int]) -> int:
    """Return how many structs of an update may walk."""
    return sum(map(Walks(update, scanned, clocks), scanned.structs))
