"""A document's roots as text and as JSON, equal to what Yjs's `toJSON` gives. Pure.

Object members come sorted by name, bytes as base64, a subdocument as `{}`; undefined and a root of which nothing is
left as null.
"""

import base64
import math
from collections.abc import Sequence
from typing import Any

import pycrdt

from gateway.structs import RootKind, root_kinds
from gateway.updates import Document, build_document

_TYPES: dict[RootKind, type[pycrdt.Text | pycrdt.Array[Any] | pycrdt.Map[Any] | pycrdt.XmlFragment]] = {
    "text": pycrdt.Text,
    "array": pycrdt.Array,
    "xml": pycrdt.XmlFragment,
    "map": pycrdt.Map,
}
"""What tells more of a root comes before what tells less: characters make a text of it, whatever else it holds."""


class RootIsNotText(ValueError):
    """The root holds something else than a `Y.Text`: `kind` is "array", "map" or "xml"."""

    def __init__(self, root: str, kind: str) -> None:
        super().__init__(f"the root {root!r} holds a Y.{kind.capitalize()}, not a Y.Text")
        self.root = root
        self.kind = kind


def read_text(update: bytes, root: str) -> str:
    """The text of a root of the whole document `update`; empty if there is no such root.

    Raises:
        RootIsNotText
    """
    text = str(build_document([update]).get(root, type=pycrdt.Text))
    if not text:
        require_text(update, root)
    return text


def require_text(update: bytes, root: str) -> None:
    """Raises RootIsNotText if a root of the whole document `update` holds something else.

    yrs does not check it, and loops for ever over some types read as others; as a text, though, each can be asked for
    its characters, and has none unless it is one.
    """
    kind = root_kinds(update).get(root)
    if kind not in (None, "text"):
        raise RootIsNotText(root, str(kind))


def open_roots(documents: Sequence[Document]) -> list[dict[str, Any]]:
    """The roots of each document whose kind can be told, as shared types: of one name of one kind in all of them."""
    kinds: dict[str, RootKind] = {}
    found = []
    for document in documents:
        told = {name: kind for name, kind in root_kinds(document.get_update()).items() if kind is not None}
        found.append(told)
        for name, kind in told.items():  # what tells more is told
            kinds[name] = min(kind, kinds.get(name, kind), key=list(_TYPES).index)
    return [
        {name: document.get(name, type=_TYPES[kinds[name]]) for name in told}
        for document, told in zip(documents, found, strict=True)
    ]


class NestedTooDeeply(ValueError):
    """What the document holds is nested more deeply than can be followed."""

    def __init__(self) -> None:
        super().__init__("the document holds what is nested some hundred levels deep")


def read_roots(update: bytes) -> dict[str, Any]:
    """All roots of the whole document `update`, as plain values for JSON.

    Raises:
        NestedTooDeeply
    """
    document = build_document([update])
    try:
        return {
            name: None if kind is None else _plain(document.get(name, type=_TYPES[kind]))
            for name, kind in root_kinds(update).items()
        }
    except RecursionError:
        raise NestedTooDeeply from None


def _plain(value: Any) -> Any:
    """A shared type or a value in it as Yjs's toJSON and JSON.stringify make it."""
    match value:
        case pycrdt.Map():
            return {key: _plain(value[key]) for key in sorted(value.keys())}
        case pycrdt.Array():
            return [_plain(item) for item in value]
        case pycrdt.XmlText() | pycrdt.XmlElement() | pycrdt.XmlFragment():
            return _markup(value)
        case pycrdt.Text():
            return str(value)
        case pycrdt.Doc():
            return {}
        case dict():
            return {key: _plain(value[key]) for key in sorted(value)}
        case list():
            return [_plain(item) for item in value]
        case bytes() | bytearray():
            return base64.b64encode(value).decode()
        case float():
            return _number(value)
        case _:
            return value


def _number(value: float) -> int | float | None:
    """As JSON.stringify: whole numbers without a fraction, null for what JSON has no number for."""
    if not math.isfinite(value):
        return None
    return int(value) if value.is_integer() and abs(value) < 1e21 else value


def _markup(node: Any) -> str:
    """An XML node as the `toString` of YXmlFragment, YXmlElement and YXmlText writes it (nothing is escaped)."""
    if isinstance(node, pycrdt.XmlText):
        return "".join(_formatted(content, attributes) for content, attributes in node.diff())
    children = "".join(_markup(child) for child in node.children)
    if not isinstance(node, pycrdt.XmlElement):
        return children
    name = (node.tag or "undefined").lower()
    view: Any = node.attributes  # iterates over pairs, whatever its type says
    members: dict[str, Any] = dict(view)
    attributes = "".join(f' {key}="{_js_string(members[key])}"' for key in sorted(members))
    return f"<{name}{attributes}>{children}</{name}>"


def _formatted(content: Any, attributes: dict[str, Any] | None) -> str:
    names = sorted(attributes or ())
    opening = "".join(f"<{name}{_format_attributes((attributes or {})[name])}>" for name in names)
    return opening + _js_string(content) + "".join(f"</{name}>" for name in reversed(names))


def _format_attributes(value: Any) -> str:
    """What `for (const key in value)` finds in the value of a format."""
    if isinstance(value, str | list):
        members: list[tuple[str, Any]] = sorted((str(index), member) for index, member in enumerate(value))
    else:
        members = sorted(value.items()) if isinstance(value, dict) else []
    return "".join(f' {key}="{_js_string(member)}"' for key, member in members)


def _js_string(value: Any) -> str:
    """`String(value)` in JavaScript."""
    match value:
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case None:
            return "null"
        case int() | float():
            return _js_number(value)
        case list():
            return ",".join("" if item is None else _js_string(item) for item in value)
        case dict() | pycrdt.Map() | pycrdt.Array() | pycrdt.Doc():
            return "[object Object]"
        case _:
            return _markup(value) if hasattr(value, "children") or isinstance(value, pycrdt.XmlText) else str(value)


def _js_number(value: float) -> str:
    if not math.isfinite(value):
        return {math.inf: "Infinity", -math.inf: "-Infinity"}.get(value, "NaN")
    if float(value).is_integer() and abs(value) < 1e21:
        return str(int(value))
    mantissa, _, exponent = repr(value).partition("e")
    if not exponent:
        return mantissa
    power = int(exponent)
    if -7 < power < 0:
        return f"{value:.{len(mantissa.replace('-', '').replace('.', '')) - 1 - power}f}"
    return f"{mantissa}e{'+' if power > 0 else ''}{power}"
