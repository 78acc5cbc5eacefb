"""A document's roots as text and as JSON, equal to the result of Yjs's `toJSON`. Pure.

Entries of a shared type are sorted by key, bytes become base64, and a subdocument becomes `{}`; undefined, and a root
of which nothing is left, become null.
"""

import base64
from collections.abc import Sequence
from typing import Any, Literal

import pycrdt

from gateway.yjs.scan import EMBED, FORMAT, STRING, TYPE, XML_ELEMENT, XML_HOOK
from gateway.yjs.tree import ARRAY, MAP, TEXT, XML_FRAGMENT, XML_TEXT, Item, Node, read_tree
from gateway.yjs.updates import Document, build_document
from gateway.yjs.values import BigInt, TooDeep, Undefined, decode_json, js_string, members, number, utf16

RootKind = Literal["text", "array", "map", "xml"]
_SHARED = (pycrdt.Text, pycrdt.Array, pycrdt.Map, pycrdt.XmlText, pycrdt.XmlElement, pycrdt.XmlFragment)


class RootIsNotText(ValueError):
    """The document has content but no such `Y.Text`; `roots` holds the kind of each root that it has."""

    def __init__(self, root: str, roots: dict[str, RootKind]) -> None:
        kind = roots.get(root)
        if kind is None:
            message = f"there is no root {root!r}; the document has {', '.join(map(repr, sorted(roots)))}"
        else:
            message = f"the root {root!r} holds a Y.{kind.capitalize()}, not a Y.Text"
        super().__init__(message)
        self.root = root
        self.roots = roots

    def __reduce__(self) -> tuple[Any, ...]:
        """Return the pickled form, in which a worker process passes the error on."""
        return RootIsNotText, (self.root, self.roots)


class NestedTooDeeply(ValueError):
    """The document's content is nested too deeply to be traversed."""

    def __init__(self) -> None:
        super().__init__("the document holds what is nested some hundred levels deep")

    def __reduce__(self) -> tuple[Any, ...]:
        return NestedTooDeeply, ()


def read_text(parts: Sequence[bytes], root: str, *, absent: bool = False) -> str:
    """Return the text of a root of the document built from updates; empty if the document has no content.

    Args:
        absent: whether the text is also empty if the root does not exist but others do.

    Raises:
        RootIsNotText
    """
    document = build_document(parts)
    require_text(document, root, absent=absent)
    return str(document.get(root, type=pycrdt.Text))


def require_text(document: Document, root: str, *, absent: bool) -> None:
    """Require that a root can be read as a text. Uses yrs, and creates no root.

    Args:
        absent: whether the root may be missing although there are others.

    Raises:
        RootIsNotText
    """
    if root in document.keys():  # noqa: SIM118 - not a dict
        if str(document.get(root, type=pycrdt.Text)) or _kind_told_by_yrs(document, root) in (None, "text"):
            return
    elif absent:
        return
    told = {name: _kind_told_by_yrs(document, name) for name in sorted(document.keys())}
    roots = {name: kind for name, kind in told.items() if kind is not None}
    if roots:
        raise RootIsNotText(root, roots)


def _kind_told_by_yrs(document: Document, root: str) -> RootKind | None:
    """Return the kind of an existing root, as `kind_of` does; None if nothing is left of it.

    yrs loops forever when some types are read as others, but every type can be read as a text.
    """
    text = document.get(root, type=pycrdt.Text)
    pieces = [piece for piece, _ in text.diff()]
    types = [piece for piece in pieces if isinstance(piece, _SHARED)]
    if any(not isinstance(piece, (*_SHARED, pycrdt.Doc)) for piece in pieces):
        return "text"
    if len(types) < len(text):
        return "array"
    if types:
        nodes = all(isinstance(each, (pycrdt.XmlElement, pycrdt.XmlText)) for each in types)
        return "xml" if nodes else "array"
    return "map" if len(document.get(root, type=pycrdt.Map)) else None


def read_roots(update: bytes) -> dict[str, Any]:
    """Return all roots of the whole document `update` as plain values for JSON.

    Raises:
        NestedTooDeeply
    """
    tree = read_tree(update)
    try:
        return {name: _root(tree.roots[name]) for name in sorted(tree.roots)}
    except RecursionError:
        raise NestedTooDeeply from None


def kind_of(root: Node) -> RootKind | None:
    """Return which kind of shared type a root is; None if nothing is left of it.

    Yjs knows the kind of a root only from the application that asks for the root, so the kind is inferred from the
    content: characters, formats and embeds make a text, even with shared types between them; other values make an
    array; XML nodes alone make XML; entries by key make a map.
    """
    contents = set()
    for item in root.items():
        if item.deleted:
            continue
        if item.kind in (STRING, FORMAT, EMBED):
            return "text"
        node = item.kind == TYPE and item.content.kind in (XML_ELEMENT, XML_HOOK, XML_TEXT)
        contents.add("node" if node else "value")
    if contents:
        return "array" if "value" in contents else "xml"
    return "map" if root.members() else None


def _root(root: Node) -> Any:
    match kind_of(root):
        case "text":
            return _characters(root)
        case "array":
            return [_json(value) for value in values(root)]
        case "xml":
            return _element(root) if root.members() else _children(root)
        case "map":
            return {key: _json(value_of(item)) for key, item in root.members().items()}
        case None:
            return None


def values(node: Node) -> list[Any]:
    """Return the contents of a sequence: plain values, nodes, and items for subdocuments."""
    return [value for item in node.items() if not item.deleted and item.kind != FORMAT for value in item.values()]


def value_of(item: Item) -> Any:
    """Return the value in an item of a key."""
    return item.values()[-1]


def _json(value: Any) -> Any:
    """Convert a shared type or a plain value as Yjs's toJSON and JSON.stringify do."""
    match value:
        case Node(kind=kind):
            return _node_json(value, kind)
        case Item():
            return {}
        case dict():
            return {name: _json(member) for name, member in members(value)}
        case list():
            return [_json(item) for item in value]
        case TooDeep():
            raise RecursionError
        case bytes():
            return base64.b64encode(value).decode()
        case Undefined():
            return None
        case BigInt():
            return int(value)
        case float():
            return number(value)
        case _:
            return value


def _node_json(node: Node, kind: int | None) -> Any:
    if kind == ARRAY:
        return [_json(value) for value in values(node)]
    if kind in (MAP, XML_HOOK):
        return {key: _json(value_of(item)) for key, item in node.members().items()}
    return _string(node)


def _string(value: Any) -> str:
    """Return JavaScript's `String(value)`, also for a shared type (nothing is escaped)."""
    match value:
        case Node(kind=kind):
            if kind == TEXT:
                return _characters(value)
            if kind == XML_TEXT:
                return _formatted_text(value)
            if kind == XML_ELEMENT:
                return _element(value)
            return _children(value) if kind == XML_FRAGMENT else "[object Object]"
        case Item():
            return "[object Object]"
        case _:
            return js_string(value)


def _characters(node: Node) -> str:
    return "".join(item.content for item in node.items() if item.kind == STRING and not item.deleted)


def _children(node: Node) -> str:
    return "".join(_string(value) for value in values(node))


def _element(node: Node) -> str:
    found = sorted(node.members().items(), key=lambda member: utf16(member[0]))
    attributes = "".join(f' {key}="{_string(value_of(item))}"' for key, item in found)
    name = (node.name if node.kind is not None else "undefined").lower()
    return f"<{name}{attributes}>{_children(node)}</{name}>"


def _formatted_text(node: Node) -> str:
    """Return the text with its formats as tags, as `YXmlText.toString` writes them."""
    pieces: list[str] = []
    for content, attributes in delta(node):
        names = sorted(attributes, key=utf16)
        pieces += [f"<{name}{_format_attributes(attributes[name])}>" for name in names]
        pieces.append(_string(content))
        pieces += [f"</{name}>" for name in reversed(names)]
    return "".join(pieces)


def delta(node: Node) -> list[tuple[Any, dict[str, Any]]]:
    """Return a text as runs with their formats, like `YText.toDelta`; characters are joined up to the next format."""
    pieces: list[tuple[Any, dict[str, Any]]] = []
    attributes: dict[str, Any] = {}
    joinable = False
    for item in node.items():
        if item.deleted:
            continue
        if item.kind == FORMAT:
            name, value = item.content[0], decode_json(item.content[1])
            joinable = False
            attributes = {key: each for key, each in attributes.items() if key != name}
            if value is not None:
                attributes[name] = value
        elif item.kind == STRING and joinable:
            pieces[-1] = (pieces[-1][0] + item.content, attributes)
        elif item.kind == STRING:
            pieces.append((item.content, attributes))
            joinable = True
        elif item.kind in (TYPE, EMBED):
            pieces.append((item.values()[0], attributes))
            joinable = False
    return pieces


def _format_attributes(value: Any) -> str:
    """Return as attributes what `for (const key in value)` iterates over in the value of a format."""
    if isinstance(value, str | list):
        found: list[tuple[str, Any]] = sorted((str(index), member) for index, member in enumerate(value))
    else:
        found = sorted(value.items(), key=lambda member: utf16(member[0])) if isinstance(value, dict) else []
    return "".join(f' {key}="{js_string(member)}"' for key, member in found)
