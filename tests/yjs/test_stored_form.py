"""The stored form of an update: yrs holds it byte for byte as Yjs sent it, and nobody can forge a stand-in."""

import random
import struct

import pycrdt
import pytest

from gateway.yjs.lib0 import MalformedUpdate, var_bytes, var_uint
from gateway.yjs.scan import MARK, MARK_TEXT, scan
from gateway.yjs.stored_form import to_stored, to_wire


def _item(content: int, body: bytes, *, key: str | None = None, client: int = 1, clock: int = 0) -> bytes:
    """An update of one struct in the root "r"."""
    parent = b"\x01\x01r" + (b"" if key is None else var_bytes(key.encode()))
    info = content | (0 if key is None else 0x20)
    return b"\x01\x01" + var_uint(client) + var_uint(clock) + bytes([info]) + parent + body + b"\x00"


def _text(text: str) -> bytes:
    return var_bytes(text.encode())


def _object(*members: tuple[str, bytes]) -> bytes:
    return b"\x76" + var_uint(len(members)) + b"".join(_text(name) + value for name, value in members)


_ONE, _TWO = b"\x7d\x01", b"\x7d\x02"
_FORGED = _object((MARK_TEXT, b"\x74" + var_bytes(_object(("b", _ONE), ("a", _TWO)))))

VALUES = {
    "members in an order": _object(("z", _ONE), ("a", _TWO), ("m", b"\x7e")),
    "members in an array": b"\x75\x01" + _object(("z", _ONE), ("a", _TWO)),
    "one member twice": _object(("a", _ONE), ("a", _TWO)),
    "a BigInt": b"\x7a" + struct.pack(">q", 2**62),
    "a negative BigInt in an object": _object(("n", b"\x7a" + struct.pack(">q", -5))),
    "-0": b"\x7d\x40",
    "-0 in an array": b"\x75\x02\x7d\x40\x7f",
    "many levels": b"\x75\x01" * 200 + b"\x75\x00",
    "a forged stand-in": _FORGED,
    "a forged stand-in in an array": b"\x75\x01" + _FORGED,
    "a large integer": _object(("a", b"\x7d\xbf\xff\xff\xff\xff\xff\xff\x1f"), ("b", b"\x74\x01x")),
}


@pytest.mark.parametrize("kind", VALUES)
@pytest.mark.parametrize("key", [None, "k"])
def test_a_value_comes_out_of_yrs_as_it_came_in(kind: str, key: str | None) -> None:
    value = VALUES[kind]
    for values in ([value], [_ONE, value, _text("") and b"\x77\x00"], [value, value]):
        update = _item(8, var_uint(len(values)) + b"".join(values), key=key)
        assert to_wire(_through_yrs(to_stored(update))) == update


def test_yrs_is_given_long_json_without_escapes() -> None:
    update = _item(5, _text('{"a": "' + '\\"' * 50_000 + '"}'))
    stored = to_stored(update)
    assert stored.count(b"\\") == 0
    assert len(stored) < 1.4 * len(update)


HELD = {
    "undefined, null, false and true": b"\x04\x7f\x7e\x79\x78",
    "numbers": b"\x04\x7d\x05\x7d\x45\x7c\x3f\x00\x00\x00\x7b" + struct.pack(">d", 0.1),
    "an object of one member": b"\x01" + _object(("a", b"\x75\x01" + _object(("b", b"\x76\x00")))),
    "text and bytes": b"\x02\x77" + _text("é🙂\0") + b"\x74\x02\xff\x00",
}


@pytest.mark.parametrize("kind", HELD)
def test_what_yrs_holds_needs_no_stand_in(kind: str) -> None:
    update = _item(8, HELD[kind])
    assert to_stored(update) is update
    assert to_wire(update) is update
    assert _through_yrs(update) == update


JSONS = [
    *(
        "true",
        "null",
        "1",
        "-0",
        "1.0",
        "1e3",
        "0.1",
        "12345678901234567890",
        '"x"',
        '"\\u00e9"',
        '"\\ud83d"',
        "[]",
        "{}",
    ),
    *(
        '{"b":1,"a":2}',
        '{"a":1}',
        '{"a": 1}',
        '{"a":[{"z":0,"a":0}]}',
        ' "x" ',
        '{"a":1,"a":2}',
        "[" * 5000 + "]" * 5000,
    ),
    *(f'{{"{MARK_TEXT}":"1"}}', f'"{MARK_TEXT}"', '"a\\nb\\"c\\\\"', '"\u2028\x7f"', "1" * 5000),
    *('{"a": "' + '\\"é' * 20_000 + '"}', '{"a": "' + "x" * 2**17 + '"}'),
]


@pytest.mark.parametrize("text", JSONS, ids=lambda text: text[:20])
@pytest.mark.parametrize("content", [5, 6])
def test_json_comes_out_of_yrs_as_it_came_in(text: str, content: int) -> None:
    update = _item(content, (_text("name") if content == 6 else b"") + _text(text))
    assert to_wire(_through_yrs(to_stored(update))) == update


def test_values_of_old_documents_stay_what_they_were_beside_others() -> None:
    """yrs joins neighbours of one client, which Yjs holds in contents of two kinds."""
    old = ["1", "undefined", '{"b":1,"a":{"d":1,"c":2}}', '"\\ud83d"', "[" * 2000 + "]" * 2000]
    updates = [
        _item(2, var_uint(len(old)) + b"".join(map(_text, old))),
        b"\x01\x01\x01\x05\x88\x01\x04\x02\x77\x01x" + _object(("z", _ONE), ("a", _TWO)) + b"\x00",
        b"\x01\x01\x01\x07\x82\x01\x06\x01" + _text("true") + b"\x00",
    ]
    document: pycrdt.Doc[object] = pycrdt.Doc()
    for update in updates:
        document.apply_update(to_stored(update))
    served = scan(to_wire(document.get_update())).structs
    assert [(each.clock, each.length, each.kind) for each in served] == [(0, 5, 2), (5, 2, 8), (7, 1, 2)]
    assert [each.left for each in served] == [None, (1, 4), (1, 6)]


@pytest.mark.parametrize("name", ["hk", f"{MARK_TEXT}hk", f"{MARK_TEXT}h"])
@pytest.mark.parametrize("reference", [3, 5])
def test_a_hook_and_an_element_keep_their_names(name: str, reference: int) -> None:
    update = _item(7, bytes([reference]) + _text(name))
    document = _document(to_stored(update))
    assert to_wire(document.get_update()) == update


@pytest.mark.parametrize("guid", ["g-1", f"{MARK_TEXT}Zw=="])
def test_a_subdocument_keeps_its_options(guid: str) -> None:
    options = _object(("autoLoad", b"\x78"), ("meta", _object(("title", b"\x77" + _text("t")), ("n", _ONE))))
    for given in (options, b"\x76\x00", b"\x7f"):
        update = _item(9, _text(guid) + given, key="k")
        assert to_wire(_through_yrs(to_stored(update))) == update


def test_texts_and_names_that_look_like_stand_ins_stay() -> None:
    for update in (
        _item(4, _text(f"{MARK_TEXT}h")),
        _item(8, b"\x01\x77" + _text(MARK_TEXT), key=MARK_TEXT),
        _item(3, var_bytes(MARK)),
        _item(6, _text(MARK_TEXT) + _text("true")),
    ):
        assert to_stored(update) == update
        assert to_wire(update) == update


BROKEN = {
    "clients that are not there": bytes.fromhex("ffffff7f010700"),
    "structs that are not there": bytes.fromhex("01ffffff7f0100"),
    "values that are not there": _item(8, bytes.fromhex("ffffff7f7e")),
    "members that are not there": _item(8, bytes.fromhex("0176ffffff7f")),
    "an array that is not there": _item(8, bytes.fromhex("0175ffffff7f")),
    "ranges that are not there": bytes.fromhex("000101ffffff7f0101"),
    "a text that is not there": _item(4, bytes.fromhex("ffffff7f61")),
    "a double that is cut off": _item(8, bytes.fromhex("017b00")),
    "a clock of 33 bits": bytes.fromhex("0101018080808010") + b"\x04\x01\x01r\x01x\x00",
    "an integer that no JavaScript has": _item(8, bytes.fromhex("017dbfffffffffffff7f")),
    "JSON that is none": _item(5, _text("{")),
    "JSON of Python": _item(5, _text("NaN")),
    "old JSON that is none": _item(2, b"\x01" + _text("undefine")),
    "deep JSON that does not end": _item(5, _text("[" * 5000)),
    "deep JSON that is not matched": _item(5, _text("[" * 5000 + "]" * 4999 + "}")),
    "deep JSON with a name too many": _item(5, _text('{"a":' * 5000 + '{"a"}' + "}" * 5000)),
    "deep JSON with a comma too many": _item(5, _text("[" * 5000 + "1," + "]" * 5000)),
    "a text that is not UTF-8": _item(4, b"\x01\xff"),
    "a type that there is not": _item(7, b"\x07"),
    "bytes after the end": b"\x00\x00\x00",
    "nothing": b"",
}


@pytest.mark.parametrize("kind", BROKEN)
def test_bytes_that_are_no_update_are_refused_before_yrs_sees_them(kind: str) -> None:
    with pytest.raises(MalformedUpdate):
        to_stored(BROKEN[kind])


def test_every_cut_and_most_changed_bytes_are_told() -> None:
    update = _item(8, b"\x02" + VALUES["members in an order"] + b"\x77" + _text("é🙂"))
    for end in range(len(update)):
        with pytest.raises(MalformedUpdate):
            scan(update[:end])
    random_ = random.Random(1)
    for _ in range(3000):
        changed = bytearray(update)
        changed[random_.randrange(len(update))] = random_.randrange(256)
        try:
            stored = to_stored(bytes(changed))
        except MalformedUpdate:
            continue
        assert to_wire(stored) == bytes(changed)


def test_a_damaged_stand_in_is_told() -> None:
    assert MARK in _FORGED
    for value in (_object((MARK_TEXT, b"\x7e")), _object((MARK_TEXT, b"\x74\x05xx"))):
        with pytest.raises(MalformedUpdate):
            to_wire(_item(8, b"\x01" + value))


def _document(update: bytes) -> "pycrdt.Doc[object]":
    document: pycrdt.Doc[object] = pycrdt.Doc()
    document.apply_update(update)
    return document


def _through_yrs(update: bytes) -> bytes:
    return _document(update).get_update()
