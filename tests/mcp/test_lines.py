"""The lines that `read_file` shows of a text."""

import random

from gateway.mcp.tools import _count_lines, _lines

_LINES = 200_000


class _SearchedText(str):
    """A text that counts how often a line's end is looked for."""

    __slots__ = ("searches",)

    searches: int

    def find(self, *arguments: object) -> int:
        self.searches += 1
        return super().find(*arguments)  # type: ignore[arg-type]


def _split(text: str) -> list[str]:
    lines = text.split("\n")
    return lines[:-1] if lines[-1] == "" else lines


def test_any_lines_of_any_text_are_those_of_the_split_text() -> None:
    choice = random.Random(7)
    for size in (0, 1, 2, 3, 100, 16_383, 16_384, 16_385, 60_000):
        for ends in ("\n", "ab\n", "ab" * 20 + "\n", "a"):
            text = "".join(choice.choices(ends, k=size))
            whole = _split(text)
            assert _count_lines(text) == len(whole)
            for skipped in (0, 1, len(whole) // 2, len(whole) - 1, len(whole), len(whole) + 1, 2**70):
                for most in (1, 7, 2**70):
                    skipped = max(0, skipped)
                    assert list(_lines(text, skipped, most)) == whole[skipped : skipped + most]


def test_the_lines_before_the_first_one_shown_are_not_made() -> None:
    text = _SearchedText("line of text\n" * _LINES)
    text.searches = 0
    assert list(_lines(text, _LINES - 100, 2)) == ["line of text"] * 2
    assert text.searches < 2_000
