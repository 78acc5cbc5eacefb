"""Transactions without pycrdt's objects around them do what pycrdt does."""

import random
from typing import Any

import pycrdt
import pytest

from gateway.yjs.transactions import apply_update, observe


def _typed(seed: int) -> list[bytes]:
    """The updates of two who type into one text, delete in it and format it, some of them out of order."""
    chance, updates = random.Random(seed), list[bytes]()
    writers: list[pycrdt.Doc[Any]] = [pycrdt.Doc(client_id=1), pycrdt.Doc(client_id=2)]
    for writer in writers:
        writer["content"] = pycrdt.Text()
        writer.observe(lambda event: updates.append(event.update))
    for step in range(60):
        writer = writers[step % 2]
        text = writer["content"]
        if len(text) > 4 and chance.random() < 0.3:
            start = chance.randrange(len(text) - 2)
            del text[start : start + 2]
        elif len(text) > 4 and chance.random() < 0.2:
            text.format(1, 3, {"bold": True})
        else:
            text.insert(chance.randint(0, len(text)), chance.choice(("a", "bc", "ü")))
        if step % 10 == 9:
            writers[1 - step % 2].apply_update(writer.get_update())
    for place in range(0, len(updates) - 1, 7):
        updates[place], updates[place + 1] = updates[place + 1], updates[place]
    return updates


@pytest.mark.parametrize("seed", range(4))
def test_an_update_has_the_same_effect_and_the_same_events(seed: int) -> None:
    ours: pycrdt.Doc[Any] = pycrdt.Doc()
    theirs: pycrdt.Doc[Any] = pycrdt.Doc()
    mine: list[bytes] = []
    expected: list[bytes] = []
    subscription = observe(ours, lambda event: mine.append(event.update))
    theirs.observe(lambda event: expected.append(event.update))
    updates = _typed(seed)
    for update in [*updates, *updates[:5]]:
        apply_update(ours, update)
        theirs.apply_update(update)
    assert mine == expected
    assert len(mine) > 20
    assert ours.get_update() == theirs.get_update()
    with ours.transaction():  # pycrdt's own transactions go on
        ours.get("content", type=pycrdt.Text).insert(0, "x")
    assert len(mine) == len(expected) + 1
    subscription.drop()
    apply_update(ours, _typed(seed + 100)[0])
    assert len(mine) == len(expected) + 1


@pytest.mark.parametrize(
    "update",
    [b"", b"\x01", b"\x01\x01\x05\x00\x04\x01\x04text\x01", b"\xff" * 20, b"\x00\x01\x07\x01\x00"],
    ids=bytes.hex,
)
def test_what_cannot_be_applied_raises_the_same_and_ends_the_transaction(update: bytes) -> None:
    ours: pycrdt.Doc[Any] = pycrdt.Doc()
    theirs: pycrdt.Doc[Any] = pycrdt.Doc()
    first = _typed(9)[0]
    for document in (ours, theirs):
        document.apply_update(first)
    outcomes: list[str | None] = []
    for apply in (lambda: apply_update(ours, update), lambda: theirs.apply_update(update)):
        try:
            apply()
        except Exception as error:
            outcomes.append(f"{type(error).__name__}: {error}")
        else:
            outcomes.append(None)
    assert outcomes[0] == outcomes[1]
    apply_update(ours, first)
    assert ours.get_update() == theirs.get_update()
