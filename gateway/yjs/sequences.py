"""The sequence of a shared type as tokens with their formats. Pure.

A token is a character (a code point, however many clocks it takes) or any other single element of a sequence.
"""

from bisect import bisect_right
from collections.abc import Hashable, Iterator

from gateway.yjs.lib0 import var_bytes, var_uint
from gateway.yjs.scan import ANY, FORMAT, JSON, STRING, TYPE, XML_ELEMENT, XML_HOOK, Place
from gateway.yjs.tree import Item, Node
from gateway.yjs.values import canonical, decode_json

Formats = dict[str, tuple[Hashable, bytes]]
"""The formats in effect by name: the canonical value, for comparison, and the JSON of the value."""
Slice = tuple[Item, int, int, Formats]
"""Some tokens of an item: the item, the index of the first token, the count, and the formats."""


class Wanted:
    """The sequence that another sequence is to be turned into."""

    def __init__(self, node: Node) -> None:
        self._items: list[tuple[Item, Formats]] = []
        self._starts: list[int] = []
        self.formats: Formats = {}
        """The formats in effect at the end of the sequence."""
        start = 0
        for item, formats in formatted(node, self.formats):
            self._items.append((item, formats))
            self._starts.append(start)
            start += token_count(item)

    def slices(self, first: int, count: int) -> Iterator[Slice]:
        index = bisect_right(self._starts, first) - 1
        while count:
            item, formats = self._items[index]
            offset = first - self._starts[index]
            many = min(count, token_count(item) - offset)
            yield item, offset, many, formats
            first, count, index = first + many, count - many, index + 1


def formatted(node: Node, formats: Formats | None = None) -> Iterator[tuple[Item, Formats]]:
    """Yield the items of a sequence with their formats. When exhausted, `formats` holds the formats at the end."""
    present: Formats = {} if formats is None else formats
    given = dict(present)
    for item in node.items():
        if item.deleted:
            continue
        if item.kind == FORMAT:
            given = dict(apply_mark(present, item))
        else:
            yield item, given


def apply_mark(formats: Formats, mark: Item) -> Formats:
    name, value = mark.content[0], decode_json(mark.content[1])
    if value is None:
        formats.pop(name, None)
    else:
        formats[name] = (canonical(value), mark.content[1])
    return formats


def told_format(formats: Formats, name: str) -> Hashable:
    return formats[name][0] if name in formats else None


def token_count(item: Item) -> int:
    """Return how many tokens an item holds; characters count as code points."""
    return len(item.content) if item.kind in (STRING, ANY, JSON) else 1


def units_of(item: Item, count: int) -> int:
    """Return how many clocks the first `count` tokens of an item take."""
    if item.kind != STRING or item.length == len(item.content):
        return count
    return len(item.content[:count].encode("utf-16-le")) // 2


def place_of(item: Item, count: int) -> Place:
    return (item.client, item.clock + units_of(item, count))


def copied_content(item: Item, start: int, count: int) -> tuple[bytes, int]:
    """Return struct content that copies `count` tokens of an item, and how many clocks the content takes."""
    match item.kind:
        case 4:
            text: str = item.content[start : start + count]
            return var_bytes(text.encode()), units_of(item, start + count) - units_of(item, start)
        case 8:
            return var_uint(count) + b"".join(item.content[start : start + count]), count
        case 2:
            return var_uint(count) + b"".join(map(var_bytes, item.content[start : start + count])), count
        case 7:
            node: Node = item.content
            assert node.kind is not None
            named = node.kind in (XML_ELEMENT, XML_HOOK)
            return var_uint(node.kind) + (var_bytes(node.name.encode()) if named else b""), 1
        case 3 | 5 | 9:
            return item.content, 1
    raise TypeError(f"a content of the kind {item.kind} is not copied")


def nodes_of(node: Node) -> dict[int, Node]:
    """Return the shared types in a sequence by their token index."""
    places = {}
    at = 0
    for item, _ in formatted(node):
        if item.kind == TYPE:
            places[at] = item.content
        at += token_count(item)
    return places
