"""Which text a save in a live folder was made from."""

import os
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.client.folder.merging import merged
from gateway.client.folder.recent_texts import WITHIN_S, RecentTexts, Shown, base_of

_S = 10**9
_PLACED = 1_000 * _S
_LINES = "ann:\nben:\n\nperson:\n"
_MORE = "ann:\nben:\n\nperson: typed\n"


def _chosen(
    texts: Sequence[str], saved: str, *, written_s: float = 0.1, saved_s: float = 0.1, is_earlier: bool = False
) -> str:
    """Return the chosen base; the texts replaced each other at `_PLACED`, or a second apart up to it."""
    since = [0, *(_PLACED - (len(texts) - 1 - number) * _S for number in range(1, len(texts)))]
    shown = [Shown(text.encode(), at) for text, at in zip(texts, since, strict=True)]
    times = _PLACED + int(written_s * _S), _PLACED + int(saved_s * _S)
    return base_of(shown, saved.encode(), *times, is_earlier).content.decode()


def test_a_save_without_what_has_just_arrived_was_made_from_the_text_before() -> None:
    saved = "ann: edited\nben:\n\nperson:\n"
    assert _chosen([_LINES, _MORE], saved) == _LINES
    assert merged(_LINES, saved, _MORE) == "ann: edited\nben:\n\nperson: typed\n"


def test_the_text_before_may_be_several_texts_ago() -> None:
    texts = [_LINES, "ann:\nben:\n\nperson: t\n", "ann:\nben:\n\nperson: ty\n", _MORE]
    for number, text in enumerate(texts[1:], 1):
        assert _chosen(texts, text.replace("ann:", "ann: edited")) == texts[number]
    assert _chosen(texts, _LINES.replace("ann:", "ann: edited"), saved_s=0.5) == _LINES
    assert _chosen(texts, _LINES.replace("ann:", "ann: edited"), saved_s=1.5) == _MORE  # it was shown too long ago


def test_a_deletion_that_has_just_arrived_is_not_taken_back_either() -> None:
    saved = "ann:\nben: edited\n\nperson: typed\n"
    assert _chosen([_MORE, _LINES], saved) == _MORE
    assert merged(_MORE, saved, _LINES) == "ann:\nben: edited\n\nperson:\n"


def test_a_text_that_the_file_has_had_is_a_return_to_it() -> None:
    assert _chosen([_LINES, _MORE], _LINES, is_earlier=True) == _MORE
    recent = RecentTexts()
    recent.replaced("a.md", _LINES.encode(), _MORE.encode(), _PLACED)
    assert _base(recent, _LINES) == _MORE
    assert _base(recent, "new\n" + _LINES) == _LINES
    assert _base(recent, "new\n" + _LINES, present="saved here since") == "saved here since"


@pytest.mark.parametrize("saved_s", [WITHIN_S + 0.1, 3600])
def test_after_some_seconds_a_save_is_taken_literally(saved_s: float) -> None:
    assert _chosen([_LINES, _MORE], "ann: edited\n" + _LINES, written_s=saved_s, saved_s=saved_s) == _MORE


@pytest.mark.parametrize(
    "saved",
    [
        "ann:\nben:\n\nperson: typewriter\n",  # it has a part of what arrived
        "ann:\nben:\n\nperson: corrected\n",  # it replaces it
        "ann: edited\nben:\n\nperson: typ\n",
        "something\nelse\naltogether, and much longer than before\n",
        "",
    ],
)
def test_a_save_that_edits_what_has_arrived_was_made_from_it(saved: str) -> None:
    assert _chosen([_LINES, _MORE], saved) == _MORE


def test_a_formatter_that_rewrites_what_is_being_typed_is_not_merged_with_it() -> None:
    texts = ["", "f", "f(", "f('", "f('a", "f('a'", "f('a')"]
    assert _chosen(texts, 'f("a")\n') == "f('a')"


def test_a_text_that_was_written_before_the_file_was_replaced_was_not_made_from_what_replaced_it() -> None:
    saved = "ann:\nben:\n\nperson: elsewhere\n"  # at the very place
    assert _chosen([_LINES, _MORE], saved, written_s=-0.01) == _LINES
    assert _chosen([_LINES, _MORE], saved, written_s=0) == _LINES  # within one tick: the one that is closer
    assert _chosen([_LINES, _MORE], "ann: edited\n" + _MORE[5:], written_s=0) == _MORE
    assert _chosen([_LINES, _MORE], _LINES, written_s=-0.01, is_earlier=True) == _LINES  # saved unchanged
    assert _chosen([_LINES, _MORE], saved, written_s=-3600) == _MORE  # a copy that has kept its time


def test_what_a_save_has_changed_may_be_taken_back_by_the_next() -> None:
    recent = RecentTexts()
    recent.replaced("a.md", _LINES.encode(), _MORE.encode(), _PLACED)
    recent.saved("a.md", _LINES.encode(), None)  # taken back on purpose
    assert _base(recent, "ann: edited\n" + _LINES) == _MORE
    assert recent.last("a.md") is None
    recent.replaced("a.md", _LINES.encode(), _MORE.encode(), _PLACED)
    recent.saved("a.md", _MORE.encode(), None)  # what was written for the gateway is no save
    assert _base(recent, "ann: edited\n" + _LINES) == _LINES


def test_what_is_kept_is_bounded() -> None:
    recent = RecentTexts()
    for number in range(60):
        recent.replaced(f"{number}.md", b"x" * 2**20, b"y" * 2**20, _PLACED)
    assert recent.last("59.md") is not None
    assert recent.last("0.md") is None
    for number in range(1_000):
        recent.replaced("a.md", b"%d" % number, b"%d" % (number + 1), _PLACED)
    assert _base(recent, "0 and more", present="1000") == "1000"


def _base(recent: RecentTexts, saved: str, present: str = _MORE) -> str:
    times = {"st_mtime_ns": _PLACED + 1, "st_ctime_ns": _PLACED + 1}
    about = os.stat_result((0o644, 1, 1, 1, 0, 0, 1, 0, 0, 0), times)
    return recent.base_of("a.md", saved.encode(), about, present.encode()).decode()


_WORDS = st.text("abc \n", min_size=1, max_size=6)


@given(st.lists(_WORDS, min_size=3, max_size=10), st.lists(_WORDS, min_size=1, max_size=4), _WORDS, st.data())
def test_neither_side_loses_what_it_wrote_in_paragraphs_of_its_own(
    paragraphs: list[str], typed: list[str], edit: str, data: st.DataObject
) -> None:
    there, here = data.draw(st.permutations(range(len(paragraphs))))[:2]

    def text(typed_there: str, edited_here: str) -> str:
        parts = [f"<{number}>{each}\n" for number, each in enumerate(paragraphs)]
        parts[there] += "".join(f"[{letter}]" for letter in typed_there)
        parts[here] += "".join(f"{{{letter}}}" for letter in edited_here)
        return "".join(f"{part}</{number}>\n" for number, part in enumerate(parts))

    words = "".join(typed)
    texts = [text(words[:count], "") for count in range(len(words) + 1)]
    read = data.draw(st.integers(0, len(words)))
    saved = text(words[:read], edit)
    since = [0, *range(_PLACED, _PLACED + len(words))]
    shown = [Shown(each.encode(), at) for each, at in zip(texts, since, strict=True)]
    base = base_of(shown, saved.encode(), _PLACED + _S, _PLACED + _S, False).content.decode()
    both = merged(base, saved, texts[-1])
    assert sorted(both) == sorted(text(words, edit))
