"""A whole document as Yjs has it: its roots, and the contents of each shared type, in order and by key. Pure.

yrs's own views omit a type's entries by key if the type also has a sequence (attributes of a `Y.Text` and of roots),
and misrepresent some values. Therefore the structs of the document are read here, and integrated by the rules of Yjs
(`src/structs/Item.js`, `src/utils/encoding.js`).
"""

from bisect import bisect_right
from collections.abc import Iterator
from typing import Any

from gateway.yjs.lib0 import block, uint
from gateway.yjs.scan import (
    ANY,
    DELETED,
    GC,
    JSON,
    SKIP,
    STRING,
    TYPE,
    XML_ELEMENT,
    XML_HOOK,
    Place,
    ScannedStruct,
    any_value,
    scan,
)
from gateway.yjs.values import decode_any, decode_json

ARRAY, MAP, TEXT, XML_FRAGMENT, XML_TEXT = 0, 1, 2, 4, 6
"""The kinds of shared types, besides XML_ELEMENT and XML_HOOK."""


class Node:
    """A shared type, or a root, whose kind only the application knows."""

    __slots__ = ("entries", "item", "kind", "name", "start")

    def __init__(self, kind: int | None, name: str = "", item: "Item | None" = None) -> None:
        self.kind = kind
        """None for a root."""
        self.name = name
        """The name of a root, an XML element or a hook."""
        self.item = item
        """The item whose content the node is; None for a root."""
        self.start: Item | None = None
        self.entries: dict[str, Item] = {}
        """The last item of each key."""

    def items(self) -> Iterator["Item"]:
        """Yield all items of the sequence, including deleted items and format marks."""
        item = self.start
        while item is not None:
            yield item
            item = item.right

    def members(self) -> dict[str, "Item"]:
        """Return the items by key, without deleted ones, sorted by key."""
        return {key: self.entries[key] for key in sorted(self.entries) if not self.entries[key].deleted}


class Item:
    """An element of a sequence, or the value of a key."""

    __slots__ = (
        "client", "clock", "content", "deleted", "kind", "left", "length", "node", "origin", "right", "right_origin",
        "sub",
    )  # fmt: skip

    def __init__(
        self,
        place: Place,
        length: int,
        kind: int,
        content: Any,
        origins: tuple[Place | None, Place | None] = (None, None),
        sub: str | None = None,
    ) -> None:
        self.client, self.clock = place
        self.length = length
        self.kind = kind
        self.content = content
        """STRING: the text. ANY and JSON: the bytes of each value. TYPE: the node. FORMAT: its name, and the JSON of
        its value. Otherwise: the bytes of the content."""
        self.origin, self.right_origin = origins
        self.sub = sub
        self.node: Node | None = None
        self.left: Item | None = None
        self.right: Item | None = None
        self.deleted = kind in (GC, SKIP, DELETED)

    def values(self) -> list[Any]:
        """Return the item's contents, one per place: plain values, nodes, and the item itself for a subdocument."""
        match self.kind:
            case 8:
                return [decode_any(each) for each in self.content]
            case 2:
                return [decode_json(each) for each in self.content]
            case 3:
                start, end = block(self.content, 0)
                return [self.content[start:end]]
            case 5:
                start, end = block(self.content, 0)
                return [decode_json(self.content[start:end])]
            case 4:
                return list(self.content)
            case 7:
                return [self.content]
            case 9:
                return [self]
        raise TypeError(f"a content of the kind {self.kind} has no values")


class Tree:
    """A decoded document."""

    def __init__(self) -> None:
        self.roots: dict[str, Node] = {}
        self.clocks: dict[int, int] = {}
        """The next clock of each client."""
        self._lines: dict[int, tuple[list[Item], list[int]]] = {}
        """All items of each client, and the clock at which each begins."""

    # Integration

    def add(self, item: Item, parent: "str | Place | None") -> None:
        """Integrate an item, all of whose dependencies must be integrated already."""
        left = None if item.origin is None else self._ending(item.origin)
        right = None if item.right_origin is None else self._beginning(item.right_origin)
        client, clock = item.client, item.clock
        line = self._lines.get(client)
        if line is None:
            line = self._lines[client] = ([], [])
        line[0].append(item)
        line[1].append(clock)
        self.clocks[client] = clock + item.length
        if item.kind in (GC, SKIP):
            return
        beside = left or right
        if beside is not None:
            if (left is None or left.node is not None) and (right is None or right.node is not None):
                item.node, item.sub = beside.node, beside.sub
            else:
                item.sub = None
        elif isinstance(parent, str):
            item.node = self.roots.get(parent) or self.roots.setdefault(parent, Node(None, parent))
        else:
            assert parent is not None
            holder = self._at(parent)
            item.node = holder.content if holder.kind == TYPE and holder.node is not None else None
        if item.node is None:  # its parent is gone
            item.kind, item.deleted, item.content = GC, True, None
            return
        self._link(item, item.node, left, right)

    def _link(self, item: Item, node: Node, left: Item | None, right: Item | None) -> None:
        if (left is None and (right is None or right.left is not None)) or (
            left is not None and left.right is not right
        ):
            left = self._between(item, left, right, self._first(node, item.sub) if left is None else left.right)
        item.left = left
        if left is not None:
            item.right = left.right
            left.right = item
        else:
            item.right = self._first(node, item.sub)
            if item.sub is None:
                node.start = item
        if item.right is not None:
            item.right.left = item
        elif item.sub is not None:
            node.entries[item.sub] = item
            if left is not None:
                left.deleted = True
        if (item.sub is not None and item.right is not None) or (node.item is not None and node.item.deleted):
            item.deleted = True

    def _between(self, item: Item, left: Item | None, right: Item | None, first: Item | None) -> Item | None:
        """Return the item after which `item` goes if others were inserted at the same place concurrently."""
        before: set[int] = set()
        conflicting: set[int] = set()
        other = first
        while other is not None and other is not right:
            before.add(id(other))
            conflicting.add(id(other))
            if item.origin == other.origin:
                if other.client < item.client:
                    left = other
                    conflicting.clear()
                elif item.right_origin == other.right_origin:
                    break
            elif other.origin is not None and id(origin := self._at(other.origin)) in before:
                if id(origin) not in conflicting:
                    left = other
                    conflicting.clear()
            else:
                break
            other = other.right
        return left

    @staticmethod
    def _first(node: Node, sub: str | None) -> Item | None:
        if sub is None:
            return node.start
        item = node.entries.get(sub)
        while item is not None and item.left is not None:
            item = item.left
        return item

    def delete(self, client: int, start: int, end: int) -> None:
        """Mark a range as deleted."""
        end = min(end, self.clocks.get(client, 0))
        while start < end:
            item = self._beginning((client, start))
            if item.clock + item.length > end and item.kind != GC:
                self._split(item, end - item.clock)
            item.deleted = True
            start = item.clock + item.length

    def _at(self, place: Place) -> Item:
        items, starts = self._lines[place[0]]
        return items[bisect_right(starts, place[1]) - 1]

    def _ending(self, place: Place) -> Item:
        items, starts = self._lines[place[0]]
        item = items[bisect_right(starts, place[1]) - 1]
        if place[1] != item.clock + item.length - 1 and item.kind != GC:
            self._split(item, place[1] - item.clock + 1)
        return item

    def _beginning(self, place: Place) -> Item:
        items, starts = self._lines[place[0]]
        item = items[bisect_right(starts, place[1]) - 1]
        if place[1] != item.clock and item.kind != GC:
            return self._split(item, place[1] - item.clock)
        return item

    def _split(self, item: Item, length: int) -> Item:
        """Split an item; return the second part."""
        content = item.content
        rest: Any = None
        if item.kind == STRING:
            content, rest = _part(content, length)
        elif item.kind in (ANY, JSON):
            content, rest = content[:length], content[length:]
        place = (item.client, item.clock + length)
        origins = ((item.client, place[1] - 1), item.right_origin)
        second = Item(place, item.length - length, item.kind, rest, origins, item.sub)
        second.deleted, second.node = item.deleted, item.node
        item.content, item.length = content, length
        second.left, second.right = item, item.right
        item.right = second
        if second.right is not None:
            second.right.left = second
        elif second.sub is not None and second.node is not None:
            second.node.entries[second.sub] = second
        items, starts = self._lines[item.client]
        index = bisect_right(starts, item.clock)
        items.insert(index, second)
        starts.insert(index, place[1])
        return second


def read_tree(update: bytes) -> Tree:
    """Read the whole document that an update in the wire form encodes.

    Raises:
        MalformedUpdate
    """
    scanned = scan(update)
    tree = Tree()
    waiting: dict[int, list[ScannedStruct]] = {}
    for struct in scanned.structs:
        waiting.setdefault(struct.client, []).append(struct)
    for structs in waiting.values():
        structs.reverse()
    for client in list(waiting):
        _integrate(tree, update, waiting, client)
    for client, start, end in scanned.deletes:
        tree.delete(client, start, end)
    return tree


def _integrate(tree: Tree, update: bytes, waiting: dict[int, list[ScannedStruct]], client: int) -> None:
    """Integrate the waiting structs of a client, each after the structs of other clients that it depends on."""
    clocks = tree.clocks
    clients = [client]
    while clients:
        client = clients[-1]
        structs = waiting.get(client, ())
        needed = None
        while structs and needed is None:
            struct = structs[-1]
            for place in (struct.left, struct.right, struct.parent):
                if place is not None and place[1] >= clocks.get(place[0], 0):
                    needed = place[0]
                    break
            else:
                del structs[-1]
                tree.add(*_item(update, struct))
        if needed is None:
            clients.pop()
        elif needed != client and waiting.get(needed):
            clients.append(needed)
        else:
            return  # a dependency is missing: not a whole document


def _item(update: bytes, struct: ScannedStruct) -> "tuple[Item, str | Place | None]":
    parent: str | Place | None = struct.parent
    sub = None
    if struct.left is None and struct.right is None and struct.kind not in (GC, SKIP):
        named, at = uint(update, struct.start + 1)
        if named == 1:
            start, at = block(update, at)
            parent = update[start:at].decode()
        else:
            _, at = uint(update, at)
            _, at = uint(update, at)
        if update[struct.start] & 0x20:
            start, at = block(update, at)
            sub = update[start:at].decode()
    content: Any = None
    if struct.kind == STRING:
        content = update[block(update, struct.content)[0] : struct.end].decode()
    item = Item((struct.client, struct.clock), struct.length, struct.kind, content, (struct.left, struct.right), sub)
    if struct.kind in (STRING, GC, SKIP, DELETED):
        return item, parent
    content = update[struct.content : struct.end]
    match struct.kind:
        case 8 | 2:
            item.content = _each(content, struct.kind)
        case 6:
            start, end = block(content, 0)
            first, last = block(content, end)
            item.content = (content[start:end].decode(), content[first:last])
        case 7:
            item.content = _node(content, item)
        case 3 | 5 | 9:
            item.content = content
    return item, parent


def _each(content: bytes, kind: int) -> list[bytes]:
    """Return the bytes of each value of a content."""
    count, at = uint(content, 0)
    values = []
    for _ in range(count):
        start, end = (at, any_value(content, at)[0]) if kind == ANY else block(content, at)
        values.append(content[start:end])
        at = end
    return values


def _node(content: bytes, item: Item) -> Node:
    kind, at = uint(content, 0)
    if kind not in (XML_ELEMENT, XML_HOOK):
        return Node(kind, "", item)
    start, end = block(content, at)
    return Node(kind, content[start:end].decode(), item)


def _part(text: str, units: int) -> tuple[str, str]:
    """Split a text after `units` UTF-16 code units; like Yjs, replace the halves of a surrogate pair that is split."""
    if text.isascii():
        return text[:units], text[units:]
    encoded = text.encode("utf-16-le")
    return tuple(each.decode("utf-16-le", "replace") for each in (encoded[: 2 * units], encoded[2 * units :]))  # type: ignore[return-value]
