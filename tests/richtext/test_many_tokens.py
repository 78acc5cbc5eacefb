"""Markdown of very many blocks, cells and formats is refused before a document is made of it."""

import pytest

from gateway.richtext import markdown_reading
from gateway.richtext.revising import MarkdownTooLong, Target, revise_version
from gateway.yjs.revisions import NewText
from gateway.yjs.updates import EMPTY_UPDATE

_COLUMNS = 50


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("a | " * _COLUMNS + "\n" + "-|" * _COLUMNS, 4 * _COLUMNS + 6),
        ("*a* " * _COLUMNS, 4 * _COLUMNS + 2),
        ("-\n" * _COLUMNS, 2 * _COLUMNS + 2),
    ],
)
def test_more_tokens_than_are_read_are_refused(monkeypatch: pytest.MonkeyPatch, text: str, tokens: int) -> None:
    monkeypatch.setattr(markdown_reading, "MOST_TOKENS", tokens)
    revised = revise_version([EMPTY_UPDATE], None, "version", Target(), NewText(text))
    assert revised is not None
    monkeypatch.setattr(markdown_reading, "MOST_TOKENS", tokens - 1)
    with pytest.raises(MarkdownTooLong, match=f"has {tokens} tokens"):
        revise_version([EMPTY_UPDATE], None, "version", Target(), NewText(text))
