"""Characters that are two UTF-16 code units, and updates that part them. Pure.

Yjs counts code units: a client can delete one half of an emoji, or insert between the halves. Yjs then shows U+FFFD for
each half. yrs loses what stands behind them, so that such an update must not come near a document.
"""

import re
from collections.abc import Iterable, Iterator

from gateway.structs import Place, Reader, read_delete_set, read_structs

_FOUR_BYTES = re.compile(rb"[\xf0-\xf4][\x80-\xbf]{3}")
_PAIRED = re.compile("[\U00010000-\U0010ffff]")


def may_hold_pairs(update: bytes) -> bool:
    """Whether there may be surrogate pairs in the texts of an update; told without reading it."""
    return _FOUR_BYTES.search(update) is not None


def second_halves(updates: Iterable[bytes]) -> set[Place]:
    """Where in the texts of updates the second half of a surrogate pair is.

    Raises:
        MalformedUpdate
    """
    return {place for update in updates if may_hold_pairs(update) for place in _second_halves(update)}


def _second_halves(update: bytes) -> Iterator[Place]:
    for struct, _ in read_structs(Reader(update)):
        for count, found in enumerate(_PAIRED.finditer(struct.text)):
            yield struct.client, struct.clock + found.start() + count + 1


def parts_pair(update: bytes, halves: set[Place]) -> bool:
    """Whether an update inserts or deletes at the middle of a pair, whose second half is one of `halves`.

    Raises:
        MalformedUpdate
    """
    return bool(halves) and not halves.isdisjoint(_cuts(update))


def _cuts(update: bytes) -> Iterator[Place]:
    """The places in front of which an update needs a struct to begin."""
    reader = Reader(update)
    for struct, _ in read_structs(reader):
        if struct.left is not None:
            yield struct.left[0], struct.left[1] + 1
        if struct.right is not None:
            yield struct.right
    for client, start, end in read_delete_set(reader):
        yield client, start
        yield client, end
