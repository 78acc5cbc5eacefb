"""The lines that `read_file` shows of a text: it is searched and decoded in slices, and only as far as it is shown."""

import asyncio
import random
from typing import Any

import pytest

from gateway.mcp import tools
from gateway.mcp.tools import _shown, survey

_LINES = 200_000


class _SearchedText(bytes):
    """A text that counts how often a line's end is looked for."""

    searches: int

    def index(self, *arguments: Any) -> int:
        self.searches += 1
        return super().index(*arguments)


def _split(text: str) -> list[str]:
    lines = text.split("\n")
    return lines[:-1] if lines[-1] == "" else lines


async def _lines(text: bytes, skipped: int, most: int) -> tuple[int, list[str]]:
    count, start = await survey(text, skipped)
    shown = await _shown(text, start, skipped + 1, most)
    return count, [line.partition("\t")[2] for line in shown]


def test_any_lines_of_any_text_are_those_of_the_split_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools, "_COUNTED", 2**14)
    monkeypatch.setattr(tools, "_SEARCHED", 2**10)
    choice = random.Random(7)

    async def work() -> None:
        for size in (0, 1, 2, 3, 100, 16_383, 16_384, 16_385, 40_000):
            for ends in ("\n", "ab\n", "\u00e9b" * 20 + "\n", "a"):
                text = "".join(choice.choices(ends, k=size))
                whole = _split(text)
                for skipped in (0, 1, len(whole) // 2, len(whole) - 1, len(whole), len(whole) + 1, 2**70):
                    for most in (1, 7):
                        skipped = max(0, skipped)
                        found = await _lines(text.encode(), skipped, most)
                        assert found == (len(whole), whole[skipped : skipped + most])

    asyncio.run(work())


def test_a_longer_line_than_an_answer_holds_is_cut_and_its_characters_are_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tools, "_LONGEST_ANSWER", 100)
    monkeypatch.setattr(tools, "_COUNTED", 7)
    text = ("short\n" + "\u00e9\U0001f389" * 500 + "\nend").encode()

    async def work() -> None:
        count, start = await survey(text, 1)
        (cut,) = await _shown(text, start, 2, 10)
        assert count == 3
        assert cut == f"{2:6}\t" + ("\u00e9\U0001f389" * 50)[:93] + " [cut: the line has 1000 characters]"
        assert await _shown(text, 0, 1, 10) == [f"{1:6}\tshort"]

    asyncio.run(work())


def test_the_lines_before_the_first_one_shown_are_not_looked_for() -> None:
    text = _SearchedText(b"line of text\n" * _LINES)
    text.searches = 0
    assert asyncio.run(_lines(text, _LINES - 100, 2)) == (_LINES, ["line of text"] * 2)
    assert text.searches < 2_000
