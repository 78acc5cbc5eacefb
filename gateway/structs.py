"""Reads the structs of an update, encoding version 1 (yjs: `src/utils/encoding.js`, `src/structs/*.js`).

Only what integration does not tell: whether the bytes are well formed to the last one, and of what kind each root is.
"""

import json
from bisect import bisect_right
from collections.abc import Iterator
from typing import Literal, NamedTuple

RootKind = Literal["text", "array", "map", "xml"]

_GC, _DELETED, _JSON, _BINARY, _STRING, _EMBED, _FORMAT, _TYPE, _ANY, _DOC, _SKIP = range(11)
_HAS_ORIGIN, _HAS_RIGHT_ORIGIN, _HAS_PARENT_SUB = 0x80, 0x40, 0x20
_XML_ELEMENT, _XML_FRAGMENT, _XML_HOOK, _XML_TEXT, _WEAK_LINK = 3, 4, 5, 6, 7
_LARGEST_INTEGER = 2**53 - 1


class MalformedUpdate(ValueError):
    """The bytes are not an update, encoding version 1."""


class Reader:
    """A position in bytes, read by the rules of lib0's `decoding.js`."""

    __slots__ = ("_bytes", "_position")

    def __init__(self, data: bytes) -> None:
        self._bytes = data
        self._position = 0

    @property
    def at_end(self) -> bool:
        return self._position == len(self._bytes)

    def byte(self) -> int:
        if self._position >= len(self._bytes):
            raise MalformedUpdate("the bytes end too early")
        self._position += 1
        return self._bytes[self._position - 1]

    def unsigned(self) -> int:
        """A variable-length unsigned integer of at most 53 bits."""
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if value > _LARGEST_INTEGER or shift > 63:
                raise MalformedUpdate("an integer is out of range")
            if byte < 0x80:
                return value
            shift += 7

    def skip_signed(self) -> None:
        for _ in range(10):
            if self.byte() < 0x80:
                return
        raise MalformedUpdate("an integer is out of range")

    def skip(self, count: int) -> None:
        if count > len(self._bytes) - self._position:
            raise MalformedUpdate("the bytes end too early")
        self._position += count

    def buffer(self) -> bytes:
        """Bytes after their length."""
        length = self.unsigned()
        start = self._position
        self.skip(length)
        return self._bytes[start : self._position]

    def text(self) -> str:
        try:
            return self.buffer().decode()
        except UnicodeDecodeError as error:
            raise MalformedUpdate("a string is not UTF-8") from error

    def skip_any(self, depth: int = 0) -> None:
        """A value as lib0's `readAny` takes it."""
        if depth > 200:
            raise MalformedUpdate("a value is nested too deeply")
        match self.byte():
            case 127 | 126 | 121 | 120:  # undefined, null, false, true
                pass
            case 125:
                self.skip_signed()
            case 124:
                self.skip(4)
            case 123 | 122:
                self.skip(8)
            case 119:
                self.text()
            case 118:
                for _ in range(self.unsigned()):
                    self.text()
                    self.skip_any(depth + 1)
            case 117:
                for _ in range(self.unsigned()):
                    self.skip_any(depth + 1)
            case 116:
                self.skip(self.unsigned())
            case kind:
                raise MalformedUpdate(f"a value has the unknown kind {kind}")


def read_state_vector(data: bytes) -> dict[int, int]:
    """The clock of each client in a state vector.

    Raises:
        MalformedUpdate: it is not one, to the last byte.
    """
    reader = Reader(data)
    clocks = {}
    for _ in range(reader.unsigned()):
        client = reader.unsigned()
        clocks[client] = reader.unsigned()
    if not reader.at_end:
        raise MalformedUpdate("there are bytes after the end")
    return clocks


def read_delete_set(reader: Reader) -> list[tuple[int, int]]:
    """The deleted ranges of an update as (client, clock after the range's end)."""
    ranges = []
    for _ in range(reader.unsigned()):
        client = reader.unsigned()
        for _ in range(reader.unsigned()):
            clock = reader.unsigned()
            ranges.append((client, clock + reader.unsigned()))
    return ranges


def check_update(update: bytes) -> None:
    """Walk through the whole update.

    Raises:
        MalformedUpdate: it is not well formed, or bytes follow it.
    """
    for _ in _structs(update):
        pass


def root_kinds(update: bytes) -> dict[str, RootKind | None]:
    """Every root that the update names, with its kind; None where all that told it is deleted.

    Yjs knows the kind of a root only from the application that asks for it. What it holds tells: entries by key make a
    map; characters, formats and embeds a text; XML nodes an XML fragment; other values an array.
    """
    structs = list(_structs(update))
    kinds: dict[str, RootKind | None] = {}
    for struct in structs:
        if struct.root is not None:
            kinds[struct.root] = kinds.get(struct.root) or struct.kind
    if None in kinds.values():
        _ask_neighbours(structs, kinds)
    return dict(sorted(kinds.items()))


class _Struct(NamedTuple):
    """What one struct tells of the root that it may lie in."""

    client: int
    clock: int
    neighbour: tuple[int, int] | None
    """The struct beside which it was inserted: it has the same parent."""
    root: str | None
    """The root that it names as its parent; only a struct without a neighbour names one."""
    kind: RootKind | None
    """The kind of what holds it."""


def _ask_neighbours(structs: list[_Struct], kinds: dict[str, RootKind | None]) -> None:
    """Where the first struct of a root was deleted, those inserted beside it tell the kind."""
    by_client: dict[int, list[_Struct]] = {}
    for struct in structs:
        by_client.setdefault(struct.client, []).append(struct)
    roots: dict[tuple[int, int], str | None] = {}
    for struct in structs:
        if struct.kind is not None and struct.neighbour is not None:
            root = _root_of(struct, by_client, roots)
            if root is not None and kinds[root] is None:
                kinds[root] = struct.kind
                if None not in kinds.values():
                    return


def _root_of(
    struct: _Struct, by_client: dict[int, list[_Struct]], roots: dict[tuple[int, int], str | None]
) -> str | None:
    """The root that a struct lies in, from neighbour to neighbour; None if it lies deeper. `roots` remembers."""
    walked: list[tuple[int, int]] = []
    present: _Struct | None = struct
    root = None
    while present is not None:
        key = (present.client, present.clock)
        if key in roots or present.neighbour is None:
            root = roots.get(key, present.root)
            break
        walked.append(key)
        client, clock = present.neighbour
        candidates = by_client.get(client, [])
        index = bisect_right(candidates, clock, key=lambda candidate: candidate.clock) - 1
        present = candidates[index] if index >= 0 else None
    roots.update(dict.fromkeys(walked, root))
    return root


def _structs(update: bytes) -> Iterator[_Struct]:
    """Every struct of an update, to its last byte."""
    reader = Reader(update)
    for _ in range(reader.unsigned()):
        structs, client, clock = reader.unsigned(), reader.unsigned(), reader.unsigned()
        for _ in range(structs):
            struct, length = _read_struct(reader, client, clock)
            yield struct
            clock += length
    read_delete_set(reader)
    if not reader.at_end:
        raise MalformedUpdate("there are bytes after the end")


def _read_struct(reader: Reader, client: int, clock: int) -> tuple[_Struct, int]:
    """A struct and its length."""
    info = reader.byte()
    content = info & 0x1F
    if content in (_GC, _SKIP):
        return _Struct(client, clock, None, None, None), reader.unsigned()
    neighbour, root, by_key = None, None, False
    for flag in (_HAS_ORIGIN, _HAS_RIGHT_ORIGIN):
        if info & flag:
            found = (reader.unsigned(), reader.unsigned())
            neighbour = neighbour or found
    if neighbour is None:
        if reader.unsigned() == 1:
            root = reader.text()
        else:
            reader.unsigned()
            reader.unsigned()
        if info & _HAS_PARENT_SUB:
            reader.text()
            by_key = True
    length, node = _read_content(reader, content)
    return _Struct(client, clock, neighbour, root, "map" if by_key else _list_kind(content, node)), length


def _list_kind(content: int, node: int | None) -> RootKind | None:
    if content == _DELETED:
        return None
    if content in (_STRING, _FORMAT, _EMBED):
        return "text"
    return "xml" if node in (_XML_ELEMENT, _XML_HOOK, _XML_TEXT) else "array"


def _read_content(reader: Reader, content: int) -> tuple[int, int | None]:
    """The length of a content, and the type reference where it is a shared type."""
    length = 1
    match content:
        case 1:
            length = reader.unsigned()
        case 2:
            length = reader.unsigned()
            for _ in range(length):
                _check_json(reader.text(), undefined=True)
        case 3:
            reader.skip(reader.unsigned())
        case 4:
            length = len(reader.text().encode("utf-16-le")) // 2
        case 5:
            _check_json(reader.text())
        case 6:
            reader.text()
            _check_json(reader.text())
        case 7:
            return length, _read_type(reader)
        case 8:
            length = reader.unsigned()
            for _ in range(length):
                reader.skip_any()
        case 9:
            reader.text()
            reader.skip_any()
        case _:
            raise MalformedUpdate(f"a struct has the unknown content {content}")
    return length, None


def _read_type(reader: Reader) -> int:
    reference = reader.unsigned()
    if reference in (_XML_ELEMENT, _XML_HOOK):
        reader.text()
    elif reference >= _WEAK_LINK:
        raise MalformedUpdate(f"a shared type has the unknown kind {reference}")
    return reference


def _check_json(text: str, *, undefined: bool = False) -> None:
    if undefined and text == "undefined":
        return
    try:
        json.loads(text)
    except ValueError as error:
        raise MalformedUpdate("a value is not JSON") from error
