"""Plain values of Yjs: decoding, comparison, and conversion to strings as in JavaScript. Pure."""

import json
import math
import re
import struct
from collections.abc import Hashable, Iterator
from enum import Enum
from typing import Any

from gateway.yjs.lib0 import block, uint


class Undefined(Enum):
    """JavaScript's `undefined`, as distinct from null."""

    UNDEFINED = "undefined"


UNDEFINED = Undefined.UNDEFINED


class BigInt(int):
    """JavaScript's `BigInt`, which is never the same value as a number."""


_INDEX = re.compile(r"0|[1-9][0-9]{0,8}")


class TooDeep(bytes):
    """The JSON of a value that is nested too deeply to be parsed."""


def decode_any(data: bytes) -> Any:
    """Decode a value that lib0's `writeAny` wrote, however deeply it is nested."""
    whole: list[Any] = []
    open_values: list[tuple[list[Any] | dict[str, Any], int]] = [(whole, 1)]
    """The containers being read, and how many members of each are still to come."""
    at = 0
    while open_values:
        holder, left = open_values.pop()
        if not left:
            continue
        open_values.append((holder, left - 1))
        name = ""
        if isinstance(holder, dict):
            start, at = block(data, at)
            name = data[start:at].decode()
        kind = data[at]
        if kind in (117, 118):
            count, at = uint(data, at + 1)
            value: Any = [] if kind == 117 else {}
            open_values.append((value, count))
        else:
            value, at = _scalar(data, at)
        if isinstance(holder, dict):
            holder[name] = value
        else:
            holder.append(value)
    return whole[0]


def decode_json(data: bytes) -> Any:
    """Decode the value in a JSON content."""
    if data == b"undefined":
        return UNDEFINED
    try:
        return json.loads(data)
    except RecursionError:
        return TooDeep(data)


def _scalar(data: bytes, at: int) -> tuple[Any, int]:
    kind = data[at]
    at += 1
    match kind:
        case 119:
            start, end = block(data, at)
            return data[start:end].decode(), end
        case 125:
            return _signed(data, at)
        case 124:
            return struct.unpack_from(">f", data, at)[0], at + 4
        case 123:
            return struct.unpack_from(">d", data, at)[0], at + 8
        case 122:
            return BigInt(struct.unpack_from(">q", data, at)[0]), at + 8
        case 116:
            start, end = block(data, at)
            return data[start:end], end
        case _:
            return {120: True, 121: False, 126: None, 127: UNDEFINED}[kind], at


def _signed(data: bytes, at: int) -> tuple[int | float, int]:
    byte = data[at]
    negative = byte & 0x40
    value, shift = byte & 0x3F, 6
    while byte > 0x7F:
        at += 1
        byte = data[at]
        value |= (byte & 0x7F) << shift
        shift += 7
    if not negative:
        return value, at + 1
    return (-value if value else -0.0), at + 1


def members(value: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the members of an object in JavaScript's order: indices first, then the others in insertion order."""
    indices = sorted((int(name), name) for name in value if _INDEX.fullmatch(name))
    yield from ((name, value[name]) for _, name in indices)
    yield from ((name, member) for name, member in value.items() if not _INDEX.fullmatch(name))


def canonical(value: Any) -> Hashable:
    """Return a key that is equal for values JavaScript cannot tell apart; the order of an object's members counts."""
    told: list[Hashable] = []
    waiting = [value]
    while waiting:
        match waiting.pop():
            case None | Undefined() | bool() | str() | bytes() as plain:
                told.append((type(plain).__name__, plain))
            case BigInt() as big:
                told.append(("BigInt", int(big)))
            case int() | float() as found:
                told.append(("number", repr(float(found))))  # NaN is itself, and -0 is not 0
            case list() as items:
                told.append(("list", len(items)))
                waiting += reversed(items)
            case dict() as found:
                names, held = zip(*members(found), strict=True) if found else ((), ())
                told.append(("object", names))
                waiting += reversed(held)
            case other:
                raise TypeError(f"no plain value: {type(other)}")
    return tuple(told)


def number(value: float) -> int | float | None:
    """Convert a number like JSON.stringify: no fraction for whole numbers, None for those that JSON cannot express."""
    if not math.isfinite(value):
        return None
    return int(value) if value.is_integer() and abs(value) < 1e21 else value


def js_string(value: Any) -> str:
    """Return JavaScript's `String(value)`."""
    match value:
        case TooDeep():
            raise RecursionError
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case None:
            return "null"
        case Undefined():
            return "undefined"
        case BigInt():
            return str(int(value))
        case int() | float():
            return js_number(value)
        case list():
            return ",".join("" if item is None or item is UNDEFINED else js_string(item) for item in value)
        case bytes():
            return ",".join(map(str, value))
        case dict():
            return "[object Object]"
    raise TypeError(f"no plain value: {type(value)}")


def js_number(value: float) -> str:
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


def utf16(name: str) -> bytes:
    """Return the key by which JavaScript sorts strings."""
    return name.encode("utf-16-be", "surrogatepass")
