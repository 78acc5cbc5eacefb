"""Restores a document to the content of another one with a minimal set of edits, written as a new update. Pure.

Content that is equal in both documents is left alone, so that concurrent edits of it are not lost: characters and
formats of a text, entries of a map, items of an array, nodes and attributes of XML. Content that differs in kind is
recreated with the exact bytes that the other document has for it.
"""

from collections.abc import Callable, Hashable, Iterator
from typing import Any

from gateway.yjs.diff import Work
from gateway.yjs.lib0 import block, utf16_length, var_bytes
from gateway.yjs.roots import NestedTooDeeply, value_of
from gateway.yjs.scan import EMBED, FORMAT, STRING, TYPE, Place
from gateway.yjs.sequence_changes import Operation, Token, operations, shared_operations
from gateway.yjs.sequences import (
    Formats,
    Slice,
    Wanted,
    apply_mark,
    copied_content,
    formatted,
    place_of,
    token_count,
    told_format,
    units_of,
)
from gateway.yjs.struct_writing import StructWriter
from gateway.yjs.tree import Item, Node, read_tree
from gateway.yjs.values import canonical, decode_any

_Compare = Callable[[Node, Node, Callable[[Item, Any], Token], Work], Iterator[Operation]]

_CELLS = 2**28
"""The comparison budget of one restore: about 30 ms."""


def restoring_update(present: bytes, old: bytes, client_id: int) -> bytes | None:
    """Return the update by `client_id` that gives `present` the content of `old`; None if the contents are equal.

    Both are whole documents.

    Raises:
        NestedTooDeeply
    """
    target, source = read_tree(present), read_tree(old)
    restoration = _Restoration(StructWriter(client_id, target.clocks.get(client_id, 0)))
    try:
        for name in sorted(target.roots.keys() | source.roots.keys()):
            wanted = source.roots.get(name) or Node(None, name)
            restoration.reconcile(target.roots.get(name) or Node(None, name), wanted, name)
    except RecursionError:
        raise NestedTooDeeply from None
    return restoration.writer.update()


def rewriting_update(root: Node, wanted: Node, client_id: int, clock: int) -> bytes | None:
    """Return the update by `client_id`, whose next clock is `clock`, that makes a root `wanted`; None: nothing changes.

    What is to stay has the same client and clock in both. All else in `root` is deleted, and all else in `wanted` is
    inserted, even where the contents are alike.

    Raises:
        RecursionError
    """
    restoration = _Restoration(StructWriter(client_id, clock), shared_operations)
    restoration.reconcile(root, wanted, root.name)
    return restoration.writer.update()


class _Restoration:
    """Writes the edits that give shared types the content of other shared types."""

    def __init__(self, writer: StructWriter, compare: _Compare = operations) -> None:
        self.writer = writer
        self._compare = compare
        self.work = Work(_CELLS)
        self._numbers: dict[Hashable, int] = {}
        self._known: dict[int, int] = {}

    def reconcile(self, target: Node, source: Node, place: str | Place) -> None:
        """Give the shared type `target` at `place` the content of `source`, a shared type of the same kind."""
        self._reconcile_entries(target, source, place)
        if self._sequence(target) != self._sequence(source):
            self._reconcile_sequence(target, source, place)

    def _reconcile_entries(self, target: Node, source: Node, place: str | Place) -> None:
        present, wanted = target.members(), source.members()
        for key in present.keys() - wanted.keys():
            self.writer.delete((present[key].client, present[key].clock), present[key].length)
        for key, item in wanted.items():
            value, found = value_of(item), present.get(key)
            if found is not None:
                there = value_of(found)
                if self.token(found, there) == self.token(item, value):
                    continue
                if _same_kind(there, value):
                    self.reconcile(there, value, (found.client, found.clock))
                    continue
                self.writer.delete((found.client, found.clock), found.length)
            last = target.entries.get(key)
            left = None if last is None else (last.client, last.clock + last.length - 1)
            self.insert(item, item.length - 1, 1, (left, None), place, key)

    def insert(
        self,
        item: Item,
        start: int,
        count: int,
        beside: tuple[Place | None, Place | None],
        parent: str | Place,
        key: str | None = None,
    ) -> Place:
        """Insert a copy of part of an item's content; return the last place of the copy."""
        content, length = copied_content(item, start, count)
        place = self.writer.add(item.kind, content, length, beside, parent, key)
        if item.kind == TYPE:
            self.reconcile(Node(item.content.kind, item.content.name), item.content, place)
        return (place[0], place[1] + length - 1)

    def _reconcile_sequence(self, target: Node, source: Node, parent: str | Place) -> None:
        walk = _Walk(self, target, parent)
        wanted = Wanted(source)
        for operation, _, other, count in self._compare(target, source, self.token, self.work):
            if operation == "keep":
                walk.keep(wanted.slices(other, count))
            elif operation == "delete":
                walk.delete(count)
            else:
                walk.insert(wanted.slices(other, count))
        walk.finish(wanted.formats)

    # Equality

    def token(self, item: Item, value: Any) -> Token:
        """Return a token that is equal for values with the same content."""
        match value:
            case Node():
                return ("node", self._number(value))
            case Item():
                start, end = block(value.content, 0)
                return ("document", value.content[start:end], canonical(decode_any(value.content[end:])))
            case _:
                return ("embed" if item.kind == EMBED else "value", canonical(value))

    def _number(self, node: Node) -> int:
        """Return a number that is equal for shared types with the same content."""
        known = self._known.get(id(node))
        if known is None:
            entries = tuple((key, self.token(item, value_of(item))) for key, item in node.members().items())
            held = (node.kind, node.name, entries, self._sequence(node))
            known = self._known[id(node)] = self._numbers.setdefault(held, len(self._numbers))
        return known

    def _sequence(self, node: Node) -> Hashable:
        """Return a value that is equal for sequences with the same content and the same formats."""
        held: list[tuple[Token, Hashable]] = []
        characters: list[str] = []
        present: Formats | None = None
        told: Hashable = ()
        for item, formats in formatted(node):
            if formats is not present:
                present, before = formats, told
                told = tuple((name, value) for name, (value, _) in sorted(formats.items()))
                if characters and told != before:
                    held.append(("".join(characters), before))
                    characters = []
            if item.kind == STRING:
                characters.append(item.content)
                continue
            if characters:
                held.append(("".join(characters), told))
                characters = []
            held += [(self.token(item, value), told) for value in item.values()]
        return (*held, ("".join(characters), told)) if characters else tuple(held)


class _Walk:
    """Walks through a sequence once and edits it along the way."""

    def __init__(self, restoration: _Restoration, target: Node, parent: str | Place) -> None:
        self._restoration = restoration
        self._writer = restoration.writer
        self._items = list(target.items())
        self._parent = parent
        self._place = self._offset = 0
        """The position of the walk: the index of an item, and how many of its tokens have been passed."""
        self._left: Place | None = None
        self._formats: Formats = {}
        """The formats in effect at the last token that stays."""
        self._marks: list[Item] = []
        """The format marks since that token."""
        self._touched = False
        """Whether anything was deleted since that token."""

    def keep(self, wanted: "Iterator[Slice]") -> None:
        for other, _, count, formats in wanted:
            for item, first, _ in self._slices(count):
                self._settle(formats)
                if item.kind == TYPE and item.content is not other.content:
                    self._restoration.reconcile(item.content, other.content, place_of(item, first))

    def delete(self, count: int) -> None:
        for item, start, many in self._slices(count):
            first, last = units_of(item, start), units_of(item, start + many)
            self._writer.delete((item.client, item.clock + first), last - first)
            self._touched = True

    def insert(self, wanted: "Iterator[Slice]") -> None:
        for item, start, count, formats in _joined(wanted):
            self._settle(formats)
            beside = (self._left, self._right())
            self._left = self._restoration.insert(item, start, count, beside, self._parent)

    def finish(self, formats: Formats) -> None:
        self._absorb()
        self._settle(formats)

    def _slices(self, count: int) -> Iterator[tuple[Item, int, int]]:
        """Yield the next `count` tokens as parts of items; during each step the walk stands behind the yielded part."""
        while count:
            self._absorb()
            item = self._items[self._place]
            many = min(count, token_count(item) - self._offset)
            yield item, self._offset, many
            count -= many
            self._offset += many
            self._left = (item.client, item.clock + units_of(item, self._offset) - 1)
            if self._offset == token_count(item):
                self._place, self._offset = self._place + 1, 0

    def _absorb(self) -> None:
        """Advance past items that hold no tokens."""
        while self._place < len(self._items):
            item = self._items[self._place]
            if not item.deleted:
                if item.kind != FORMAT:
                    return
                self._marks.append(item)
            self._left = (item.client, item.clock + item.length - 1)
            self._place += 1

    def _right(self) -> Place | None:
        return place_of(self._items[self._place], self._offset) if self._place < len(self._items) else None

    def _settle(self, wanted: Formats) -> None:
        """Make sure that the next token has the wanted formats."""
        if not self._marks and not self._touched and self._formats == wanted:
            return
        found = dict(self._formats)
        for mark in self._marks:
            apply_mark(found, mark)
        names = found.keys() | wanted.keys() | {mark.content[0] for mark in self._marks}
        for name in sorted(names):
            if self._touched or told_format(found, name) != told_format(wanted, name):
                self._settle_one(name, wanted)
        self._formats = wanted
        self._marks, self._touched = [], False

    def _settle_one(self, name: str, wanted: Formats) -> None:
        marks = [mark for mark in self._marks if mark.content[0] == name]
        needed = told_format(self._formats, name) != told_format(wanted, name)
        if needed and marks and told_format(apply_mark({}, marks[-1]), name) == told_format(wanted, name):
            marks.pop()
            needed = False
        for mark in marks:
            self._writer.delete((mark.client, mark.clock), mark.length)
        if needed:
            content = var_bytes(name.encode()) + var_bytes(wanted[name][1] if name in wanted else b"null")
            self._left = self._writer.add(FORMAT, content, 1, (self._left, self._right()), self._parent)


def _joined(slices: Iterator[Slice]) -> Iterator[Slice]:
    """Join adjacent slices of characters with the same formats, so that the copy of them is one struct."""
    characters: list[str] = []
    joined: tuple[Item, Formats] | None = None
    for item, start, count, formats in slices:
        if joined is not None and (item.kind != STRING or formats != joined[1]):
            yield _text("".join(characters), *joined)
            joined, characters = None, []
        if item.kind == STRING:
            joined = joined or (item, formats)
            characters.append(item.content[start : start + count])
        else:
            yield item, start, count, formats
    if joined is not None:
        yield _text("".join(characters), *joined)


def _text(characters: str, item: Item, formats: Formats) -> Slice:
    length = len(characters) if characters.isascii() else utf16_length(characters.encode())
    return Item((item.client, item.clock), length, STRING, characters), 0, len(characters), formats


def _same_kind(present: Any, wanted: Any) -> bool:
    """Whether one shared type can be edited into the other."""
    return (
        isinstance(present, Node)
        and isinstance(wanted, Node)
        and (present.kind, present.name) == (wanted.kind, wanted.name)
    )
