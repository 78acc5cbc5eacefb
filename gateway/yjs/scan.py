"""Scanner that validates an update (encoding version 1) in one pass before a document sees it. Pure.

No count or length is trusted: the scan walks through everything that they claim. The scan does not recurse, and its
memory is bounded by the number of structs in the update.
"""

import json
import re
from typing import NamedTuple

from gateway.yjs.lib0 import BEGINNINGS_OF_PAIRS, LARGEST_INTEGER, MalformedUpdate, block, text_block, uint

Place = tuple[int, int]
"""A client and one of its clocks: the start of a struct, or one UTF-16 code unit of a text."""

GC, DELETED, JSON, BINARY, STRING, EMBED, FORMAT, TYPE, ANY, DOC, SKIP = range(11)
"""The kinds of content of a struct: the low five bits of its first byte."""
XML_ELEMENT, XML_HOOK = 3, 5
"""The kinds of shared types that have a name."""
_LAST_TYPE = 6

MARK = b"$yjs-gateway:stand-in$"
"""The prefix of every stand-in (`gateway.yjs.stored_form`). A client's value with this prefix needs a stand-in too."""
MARK_TEXT = MARK.decode()

LARGEST_CLOCK = 2**32 - 1
"""yrs counts clocks in 32 bits."""
_DEEPEST_HELD = 128
"""How many levels deep plain values may be nested for yrs to hold them itself."""
DEEPEST_VALUE = 1_000
"""How many levels deep plain values may be nested at all: lib0's `readAny` recurses as deeply in every client."""

_SIMPLE = rb'(?:true|false|null|0|-?[1-9][0-9]{0,14}|"[^"\\\x00-\x1f]*")'
_HELD_JSON = re.compile(rb'%b|\{\}|\[\]|\{"[^"\\\x00-\x1f]*":%b\}' % (_SIMPLE, _SIMPLE))
"""JSON that yrs returns byte for byte."""


class TooMuch(Exception):
    """Reading an update takes more work than allowed."""


_UNBOUNDED = 2**62
_BYTES_PER_UNIT = 16
"""How many bytes of plain values and JSON, which are read byte by byte, are about as much work as one struct."""
_PAIRS_PER_UNIT = 4
_COPIED_PER_UNIT = 256
"""How many bytes that are only copied, such as those of a text, are as much work as one struct."""
_VALUES_HELD = 1024
"""How many values one plain value may consist of for yrs to hold it: yrs reads a value in one step, however large."""


class ScannedStruct(NamedTuple):
    """One struct: its place in the document, what it depends on, and where its bytes are."""

    client: int
    clock: int
    length: int
    kind: int
    start: int
    """Where the bytes of the struct begin."""
    content: int
    """Where the bytes of its content begin."""
    end: int
    left: Place | None
    right: Place | None
    parent: Place | None
    """The shared type that holds the struct, if the struct names one."""


class Scan(NamedTuple):
    """The contents of an update."""

    structs: list[ScannedStruct]
    odd: list[int]
    """The indices in `structs` of the structs that yrs would not return as Yjs has them."""
    types: int
    """How many shared types the update creates."""
    keys: int
    """How many structs name a key. (A struct that replaces the value of a key does not name it.)"""
    delete_set: int
    """The offset at which the delete set begins."""
    deletes: list[tuple[int, int, int]]
    """The deleted ranges: client, first clock, clock after the end."""
    runs: list[tuple[int, int, int]]
    """The ranges that the structs cover, without skips: client, first clock, clock after the end."""
    needs: dict[int, int]
    """The highest clock of each client that structs or deletes depend on, within the update or not."""
    roots: set[bytes]
    """The names of the roots that structs name. (A struct beside another one does not name its root.)"""


def scan(update: bytes, most: int | None = None) -> Scan:
    """Scan an update to its last byte.

    Args:
        most: the most work allowed, in structs; a deleted range or a few bytes of values count as one.

    Raises:
        MalformedUpdate, TooMuch
    """
    try:
        return _scan(update, _UNBOUNDED if most is None else most)
    except IndexError:
        raise MalformedUpdate("the bytes end too early") from None
    except UnicodeDecodeError:
        raise MalformedUpdate("a string is not UTF-8") from None


def _scan(data: bytes, left_units: int) -> Scan:
    structs: list[ScannedStruct] = []
    odd: list[int] = []
    types = keys = 0
    roots: set[bytes] = set()
    runs: list[tuple[int, int, int]] = []
    needs: dict[int, int] = {}
    make = tuple.__new__
    left_units -= len(data) // _COPIED_PER_UNIT
    if (clients := data[0]) < 0x80:  # inlined for numbers that are nearly always one byte
        at = 1
    else:
        clients, at = uint(data, 0)
    if clients > left_units:
        raise TooMuch
    seen: set[int] = set()
    for _ in range(clients):
        if (count := data[at]) < 0x80:
            at += 1
        else:
            count, at = uint(data, at)
        left_units -= count + 1
        if left_units < 0:
            raise TooMuch
        start = at
        client, at = uint(data, at)
        own = data[start:at]  # most dependencies are on the same client, encoded in the same bytes
        clock, at = uint(data, at)
        if client in seen:
            raise MalformedUpdate("a client comes twice")
        seen.add(client)
        run = clock
        for _ in range(count):
            start = at
            info = data[at]
            at += 1
            kind = info & 0x1F
            left = right = parent = None
            if kind in (GC, SKIP):
                content = at
                length, at = uint(data, at)
                if kind == SKIP:
                    if run < clock:
                        runs.append((client, run, clock))
                    run = clock + length
            else:
                if info & 0x80:
                    if data.startswith(own, at):
                        place, at = client, at + len(own)
                    else:
                        place, at = uint(data, at)
                    other, at = uint(data, at)
                    left = (place, other)
                    if other > needs.get(place, -1):
                        needs[place] = other
                if info & 0x40:
                    if data.startswith(own, at):
                        place, at = client, at + len(own)
                    else:
                        place, at = uint(data, at)
                    other, at = uint(data, at)
                    right = (place, other)
                    if other > needs.get(place, -1):
                        needs[place] = other
                if not info & 0xC0:
                    parent, at = _parent(data, at, info, roots)
                    keys += info >> 5 & 1
                    if parent is not None and parent[1] > needs.get(parent[0], -1):
                        needs[parent[0]] = parent[1]
                content = at
                if kind == STRING:
                    if (size := data[at]) < 0x80:
                        at += 1
                    else:
                        size, at = uint(data, at)
                    text = data[at : at + size]
                    if len(text) < size:
                        raise IndexError
                    at += size
                    if text.isascii():
                        length = size
                    else:
                        characters = len(text.decode())
                        pairs = size - len(text.translate(None, BEGINNINGS_OF_PAIRS))
                        length = characters + pairs
                        left_units -= pairs // _PAIRS_PER_UNIT
                else:
                    length, at, is_odd = _content(data, at, kind, left_units * _BYTES_PER_UNIT)
                    if kind in _READ_BYTEWISE:
                        left_units -= (at - content) // _BYTES_PER_UNIT
                        if kind == JSON:
                            left_units -= length
                    types += kind == TYPE
                    if is_odd:
                        odd.append(len(structs))
            structs.append(make(ScannedStruct, (client, clock, length, kind, start, content, at, left, right, parent)))
            clock += length
            if clock > LARGEST_CLOCK:
                raise MalformedUpdate("a clock is out of range")
        if run < clock:
            runs.append((client, run, clock))
    if left_units < 0:
        raise TooMuch
    delete_set = at
    deletes: list[tuple[int, int, int]] = []
    if data[at] == 0:
        at += 1
    else:
        deletes, at = read_deletes(data, at, left_units)
        for client, _, end in deletes:
            if end > needs.get(client, -1) + 1:
                needs[client] = end - 1
    if at != len(data):
        raise MalformedUpdate("there are bytes after the end")
    return Scan(structs, odd, types, keys, delete_set, deletes, runs, needs, roots)


def read_deletes(data: bytes, at: int, most: int = _UNBOUNDED) -> tuple[list[tuple[int, int, int]], int]:
    """Return the deleted ranges of a delete set, and the offset after it.

    Raises:
        MalformedUpdate
        TooMuch: there are more than `most`.
    """
    deletes = []
    clients, at = uint(data, at)
    for _ in range(clients):
        client, at = uint(data, at)
        count, at = uint(data, at)
        most -= count + 1
        if most < 0:
            raise TooMuch
        for _ in range(count):
            clock, at = uint(data, at)
            length, at = uint(data, at)
            if clock + length > LARGEST_CLOCK:
                raise MalformedUpdate("a clock is out of range")
            deletes.append((client, clock, clock + length))
    return deletes, at


def _parent(data: bytes, at: int, info: int, roots: set[bytes]) -> tuple[Place | None, int]:
    """Return the shared type that holds a struct, and the offset after it; add the name of a root, which is None."""
    parent = None
    named, at = uint(data, at)
    if named == 1:
        start, at = text_block(data, at)
        roots.add(data[start:at])
    else:
        client, at = uint(data, at)
        clock, at = uint(data, at)
        parent = (client, clock)
    if info & 0x20:
        _, at = text_block(data, at)
    return parent, at


_READ_BYTEWISE = (JSON, EMBED, FORMAT, ANY, DOC)
"""Kinds of content that are read byte by byte."""


def _content(data: bytes, at: int, kind: int, most: int = _UNBOUNDED) -> tuple[int, int, bool]:
    """Return the length of a content, the offset after it, and whether yrs would fail to return it unchanged.

    Args:
        most: how many bytes long the content may be if it is read byte by byte.
    """
    match kind:
        case 1:  # deleted
            length, at = uint(data, at)
            return length, at, False
        case 2:  # JSON
            length, at = uint(data, at)
            for _ in range(length):
                start, at = text_block(data, at)
                most -= at - start + _BYTES_PER_UNIT
                if most < 0:
                    raise TooMuch
                if data[start:at] != b"undefined":
                    check_json(data[start:at])
            return length, at, True
        case 3:  # binary
            return 1, block(data, at)[1], False
        case 5 | 6:  # embed, format
            if kind == FORMAT:
                _, at = text_block(data, at)
            start, at = text_block(data, at)
            if at - start > most:
                raise TooMuch
            text = data[start:at]
            held = _HELD_JSON.fullmatch(text) is not None and MARK not in text
            if not held:
                check_json(text)
            return 1, at, not held
        case 7:  # shared type
            reference, at = uint(data, at)
            if reference in (XML_ELEMENT, XML_HOOK):
                start, at = text_block(data, at)
                return 1, at, reference == XML_HOOK or data.startswith(MARK, start, at)
            if reference > _LAST_TYPE:
                raise MalformedUpdate(f"a shared type has the unknown kind {reference}")
            return 1, at, False
        case 8:  # plain values
            length, at = uint(data, at)
            held = True
            end = at + most
            for _ in range(length):
                at, is_held = any_value(data, at, most)
                held &= is_held
                if at > end:
                    raise TooMuch
            return length, at, not held
        case 9:  # subdocument
            _, at = text_block(data, at)
            at, _ = any_value(data, at, most)
            return 1, at, True
        case _:
            raise MalformedUpdate(f"a struct has the unknown content {kind}")


def any_value(data: bytes, at: int, most: int = _UNBOUNDED) -> tuple[int, bool]:
    """Return the offset after a value of lib0's `writeAny`, and whether yrs can hold the value.

    yrs changes objects of two or more members (it loses their order), BigInts (it turns them into numbers) and -0. A
    value that consists of very many values takes yrs too long to read in one step.

    Raises:
        MalformedUpdate
        TooMuch: the value holds more than `most` values.
    """
    held = True
    few = most - _VALUES_HELD
    waiting: list[tuple[int, bool]] = []
    """The open containers of the current value: how many more values follow in each, and whether these have names."""
    while True:
        most -= 1
        if most < 0:
            raise TooMuch
        kind = data[at]
        at += 1
        if kind == 0x77:  # text
            _, at = text_block(data, at)
        elif kind == 0x7D:  # integer
            if data[at] & 0x7F == 0x40:
                held = False
            at = _signed_end(data, at)
        elif kind in (0x75, 0x76):  # array, object
            count, at = uint(data, at)
            named = kind == 0x76
            held = held and (count < 2 or not named) and len(waiting) < _DEEPEST_HELD
            waiting.append((count, named))
            if len(waiting) > DEEPEST_VALUE:
                raise MalformedUpdate("a value is nested too deeply")
        elif kind == 0x74:  # bytes
            _, at = block(data, at)
        elif kind in _FIXED:
            at += _FIXED[kind]
            held = held and kind != 0x7A
        else:
            raise MalformedUpdate(f"a value has the unknown kind {kind}")
        while waiting and waiting[-1][0] == 0:
            waiting.pop()
        if not waiting:
            if at > len(data):
                raise IndexError
            return at, held and most >= few
        count, named = waiting[-1]
        waiting[-1] = (count - 1, named)
        if named:
            start, at = text_block(data, at)
            held = held and data[start:at] != MARK


_FIXED = {0x7F: 0, 0x7E: 0, 0x79: 0, 0x78: 0, 0x7C: 4, 0x7B: 8, 0x7A: 8}
"""The kinds of values of a fixed size in bytes: undefined, null, false, true, float, double, BigInt."""


def _signed_end(data: bytes, at: int) -> int:
    byte = data[at]
    value, shift = byte & 0x3F, 6
    while byte > 0x7F:
        at += 1
        byte = data[at]
        value |= (byte & 0x7F) << shift
        shift += 7
        if value > LARGEST_INTEGER or shift > 70:
            raise MalformedUpdate("an integer is out of range")
    return at + 1


def _no_constant(name: str) -> float:
    raise ValueError(name)


_decoder = json.JSONDecoder(parse_constant=_no_constant, parse_int=float)
_TOKEN = re.compile(
    r'[ \t\n\r]*(?:([\[{\]},:])|("(?:[^"\\\x00-\x1f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*")'
    r"|(true|false|null|-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?))"
)


def check_json(text: bytes) -> None:
    """Raise MalformedUpdate unless JavaScript's `JSON.parse` accepts a text."""
    try:
        _decoder.decode(text.decode())
    except RecursionError:
        _check_deep_json(text.decode())
    except ValueError:
        raise MalformedUpdate("a value is not JSON") from None


def _check_deep_json(text: str) -> None:
    """Check JSON like `check_json`, at any depth of nesting."""
    holders: list[str] = []
    expected = "value"
    at = 0
    text = text.rstrip(" \t\n\r")
    while at < len(text):
        token = _TOKEN.match(text, at)
        if token is None or expected == "end":
            break
        at = token.end()
        mark, string, scalar = token.groups()
        after = "end" if not holders else "comma"
        if mark is not None and mark in "[{" and expected in ("value", "first value"):
            holders.append(mark)
            expected = "first value" if mark == "[" else "first name"
        elif mark is not None and mark in "]}":
            opened = holders.pop() if holders else ""
            if opened + mark not in ("[]", "{}") or expected not in ("comma", "first value", "first name"):
                break
            if expected != "comma" and (expected == "first value") != (mark == "]"):
                break
            expected = "comma" if holders else "end"
        elif mark == "," and expected == "comma":
            expected = "value" if holders[-1] == "[" else "name"
        elif mark == ":" and expected == "colon":
            expected = "value"
        elif string is not None and expected in ("name", "first name"):
            expected = "colon"
        elif (string is not None or scalar is not None) and expected in ("value", "first value"):
            expected = after
        else:
            break
    else:
        if expected == "end":
            return
    raise MalformedUpdate("a value is not JSON")
