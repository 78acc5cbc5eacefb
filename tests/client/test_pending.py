"""Edits in a file: what is read again is what was written, whole, wherever the writing stopped."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.client.pending import PendingEdits


def opened(file: Path) -> PendingEdits:
    return PendingEdits(file, "http://gateway/api/projects/p", "a.md")


def reopened(file: Path) -> tuple[list[bytes], str | None]:
    edits = opened(file)
    edits.close()
    return edits.updates, edits.incarnation


def test_edits_and_the_life_they_are_of_are_there_again(tmp_path: Path) -> None:
    file = tmp_path / "edits"
    edits = opened(file)
    edits.live("life")
    for update in (b"1", b"2", b"3"):
        edits.add(update)
    edits.acknowledge(1)
    edits.sync()
    edits.close()
    assert reopened(file) == ([b"2", b"3"], "life")


def test_when_all_is_acknowledged_the_file_is_small_again(tmp_path: Path) -> None:
    file = tmp_path / "edits"
    edits = opened(file)
    empty = file.stat().st_size
    for _ in range(1000):
        edits.add(b"x" * 1000)
    edits.acknowledge(1000)
    assert file.stat().st_size == empty
    edits.close()
    assert reopened(file) == ([], None)


def test_dropped_edits_do_not_come_back(tmp_path: Path) -> None:
    file = tmp_path / "edits"
    edits = opened(file)
    edits.live("life")
    edits.add(b"1")
    edits.drop()
    edits.close()
    assert reopened(file) == ([], None)


@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(
    updates=st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=6), cut=st.floats(0, 1), more=st.binary()
)
def test_a_log_that_breaks_off_anywhere_holds_what_was_whole(
    tmp_path: Path, updates: list[bytes], cut: float, more: bytes
) -> None:
    file = tmp_path / "edits"
    file.unlink(missing_ok=True)
    edits = opened(file)
    ends = []
    for update in updates:
        edits.add(update)
        ends.append(file.stat().st_size)
    edits.close()
    size = int(cut * ends[-1])
    file.write_bytes(file.read_bytes()[:size])
    whole = [update for update, end in zip(updates, ends, strict=True) if end <= size]
    if size < 8 or whole:
        edits = opened(file)
        assert edits.updates == whole
        edits.add(b"after " + more)
        edits.close()
        assert reopened(file)[0] == [*whole, b"after " + more]


def test_another_documents_file_and_one_in_use_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "edits"
    edits = opened(file)
    with pytest.raises(BlockingIOError):
        opened(file)
    edits.close()
    with pytest.raises(ValueError, match=r"a\.md"):
        PendingEdits(file, "http://gateway/api/projects/p", "b.md")
    (tmp_path / "letter").write_text("Dear Sir or Madam")
    with pytest.raises(ValueError, match="does not hold"):
        opened(tmp_path / "letter")
    assert (tmp_path / "letter").read_text() == "Dear Sir or Madam"


def test_a_batch_is_bounded(tmp_path: Path) -> None:
    edits = PendingEdits(None, "u", "a.md")
    for _ in range(5):
        edits.add(b"x" * 2**19)
    assert len(edits.batch()) == 2
    edits.acknowledge(2)
    edits.add(b"y" * 2**22)
    edits.acknowledge(3)
    assert edits.batch() == [b"y" * 2**22]
