"""Decides what becomes of each block of a document when Markdown says something else. Pure."""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

from gateway.richtext.blocks import Block, plain_text
from gateway.richtext.building import UnsupportedSchema
from gateway.yjs.diff import Work, differences

_MOST_PAIRS = 40_000
"""The most pairs of old and new blocks that are compared with each other; beyond, blocks are paired in order."""
_MOST_COMPARED = 2_000
"""The most characters of a block by which it is compared with others."""
_SAME_KIND = 0.1
"""What it counts that two blocks are of one kind, beside how similar they are (0 to 1)."""
_FIXED = ("opaque", "rule")


class Step(NamedTuple):
    """What becomes of a block: an old one is kept, edited, or copied to another place, or a new one is inserted."""

    kind: Literal["keep", "edit", "copy", "insert"]
    old: int
    new: Block


def plan(old: Sequence[Block], new: Sequence[Block], work: Work, frozen: frozenset[int] = frozenset()) -> list[Step]:
    """Return what becomes of blocks, in order; an old block that is not named is deleted.

    Args:
        frozen: the old blocks that Markdown does not say completely, so that they can only be kept or deleted.

    Raises:
        UnsupportedSchema
    """
    steps: list[Step] = []
    at = low = 0
    for gap in differences(list(old), list(new), work):
        steps += [Step("keep", at + index, new[low + index]) for index in range(gap.old_start - at)]
        steps += _paired(old, range(gap.old_start, gap.old_end), new[gap.new_start : gap.new_end], frozen)
        at, low = gap.old_end, gap.new_end
    steps += [Step("keep", at + index, new[low + index]) for index in range(len(old) - at)]
    return _with_copies(old, steps, frozen)


def _paired(old: Sequence[Block], indexes: range, new: Sequence[Block], frozen: frozenset[int]) -> Iterator[Step]:
    """Yield the steps for old blocks of which none is equal to a new block at the same place."""
    if new and not frozen.isdisjoint(indexes):
        raise UnsupportedSchema(
            "a block would be edited that Markdown does not say completely, for instance a table with merged cells: "
            f"{_excerpt(old[next(index for index in indexes if index in frozen)])}"
        )
    for index in indexes:
        _require_deleted_whole(old[index], new)
    pairs = dict(_pairs([old[index] for index in indexes], new))
    for at, block in enumerate(new):
        if at in pairs:
            yield Step("edit", indexes[pairs[at]], block)
        else:
            yield Step("insert", -1, block)


def _require_deleted_whole(block: Block, new: Sequence[Block]) -> None:
    if block.kind == "opaque" and any(f"#{block.attributes[1]}" in plain_text(each) for each in new):
        raise UnsupportedSchema(f"the placeholder {' #'.join(block.attributes)} was changed; keep or delete its line")


def _pairs(old: Sequence[Block], new: Sequence[Block]) -> Iterator[tuple[int, int]]:
    """Yield which new block is an edit of which old one, so that the pairs are as similar as possible, in order."""
    if not old or not new:
        return
    if len(old) * len(new) > _MOST_PAIRS:
        yield from ((index, index) for index, pair in enumerate(zip(old, new, strict=False)) if _is_editable(*pair))
        return
    similar = [[0.0] * (len(new) + 1) for _ in range(len(old) + 1)]
    scores: dict[tuple[int, int], float] = {}
    old_parts, new_parts = [_Parts(each) for each in old], [_Parts(each) for each in new]
    for row in range(len(old) - 1, -1, -1):
        for column in range(len(new) - 1, -1, -1):
            best = max(similar[row + 1][column], similar[row][column + 1])
            if _is_editable(old[row], new[column]):
                score = scores[row, column] = _SAME_KIND + old_parts[row].similarity(new_parts[column])
                best = max(best, score + similar[row + 1][column + 1])
            similar[row][column] = best
    row = column = 0
    while row < len(old) and column < len(new):
        if (row, column) in scores and similar[row][column] == scores[row, column] + similar[row + 1][column + 1]:
            yield column, row
            row, column = row + 1, column + 1
        elif similar[row][column] == similar[row + 1][column]:
            row += 1
        else:
            column += 1


def _is_editable(old: Block, new: Block) -> bool:
    return old.kind == new.kind and old.kind not in _FIXED


class _Parts:
    """The characters and the pairs of neighbouring characters of a block, and how often each occurs."""

    def __init__(self, block: Block) -> None:
        text = plain_text(block)[:_MOST_COMPARED]
        self._parts: Counter[object] = Counter(text)
        self._parts.update(pairwise(text))
        self._size = self._parts.total()

    def similarity(self, other: "_Parts") -> float:
        size = self._size + other._size
        if not size:
            return 1.0
        few, many = sorted((self._parts, other._parts), key=len)
        return 2 * sum(min(count, many[pair]) for pair, count in few.items()) / size


def _with_copies(old: Sequence[Block], steps: list[Step], frozen: frozenset[int]) -> list[Step]:
    """Turn insertions of blocks that are deleted elsewhere into copies of them, with all that Markdown does not say."""
    used = {step.old for step in steps}
    deleted: dict[Block, list[int]] = {}
    for index in range(len(old) - 1, -1, -1):
        if index not in used:
            deleted.setdefault(old[index], []).append(index)
    found = []
    for step in steps:
        places = deleted.get(step.new) if step.kind == "insert" else None
        if places and places[-1] in frozen:
            raise UnsupportedSchema(
                f"a block would be moved that Markdown does not say completely: {_excerpt(step.new)}"
            )
        found.append(Step("copy", places.pop(), step.new) if places else step)
    return found


def _excerpt(block: Block) -> str:
    text = " ".join(plain_text(block).split())
    return repr(text[:60] + "…" if len(text) > 60 else text)


def require_same_placeholders(old: Sequence[object], new: Sequence[object]) -> None:
    """Require that the placeholders in the text of a block that stays are the same as before.

    Raises:
        UnsupportedSchema
    """
    if list(old) != list(new):
        raise UnsupportedSchema(
            "a placeholder in a text can neither be changed, moved, nor deleted without the block that it is in"
        )
