"""Whether an update holds anything that a whole document does not: what a room asks of those who may only read."""

import random
from typing import Any

import pycrdt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.yjs.updates import EMPTY_UPDATE, InvalidUpdate, adds_to

Document = pycrdt.Doc[Any]


def _edit(document: Document, random_: random.Random) -> None:
    text = document.get("content", type=pycrdt.Text)
    map_ = document.get("map", type=pycrdt.Map)
    match random_.choice(("insert", "delete", "set", "drop")):
        case "delete" if len(str(text)) > 2:
            start = random_.randrange(len(str(text)) - 1)
            del text[start : start + random_.randint(1, 2)]
        case "set":
            map_[random_.choice("abc")] = random_.randint(0, 9)
        case "drop" if len(map_):
            map_.pop(random_.choice(list(map_)))
        case _:
            text.insert(random_.randint(0, len(str(text))), random_.choice(("x", "yz", "long text")))


def _is_changed_by(whole: bytes, update: bytes) -> bool:
    """The same, found by trying."""
    document: Document = pycrdt.Doc()
    document.apply_update(whole)
    before = document.get_update()
    document.apply_update(update)
    return document.get_update() != before


@settings(deadline=None, max_examples=150)
@given(st.integers(0, 2**32), st.integers(0, 12), st.integers(0, 12), st.integers(0, 6))
def test_an_update_adds_what_applying_it_changes(seed: int, shared: int, there: int, own: int) -> None:
    random_ = random.Random(seed)
    server: Document = pycrdt.Doc(client_id=1)
    client: Document = pycrdt.Doc(client_id=2)
    for _ in range(shared):
        _edit(server, random_)
    client.apply_update(server.get_update())
    for _ in range(there):
        _edit(server, random_)
    known = client.get_state()
    for _ in range(own):
        _edit(client, random_)
    whole = server.get_update()
    for update in (client.get_update(), client.get_update(server.get_state()), client.get_update(known)):
        assert adds_to(update, whole) == _is_changed_by(whole, update)
    assert not adds_to(whole, whole)
    assert not adds_to(EMPTY_UPDATE, whole)


def test_what_a_client_answers_that_is_up_to_date_adds_nothing() -> None:
    """Its answer to a sync step 1 holds all that was ever deleted."""
    server: Document = pycrdt.Doc()
    text = server.get("content", type=pycrdt.Text)
    text.insert(0, "some text")
    del text[0:4]
    client: Document = pycrdt.Doc()
    client.apply_update(server.get_update())
    answer = client.get_update(server.get_state())
    assert answer != EMPTY_UPDATE
    assert not adds_to(answer, server.get_update())


@pytest.mark.parametrize("update", [b"", b"\xff", b"\x00", b"\x00\x00\x00"])
def test_what_is_no_update_is_refused(update: bytes) -> None:
    with pytest.raises(InvalidUpdate):
        adds_to(update, EMPTY_UPDATE)
