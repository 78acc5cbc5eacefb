"""Reads the structs of an update, encoding version 1 (yjs: `src/utils/encoding.js`, `src/structs/*.js`).

Only what integration does not tell: whether the bytes are well formed to the last one, and of what kind each root is.
"""

import json
import re
from bisect import bisect_right
from collections.abc import Iterator
from typing import Literal, NamedTuple

RootKind = Literal["text", "array", "map", "xml"]

_GC, _DELETED, _JSON, _BINARY, _STRING, _EMBED, _FORMAT, _TYPE, _ANY, _DOC, _SKIP = range(11)
_HAS_ORIGIN, _HAS_RIGHT_ORIGIN, _HAS_PARENT_SUB = 0x80, 0x40, 0x20
_ARRAY, _XML_ELEMENT, _XML_HOOK, _XML_TEXT, _WEAK_LINK = 0, 3, 5, 6, 7
_LARGEST_INTEGER = 2**53 - 1
DEEPEST = 128
"""How many levels plain values may be nested. yrs takes any number and dies of some: its calls nest as deeply, until
the stack of the process ends."""


class MalformedUpdate(ValueError):
    """The bytes are not an update, encoding version 1."""


class Reader:
    """A position in bytes, read by the rules of lib0's `decoding.js`."""

    __slots__ = ("_bytes", "_position")

    def __init__(self, data: bytes) -> None:
        self._bytes = data
        self._position = 0

    @property
    def position(self) -> int:
        """How many bytes were read."""
        return self._position

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
        if depth > DEEPEST:
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


_CONTINUED = bytes(range(0x80, 0x100))
_LONG_INTEGER = re.compile(rb"[\x80-\xff]{7}")


def check_state_vector(data: bytes) -> int:
    """How many clients a state vector names. It is not read for that: the time is that of a search in its bytes.

    Raises:
        MalformedUpdate: it is not a state vector, to the last byte.
    """
    entries = Reader(data).unsigned()
    if data[-1] >= 0x80 or len(data.translate(None, _CONTINUED)) != 1 + 2 * entries:
        raise MalformedUpdate("it does not hold as many clients as it says")
    if _LONG_INTEGER.search(data):  # few are; each is read
        read_state_vector(data)
    return entries


def read_delete_set(reader: Reader) -> list[tuple[int, int, int]]:
    """The deleted ranges of an update as (client, first clock, clock after the range's end)."""
    ranges = []
    for _ in range(reader.unsigned()):
        client = reader.unsigned()
        for _ in range(reader.unsigned()):
            clock = reader.unsigned()
            ranges.append((client, clock, clock + reader.unsigned()))
    return ranges


def may_nest_deeply(update: bytes) -> bool:
    """Whether an update may hold values that are nested too deeply; told without reading it."""
    return update.count(b"\x75") + update.count(b"\x76") > DEEPEST  # the marks of an array and of an object


def check_update(update: bytes) -> None:
    """Walk through the whole update.

    Raises:
        MalformedUpdate: it is not well formed, or bytes follow it.
    """
    for _ in _structs(update):
        pass


def root_kinds(update: bytes) -> dict[str, RootKind | None]:
    """Every root that the update names, with its kind; None where all that told it is deleted.

    Yjs knows the kind of a root only from the application that asks for it. What it holds tells: characters, formats
    and embeds make a text, also where shared types lie between them; other values an array; XML nodes alone an XML
    fragment; entries by key a map.

    None also for a root that holds, at any depth, an array of characters. No application makes it, and yrs never comes
    back from reading it: so a text beats all, and is only ever read as one.
    """
    structs = list(_structs(update))
    containers = Containers(structs)
    contents: dict[str, set[_Content | None]] = {}
    unreadable = set()
    for struct in structs:
        container, by_key = containers.of(struct)
        if isinstance(container, str):
            contents.setdefault(container, set()).add("entries" if by_key else struct.content)
        elif struct.content == "characters" and container is not None and containers.is_array(container):
            unreadable.add(containers.root_of(container))
    return {root: None if root in unreadable else _kind(contents[root]) for root in sorted(contents)}


_Content = Literal["characters", "values", "types", "nodes", "entries"]
_KINDS: tuple[tuple[_Content, RootKind], ...] = (
    ("characters", "text"),
    ("values", "array"),
    ("types", "array"),
    ("nodes", "xml"),
    ("entries", "map"),
)


def _kind(contents: "set[_Content | None]") -> RootKind | None:
    return next((kind for content, kind in _KINDS if content in contents), None)


Place = tuple[int, int]
"""A client and a clock of its: what one struct begins with, or one UTF-16 code unit of a text."""


class Struct(NamedTuple):
    """What one struct tells of what holds it."""

    client: int
    clock: int
    neighbour: Place | None
    """The struct beside which it was inserted: the same holds both."""
    container: "str | Place | None"
    """What holds it, by the name of a root or the place of a shared type; only a struct without a neighbour says it."""
    by_key: bool
    """Whether it is the value of a key; told where the container is."""
    content: _Content | None
    node: int | None
    """The type reference where it is a shared type."""
    needs: tuple[Place, ...] = ()
    """The structs that must be there before it."""
    left: Place | None = None
    right: Place | None = None
    """What it was inserted between: its origins."""
    text: str = ""
    """The characters that it holds."""
    start: int = 0
    """Where in the bytes it begins."""
    missing: bool = False
    """It only stands for structs that are not here."""


class Containers:
    """Which root or shared type holds a struct."""

    def __init__(self, structs: list[Struct]) -> None:
        self._structs: dict[int, list[Struct]] = {}
        for struct in structs:
            self._structs.setdefault(struct.client, []).append(struct)
        self._found: dict[Place, tuple[str | Place | None, bool]] = {}

    def of(self, struct: Struct) -> tuple[str | Place | None, bool]:
        """The root or type that holds a struct, and whether by a key; None where deletions hide it.

        Asked from neighbour to neighbour: only the first of them says it.
        """
        walked: list[Place] = []
        present: Struct | None = struct
        found: tuple[str | Place | None, bool] = (None, False)
        while present is not None:
            place = (present.client, present.clock)
            if place in self._found or present.neighbour is None:
                found = self._found.get(place, (present.container, present.by_key))
                break
            walked.append(place)
            present = self.at(present.neighbour)
        self._found.update(dict.fromkeys(walked, found))
        return found

    def is_array(self, place: Place) -> bool:
        struct = self.at(place)
        return struct is not None and struct.node == _ARRAY

    def root_of(self, place: Place) -> str | None:
        """The root that holds a shared type, at whatever depth."""
        container: str | Place | None = place
        while isinstance(container, tuple):
            struct = self.at(container)
            container = None if struct is None else self.of(struct)[0]
        return container

    def at(self, place: Place) -> Struct | None:
        """The struct that a place is in."""
        client, clock = place
        candidates = self._structs.get(client, [])
        index = bisect_right(candidates, clock, key=lambda candidate: candidate.clock) - 1
        return candidates[index] if index >= 0 else None


def lacks_predecessors(update: bytes, clocks: dict[int, int]) -> bool:
    """Whether an update builds on something that neither it nor a document with the state vector `clocks` holds.

    Raises:
        MalformedUpdate
    """
    reader = Reader(update)
    have = dict(clocks)
    needs: list[Place] = []
    for struct, length in read_structs(reader):
        needs += struct.needs
        if struct.clock > have.get(struct.client, 0):
            return True
        if not struct.missing:
            have[struct.client] = max(have.get(struct.client, 0), struct.clock + length)
    if any(clock >= have.get(client, 0) for client, clock in needs):
        return True
    return any(end > have.get(client, 0) for client, _, end in read_delete_set(reader))


def _structs(update: bytes) -> Iterator[Struct]:
    """Every struct of an update, to its last byte."""
    reader = Reader(update)
    for struct, _ in read_structs(reader):
        yield struct
    read_delete_set(reader)
    if not reader.at_end:
        raise MalformedUpdate("there are bytes after the end")


def read_structs(reader: Reader) -> Iterator[tuple[Struct, int]]:
    """Every struct with its length; the delete set is next."""
    for _ in range(reader.unsigned()):
        structs, client, clock = reader.unsigned(), reader.unsigned(), reader.unsigned()
        for _ in range(structs):
            struct, length = _read_struct(reader, client, clock)
            yield struct, length
            clock += length


def _read_struct(reader: Reader, client: int, clock: int) -> tuple[Struct, int]:
    """A struct and its length."""
    start = reader.position
    info = reader.byte()
    content = info & 0x1F
    if content in (_GC, _SKIP):
        gone = Struct(client, clock, None, None, False, None, None, missing=content == _SKIP)
        return gone, reader.unsigned()
    container: str | Place | None = None
    by_key = False
    origins = (info & _HAS_ORIGIN, info & _HAS_RIGHT_ORIGIN)
    left, right = ((reader.unsigned(), reader.unsigned()) if origin else None for origin in origins)
    needs = [place for place in (left, right) if place is not None]
    neighbour = needs[0] if needs else None
    if neighbour is None:
        container = reader.text() if reader.unsigned() == 1 else (reader.unsigned(), reader.unsigned())
        needs += [container] if isinstance(container, tuple) else []
        if info & _HAS_PARENT_SUB:
            reader.text()
            by_key = True
    if content == _STRING:
        text, node = reader.text(), None
        length = len(text.encode("utf-16-le")) // 2
    else:
        text, (length, node) = "", _read_content(reader, content)
    kind = _content_of(content, node)
    struct = Struct(client, clock, neighbour, container, by_key, kind, node, tuple(needs), left, right, text, start)
    return struct, length


def _content_of(content: int, node: int | None) -> _Content | None:
    if content == _DELETED:
        return None
    if content in (_STRING, _FORMAT, _EMBED):
        return "characters"
    if content != _TYPE:
        return "values"
    return "nodes" if node in (_XML_ELEMENT, _XML_HOOK, _XML_TEXT) else "types"


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
