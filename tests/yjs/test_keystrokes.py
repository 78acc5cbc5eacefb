"""A keystroke is prepared as every other update is: the same part of it, the same needs, and the same refusals."""

import random
from typing import Any

import pycrdt
import pytest

from gateway.yjs import preparation
from gateway.yjs.document import LiveDocument
from gateway.yjs.halves import Halves
from gateway.yjs.keystrokes import read_keystroke
from gateway.yjs.scan import LARGEST_CLOCK, TooMuch
from gateway.yjs.updates import InvalidUpdate, build_document


def _prepared(update: bytes, clocks: dict[int, int]) -> Any:
    try:
        return tuple(map(repr, preparation.prepare(update, clocks, Halves(), most=4096)))
    except (InvalidUpdate, TooMuch) as error:
        return repr(error)


def _typed(seed: int, client: int) -> list[bytes]:
    chance = random.Random(seed)
    document = pycrdt.Doc({"content": pycrdt.Text()}, client_id=client)
    updates: list[bytes] = []
    document.observe(lambda event: updates.append(event.update))
    content: pycrdt.Text = document["content"]
    for _ in range(300):
        place = chance.randint(0, len(content))
        if chance.random() < 0.3 and place < len(content):
            del content[place : min(place + chance.randint(1, 3), len(content))]
        else:
            content.insert(place, chance.choice(["a", "bc", "\x7f", "\n", "x" * 100, "y" * 127, "z" * 130]))
    return updates


@pytest.mark.parametrize("client", [0, 1, 127, 128, 2**32 - 1, 2**48, 2**53 - 1])
def test_a_keystroke_is_prepared_as_every_other_update(monkeypatch: pytest.MonkeyPatch, client: int) -> None:
    chance = random.Random(client)
    asked: list[tuple[bytes, dict[int, int]]] = []
    live = LiveDocument(build_document([]))
    read = 0
    for update in _typed(client % 1000, client):
        clocks = dict(live._clocks)
        read += read_keystroke(update, clocks) is not None
        asked.append((update, clocks))
        changed = bytearray(update)
        for _ in range(chance.randint(1, 2)):
            changed[chance.randrange(len(changed))] = chance.choice([0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)])
        asked.append((bytes(changed), clocks))
        asked.append((update[: chance.randrange(len(update))], clocks))
        asked.append((update + b"\0", clocks))
        asked.append((update, {**clocks, client: max(0, clocks.get(client, 0) + chance.randint(-3, 3))}))
        live.take_in(live.prepare(update, most=4096), walk=True)
    assert read >= 150
    mine = [_prepared(*each) for each in asked]
    monkeypatch.setattr(preparation, "read_keystroke", lambda update, clocks: None)
    for each, prepared in zip(asked, mine, strict=True):
        assert _prepared(*each) == prepared, each[0].hex()


@pytest.mark.parametrize("client", [1, 2**32 - 1])
def test_a_keystroke_is_taken_in_as_every_other_update(client: int) -> None:
    usual, quick = LiveDocument(build_document([], 7)), LiveDocument(build_document([], 7))
    taken = 0
    for update in _typed(client % 1000, client):
        row = quick.take_in_keystroke(update)
        taken += row is not None
        row = row or quick.take_in(quick.prepare(update, most=4096), walk=True).row
        assert row == usual.take_in(usual.prepare(update, most=4096), walk=True).row
        assert quick.take_in_keystroke(update) is None  # it adds nothing
        assert (quick._clocks, quick.footprint, quick.most_structs) == (
            usual._clocks,
            usual.footprint,
            usual.most_structs,
        )
    assert taken >= 150
    assert quick.encode() == usual.encode()


@pytest.mark.parametrize(
    ("update", "clock"),
    [
        ("0101018001840100026162 00", 128),  # a clock in two bytes
        ("01010184000184010002616200", 4),  # one in more bytes than it needs
        ("010101ffffffff0f84010001 6100", LARGEST_CLOCK),  # out of range after it
        ("01010102840105016100", 2),  # a neighbour that is missing
        ("01010102840102016100", 2),  # a neighbour that is itself
        ("0001010101 00", 2),  # a range of nothing
        ("00010101 0102", 2),  # a range beyond what is there
        ("00010101 0202", 2),
        ("0101ffffffffffffff7f02840102016100", 2),  # no client can have this number
    ],
)
def test_an_odd_keystroke_is_prepared_as_every_other_update(
    monkeypatch: pytest.MonkeyPatch, update: str, clock: int
) -> None:
    asked = (bytes.fromhex(update), {1: clock})
    mine = _prepared(*asked)
    monkeypatch.setattr(preparation, "read_keystroke", lambda update, clocks: None)
    assert mine == _prepared(*asked)
