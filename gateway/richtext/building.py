"""Makes the elements of new blocks, as values that `gateway.yjs.reconcile` writes into a document. Pure."""

import hashlib
import json
import re
import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from gateway.richtext.blocks import Atom, Block, Inline, Mark, Marks, Run
from gateway.richtext.schemas import CELL_TEXT, CONTAINER, GROUP, Schema
from gateway.yjs.lib0 import utf16_length, var_bytes, var_uint
from gateway.yjs.scan import ANY, FORMAT, STRING, TYPE, XML_ELEMENT
from gateway.yjs.sequences import Formats
from gateway.yjs.tree import XML_TEXT, Item, Node
from gateway.yjs.values import canonical, decode_json

_NOBODY = -1
"""The client of items that are in no document yet."""
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*")
_SAFE_SCHEMES = ("http", "https", "mailto", "tel", "ftp", "sms", "xmpp")


class UnsupportedSchema(ValueError):
    """The edit would change what Markdown cannot say. Nothing was changed."""


def is_safe(target: str) -> bool:
    """Whether a link may lead to a target: a relative one, or one whose scheme runs nothing."""
    bare = "".join(character for character in target if character > " " and character != "\x7f")
    scheme, colon, _ = bare.partition(":")
    return not colon or _SCHEME.fullmatch(scheme) is None or scheme.lower() in _SAFE_SCHEMES


def is_safe_image(source: str) -> bool:
    """Whether an image may be loaded from a source."""
    return is_safe(source) or source.lower().startswith("data:image/")


class Builder:
    """Makes new items. Their clocks are made up: what they come to is decided when they are written.

    Args:
        seed: what the ids of new blocks are derived from (BlockNote gives each block an id).
        links: the attributes of links of the document, by which new ones are made.
    """

    def __init__(self, schema: Schema, seed: str) -> None:
        self.schema = schema
        self._seed = seed
        self._clock = 0
        self._ids = 0

    # Items

    def item(self, kind: int, content: Any, length: int = 1) -> Item:
        item = Item((_NOBODY, self._clock), length, kind, content)
        self._clock += length
        return item

    def text(self, characters: str) -> Item:
        return self.item(STRING, characters, utf16_length(characters.encode()))

    def format(self, name: str, written: bytes) -> Item:
        return self.item(FORMAT, (name, written))

    def value(self, value: Any) -> Item:
        return self.item(ANY, [encode_any(value)])

    def element(self, name: str, attributes: Mapping[str, Any], children: Iterable[Item] = ()) -> Item:
        node = Node(XML_ELEMENT, name)
        node.entries = {key: self.value(value) for key, value in attributes.items() if value is not None}
        link_up(node, children)
        return self.item(TYPE, node)

    def shared_text(self, items: Iterable[Item]) -> Item:
        node = Node(XML_TEXT)
        link_up(node, items)
        return self.item(TYPE, node)

    # Blocks

    def block(self, block: Block) -> Item:
        """Make the element of a block.

        Raises:
            UnsupportedSchema: the block holds a placeholder.
        """
        if not self.schema.nested:
            return self._element(block)
        content = self._element(block if block.kind == "table" else block._replace(children=()))
        nested = () if block.kind == "table" else block.children
        parts = [content, self.group(nested)] if nested else [content]
        return self.element(CONTAINER, {"id": self._id()}, parts)

    def group(self, blocks: Sequence[Block]) -> Item:
        """Make BlockNote's element around blocks."""
        return self.element(GROUP, {}, map(self.block, blocks))

    def part(self, block: Block) -> Item:
        """Make the element of a part of a list."""
        return self._element(block)

    def _element(self, block: Block) -> Item:
        kind = block.kind
        if kind == "opaque":
            raise UnsupportedSchema(
                f"the placeholder {' #'.join(block.attributes)} is not one of this version of the document, or it is "
                "there twice: a placeholder can be kept, moved, or deleted with its line, but not changed or copied"
            )
        if kind == "table":
            return self.element(self.schema.elements[kind], self.defaults(kind), self._rows(block))
        children: Iterable[Item] = map(self.block, block.children)
        if kind in ("paragraph", "heading", "code") or block.inline:
            children = self.inline(block.inline)
        if kind in ("bullets", "numbers", "tasks"):
            children = map(self._element, block.children)
        return self.element(self.schema.elements[kind], self.attributes(block), children)

    def _rows(self, table: Block) -> Iterable[Item]:
        for index, row in enumerate(table.children):
            yield self.row(row, table.attributes[0], header=index == 0)

    def row(self, row: Block, align: Sequence[str | None], *, header: bool) -> Item:
        cells = (
            self.cell(cell, align[at] if at < len(align) else None, header=header)
            for at, cell in enumerate(row.children)
        )
        return self.element(self.schema.elements["row"], {}, cells)

    def cell(self, cell: Block, align: str | None, *, header: bool) -> Item:
        kind = "header" if header else "cell"
        text = self.element(CELL_TEXT if self.schema.nested else "paragraph", {}, self.inline(cell.inline))
        attributes = {**self.defaults(kind), **self.cell_attributes(align)}
        return self.element(self.schema.elements[kind], attributes, [text])

    def cell_attributes(self, align: str | None) -> dict[str, Any]:
        names = self.schema.attributes.get("cell")
        if names is None or names[0] is None:
            return {}
        return {names[0]: align or ("left" if self.schema.nested else None)}

    def defaults(self, kind: str) -> Mapping[str, Any]:
        return self.schema.defaults.get(kind, {})

    def attributes(self, block: Block) -> dict[str, Any]:
        """Return the attributes of a new element."""
        return {**self.defaults(block.kind), **self.told(block)}

    def told(self, block: Block) -> dict[str, Any]:
        """Return the attributes by which an element shows what a block says; None: there is no such attribute."""
        names = self.schema.attributes.get(block.kind, ())
        told = {name: value for name, value in zip(names, block.attributes, strict=True) if name is not None}
        if block.kind == "image":
            source = block.attributes[0]
            if not is_safe_image(source):
                told[str(names[0])] = ""
        if block.kind in ("code", "image") and not self.schema.nested:
            kept = "" if self.schema.name == "prosemirror" and block.kind == "code" else None
            told = {name: value or kept for name, value in told.items()}
        elif block.kind == "code":
            told = {name: value or "text" for name, value in told.items()}
        return told

    def _id(self) -> str:
        self._ids += 1
        digest = hashlib.sha256(f"{self._seed}\0{self._ids}".encode()).hexdigest()
        return f"{digest[:8]}-{digest[8:12]}-4{digest[13:16]}-a{digest[17:20]}-{digest[20:32]}"

    # Inline content

    def inline(self, inline: Inline) -> list[Item]:
        """Make the texts and elements of inline content."""
        made: list[Item] = []
        runs: list[tuple[str, Formats]] = []
        for piece in (*inline, None):
            if isinstance(piece, Run):
                runs.append((piece.text, self.formats(piece.marks)))
                continue
            if runs:
                made.append(self.shared_text(self.formatted(runs)))
                runs = []
            if piece is not None:
                made.append(self.atom(piece))
        return made

    def formatted(self, runs: Iterable[tuple[str | Item, Formats]]) -> list[Item]:
        """Return the items of runs of characters, which may be items already, with their formats between them."""
        items: list[Item] = []
        present: Formats = {}
        for text, formats in [*runs, ("", {})]:
            for name in sorted(present.keys() | formats.keys()):
                if name not in formats:
                    items.append(self.format(name, b"null"))
                elif name not in present or present[name][0] != formats[name][0]:
                    items.append(self.format(name, formats[name][1]))
            present = formats
            if text:
                items.append(self.text(text) if isinstance(text, str) else text)
        return items

    def atom(self, atom: Atom) -> Item:
        """Make the element of an atom.

        Raises:
            UnsupportedSchema: the atom is a placeholder.
        """
        if atom.kind == "opaque":
            raise UnsupportedSchema(f"the placeholder {' #'.join(atom.attributes)} cannot be moved or copied")
        attributes = self.attributes(Block("image", atom.attributes)) if atom.kind == "image" else {}
        return self.element(self.schema.elements[atom.kind], attributes)

    def formats(self, marks: Marks) -> Formats:
        """Return the formats of new characters with marks."""
        if any(mark.kind == "code" for mark in marks) and self.schema.name != "prosemirror":
            marks = frozenset([Mark("code")])  # there the mark excludes all others
        found: Formats = {}
        for mark in marks:
            if mark.kind != "link":
                found[self.schema.marks[mark.kind]] = _format({})
            elif is_safe(mark.href):
                found[self.schema.marks["link"]] = self.link(mark, {**self.defaults("link")})
        return found

    def link(self, mark: Mark, attributes: dict[str, Any]) -> tuple[Any, bytes]:
        """Return the format of a link with the other attributes of a link."""
        kept = {name: value for name, value in attributes.items() if name not in ("href", "title")}
        titled = ("title" in attributes or bool(mark.title)) and not self.schema.nested
        return _format({"href": mark.href, **kept, **({"title": mark.title or None} if titled else {})})


def link_up(node: Node, items: Iterable[Item]) -> None:
    """Make items the sequence of a shared type."""
    before: Item | None = None
    for item in items:
        item.node, item.left, item.right = node, before, None
        if before is None:
            node.start = item
        else:
            before.right = item
        before = item


def same_item(item: Item, content: Any) -> Item:
    """Return an item of the document with other content, for another sequence."""
    return Item((item.client, item.clock), item.length, item.kind, content)


def _format(attributes: Mapping[str, Any]) -> tuple[Any, bytes]:
    written = json.dumps(attributes, ensure_ascii=False, separators=(",", ":")).encode()
    return canonical(decode_json(written)), written


def encode_any(value: Any) -> bytes:
    """Encode a plain value like lib0's `writeAny`."""
    match value:
        case None:
            return b"\x7e"
        case bool():
            return b"\x78" if value else b"\x79"
        case str():
            return b"\x77" + var_bytes(value.encode())
        case int() if abs(value) < 2**31:
            return b"\x7d" + _signed(value)
        case int() | float():
            return b"\x7b" + struct.pack(">d", value)
    raise TypeError(f"no attribute of a new element is a {type(value)}")


def _signed(number: int) -> bytes:
    """Encode a signed integer like lib0's `writeVarInt`: six bits and the sign first."""
    sign = 0x40 if number < 0 else 0
    rest = abs(number)
    first, rest = rest & 0x3F | sign, rest >> 6
    return bytes([first | 0x80]) + var_uint(rest) if rest else bytes([first])
