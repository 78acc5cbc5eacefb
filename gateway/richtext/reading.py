"""Reads the rich text in a root: its blocks, each with the place in the document that holds it. Pure."""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from gateway.richtext.blocks import Atom, Block, Mark, Marks, Run, joined
from gateway.richtext.schemas import CELL_TEXT, CONTAINER, GROUP, Schema, attribute, base_name
from gateway.yjs.scan import STRING, TYPE, XML_ELEMENT
from gateway.yjs.sequences import Formats, formatted
from gateway.yjs.tree import XML_TEXT, Item, Node
from gateway.yjs.values import decode_json

_UNSAFE_IN_NAMES = re.compile(r"[^A-Za-z0-9_.]+")
_TEXTS = ("paragraph", "heading", "code")
_LISTS = {"bullets": "item", "numbers": "item", "tasks": "task"}
_MOST_LEVELS = 6
_NO_LANGUAGE = "text"
"""The language of a code block in BlockNote for which nobody chose a language."""
LARGEST_NUMBER = 999_999_999


class Piece:
    """A part of the inline content of a block: characters of one item with the same formats, or an element."""

    __slots__ = ("atom", "formats", "item", "marks", "text", "within")

    def __init__(
        self, item: Item, text: str, atom: Atom | None, formats: Formats, marks: Marks, within: Item | None
    ) -> None:
        self.item = item
        self.text = text
        self.atom = atom
        self.formats = formats
        self.marks = marks
        """The marks among the formats that Markdown can say."""
        self.within = within
        """The item of the text that holds the characters."""


class Shown:
    """A block of the document, and the item that holds it."""

    __slots__ = ("align", "block", "children", "content", "hidden", "item", "nest", "pieces", "texts")

    def __init__(self, block: Block, item: Item) -> None:
        self.block = block
        self.item = item
        self.hidden = False
        """Whether the block is not shown, and stays as it is."""
        self.children: list[Shown] = []
        self.content: Shown | None = None
        """The block inside that holds the inline content, if the item is a cell or a container around it."""
        self.nest: Item | None = None
        """The item of the group of nested blocks; None: there is none, or the item itself holds the blocks."""
        self.align: str | None = None
        """How a cell is aligned."""
        self.pieces: list[Piece] = []
        self.texts: list[Item] = []
        """The items of the texts that hold inline content."""

    @property
    def node(self) -> Node:
        node: Node = self.item.content
        return node

    @property
    def is_blank(self) -> bool:
        block = self.block
        return block.kind == "paragraph" and not block.inline and not block.children


class _Unreadable(Exception):
    """Markdown cannot say the block."""


def read_blocks(root: Node, schema: Schema) -> list[Shown]:
    """Return the blocks of a root, in order.

    Raises:
        RecursionError: the blocks are nested too deeply.
    """
    return _Reader(schema).top(root)


def group_of(root: Node, schema: Schema) -> Item | None:
    """Return the item that holds all blocks, if the schema has one (BlockNote)."""
    if not schema.nested:
        return None
    groups = [item for item in elements(root) if item.content.name == GROUP]
    return groups[0] if groups else None


def elements(node: Node) -> Iterator[Item]:
    """Yield the items of a sequence that hold shared types."""
    for item in node.items():
        if item.kind == TYPE and not item.deleted:
            yield item


class _Reader:
    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._kinds = schema.kinds()
        self._marks = schema.mark_kinds()

    def top(self, root: Node) -> list[Shown]:
        group = group_of(root, self._schema)
        return self._blocks(root if group is None else group.content)

    def _blocks(self, holder: Node) -> list[Shown]:
        found = [self._block(item) for item in elements(holder)]
        return _numbered(found) if self._schema.nested else found

    def _block(self, item: Item) -> Shown:
        node: Node = item.content
        try:
            if node.kind == XML_TEXT:
                if any(not each.deleted for each in node.items()):
                    raise _Unreadable
                shown = Shown(Block("opaque"), item)
                shown.hidden = True
                return shown
            if node.kind != XML_ELEMENT:
                raise _Unreadable
            return self._container(item) if self._schema.nested else self._element(item)
        except _Unreadable:
            return Shown(Block("opaque", identity(item)), item)

    def _element(self, item: Item) -> Shown:
        node: Node = item.content
        kind = self._kinds.get(node.name)
        if kind in _TEXTS or (self._schema.nested and kind in ("quote", "bullet", "number", "check")):
            shown = Shown(Block(kind, self._attributes(kind, node)), item)
            self._fill(shown)
            return shown
        if kind == "quote":
            return self._holding(item, kind, self._blocks(node))
        if kind in _LISTS:
            of = _LISTS[kind]
            children = [self._item(each, of) for each in _only_elements(node)]
            if not children:
                raise _Unreadable
            return self._holding(item, kind, children)
        if kind == "table":
            return self._table(item)
        if kind == "rule":
            return Shown(Block("rule"), item)
        if kind == "image" and not self._schema.images_inline:
            return Shown(Block("image", self._attributes(kind, node)), item)
        raise _Unreadable

    def _holding(self, item: Item, kind: str, children: list[Shown]) -> Shown:
        shown = Shown(Block(kind, self._attributes(kind, item.content), (), blocks_of(children)), item)
        shown.children = children
        return shown

    def _item(self, item: Item, of: str) -> Shown:
        if item.content.kind != XML_ELEMENT or self._kinds.get(item.content.name) != of:
            raise _Unreadable
        return self._holding(item, of, self._blocks(item.content))

    def _table(self, item: Item) -> Shown:
        rows = []
        for row in _only_elements(item.content):
            if self._kinds.get(row.content.name) != "row":
                raise _Unreadable
            rows.append(self._holding(row, "row", [self._cell(cell) for cell in _only_elements(row.content)]))
        if not rows or not rows[0].children:
            raise _Unreadable
        align = tuple(cell.align for cell in rows[0].children)
        shown = Shown(Block("table", (align,), (), blocks_of(rows)), item)
        shown.children = rows
        return shown

    def _align(self, node: Node) -> str | None:
        names = self._schema.attributes.get("cell")
        align = None if names is None or names[0] is None else attribute(node, names[0])
        if align not in ("left", "center", "right") or (align == "left" and self._schema.nested):
            return None  # in BlockNote, everything is aligned to the left unless said otherwise
        return str(align)

    def _cell(self, item: Item) -> Shown:
        node: Node = item.content
        if node.kind != XML_ELEMENT or self._kinds.get(node.name) != "cell":
            raise _Unreadable
        texts = list(_only_elements(node))
        expected = CELL_TEXT if self._schema.nested else self._schema.elements["paragraph"]
        if len(texts) != 1 or texts[0].content.name != expected:
            raise _Unreadable
        if any(attribute(node, name) not in (None, 1) for name in ("colspan", "rowspan")):
            raise _Unreadable
        content = Shown(Block("paragraph"), texts[0])
        self._fill(content)
        shown = Shown(Block("cell", (), content.block.inline), item)
        shown.content, shown.align = content, self._align(node)
        return shown

    def _container(self, item: Item) -> Shown:
        """Read a block of BlockNote: a container with the block itself and, perhaps, a group of nested blocks."""
        parts = list(_only_elements(item.content))
        if item.content.name != CONTAINER or not 1 <= len(parts) <= 2 or parts[0].content.kind != XML_ELEMENT:
            raise _Unreadable
        content = self._element(parts[0])
        nest = parts[1] if len(parts) == 2 else None
        if nest is not None and nest.content.name != GROUP:
            raise _Unreadable
        children = [] if nest is None else self._blocks(nest.content)
        block = content.block
        shown = Shown(block._replace(children=block.children or blocks_of(children)), item)
        if block.children and children:
            raise _Unreadable
        shown.content, shown.nest, shown.children = content, nest, children
        return shown

    def _attributes(self, kind: str, node: Node) -> tuple[Any, ...]:
        names = self._schema.attributes.get(kind, ())
        values = tuple(None if name is None else attribute(node, name) for name in names)
        match kind:
            case "heading":
                return (_number(values[0], 1, 1, _MOST_LEVELS),)
            case "numbers":
                return (_number(values[0], 1, 0, LARGEST_NUMBER),)
            case "number":
                return (_number(values[0], None, 0, LARGEST_NUMBER),)
            case "task" | "check":
                return (values[0] is True,)
            case "code" | "image":
                if any(not isinstance(value, str | None) for value in values):
                    raise _Unreadable
                if kind == "code" and self._schema.nested and values == (_NO_LANGUAGE,):
                    return ("",)
                return tuple(value or "" for value in values)
        return ()

    def _fill(self, shown: Shown) -> None:
        """Read the inline content of a block."""
        found: list[Run | Atom] = []
        for item in _only_elements(shown.node):
            if item.content.kind != XML_TEXT:
                atom = self._atom(item)
                shown.pieces.append(Piece(item, "", atom, {}, frozenset(), None))
                found.append(atom)
                continue
            shown.texts.append(item)
            for each, formats in formatted(item.content):
                if each.kind != STRING:
                    raise _Unreadable
                marks = self._told(formats)
                shown.pieces.append(Piece(each, each.content, None, formats, marks, item))
                found.append(Run(each.content, marks))
        if shown.block.kind == "code":
            if any(isinstance(piece, Atom) for piece in found):
                raise _Unreadable
            found = [Run(piece.text) for piece in found if isinstance(piece, Run)]
        shown.block = shown.block._replace(inline=joined(found))

    def _atom(self, item: Item) -> Atom:
        node: Node = item.content
        if node.kind == XML_ELEMENT:
            kind = self._kinds.get(node.name)
            if kind == "break":
                return Atom("break")
            if kind == "image" and self._schema.images_inline:
                return Atom("image", self._attributes("image", node))
        return Atom("opaque", identity(item))

    def _told(self, formats: Formats) -> Marks:
        marks = set()
        for name, (_, written) in formats.items():
            kind = self._marks.get(base_name(name))
            if kind == "link":
                value = decode_json(written)
                href, title = (value.get(key) for key in ("href", "title")) if isinstance(value, dict) else (None, None)
                if isinstance(href, str):
                    marks.add(Mark("link", href, title if isinstance(title, str) else ""))
            elif kind is not None:
                marks.add(Mark(kind))
        links = sorted(mark for mark in marks if mark.kind == "link")
        return frozenset(marks.difference(links[1:]))


def blocks_of(shown: Iterable[Shown]) -> tuple[Block, ...]:
    return tuple(each.block for each in shown if not each.hidden)


def identity(item: Item) -> tuple[str, str]:
    """Return the name of an element that Markdown cannot say, and the id that identifies it in its document."""
    node: Node = item.content
    name = _UNSAFE_IN_NAMES.sub("_", node.name)[:40] or {XML_TEXT: "text"}.get(node.kind or 0, "type")
    return name, f"{item.client}.{item.clock}"


def _only_elements(node: Node) -> list[Item]:
    """Return the items of a sequence that holds nothing but shared types."""
    found = []
    for item in node.items():
        if item.deleted:
            continue
        if item.kind != TYPE or item.content.kind not in (XML_ELEMENT, XML_TEXT):
            raise _Unreadable
        found.append(item)
    return found


def _numbered(blocks: Sequence[Shown]) -> list[Shown]:
    """Keep only those starts of numbered blocks that begin a list at another number than 1."""
    before = None
    for shown in blocks:
        block = shown.block
        if block.kind == "number":
            start = block.attributes[0] if before != "number" else None
            shown.block = block._replace(attributes=(None if start == 1 else start,))
        before = block.kind
    return list(blocks)


def _number(value: Any, absent: int | None, least: int, most: int) -> int | None:
    if value is None:
        return absent
    if isinstance(value, str) and value.isdecimal():
        value = int(value[:20])
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value // 1:
        raise _Unreadable
    if not least <= value <= most:
        raise _Unreadable
    return int(value)
