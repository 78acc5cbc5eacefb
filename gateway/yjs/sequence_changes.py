"""Token-by-token diff of two sequences, matched first by shared items and then by contents. Pure.

Two versions of a document have most items in common: an item of the same client and clock is the same character or
value in both, in the same order. Only the gaps between shared items are compared, within a bound on the work.
"""

import re
from bisect import bisect_right
from collections.abc import Callable, Hashable, Iterator
from operator import attrgetter
from typing import Any, NamedTuple

from gateway.yjs.diff import Difference, Work, differences
from gateway.yjs.scan import ANY, FORMAT, JSON, STRING, TYPE
from gateway.yjs.sequences import formatted, nodes_of, token_count
from gateway.yjs.text_edits import smallest_edits
from gateway.yjs.tree import Item, Node

Token = Hashable
Operation = tuple[str, int, int, int]
"""An operation: "keep" or "delete" from a token of the present sequence on, or "insert" in front of that token; the
index of that token; the index in the wanted sequence; and the number of tokens."""

_EVEN = re.compile("[\U00010000-\U0010ffff]+|[^\U00010000-\U0010ffff]+")
"""Runs of characters that each take the same number of clocks."""


def operations(target: Node, source: Node, token: Callable[[Item, Any], Token], work: Work) -> Iterator[Operation]:
    """Yield the operations that turn `target` into `source`, from beginning to end.

    Args:
        token: returns equal tokens for values with the same content.
    """
    present, wanted = _tokens(target, token), _tokens(source, token)
    if isinstance(present, str) and isinstance(wanted, str):
        compare = _of_characters(present, wanted, work)
    else:
        compare = _of_tokens(present, wanted, _Kinds(target, source), work)
    here = there = 0
    kept = 0
    for start, low, count in [*_same(target, source), (len(present), len(wanted), 0)]:
        for each in compare(Difference(here, start, there, low)) if start > here or low > there else ():
            kept += each.old_start - here
            if kept:
                yield "keep", each.old_start - kept, each.new_start - kept, kept
                kept = 0
            yield "delete", each.old_start, each.new_start, each.old_end - each.old_start
            yield "insert", each.old_end, each.new_start, each.new_end - each.new_start
            here, there = each.old_end, each.new_end
        kept += start + count - here
        here, there = start + count, low + count
    if kept:
        yield "keep", here - kept, there - kept, kept


def shared_operations(
    target: Node, source: Node, token: Callable[[Item, Any], Token], work: Work
) -> Iterator[Operation]:
    """Yield the operations that turn `target` into `source`, if only shared items count as equal."""
    here = there = 0
    ends = tuple(sum(token_count(item) for item, _ in formatted(node)) for node in (target, source))
    for start, low, count in [*_same(target, source), (*ends, 0)]:
        yield "delete", here, there, start - here
        yield "insert", start, there, low - there
        yield "keep", start, low, count
        here, there = start + count, low + count


def _tokens(node: Node, token: Callable[[Item, Any], Token]) -> "str | list[Token]":
    """Return what is compared: a string if the sequence holds only characters, otherwise a token for each place."""
    items = [item for item in node.items() if not item.deleted and item.kind != FORMAT]
    if all(item.kind == STRING for item in items):
        return "".join([item.content for item in items])
    tokens: list[Token] = []
    for item in items:
        tokens += item.content if item.kind == STRING else [token(item, value) for value in item.values()]
    return tokens


# Matching by shared items


class _Run(NamedTuple):
    """Tokens of an item that each take the same number of clocks."""

    item: Item
    offset: int
    """The index of the first of these tokens in the item."""
    many: int
    width: int
    """How many clocks each token takes."""
    clock: int
    first: int
    """The index of the first of these tokens in the sequence."""

    @property
    def end(self) -> int:
        return self.clock + self.many * self.width


def _runs(node: Node) -> Iterator[_Run]:
    first = 0
    for item in node.items():
        if item.deleted or item.kind == FORMAT:
            continue
        count = token_count(item)
        if count == item.length:
            yield _Run(item, 0, count, 1, item.clock, first)
        else:
            clock = item.clock
            for found in _EVEN.finditer(item.content):
                width = 2 if found[0] > "\uffff" else 1
                run = _Run(item, found.start(), len(found[0]), width, clock, first + found.start())
                yield run
                clock = run.end
        first += count


def _same(target: Node, source: Node) -> list[tuple[int, int, int]]:
    """Return the ranges of tokens of items that both sequences share, in order: start in each sequence, and count.

    The list is empty if the shared items are not in the same order: then these are not versions of one document.
    """
    lines: dict[int, list[_Run]] = {}
    for run in _runs(source):
        lines.setdefault(run.item.client, []).append(run)
    for line in lines.values():
        line.sort(key=attrgetter("clock"))
    starts = {client: [run.clock for run in line] for client, line in lines.items()}
    found: list[tuple[int, int, int]] = []
    end = other_end = 0
    for run in _runs(target):
        line = lines.get(run.item.client, [])
        place = bisect_right(starts[run.item.client], run.clock) - 1 if line else 0
        for index in range(max(place, 0), len(line)):
            if line[index].clock >= run.end:
                break
            start, low, count = _common(run, line[index])
            if not count:
                continue
            if low < other_end:
                return []
            if start == end and low == other_end and found:
                start, low, count = *found[-1][:2], found[-1][2] + count
                found.pop()
            found.append((start, low, count))
            end, other_end = start + count, low + count
    return found


def _common(run: _Run, other: _Run) -> tuple[int, int, int]:
    """Return the tokens that two runs of a client share: the first one in each sequence, and the count."""
    low = max(run.clock, other.clock)
    here, odd = divmod(low - run.clock, run.width)
    there, other_odd = divmod(low - other.clock, other.width)
    count = max(min(run.end, other.end) - low, 0) // run.width
    if run.width != other.width or odd or other_odd or not count:
        return 0, 0, 0
    if not _is_same(run.item, run.offset + here, other.item, other.offset + there, count):
        return 0, 0, 0
    return run.first + here, other.first + there, count


def _is_same(item: Item, start: int, other: Item, other_start: int, count: int) -> bool:
    """Return whether tokens at the same clocks have equal content; shared types need only be of the same kind."""
    if item.kind != other.kind:
        return False
    if item.kind in (STRING, ANY, JSON):
        return bool(item.content[start : start + count] == other.content[other_start : other_start + count])
    if item.kind == TYPE:
        return (item.content.kind, item.content.name) == (other.content.kind, other.content.name)
    return bool(item.content == other.content)


# Comparison by contents

_Compare = Callable[[Difference], Iterator[Difference]]


def _of_characters(present: str, wanted: str, work: Work) -> _Compare:
    def compare(gap: Difference) -> Iterator[Difference]:
        start, end, low, high = gap
        shift = low - start
        """The offset from a position in the present text to the matching one in the wanted text."""
        for edit in smallest_edits(present[start:end], wanted[low:high], work=work):
            first, last = start + edit.start, start + edit.end
            yield Difference(first, last, first + shift, first + shift + len(edit.text))
            shift += len(edit.text) - (last - first)

    return compare


def _of_tokens(present: "str | list[Token]", wanted: "str | list[Token]", kinds: "_Kinds", work: Work) -> _Compare:
    def compare(gap: Difference) -> Iterator[Difference]:
        for each in _within(gap, differences(_part(present, gap[:2]), _part(wanted, gap[2:]), work)):
            yield from _within(
                each,
                differences(
                    kinds.of(present, each.old_start, each.old_end, 0),
                    kinds.of(wanted, each.new_start, each.new_end, 1),
                    work,
                ),
            )

    return compare


def _part(tokens: "str | list[Token]", part: tuple[int, ...]) -> "str | list[Token]":
    return tokens[part[0] : part[1]]


def _within(gap: Difference, found: list[Difference]) -> Iterator[Difference]:
    """Translate differences within a gap into differences of the whole sequences."""
    for start, end, low, high in found:
        yield Difference(gap.old_start + start, gap.old_start + end, gap.new_start + low, gap.new_start + high)


class _Kinds:
    """Tokens for the second comparison: shared types count as equal if of the same kind, as they can be edited."""

    def __init__(self, *nodes: Node) -> None:
        self._nodes = [nodes_of(node) for node in nodes]

    def of(self, tokens: "str | list[Token]", start: int, end: int, which: int) -> list[Token]:
        found = self._nodes[which]
        return [
            ("kind", found[index].kind, found[index].name) if index in found else tokens[index]
            for index in range(start, end)
        ]
