"""Edits that a client asks for, as edits of the text that it means."""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.yjs.edit_requests import EditNotApplicable, ReplaceRange, ReplaceText, edits_of
from gateway.yjs.text_edits import Edit

_TEXT = st.text(st.sampled_from("ab\n é😀"), max_size=30)


def _apply(text: str, edits: list[Edit]) -> str:
    for edit in reversed(edits):
        text = text[: edit.start] + edit.text + text[edit.end :]
    return text


def _units(text: str) -> bytes:
    return text.encode("utf-16-le")


@given(_TEXT, _TEXT, st.data())
def test_a_range_is_in_code_units_of_utf_16(text: str, new: str, data: st.DataObject) -> None:
    start, end = sorted(data.draw(st.tuples(*[st.integers(0, len(text))] * 2)))
    before, inside = _units(text[:start]), _units(text[start:end])
    first = len(before) // 2
    requested = ReplaceRange(first, first + len(inside) // 2, new)
    assert _apply(text, edits_of(text, [requested], 100)) == text[:start] + new + text[end:]


@given(_TEXT.filter(bool), st.text(st.sampled_from("ab\n é😀"), min_size=1, max_size=3), _TEXT)
def test_old_text_is_replaced_where_it_is_there_exactly_once(text: str, old: str, new: str) -> None:
    places = [at for at in range(len(text)) if text.startswith(old, at)]
    if len(places) == 1:
        assert _apply(text, edits_of(text, [ReplaceText(old, new)], 100)) == text.replace(old, new)
        return
    with pytest.raises(EditNotApplicable) as refused:
        edits_of(text, [ReplaceText(old, new)], 100)
    assert refused.value.index == 0
    assert (refused.value.found > 1) == (len(places) > 1)
    assert (refused.value.found == 0) == (not places)


@given(_TEXT, st.text(st.sampled_from("ab\n é😀"), min_size=1, max_size=2), _TEXT)
def test_all_replaces_as_str_replace_does(text: str, old: str, new: str) -> None:
    if old in text:
        assert _apply(text, edits_of(text, [ReplaceText(old, new, all=True)], 100)) == text.replace(old, new)


def test_all_edits_mean_the_same_text() -> None:
    edits = edits_of("one two three", [ReplaceText("three", "one"), ReplaceText("one", "four")], 100)
    assert _apply("one two three", edits) == "four two one"


def test_an_edit_inside_of_the_old_text_is_no_larger_than_it_must_be() -> None:
    edits = edits_of("The quick brown fox jumps.", [ReplaceText("quick brown fox", "quick red fox")], 100)
    assert sum(edit.end - edit.start for edit in edits) <= len("brown")


@pytest.mark.parametrize(
    ("requests", "index", "found"),
    [
        ([ReplaceText("a", "b"), ReplaceText("x", "y")], 1, 0),
        ([ReplaceText("b", "x")], 0, 2),
        ([ReplaceText("bb", "x"), ReplaceText("abb", "y")], 0, 0),
        ([ReplaceRange(0, 2, ""), ReplaceRange(1, 1, "x")], 1, 0),
        ([ReplaceRange(4, 3, "")], 0, 0),
        ([ReplaceRange(-1, 0, "")], 0, 0),
        ([ReplaceRange(0, 7, "")], 0, 0),
        ([ReplaceRange(4, 5, "")], 0, 0),
        ([ReplaceText("", "x")], 0, 0),
    ],
    ids=["absent", "twice", "overlapping", "overlapping ranges", "backwards", "negative", "beyond", "half", "empty"],
)
def test_the_first_edit_that_does_not_fit_is_named(
    requests: list[ReplaceText | ReplaceRange], index: int, found: int
) -> None:
    with pytest.raises(EditNotApplicable) as refused:
        edits_of("abb😀c", requests, 100)
    assert (refused.value.index, refused.value.found) == (index, found)


def test_occurrences_that_overlap_are_counted() -> None:
    with pytest.raises(EditNotApplicable) as refused:
        edits_of("aaa", [ReplaceText("aa", "b")], 100)
    assert refused.value.found == 2


def test_very_many_replacements_become_a_bounded_number_of_edits() -> None:
    text = "ab" * 50_000
    edits = edits_of(text, [ReplaceText("a", "c", all=True)], 2048)
    assert len(edits) <= 2048
    assert _apply(text, edits) == "cb" * 50_000


def test_a_refusal_comes_out_of_a_worker_as_the_refusal_went_in() -> None:
    refusal = pickle.loads(pickle.dumps(EditNotApplicable(3, 2, "twice")))
    assert (refusal.index, refusal.found, str(refusal)) == (3, 2, "twice")
