"""Diff of two sequences, within a bound on the work. Pure.

Within the bound the differences are minimal (longest common subsequence). Beyond the bound, the sequences are first
aligned by the items that occur once in both (patience diff), each stretch between two such items is compared on its
own, and a stretch that is still too much work counts as different as a whole.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from typing import NamedTuple

from rapidfuzz.distance import Indel

_SURROGATES = range(0xD800, 0xE000)
_DEEPEST = 8
"""How many times, recursively, a stretch is aligned by the items that occur once in it."""
_MOST_DISTINCT = 0x110000 - len(_SURROGATES)


class Difference(NamedTuple):
    """Items [old_start, old_end) of the old sequence correspond to items [new_start, new_end) of the new sequence."""

    old_start: int
    old_end: int
    new_start: int
    new_end: int


class Work:
    """The remaining work budget in cells: items of one sequence × items of the other. 2**26 cells take about 8 ms."""

    def __init__(self, cells: int) -> None:
        self.left = cells

    def take(self, old: int, new: int) -> bool:
        """Whether `old` items may be compared with `new` items; if so, deduct the cells from the budget."""
        if old * new > self.left:
            return False
        self.left -= old * new
        return True


def differences(old: Sequence[Hashable], new: Sequence[Hashable], work: Work) -> list[Difference]:
    """Return where two sequences differ, in order and not adjacent; coarsely once `work` is spent."""
    if not (isinstance(old, str) and isinstance(new, str)):
        numbered = _as_characters(old, new)
        if numbered is None:
            return [Difference(0, len(old), 0, len(new))]
        old, new = numbered
    return list(_joined(_compare(old, new, 0, 0, work, _DEEPEST)))


def _as_characters(old: Sequence[Hashable], new: Sequence[Hashable]) -> tuple[str, str] | None:
    """Return both sequences as strings with one character per distinct item: strings are the fastest to compare."""
    numbers: dict[Hashable, int] = {}
    for sequence in (old, new):
        for item in sequence:
            numbers.setdefault(item, len(numbers))
    if len(numbers) > _MOST_DISTINCT:
        return None
    first = _SURROGATES.start
    characters = {item: chr(number + len(_SURROGATES) * (number >= first)) for item, number in numbers.items()}
    return "".join([characters[item] for item in old]), "".join([characters[item] for item in new])


def _compare(old: str, new: str, old_offset: int, new_offset: int, work: Work, levels: int) -> Iterator[Difference]:
    start = common_prefix(old, new)
    end = common_suffix(old, new, start)
    old, new = old[start : len(old) - end], new[start : len(new) - end]
    old_offset, new_offset = old_offset + start, new_offset + start
    if not old or not new:
        if old or new:
            yield Difference(old_offset, old_offset + len(old), new_offset, new_offset + len(new))
    elif work.take(len(old), len(new)):
        for operation in Indel.opcodes(old, new):
            if operation.tag != "equal":
                yield Difference(
                    old_offset + operation.src_start,
                    old_offset + operation.src_end,
                    new_offset + operation.dest_start,
                    new_offset + operation.dest_end,
                )
    elif levels and (anchors := _anchors(old, new)):
        old_from = new_from = 0
        for old_to, new_to in [*anchors, (len(old), len(new))]:
            stretch = old[old_from:old_to], new[new_from:new_to]
            yield from _compare(*stretch, old_offset + old_from, new_offset + new_from, work, levels - 1)
            old_from, new_from = old_to + 1, new_to + 1
    else:
        yield Difference(old_offset, old_offset + len(old), new_offset, new_offset + len(new))


def _anchors(old: str, new: str) -> list[tuple[int, int]]:
    """Return the (old, new) places of items that occur once in both: the most that are in the same order in both."""
    counts, other_counts = Counter(old), Counter(new)
    places = {item: place for place, item in enumerate(new) if other_counts[item] == 1}
    pairs = [(place, places[item]) for place, item in enumerate(old) if counts[item] == 1 and item in places]
    # The longest increasing subsequence of their places in the new sequence (patience sorting).
    tops: list[int] = []
    top_pairs: list[int] = []
    before: list[int] = []
    for index, (_, place) in enumerate(pairs):
        pile = bisect_left(tops, place)
        tops[pile : pile + 1] = [place]
        top_pairs[pile : pile + 1] = [index]
        before.append(top_pairs[pile - 1] if pile else -1)
    rising: list[tuple[int, int]] = []
    index = top_pairs[-1] if top_pairs else -1
    while index >= 0:
        rising.append(pairs[index])
        index = before[index]
    return rising[::-1]


def _joined(found: Iterator[Difference]) -> Iterator[Difference]:
    """Merge adjacent differences."""
    pending: Difference | None = None
    for each in found:
        if pending is not None and (pending.old_end, pending.new_end) == (each.old_start, each.new_start):
            pending = Difference(pending.old_start, each.old_end, pending.new_start, each.new_end)
            continue
        if pending is not None:
            yield pending
        pending = each
    if pending is not None:
        yield pending


def common_prefix(left: str, right: str) -> int:
    """Return the length of the common prefix, by bisection: slices are compared at memory speed."""
    low, high = 0, min(len(left), len(right))
    while low < high:
        middle = (low + high + 1) // 2
        if left[low:middle] == right[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def common_suffix(left: str, right: str, prefix: int) -> int:
    """Return the length of the common suffix of what follows the common prefix."""
    low, high = 0, min(len(left), len(right)) - prefix
    while low < high:
        middle = (low + high + 1) // 2
        if left[len(left) - middle : len(left) - low] == right[len(right) - middle : len(right) - low]:
            low = middle
        else:
            high = middle - 1
    return low
