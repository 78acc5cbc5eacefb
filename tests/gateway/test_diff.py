"""Differences of two sequences, edits of a text, and unified diffs: right, and bounded in work and number."""

import random
import subprocess
from pathlib import Path

import pycrdt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.files.history import _unified
from gateway.yjs.diff import Difference, Work, differences
from gateway.yjs.text_edits import apply_edits, most_edits, smallest_edits

_TEXTS = st.text(alphabet="ab é🎈\n", max_size=60)
_PLENTY = 2**20


def _applied(old: str, new: str, found: list[Difference]) -> str:
    parts, position = [], 0
    for each in found:
        assert position <= each.old_start <= each.old_end
        parts += [old[position : each.old_start], new[each.new_start : each.new_end]]
        position = each.old_end
    return "".join([*parts, old[position:]])


@given(old=_TEXTS, new=_TEXTS, cells=st.sampled_from([0, 5, 100, _PLENTY]))
def test_differences_make_the_new_sequence_of_the_old_one_whatever_work_is_left(old: str, new: str, cells: int) -> None:
    found = differences(old, new, Work(cells))
    assert _applied(old, new, found) == new
    assert found == differences(list(old), list(new), Work(cells))  # any items, not characters alone


@given(old=_TEXTS, new=_TEXTS)
def test_with_enough_work_the_differences_are_the_smallest(old: str, new: str) -> None:
    found = differences(old, new, Work(_PLENTY))
    kept = len(old) - sum(each.old_end - each.old_start for each in found)
    assert kept == _longest_common(old, new)


def _longest_common(old: str, new: str) -> int:
    row = [0] * (len(new) + 1)
    for left in old:
        before, row = row, [0]
        for place, right in enumerate(new):
            row.append(before[place] + 1 if left == right else max(before[place + 1], row[-1]))
    return row[-1]


def test_without_work_left_lines_that_occur_once_still_align_long_texts() -> None:
    old = [f"line {number}" for number in range(50_000)]
    new = [f"  {line}" if number % 1000 == 0 else line for number, line in enumerate(old)]
    work = Work(100)
    assert differences(old, new, work) == [Difference(n, n + 1, n, n + 1) for n in range(0, 50_000, 1000)]
    assert work.left >= 0


def test_no_more_is_compared_than_was_allowed() -> None:
    old = [f"{number % 26}" for number in range(90_000)]
    work = Work(2**26)
    assert differences(old, old[::-1], work) == [Difference(0, 89_999, 0, 89_999)] or work.left >= 0
    assert 0 <= work.left <= 2**26


def _words(length: int, seed: int) -> str:
    return "".join(random.Random(seed).choices("abcdefghijklmnopqrstuvwxyzABCDEFGHIJ0123456789+/", k=length))


@pytest.mark.parametrize("lines", [1, 5, 100])
def test_texts_that_have_nothing_in_common_are_replaced_by_few_edits(lines: int) -> None:
    old = "".join(_words(10_000, seed) + "\n" for seed in range(lines))
    new = "".join(_words(10_000, -seed - 1) + "\n" for seed in range(lines))
    update, made = _put(old, new)
    assert made == new
    assert len(update) < 1.1 * len(new)


def test_a_text_that_is_written_anew_in_every_line_is_edited_by_a_bounded_number_of_pieces() -> None:
    old = "".join(f"line {number}\n" for number in range(20_000))
    new = "".join(f"  line {number}\n" for number in range(20_000))
    edits = smallest_edits(old, new)
    assert len(edits) <= 2048
    update, made = _put(old, new)
    assert made == new
    assert len(update) < 1.5 * len(new)


def test_fewer_edits_are_made_where_yrs_has_far_to_walk() -> None:
    assert most_edits("x" * 1000, 1100) == 2048
    assert 50 <= most_edits("x" * 100_000, 1_500_000) <= 100


@given(old=_TEXTS, new=_TEXTS, most=st.integers(1, 5))
def test_a_bound_on_the_number_of_edits_is_kept_and_changes_nothing_of_the_text(old: str, new: str, most: int) -> None:
    edits = smallest_edits(old, new, most)
    assert len(edits) <= most
    document: pycrdt.Doc[pycrdt.Text] = pycrdt.Doc()
    text = document.get("content", type=pycrdt.Text)
    text += old
    with document.transaction():
        apply_edits(text, edits)
    assert str(text) == new


def _put(old: str, new: str) -> tuple[bytes, str]:
    document: pycrdt.Doc[pycrdt.Text] = pycrdt.Doc()
    text = document.get("content", type=pycrdt.Text)
    text += old
    before = document.get_state()
    with document.transaction():
        apply_edits(text, smallest_edits(old, new))
    return document.get_update(before), str(text)


@given(
    old=st.lists(st.sampled_from("abcdef"), max_size=60),
    edits=st.lists(
        st.tuples(st.integers(0, 60), st.integers(0, 3), st.sampled_from(["", "x\n", "y\nz\n"])), max_size=5
    ),
    ends=st.tuples(st.sampled_from(["", "end"]), st.sampled_from(["", "end"])),
)
def test_patch_makes_the_newer_version_by_a_unified_diff(
    tmp_path_factory: pytest.TempPathFactory, old: list[str], edits: list[tuple[int, int, str]], ends: tuple[str, str]
) -> None:
    lines = [f"{line}\n" for line in old]
    older = "".join(lines) + ends[0]
    for place, count, text in edits:
        lines[place : place + count] = [text] if text else []
    newer = "".join(lines) + ends[1]
    unified = _unified(older.encode(), newer.encode(), ("a", "b")).decode()
    assert bool(unified) == (older != newer)
    if unified:
        folder: Path = tmp_path_factory.getbasetemp()
        (folder / "older").write_text(older)
        subprocess.run(
            ["patch", "--silent", "--output", "newer", "older", "-"], input=unified.encode(), cwd=folder, check=True
        )
        assert (folder / "newer").read_text() == newer
