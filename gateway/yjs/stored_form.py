"""The stored form of an update, with stand-ins for content that yrs cannot represent as Yjs does. Pure.

yrs loses the order of an object's members and most options of a subdocument, and turns BigInt and -0 into other
numbers; it does not know `Y.XmlHook`, and crashes on values that are nested too deeply. Before yrs sees such a content,
it is replaced by a stand-in of the same length that carries the original bytes:

- a plain value by the object `{MARK: <the bytes of the value>}`, a JSON value of old documents by
  `{MARK: "<its JSON>"}`;
- an embed and the value of a format by the JSON `{MARK: "<the original JSON>"}`, or `{MARK: "=<that in base64>"}` if
  it is long: yrs reads and writes a text with many escapes slowly;
- a subdocument by one whose id is MARK and the original content in base64;
- a `Y.XmlHook` by an element whose name is MARK, "h" and the original name.

A client's content that itself begins with MARK is replaced too, so that nobody can forge a stand-in and content is
served exactly as it was sent. The log and the snapshots hold the stored form; everything sent out is converted to the
wire form.
"""

import base64
import json
from collections.abc import Iterator

from gateway.yjs.lib0 import MalformedUpdate, block, uint, var_bytes, var_uint
from gateway.yjs.scan import (
    ANY,
    DOC,
    FORMAT,
    JSON,
    MARK,
    MARK_TEXT,
    TYPE,
    XML_ELEMENT,
    XML_HOOK,
    Scan,
    ScannedStruct,
    any_value,
    scan,
)

_OBJECT_OF_ONE = b"\x76\x01"
_TEXT, _BYTES = 0x77, 0x74
_HOOK, _ELEMENT = b"h", b"e"
_HAS_LEFT = 0x80
_LONG_JSON = 64 * 1024
_IN_BASE64 = "="
"""No JSON begins so."""


_MARKED_OBJECT = _OBJECT_OF_ONE + var_bytes(MARK)
_CARRIED = b'{"' + MARK + b'":'


def to_stored(update: bytes, scanned: Scan | None = None) -> bytes:
    """Convert a client's update to the stored form.

    Raises:
        MalformedUpdate
    """
    found = scan(update) if scanned is None else scanned
    if not found.odd:
        return update
    parts: list[bytes] = []
    done = 0
    for place in found.odd:
        each = found.structs[place]
        info, content = _stand_in(update, each)
        parts += [
            update[done : each.start],
            bytes([update[each.start] & 0xE0 | info]),
            update[each.start + 1 : each.content],
            content,
        ]
        done = each.end
    return b"".join([*parts, update[done:]])


def _stand_in(update: bytes, each: ScannedStruct) -> tuple[int, bytes]:
    """Return the kind and the bytes of the stand-in for a struct's content."""
    content = update[each.content : each.end]
    match each.kind:
        case 2:
            return ANY, var_uint(each.length) + b"".join(
                _object_of_one(_TEXT, content[start:end]) for start, end in _texts(content)
            )
        case 8:
            return ANY, var_uint(each.length) + b"".join(
                value if held else _object_of_one(_BYTES, value) for value, held in _values(content)
            )
        case 9:
            return DOC, var_bytes(MARK + base64.b64encode(content)) + b"\x76\x00"
        case 7:
            reference, at = uint(content, 0)
            start, end = block(content, at)
            sort = _HOOK if reference == XML_HOOK else _ELEMENT
            return TYPE, bytes([XML_ELEMENT]) + var_bytes(MARK + sort + content[start:end])
        case _:
            at = block(content, 0)[1] if each.kind == FORMAT else 0
            start, end = block(content, at)
            if end - start > _LONG_JSON:
                original = _IN_BASE64 + base64.b64encode(content[start:end]).decode()
            else:
                original = content[start:end].decode()
            carried = json.dumps({MARK_TEXT: original}, ensure_ascii=False, separators=(",", ":"))
            return each.kind, content[:at] + var_bytes(carried.encode())


def _object_of_one(kind: int, value: bytes) -> bytes:
    return _MARKED_OBJECT + bytes([kind]) + var_bytes(value)


def _texts(content: bytes) -> Iterator[tuple[int, int]]:
    count, end = uint(content, 0)
    for _ in range(count):
        start, end = block(content, end)
        yield start, end


def _values(content: bytes) -> Iterator[tuple[bytes, bool]]:
    """Yield the bytes of each plain value of a content, and whether yrs returns the value unchanged."""
    count, end = uint(content, 0)
    for _ in range(count):
        start = end
        end, held = any_value(content, start)
        yield content[start:end], held


def to_wire(update: bytes) -> bytes:
    """Convert an update from the stored form to the wire form: replace every stand-in with the original content.

    Raises:
        MalformedUpdate: no gateway wrote these bytes.
    """
    if MARK not in update:
        return update
    try:
        return _to_wire(update)
    except (IndexError, ValueError) as error:
        raise MalformedUpdate("a stand-in is damaged") from error


def _to_wire(update: bytes) -> bytes:
    found = scan(update)
    clients: list[list[bytes]] = []
    counts: list[int] = []
    client = clock = -1
    for each in found.structs:
        if (each.client, each.clock) != (client, clock):  # the first struct of a client
            clients.append([])
            counts.append(0)
            clients[-1].append(var_uint(each.client) + var_uint(each.clock))
        client, clock = each.client, each.clock + each.length
        pieces = (
            _originals(update, each) if MARK in update[each.content : each.end] else [update[each.start : each.end]]
        )
        clients[-1] += pieces
        counts[-1] += len(pieces)
    parts = [var_uint(count) + b"".join(pieces) for count, pieces in zip(counts, clients, strict=True)]
    return b"".join([var_uint(len(parts)), *parts, update[found.delete_set :]])


def _originals(update: bytes, each: ScannedStruct) -> list[bytes]:
    """Return the original structs of a struct: several if yrs joined values that Yjs holds in two kinds of content."""
    head, content = update[each.start : each.content], update[each.content : each.end]
    match each.kind:
        case 8:
            return _original_values(head, content, each)
        case 9:
            start, end = block(content, 0)
            if content.startswith(MARK, start, end):
                return [head + base64.b64decode(content[start + len(MARK) : end], validate=True)]
        case 7:
            reference, at = uint(content, 0)
            if reference == XML_ELEMENT:
                start, end = block(content, at)
                if content.startswith(MARK, start, end):
                    name = content[start + len(MARK) : end]
                    kind = XML_HOOK if name[:1] == _HOOK else XML_ELEMENT
                    return [head + bytes([kind]) + var_bytes(name[1:])]
        case 5 | 6:
            at = block(content, 0)[1] if each.kind == FORMAT else 0
            start, end = block(content, at)
            if content.startswith(_CARRIED, start):
                carried: str = json.loads(content[start:end])[MARK_TEXT]
                in_base64 = carried.startswith(_IN_BASE64)
                original = base64.b64decode(carried[1:], validate=True) if in_base64 else carried.encode()
                return [head + content[:at] + var_bytes(original)]
    return [head + content]


def _original_values(head: bytes, content: bytes, each: ScannedStruct) -> list[bytes]:
    runs: list[tuple[int, list[bytes]]] = []
    for value, _ in _values(content):
        kind, original = _original_value(value)
        if not runs or runs[-1][0] != kind:
            runs.append((kind, []))
        runs[-1][1].append(original)
    structs: list[bytes] = []
    clock = each.clock
    for kind, values in runs:
        written = var_uint(len(values)) + b"".join(values)
        if not structs:
            structs.append(bytes([head[0] & 0xE0 | kind]) + head[1:] + written)
        else:
            right = b"" if each.right is None else b"".join(map(var_uint, each.right))
            info = _HAS_LEFT | (0x40 if right else 0) | kind
            structs.append(bytes([info]) + var_uint(each.client) + var_uint(clock - 1) + right + written)
        clock += len(values)
    return structs


def _original_value(value: bytes) -> tuple[int, bytes]:
    """Return the kind of content that held a value, and the bytes of the value there."""
    if not value.startswith(_MARKED_OBJECT):
        return ANY, value
    kind = value[len(_MARKED_OBJECT)]
    start, end = block(value, len(_MARKED_OBJECT) + 1)
    return (JSON, var_bytes(value[start:end])) if kind == _TEXT else (ANY, value[start:end])
