"""Which structs yrs may walk for, told without a document: compared with Yjs's own algorithm, step by step."""

import random
from itertools import pairwise
from typing import Any

import pycrdt
import pytest

from gateway.yjs.admission import in_order
from gateway.yjs.halves import Halves
from gateway.yjs.lib0 import var_uint
from gateway.yjs.preparation import prepare
from gateway.yjs.scan import Place, ScannedStruct, TooMuch, scan
from gateway.yjs.slices import SliceWork
from gateway.yjs.updates import build_document
from gateway.yjs.walks import Walks, count_walks

_Letters = list[tuple[Place, Place | None, Place | None]]
"""The letters of a text as they stand, with the neighbours that each names."""


def _place(letters: _Letters, struct: ScannedStruct) -> int:
    """Insert a struct of one letter as Yjs does (`Item.integrate`); return over how many letters it walked."""
    places = [place for place, _, _ in letters]
    left = places.index(struct.left) if struct.left is not None else -1
    right = places.index(struct.right) if struct.right is not None else len(letters)
    steps, at = 0, left
    before: set[Place] = set()
    conflicting: set[Place] = set()
    for index in range(left + 1, len(letters)):
        if index == right:
            break
        steps += 1
        other, its_left, its_right = letters[index]
        before.add(other)
        conflicting.add(other)
        if its_left == struct.left:
            if other[0] < struct.client:
                at = index
                conflicting.clear()
            elif its_right == struct.right:
                break
        elif its_left is not None and its_left in before:
            if its_left not in conflicting:
                at = index
                conflicting.clear()
        else:
            break
    letters.insert(at + 1, ((struct.client, struct.clock), struct.left, struct.right))
    return steps


def _update(structs: dict[int, list[tuple[Place | None, Place | None]]], clocks: dict[int, int]) -> bytes:
    """Structs of one letter each, by client, with their neighbours; each client goes on at its clock."""
    sections = []
    for client in sorted(structs, reverse=True):
        parts = []
        for left, right in structs[client]:
            info = 4 | (0x80 if left else 0) | (0x40 if right else 0)
            origins = b"".join(var_uint(number) for place in (left, right) if place for number in place)
            root = b"" if left or right else b"\1\1t"
            parts.append(bytes([info]) + origins + root + b"\1x")
        sections.append(var_uint(len(parts)) + var_uint(client) + var_uint(clocks.get(client, 0)) + b"".join(parts))
    return var_uint(len(sections)) + b"".join(sections) + b"\0"


def _drawn(random_: random.Random, letters: _Letters, clocks: dict[int, int], count: int) -> bytes:
    """Structs of several clients who saw a part of the text: most beside a letter, some with neighbours far apart."""
    known = [place for place, _, _ in letters]
    structs: dict[int, list[tuple[Place | None, Place | None]]] = {}
    for _ in range(count):
        client = random_.randint(1, 5)
        at = random_.choice([0, 0, random_.randint(0, len(known))])
        apart = random_.choice([0, 0, 0, random_.randint(0, len(known) - at)])
        left = known[at - 1] if at else None
        right = known[at + apart] if at + apart < len(known) else None
        if not known or random_.random() < 0.05:
            left = right = None
        own = structs.setdefault(client, [])
        own.append((left, right))
        known.insert(at, (client, clocks.get(client, 0) + len(own) - 1))
    return _update(structs, clocks)


@pytest.mark.parametrize("seed", range(60))
def test_who_is_told_not_to_walk_does_not(seed: int) -> None:
    drawn = random.Random(seed)
    letters: _Letters = []
    clocks: dict[int, int] = {}
    document = pycrdt.Doc[Any]()
    for count in (40, 40, 40):
        update = _drawn(drawn, letters, clocks, count)
        scanned = scan(update)
        ordered = list(in_order(scanned.structs, clocks))
        assert len(ordered) == count
        walks = Walks(update, scanned, clocks)
        for struct in ordered:
            may_walk = walks(struct)
            steps = _place(letters, struct)
            assert may_walk or steps <= 1
        slices = prepare(update, clocks, Halves(), slice_work=SliceWork(64, 0, 500)).slices
        assert len(slices) > 1
        for each in slices:
            document.apply_update(each)
        clocks.update((client, end) for client, _, end in scanned.runs)
    text = document.get("t", type=pycrdt.Text)
    assert len(str(text)) == len(letters)


def _typed(document: pycrdt.Doc[Any], count: int) -> bytes:
    drawn, text = random.Random(count), document.get("t", type=pycrdt.Text)
    before = document.get_state()
    with document.transaction():
        for _ in range(count):
            text.insert(drawn.randint(0, len(str(text))), drawn.choice("abc"))
    return document.get_update(before)


def test_a_document_that_one_types_anywhere_does_not_walk() -> None:
    update = _typed(pycrdt.Doc(client_id=7), 500)
    assert count_walks(update, scan(update), {}) == 0


def test_insertions_of_many_clients_at_one_place_do_not_walk_in_order() -> None:
    update = _update({client: [(None, None)] for client in range(1, 2_000)}, {})
    scanned = scan(update)
    walks = Walks(update, scanned, {})
    assert not any(map(walks, in_order(scanned.structs, {})))


def test_values_of_many_keys_are_one_walk_and_of_one_key_many() -> None:
    def of_keys(keys: list[bytes]) -> bytes:
        structs = b"".join(b"\x28\1\1m" + var_uint(len(key)) + key + b"\1\x7e" for key in keys)
        return b"\1" + var_uint(len(keys)) + b"\5\0" + structs + b"\0"

    for keys, expected in (([b"%d" % number for number in range(100)], 1), ([b"k"] * 100, 100)):
        update = of_keys(keys)
        assert count_walks(update, scan(update), {}) == expected


def test_few_structs_that_compete_with_a_whole_document_are_too_much_for_one_step() -> None:
    """Together they would walk over it a hundred times; each is a slice of its own."""
    present = 100_000
    update = _update({client: [(None, None)] for client in range(1, 101)}, {})
    clocks = {0: present}
    assert prepare(update, clocks, Halves(), most=4_096, present=1_000)
    with pytest.raises(TooMuch):
        prepare(update, clocks, Halves(), most=4_096, present=present)
    one = _update({1: [(None, None)]}, {})
    assert prepare(one, clocks, Halves(), most=4_096, present=present)
    slices = prepare(update, clocks, Halves(), slice_work=SliceWork(16_384, 0, present)).slices
    assert [len(scan(each).structs) for each in slices] == [1] * 100
    assert build_document(slices).get_update() == build_document([update]).get_update()


def test_the_deletion_of_very_many_structs_is_split() -> None:
    present = 200_000
    update = b"\0\1\5\1\0" + var_uint(present)
    with pytest.raises(TooMuch):
        prepare(update, {5: present}, Halves(), most=4_096, present=present)
    slices = prepare(update, {5: present}, Halves(), slice_work=SliceWork(16_384, 0, present)).slices
    ranges = [deleted for each in slices for deleted in scan(each).deletes]
    assert len(slices) == len(ranges) > 10
    assert (ranges[0][1], ranges[-1][2]) == (0, present)
    assert all(before[2] == after[1] for before, after in pairwise(ranges))
