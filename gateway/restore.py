"""Makes a document's content that of another one, by the least of edits: a new edit like any other. Pure.

What is equal in both stays as it is, so that what others do to it at the same time is not lost: characters and formats
of a text, entries of a map, items of an array, nodes and attributes of XML. What differs in kind is made anew.

pycrdt cannot put every shared type wherever Yjs can (an XML node into a map or an array, most into a text). There an
empty map takes its place, which becomes what it is to be in the bytes of the update; a further pass fills it.
"""

from collections.abc import Hashable, Iterator, Sequence
from typing import Any

import pycrdt
from rapidfuzz.distance import Indel

from gateway.roots import NestedTooDeeply, open_roots
from gateway.struct_writing import (
    XML_FRAGMENT_CONTENT,
    XML_TEXT_CONTENT,
    retype_maps,
    subdocument_content,
    xml_element_content,
)
from gateway.texts import apply_edits, characters, formats, smallest_edits
from gateway.updates import Document, build_document, merge

_SHARED = (pycrdt.Text, pycrdt.Array, pycrdt.Map, pycrdt.XmlText, pycrdt.XmlElement, pycrdt.XmlFragment)
_MOST_PASSES = 1000
_EXACT_CELLS = 2**28
"""Bound of (tokens of one text) × (tokens of the other) up to which the smallest edit is searched."""


def restoring_update(present: bytes, old: bytes, client_id: int) -> bytes | None:
    """The update, of a client, that makes the content of the whole document `present` that of `old`; None if it is so.

    Raises:
        NestedTooDeeply
    """
    updates: list[bytes] = []
    for _ in range(_MOST_PASSES):
        document = build_document([present, *updates], client_id)
        emitted: list[bytes] = []
        subscription = document.observe(lambda event, emitted=emitted: emitted.append(event.update))
        edit = _Edit(first=not updates)
        try:
            with document.transaction():
                edit.restore(document, old)
        except RecursionError:
            raise NestedTooDeeply from None
        document.unobserve(subscription)
        if emitted:
            updates.append(retype_maps(emitted[0], client_id, edit.made) if edit.incomplete else emitted[0])
        if not edit.incomplete:
            return merge(updates) if updates else None
    raise NestedTooDeeply


class _Edit:
    """One pass over a document."""

    def __init__(self, *, first: bool) -> None:
        self._first = first
        self.made: list[bytes | None] = []
        """Every shared type that was made, in order: what the map in its place is to be, None where it is itself."""

    @property
    def incomplete(self) -> bool:
        """Whether a map stands for something else, which is to be filled in the next pass."""
        return any(content is not None for content in self.made)

    def restore(self, document: Document, old: bytes) -> None:
        """Edit until the roots hold what those of the whole document `old` hold."""
        target, source = open_roots([document, build_document([old])])
        for name, root in target.items():
            if name not in source:
                _clear(root)
        for name, root in source.items():
            present = target.get(name)
            self._reconcile(document.get(name, type=type(root)) if present is None else present, root)

    def _reconcile(self, target: Any, source: Any) -> None:
        """Make one shared type hold what another of its kind holds."""
        match source:
            case pycrdt.XmlText():
                self._reconcile_attributes(target, source)
                self._reconcile_text(target, source)
            case pycrdt.Text():
                self._reconcile_text(target, source)
            case pycrdt.Map():
                self._reconcile_map(target, source)
            case pycrdt.Array():
                self._reconcile_items(target, list(target), list(source))
            case pycrdt.XmlFragment():
                self._reconcile_items(target.children, list(target.children), list(source.children))
            case pycrdt.XmlElement():
                self._reconcile_attributes(target, source)
                self._reconcile_items(target.children, list(target.children), list(source.children))

    def _reconcile_map(self, target: "pycrdt.Map[Any]", source: "pycrdt.Map[Any]") -> None:
        for key in [key for key in target.keys() if key not in source]:  # noqa: SIM118 - not a dict
            del target[key]
        for key in source.keys():  # noqa: SIM118 - not a dict
            wanted = source[key]
            present = target.get(key, None)
            if key in target and _fingerprint(present) == _fingerprint(wanted):
                continue
            if _same_kind(present, wanted):
                self._reconcile(present, wanted)
            else:
                target[key], complete = self._blank(wanted)
                if complete:
                    self._reconcile(target[key], wanted)

    def _reconcile_attributes(self, target: Any, source: Any) -> None:
        present, wanted = _attributes(target), _attributes(source)
        for key in present.keys() - wanted.keys():
            del target.attributes[key]
        for key, value in wanted.items():
            if key not in present or present[key] != value:
                target.attributes[key] = _writable(value)

    def _reconcile_items(self, target: Any, present: Sequence[Any], wanted: Sequence[Any]) -> None:
        """Items of an array or nodes of XML: equal ones stay, others are edited in place, made or deleted."""
        if not self._first and len(present) == len(wanted):  # all that is missing is inside
            for place, (item, other) in enumerate(zip(present, wanted, strict=True)):
                if _same_kind(item, other) and _fingerprint(item) != _fingerprint(other):
                    self._reconcile(target[place], other)
            return
        for start, end, new in _differing([*map(_fingerprint, present)], [*map(_fingerprint, wanted)]):
            items = wanted[new[0] : new[1]]
            kept = 0
            while kept < min(end - start, len(items)) and _same_kind(present[start + kept], items[kept]):
                self._reconcile(target[start + kept], items[kept])
                kept += 1
            if end > start + kept:
                del target[start + kept : end]
            for position, item in enumerate(items[kept:], start + kept):
                blank, complete = self._blank(item, among_nodes=isinstance(target, pycrdt._xml.XmlChildrenView))
                target.insert(position, blank)
                if complete:
                    self._reconcile(target[position], item)

    def _reconcile_text(self, target: Any, source: Any) -> None:
        """Characters and embeds first, then what is in the embeds, then formats."""
        if any(not isinstance(content, str) for content, _ in [*target.diff(), *source.diff()]):
            self._reconcile_pieces(target, source)
        else:
            apply_edits(target, smallest_edits(characters(target), characters(source)))
        for start, end, wanted in list(formats(source)):
            for first, last, found in list(formats(target, start)):
                low, high = max(start, first), min(end, last)
                if low < high and found != wanted:
                    target.format(
                        low, high, {name: _writable(wanted.get(name)) for name in wanted.keys() | found.keys()}
                    )

    def _reconcile_pieces(self, target: Any, source: Any) -> None:
        """The characters and embeds of a text."""
        present, wanted = _tokens(target), _tokens(source)
        starts = [0]
        for content, _ in present:
            starts.append(starts[-1] + _length(content))
        for start, end, new in _differing([token for _, token in present], [token for _, token in wanted]):
            position = starts[start]
            if end > start:
                del target[position : starts[end]]
            for content in _joined(content for content, _ in wanted[new[0] : new[1]]):
                if isinstance(content, str):
                    target.insert(position, content)
                else:
                    target.insert_embed(position, self._blank(content)[0])
                position += _length(content)
        for embed, other in zip(_embeds(target), _embeds(source), strict=True):
            if _same_kind(embed, other) and _fingerprint(embed) != _fingerprint(other):
                self._reconcile(embed, other)

    def _blank(self, item: Any, *, among_nodes: bool = False) -> tuple[Any, bool]:
        """What to put in a place, and whether that is to be filled now.

        An empty shared type, a map that is to become what pycrdt cannot put there, or the plain value itself.
        """
        if not isinstance(item, (*_SHARED, pycrdt.Doc)):
            return _writable(item), False
        content = None if among_nodes else _content_in_place_of_map(item)
        self.made.append(content)
        if content is not None:
            return pycrdt.Map(), False
        return (pycrdt.XmlElement(item.tag) if isinstance(item, pycrdt.XmlElement) else type(item)()), True


def _clear(shared: Any) -> None:
    match shared:
        case pycrdt.Map():
            for key in list(shared.keys()):
                del shared[key]
        case pycrdt.Text() | pycrdt.Array():
            shared.clear()
        case _:
            del shared.children[0 : len(shared.children)]


def _content_in_place_of_map(item: Any) -> bytes | None:
    """The content of a struct that holds an empty shared type of an item's kind; None where pycrdt can make it."""
    match item:
        case pycrdt.XmlElement():
            return xml_element_content(item.tag or "")
        case pycrdt.XmlText():
            return XML_TEXT_CONTENT
        case pycrdt.XmlFragment():
            return XML_FRAGMENT_CONTENT
        case pycrdt.Doc():
            return subdocument_content(item.guid)
        case _:
            return None


def _writable(value: Any) -> Any:
    """A plain value as pycrdt takes it: not with the byte arrays that it gives."""
    match value:
        case bytearray():
            return bytes(value)
        case list():
            return [_writable(each) for each in value]
        case dict():
            return {key: _writable(each) for key, each in value.items()}
        case _:
            return value


def _attributes(node: Any) -> dict[str, Any]:
    """pycrdt's view of attributes iterates over pairs."""
    return dict(iter(node.attributes))


def _differing(present: Sequence[Hashable], wanted: Sequence[Hashable]) -> list[tuple[int, int, tuple[int, int]]]:
    """The ranges that differ, neighbours as one, the last first: (start, end, (start, end) of the wanted)."""
    head = 0
    while head < min(len(present), len(wanted)) and present[head] == wanted[head]:
        head += 1
    tail = 0
    while tail < min(len(present), len(wanted)) - head and present[-1 - tail] == wanted[-1 - tail]:
        tail += 1
    old, new = present[head : len(present) - tail], wanted[head : len(wanted) - tail]
    if len(old) * len(new) > _EXACT_CELLS:
        return [(head, head + len(old), (head, head + len(new)))]
    ranges: list[tuple[int, int, tuple[int, int]]] = []
    for operation in Indel.opcodes(old, new):
        if operation.tag == "equal":
            continue
        start, end = head + operation.src_start, head + operation.src_end
        first, last = head + operation.dest_start, head + operation.dest_end
        if ranges and ranges[-1][1] == start and ranges[-1][2][1] == first:
            ranges[-1] = (ranges[-1][0], end, (ranges[-1][2][0], last))
        else:
            ranges.append((start, end, (first, last)))
    return ranges[::-1]


def _tokens(text: Any) -> list[tuple[Any, Hashable]]:
    """The characters and embeds of a text, each with what it is compared by: its kind if it can be edited."""
    tokens: list[tuple[Any, Hashable]] = []
    for content, _ in text.diff():
        if isinstance(content, str):
            tokens += [(character, character) for character in content]
        else:
            tokens.append((content, _kind(content) or _fingerprint(content)))
    return tokens


def _joined(contents: Iterator[Any]) -> Iterator[Any]:
    """Neighbouring characters as one text."""
    characters: list[str] = []
    for content in contents:
        if isinstance(content, str):
            characters.append(content)
            continue
        if characters:
            yield "".join(characters)
            characters = []
        yield content
    if characters:
        yield "".join(characters)


def _embeds(text: Any) -> list[Any]:
    return [content for content, _ in text.diff() if not isinstance(content, str)]


def _length(content: Any) -> int:
    return len(content.encode()) if isinstance(content, str) else 1


def _kind(item: Any) -> tuple[str, ...] | None:
    """What cannot be changed of a shared type; None for other values."""
    if isinstance(item, pycrdt.XmlElement):
        return ("XmlElement", str(item.tag))
    return (type(item).__name__,) if isinstance(item, _SHARED) else None


def _same_kind(present: Any, wanted: Any) -> bool:
    """Whether one shared type can be edited into the other."""
    return _kind(present) is not None and _kind(present) == _kind(wanted)


def _fingerprint(item: Any) -> Hashable:
    """Equal for what holds the same."""
    match item:
        case pycrdt.XmlText() | pycrdt.Text():
            attributes = _attribute_fingerprint(item) if isinstance(item, pycrdt.XmlText) else ()
            pieces = tuple((_fingerprint(content), _canonical(format_ or {})) for content, format_ in item.diff())
            return ("text", type(item).__name__, attributes, pieces)
        case pycrdt.Map():
            return ("map", tuple((key, _fingerprint(item[key])) for key in sorted(item.keys())))
        case pycrdt.Array():
            return ("array", tuple(_fingerprint(each) for each in item))
        case pycrdt.XmlElement():
            return ("element", item.tag, _attribute_fingerprint(item), tuple(map(_fingerprint, item.children)))
        case pycrdt.XmlFragment():
            return ("fragment", tuple(map(_fingerprint, item.children)))
        case pycrdt.Doc():
            return ("document", item.guid)
        case _:
            return ("value", _canonical(item))


def _attribute_fingerprint(node: Any) -> Hashable:
    return tuple((key, _canonical(value)) for key, value in sorted(_attributes(node).items()))


def _canonical(value: Any) -> Hashable:
    match value:
        case dict():
            return ("object", tuple((key, _canonical(value[key])) for key in sorted(value)))
        case list():
            return ("list", tuple(map(_canonical, value)))
        case _:
            return (type(value).__name__, repr(value))
