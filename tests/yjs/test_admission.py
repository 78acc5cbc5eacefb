"""The part of an update that a document can take in is the part that Yjs integrates."""

import asyncio
import base64
import contextlib
import random
from collections import Counter

import pycrdt
import pytest

from gateway.files.open_document import OpenDocument
from gateway.files.store import _admit_in_turn
from gateway.yjs.admission import complete_part, is_complete
from gateway.yjs.document import Admitted, Gap
from gateway.yjs.lib0 import var_bytes, var_uint
from gateway.yjs.preparation import Receiving
from gateway.yjs.scan import scan
from gateway.yjs.surrogates import updates_of
from gateway.yjs.updates import InvalidUpdate, apply_row, build_document, merge, merge_rows
from storage import Incarnation
from tests.support.iterations import Iterations
from tests.support.oracle import Oracle


def _document() -> OpenDocument:
    return OpenDocument("project", "path", None, Incarnation("life"), build_document([]))


def _text(document: OpenDocument) -> str:
    return str(build_document([document.encode()]).get("content", type=pycrdt.Text))


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
    assert _text(document) == answer["json"]["content"]
    random_.shuffle(log)
    for update in log:  # what is missing comes, in any order, and again as a whole
        with contextlib.suppress(Gap):
            document.admit(update)
    document.admit(merge(log))
    assert _text(document) == oracle.text(log)


def _base64(update: bytes) -> str:
    return base64.b64encode(update).decode()


def test_structs_that_build_on_each_other_in_a_circle_are_refused() -> None:
    circle = bytes.fromhex("0201020084010001610101008402000162" + "00")
    assert is_complete(scan(circle).runs, scan(circle).needs, {})
    with pytest.raises(InvalidUpdate):
        _document().admit(circle)


def test_nothing_is_taken_of_what_waits_for_something_else() -> None:
    late = bytes.fromhex("010107058401040161" + "010101" + "0306")
    assert complete_part(late, scan(late), {1: 4}) == b"\x00\x01\x01\x01\x03\x01"
    assert complete_part(late, scan(late), {}) == b"\x00\x00"


def _structs(client: int, clock: int, *structs: bytes) -> bytes:
    return var_uint(len(structs)) + var_uint(client) + var_uint(clock) + b"".join(structs)


def _update(*clients: bytes, deletes: bytes = b"\0") -> bytes:
    return var_uint(len(clients)) + b"".join(clients) + deletes


def _first(text: str) -> bytes:
    return b"\x04\x01" + var_bytes(b"content") + var_bytes(text.encode())


def _after(client: int, clock: int, text: str) -> bytes:
    return b"\x84" + var_uint(client) + var_uint(clock) + var_bytes(text.encode())


def test_many_who_wait_for_one_that_comes_in_pieces_take_no_longer() -> None:
    """Two clients build on each other in turn, and many wait for a clock of the one that never comes."""
    steps = 1000
    first = [_after(2, step, "a") if step else _first("a") for step in range(steps)]
    second = [_after(1, step - 1, "b") if step else _first("b") for step in range(steps)]
    waiting = [_structs(100 + number, 0, _after(1, steps + 5, "x")) for number in range(steps)]
    scanned = scan(update := _update(_structs(1, 0, *first), _structs(2, 0, *second), *waiting))
    comparisons = 0

    class Clock(int):
        def __ge__(self, other: int) -> bool:
            nonlocal comparisons
            comparisons += 1
            return int(self) >= int(other)

        def __lt__(self, other: int) -> bool:
            nonlocal comparisons
            comparisons += 1
            return int(self) < int(other)

    structs = [
        struct if struct.left is None else struct._replace(left=(struct.left[0], Clock(struct.left[1])))
        for struct in scanned.structs
    ]
    part = complete_part(update, scanned._replace(structs=structs), {})
    assert len(scan(part).structs) == 2 * steps
    assert comparisons < 40 * steps


@pytest.mark.parametrize("parted", [1, -1])
def test_what_two_updates_hold_of_a_parted_pair_is_merged_whole(oracle: Oracle, parted: int) -> None:
    begun = _update(_structs(1, 0, _first("ab\ufffd")))
    pair = _update(_structs(1, 2, _after(1, 1, "\U0001f600cd")))
    document = _document()
    document.take_in_now(asyncio.run(document.prepare_together([begun, pair][::parted])))
    assert document.state_vector() == oracle.state_vector([begun, pair]) == b"\x01\x01\x06"
    assert oracle.text([document.encode()]) == oracle.text([begun, pair]) == "ab\ufffd\ufffdcd"


def test_many_updates_are_examined_in_several_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    updates = [_update(_structs(1, 0, _first("a")))]
    updates += [_update(_structs(1, clock, _after(1, clock - 1, "b"))) for clock in range(1, 500)]

    async def work() -> None:
        examined: list[int] = []
        document, iterations = _document(), Iterations()
        add = Receiving.add

        def noted(receiving: Receiving, update: bytes) -> None:
            examined.append(iterations.count)
            add(receiving, update)

        monkeypatch.setattr(Receiving, "add", noted)
        document.take_in_now(await document.prepare_together(updates))
        iterations.stop()
        assert _text(document) == "a" + "b" * 499
        assert len(examined) == 500
        # Two slices may come between two counts of a turn.
        assert max(Counter(examined).values()) <= 2 * 64

    asyncio.run(work())


def test_one_by_one_none_is_lost_that_builds_on_a_later_one() -> None:
    updates = [_update(_structs(1, clock, _after(1, clock - 1, "x") if clock else _first("x"))) for clock in range(50)]
    random.Random(1).shuffle(updates)
    erasing = _update(deletes=b"\1\1\1\x28\x0a")
    document = _document()
    (row, incomplete), lacking = asyncio.run(_admit_in_turn(document, [erasing, *updates]))
    assert row is not None
    assert not incomplete
    assert lacking == []
    assert _text(document) == "x" * 40
    assert str(build_document([row]).get("content", type=pycrdt.Text)) == "x" * 40
    late = _update(_structs(1, 60, _after(1, 59, "x")))
    assert asyncio.run(_admit_in_turn(document, [late])) == (Admitted(None, incomplete=True), [0])


def test_what_adds_nothing_parts_no_pair(oracle: Oracle) -> None:
    """The log would have the pair whole where the document has it parted."""
    document = _document()
    rows = [document.admit(_update(_structs(1, 0, _first("a\U0001f600b")))).row]
    before = document.encode()
    again = _update(_structs(1, 0, _first("a\ufffd"), _after(1, 1, "\ufffdb")))
    assert document.admit(again).row is None
    assert document.encode() == before
    inserted = _update(_structs(2, 0, b"\xc4\1\1\1\2\1x"))
    rows.append(document.admit(inserted).row)
    built = build_document([])
    for row in rows:
        assert row is not None
        built = apply_row(built, row)
    assert built.get_update() == document.encode()
    assert oracle.text([built.get_update()]) == oracle.text([before, inserted]) == "a\ufffdx\ufffdb"


def test_a_merged_row_names_the_pairs_that_it_parts_itself() -> None:
    pair = _structs(1, 0, _first("\U0001f600"))
    between = _structs(2, 0, b"\xc4" + var_uint(1) + var_uint(0) + var_uint(1) + var_uint(1) + var_bytes(b"x"))
    row = merge_rows([_update(between, pair)])
    document = build_document(updates_of([row]))
    assert str(document.get("content", type=pycrdt.Text)) == "\ufffdx\ufffd"
    assert str(build_document([document.get_update()]).get("content", type=pycrdt.Text)) == "\ufffdx\ufffd"
