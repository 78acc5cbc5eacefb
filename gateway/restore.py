"""Makes a document's content that of another one, by the least of edits: a new edit like any other. Pure.

What is equal in both stays as it is, so that what others do to it at the same time is not lost: characters and formats
of a text, entries of a map, items of an array, nodes and attributes of XML. What differs in kind is made anew.
"""

from collections.abc import Hashable, Iterator, Sequence
from typing import Any

import pycrdt
from rapidfuzz.distance import Indel

from gateway.roots import open_roots
from gateway.texts import apply_edits, smallest_edits

_SHARED = (pycrdt.Text, pycrdt.Array, pycrdt.Map, pycrdt.XmlText, pycrdt.XmlElement, pycrdt.XmlFragment)


def restore_content(document: "pycrdt.Doc[Any]", old: bytes) -> None:
    """Edit `document` until its roots hold what those of the whole document `old` hold."""
    source = open_roots(old)
    target = open_roots(document.get_update(), document)
    for name, root in target.items():
        if name not in source:
            _clear(root)
    for name, root in source.items():
        present = target.get(name)
        if present is None or type(present) is not type(root):
            present = document.get(name, type=type(root))
        _reconcile(present, root)


def _clear(shared: Any) -> None:
    match shared:
        case pycrdt.Map():
            for key in list(shared.keys()):
                del shared[key]
        case pycrdt.Text() | pycrdt.Array():
            shared.clear()
        case _:
            del shared.children[0 : len(shared.children)]


def _reconcile(target: Any, source: Any) -> None:
    """Make one shared type hold what another of its kind holds."""
    match source:
        case pycrdt.XmlText() | pycrdt.Text():
            _reconcile_text(target, source)
        case pycrdt.Map():
            _reconcile_map(target, source)
        case pycrdt.Array():
            _reconcile_items(target, list(target), list(source))
        case pycrdt.XmlFragment():
            _reconcile_items(target.children, list(target.children), list(source.children))
        case pycrdt.XmlElement():
            _reconcile_attributes(target, source)
            _reconcile_items(target.children, list(target.children), list(source.children))


def _reconcile_map(target: "pycrdt.Map[Any]", source: "pycrdt.Map[Any]") -> None:
    for key in [key for key in target.keys() if key not in source]:  # noqa: SIM118 - not a dict
        del target[key]
    for key in source.keys():  # noqa: SIM118 - not a dict
        wanted = source[key]
        present = target.get(key, None)
        if key in target and _fingerprint(present) == _fingerprint(wanted):
            continue
        if _same_kind(present, wanted):
            _reconcile(present, wanted)
        else:
            target[key] = _blank(wanted)
            if isinstance(wanted, _SHARED):
                _reconcile(target[key], wanted)


def _reconcile_attributes(target: Any, source: Any) -> None:
    present, wanted = _attributes(target), _attributes(source)
    for key in present.keys() - wanted.keys():
        del target.attributes[key]
    for key, value in wanted.items():
        if present.get(key) != value:
            target.attributes[key] = value


def _attributes(element: Any) -> dict[str, Any]:
    """pycrdt's view of attributes iterates over pairs."""
    return dict(iter(element.attributes))


def _reconcile_items(target: Any, present: Sequence[Any], wanted: Sequence[Any]) -> None:
    """Items of an array or nodes of XML: equal ones stay, others are edited in place, made or deleted."""
    operations = Indel.opcodes([_fingerprint(item) for item in present], [_fingerprint(item) for item in wanted])
    for start, end, new in reversed(list(_differing(operations))):
        items = wanted[new[0] : new[1]]
        kept = 0
        while kept < min(end - start, len(items)) and _same_kind(present[start + kept], items[kept]):
            _reconcile(target[start + kept], items[kept])
            kept += 1
        if end > start + kept:
            del target[start + kept : end]
        for offset, item in enumerate(items[kept:]):
            position = start + kept + offset
            target.insert(position, _blank(item))
            if isinstance(item, _SHARED):
                _reconcile(target[position], item)


def _differing(operations: Any) -> Iterator[tuple[int, int, tuple[int, int]]]:
    """The ranges that differ, neighbours as one: (start, end, (start, end) of the wanted)."""
    pending: tuple[int, int, tuple[int, int]] | None = None
    for operation in operations:
        if operation.tag == "equal":
            if pending is not None:
                yield pending
            pending = None
        elif pending is None:
            pending = (operation.src_start, operation.src_end, (operation.dest_start, operation.dest_end))
        else:
            pending = (pending[0], operation.src_end, (pending[2][0], operation.dest_end))
    if pending is not None:
        yield pending


def _reconcile_text(target: Any, source: Any) -> None:
    """Characters first, then embeds, then formats."""
    if any(not isinstance(content, str) for content, _ in [*target.diff(), *source.diff()]):
        _rewrite_text(target, source)
        return
    apply_edits(target, smallest_edits(str(target), str(source)))
    present = _formats(target)
    for start, end, wanted in _formats(source):
        for first, last, found in present:
            low, high = max(start, first), min(end, last)
            if low < high:
                change = {name: wanted.get(name) for name in wanted.keys() | found.keys()}
                if any(found.get(name) != value for name, value in change.items()):
                    target.format(low, high, change)


def _formats(text: Any) -> list[tuple[int, int, dict[str, Any]]]:
    """The formats of a text without embeds, as ranges of UTF-8 bytes."""
    ranges, position = [], 0
    for content, attributes in text.diff():
        end = position + len(content.encode())
        ranges.append((position, end, attributes or {}))
        position = end
    return ranges


def _rewrite_text(target: Any, source: Any) -> None:
    """Where embeds are involved: replace from the first piece that differs to the last."""
    present, wanted = target.diff(), source.diff()
    if present == wanted:
        return
    head = 0
    while head < min(len(present), len(wanted)) and present[head] == wanted[head]:
        head += 1
    start = sum(_length(content) for content, _ in present[:head])
    if start < len(target):
        del target[start : len(target)]
    for content, attributes in wanted[head:]:
        if isinstance(content, str):
            target.insert(start, content, attributes or None)
        else:
            target.insert_embed(start, content, attributes or None)
        start += _length(content)


def _length(content: Any) -> int:
    return len(content.encode()) if isinstance(content, str) else 1


def _same_kind(present: Any, wanted: Any) -> bool:
    """Whether one shared type can be edited into the other."""
    if isinstance(wanted, pycrdt.XmlElement):
        return isinstance(present, pycrdt.XmlElement) and present.tag == wanted.tag
    return isinstance(wanted, _SHARED) and type(present) is type(wanted)


def _blank(item: Any) -> Any:
    """What to put in a place before it is filled: an empty shared type, or the plain value itself."""
    match item:
        case pycrdt.XmlElement():
            return pycrdt.XmlElement(item.tag)
        case _ if isinstance(item, _SHARED):
            return type(item)()
        case _:
            return item


def _fingerprint(item: Any) -> Hashable:
    """Equal for what holds the same."""
    match item:
        case pycrdt.XmlText() | pycrdt.Text():
            return ("text", type(item).__name__, repr(item.diff()))
        case pycrdt.Map():
            return ("map", tuple((key, _fingerprint(item[key])) for key in sorted(item.keys())))
        case pycrdt.Array():
            return ("array", tuple(_fingerprint(each) for each in item))
        case pycrdt.XmlElement():
            attributes = tuple(sorted((key, repr(value)) for key, value in _attributes(item).items()))
            return ("element", item.tag, attributes, tuple(_fingerprint(child) for child in item.children))
        case pycrdt.XmlFragment():
            return ("fragment", tuple(_fingerprint(child) for child in item.children))
        case pycrdt.Doc():
            return ("document", item.guid)
        case _:
            return ("value", type(item).__name__, _canonical(item))


def _canonical(value: Any) -> str:
    if isinstance(value, dict):
        return repr({key: _canonical(value[key]) for key in sorted(value)})
    return repr([_canonical(each) for each in value]) if isinstance(value, list) else repr(value)
