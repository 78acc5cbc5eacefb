"""The names that the schemas of editors give to blocks and marks, and which of the schemas a document is of. Pure."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from msgspec import Struct

from gateway.yjs.roots import value_of
from gateway.yjs.scan import FORMAT, TYPE, XML_ELEMENT
from gateway.yjs.tree import XML_TEXT, Node

SchemaName = Literal["tiptap", "prosemirror", "blocknote"]
SCHEMA_NAMES: tuple[SchemaName, ...] = ("tiptap", "prosemirror", "blocknote")

_HASHED = re.compile(r"(.*)(--[a-zA-Z0-9+/=]{8})", re.DOTALL)
"""y-prosemirror adds a hash to the name of a mark that may overlap with itself."""


class Schema(Struct, frozen=True):
    """The names of one schema."""

    name: SchemaName
    root: str
    """The root that editors with this schema use unless they are told otherwise."""
    elements: Mapping[str, str]
    """The element of each kind of block and atom."""
    marks: Mapping[str, str]
    """The format of each kind of mark."""
    attributes: Mapping[str, tuple[str | None, ...]]
    """The names of the attributes of each kind, in the order in which blocks have them; None: not kept."""
    defaults: Mapping[str, Mapping[str, Any]]
    """The attributes that an editor writes for a new element of a kind besides."""
    images_inline: bool
    """Whether an image is a part of a paragraph, and not a block."""
    strike: bool = True
    tables: bool = True
    tasks: bool = True

    def kinds(self) -> dict[str, str]:
        """Return the kind of each element."""
        kinds = {name: kind for kind, name in self.elements.items() if kind != "header"}
        if "header" in self.elements:
            kinds[self.elements["header"]] = "cell"
        return kinds

    def mark_kinds(self) -> dict[str, str]:
        return {name: kind for kind, name in self.marks.items()}

    @property
    def nested(self) -> bool:
        """Whether each block is in a container of its own, as in BlockNote."""
        return self.name == "blocknote"


def base_name(mark: str) -> str:
    """Return the name of a mark without the hash that y-prosemirror may have added."""
    found = _HASHED.fullmatch(mark)
    return mark if found is None else found[1]


_IMAGE = ("src", "alt", "title")
_LINK = {"target": "_blank", "rel": "noopener noreferrer nofollow"}
_PROPS = {"backgroundColor": "default", "textColor": "default", "textAlignment": "left"}
_CELL = {"colspan": 1, "rowspan": 1}

_TIPTAP = Schema(
    name="tiptap",
    root="default",
    elements={
        "paragraph": "paragraph", "heading": "heading", "quote": "blockquote", "bullets": "bulletList",
        "numbers": "orderedList", "tasks": "taskList", "item": "listItem", "task": "taskItem", "code": "codeBlock",
        "rule": "horizontalRule", "break": "hardBreak", "image": "image", "table": "table", "row": "tableRow",
        "cell": "tableCell", "header": "tableHeader",
    },
    marks={"bold": "bold", "italic": "italic", "strike": "strike", "code": "code", "link": "link"},
    attributes={
        "heading": ("level",), "numbers": ("start",), "task": ("checked",), "code": ("language",), "image": _IMAGE,
        "cell": ("align",),
    },
    defaults={"cell": _CELL, "header": _CELL, "link": _LINK},
    images_inline=False,
)  # fmt: skip
_PROSEMIRROR = Schema(
    name="prosemirror",
    root="prosemirror",
    elements={
        "paragraph": "paragraph", "heading": "heading", "quote": "blockquote", "bullets": "bullet_list",
        "numbers": "ordered_list", "item": "list_item", "code": "code_block", "rule": "horizontal_rule",
        "break": "hard_break", "image": "image", "table": "table", "row": "table_row", "cell": "table_cell",
        "header": "table_header",
    },
    marks={"bold": "strong", "italic": "em", "code": "code", "link": "link"},
    attributes={"heading": ("level",), "numbers": ("order",), "code": ("params",), "image": _IMAGE},
    defaults={"cell": _CELL, "header": _CELL},
    images_inline=True,
    strike=False,
    tables=False,
    tasks=False,
)  # fmt: skip
_BLOCKNOTE = Schema(
    name="blocknote",
    root="document-store",
    elements={
        "paragraph": "paragraph", "heading": "heading", "quote": "quote", "bullet": "bulletListItem",
        "number": "numberedListItem", "check": "checkListItem", "code": "codeBlock", "rule": "divider",
        "break": "hardBreak", "image": "image", "table": "table", "row": "tableRow", "cell": "tableCell",
        "header": "tableHeader",
    },
    marks={"bold": "bold", "italic": "italic", "strike": "strike", "code": "code", "link": "link"},
    attributes={
        "heading": ("level",), "number": ("start",), "check": ("checked",), "code": ("language",),
        "image": ("url", "name", None), "cell": ("textAlignment",),
    },
    defaults={
        "paragraph": _PROPS, "heading": {**_PROPS, "isToggleable": False}, "bullet": _PROPS, "number": _PROPS,
        "check": _PROPS, "quote": {"backgroundColor": "default", "textColor": "default"}, "code": {"language": "text"},
        "image": {"textAlignment": "left", "backgroundColor": "default", "caption": "", "showPreview": True},
        "table": {"textColor": "default"}, "cell": {**_PROPS, **_CELL}, "header": {**_PROPS, **_CELL},
    },
    images_inline=False,
)  # fmt: skip
SCHEMAS: Mapping[str, Schema] = {each.name: each for each in (_TIPTAP, _PROSEMIRROR, _BLOCKNOTE)}
CONTAINER, GROUP, CELL_TEXT = "blockContainer", "blockGroup", "tableParagraph"
"""BlockNote's elements around blocks, around nested blocks, and around the text of a cell."""

_OF_BLOCKNOTE = {CONTAINER, GROUP}
_SHARED = {"paragraph", "heading", "blockquote", "image", "table"}
_OF_PROSEMIRROR = set(_PROSEMIRROR.elements.values()) - _SHARED
_OF_TIPTAP = set(_TIPTAP.elements.values()) - _SHARED
_STRIKES = ("strike", "strikethrough", "s", "del")


class SchemaMismatch(ValueError):
    """The document is of another schema than the one asked for."""

    def __init__(self, asked: str, found: str) -> None:
        super().__init__(f"the document is of the schema {found!r}, not {asked!r}")
        self.asked = asked
        self.found = found

    def __reduce__(self) -> tuple[Any, ...]:
        """Let a worker process pickle the error."""
        return SchemaMismatch, (self.asked, self.found)


def schema_of(root: Node, asked: SchemaName | None = None) -> Schema:
    """Return the schema of the document in a root, by the names of its elements and marks.

    Args:
        asked: the schema if the names do not tell. Without it, the default name of the root decides, else Tiptap.

    Raises:
        SchemaMismatch
    """
    elements, marks, image_in_text = set(), set(), False
    for node, inside in _nodes(root):
        if node.kind == XML_TEXT:
            marks |= {base_name(item.content[0]) for item in node.items() if item.kind == FORMAT and not item.deleted}
        else:
            elements.add(node.name)
            image_in_text = image_in_text or (node.name == "image" and inside in ("paragraph", "heading"))
    found: SchemaName | None = None
    if elements & _OF_BLOCKNOTE:
        found = "blocknote"
    elif elements & _OF_PROSEMIRROR or marks & {"strong", "em"}:
        found = "prosemirror"
    elif elements & _OF_TIPTAP or marks & {"bold", "italic"}:
        found = "tiptap"
    if found is not None and asked is not None and asked != found:
        raise SchemaMismatch(asked, found)
    by_root: dict[str, SchemaName] = {each.root: each.name for each in SCHEMAS.values()}
    return _adapted(SCHEMAS[found or asked or by_root.get(root.name, "tiptap")], elements, marks, image_in_text)


def _adapted(schema: Schema, elements: set[str], marks: set[str], image_in_text: bool) -> Schema:
    """Return a schema with the parts that the document shows its editor to have."""
    if schema.name == "prosemirror":
        strike = next((name for name in _STRIKES if name in marks), None)
        kept = schema.marks if strike is None else {**schema.marks, "strike": strike}
        return _changed(schema, marks=kept, strike=strike is not None, tables="table" in elements)
    if schema.name == "tiptap" and image_in_text:
        return _changed(schema, images_inline=True)
    return schema


def _changed(schema: Schema, **changes: Any) -> Schema:
    return Schema(**{**{name: getattr(schema, name) for name in schema.__struct_fields__}, **changes})


def _nodes(root: Node) -> Iterator[tuple[Node, str]]:
    """Yield all elements and texts below a root, each with the name of the element around it."""
    waiting = [root]
    while waiting:
        node = waiting.pop()
        for item in node.items():
            if item.kind == TYPE and not item.deleted and item.content.kind in (XML_ELEMENT, XML_TEXT):
                yield item.content, node.name
                waiting.append(item.content)


def attribute(node: Node, name: str) -> Any:
    """Return the value of an attribute of an element; None if it has none."""
    item = node.entries.get(name)
    return None if item is None or item.deleted else value_of(item)
