"""Reads the structs of an update, encoding version 1 (yjs: `src/utils/encoding.js`, `src/structs/*.js`).

Only what integration does not tell: whether the bytes are well formed to the last one, and of what kind each root is.
"""

import json
from typing import Literal

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
    _walk(update, {})


def root_kinds(update: bytes) -> dict[str, RootKind | None]:
    """Every root that the update names, with its kind; None where all that told it is deleted.

    Yjs knows the kind of a root only from the application that asks for it. What it holds tells: entries by key make a
    map; characters, formats and embeds a text; XML nodes an XML fragment; other values an array.
    """
    kinds: dict[str, RootKind | None] = {}
    _walk(update, kinds)
    return dict(sorted(kinds.items()))


def _walk(update: bytes, kinds: dict[str, RootKind | None]) -> None:
    reader = Reader(update)
    for _ in range(reader.unsigned()):
        structs = reader.unsigned()
        reader.unsigned()  # client
        reader.unsigned()  # clock
        for _ in range(structs):
            _walk_struct(reader, kinds)
    read_delete_set(reader)
    if not reader.at_end:
        raise MalformedUpdate("there are bytes after the end")


def _walk_struct(reader: Reader, kinds: dict[str, RootKind | None]) -> None:
    info = reader.byte()
    content = info & 0x1F
    if content in (_GC, _SKIP):
        reader.unsigned()
        return
    root, by_key = None, False
    for flag in (_HAS_ORIGIN, _HAS_RIGHT_ORIGIN):
        if info & flag:
            reader.unsigned()
            reader.unsigned()
    if not info & (_HAS_ORIGIN | _HAS_RIGHT_ORIGIN):
        if reader.unsigned() == 1:
            root = reader.text()
        else:
            reader.unsigned()
            reader.unsigned()
        if info & _HAS_PARENT_SUB:
            reader.text()
            by_key = True
    node = _walk_content(reader, content)
    if root is not None:
        kind: RootKind | None = "map" if by_key else _list_kind(content, node)
        kinds[root] = kinds.get(root) or kind


def _list_kind(content: int, node: int | None) -> RootKind | None:
    if content == _DELETED:
        return None
    if content in (_STRING, _FORMAT, _EMBED):
        return "text"
    return "xml" if node in (_XML_ELEMENT, _XML_HOOK, _XML_TEXT) else "array"


def _walk_content(reader: Reader, content: int) -> int | None:
    """Returns the type reference where the content is a shared type."""
    match content:
        case 1:
            reader.unsigned()
        case 2:
            for _ in range(reader.unsigned()):
                _check_json(reader.text(), undefined=True)
        case 3:
            reader.skip(reader.unsigned())
        case 4:
            reader.text()
        case 5:
            _check_json(reader.text())
        case 6:
            reader.text()
            _check_json(reader.text())
        case 7:
            return _walk_type(reader)
        case 8:
            for _ in range(reader.unsigned()):
                reader.skip_any()
        case 9:
            reader.text()
            reader.skip_any()
        case _:
            raise MalformedUpdate(f"a struct has the unknown content {content}")
    return None


def _walk_type(reader: Reader) -> int:
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
