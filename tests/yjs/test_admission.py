"""The part of an update that a document can take in is the part that Yjs integrates."""

import base64
import contextlib
import random

import pycrdt
import pytest

from gateway.admission import complete_part, is_complete
from gateway.open_document import Gap, OpenDocument
from gateway.scan import scan
from gateway.updates import InvalidUpdate, build_document, merge
from storage import Incarnation
from tests.support.oracle import Oracle


def _document() -> OpenDocument:
    return OpenDocument("project", "path", None, Incarnation("life"), build_document([]), [], set())


def _history(seed: int) -> list[bytes]:
    """What three clients wrote in turn, each knowing all that came before."""
    random_ = random.Random(seed)
    documents: list[pycrdt.Doc[object]] = [pycrdt.Doc(client_id=client) for client in (1, 2, 3)]
    log: list[bytes] = []
    for _ in range(30):
        document = random_.choice(documents)
        for update in log:
            document.apply_update(update)
        before = document.get_state()
        text: pycrdt.Text = document.get("content", type=pycrdt.Text)
        if len(text) > 4 and random_.random() < 0.3:
            del text[1:3]
        else:
            text.insert(random_.randrange(len(text) + 1), random_.choice(["a", "bc", "def"]))
        log.append(document.get_update(before))
    return log


@pytest.mark.parametrize("seed", range(8))
def test_of_a_history_with_holes_is_taken_what_yjs_takes(oracle: Oracle, seed: int) -> None:
    random_ = random.Random(seed)
    log = _history(seed)
    kept = [update for update in log if random_.random() < 0.8]
    document = _document()
    with contextlib.suppress(Gap):
        document.admit(merge(kept))
    answer = oracle._ask(make="read", updates=[_base64(update) for update in kept], roots={"content": "text"})
    assert str(document._document.get("content", type=pycrdt.Text)) == answer["json"]["content"]
    random_.shuffle(log)
    for update in log:  # what is missing comes, in any order, and again as a whole
        with contextlib.suppress(Gap):
            document.admit(update)
    document.admit(merge(log))
    assert str(document._document.get("content", type=pycrdt.Text)) == oracle.text(log)


def _base64(update: bytes) -> str:
    return base64.b64encode(update).decode()


def test_structs_that_build_on_each_other_in_a_circle_are_refused() -> None:
    circle = bytes.fromhex("0201020084010001610101008402000162" + "00")
    assert is_complete(scan(circle), {})
    with pytest.raises(InvalidUpdate):
        _document().admit(circle)


def test_nothing_is_taken_of_what_waits_for_something_else() -> None:
    late = bytes.fromhex("010107058401040161" + "010101" + "0306")
    assert complete_part(late, scan(late), {1: 4}) == b"\x00\x01\x01\x01\x03\x01"
    assert complete_part(late, scan(late), {}) == b"\x00\x00"
