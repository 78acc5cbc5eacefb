"""Writes inline content as Markdown that every CommonMark parser reads back as the same content. Pure.

CommonMark recognises a delimiter by the characters beside it. Where they would not do, the character beside the
delimiter is written as an entity, which makes it punctuation to the parser (CommonMark §6.2).
"""

import re
from collections.abc import Sequence
from typing import Literal

from gateway.richtext.blocks import NO_MARKS, Atom, Inline, Mark, Marks, Run

Place = Literal["paragraph", "heading", "cell"]

_DELIMITERS = {"bold": "**", "italic": "_", "strike": "~~"}
_ORDER = ("link", "strike", "bold", "italic")
_ENTITY = re.compile(r"&(?:#[xX][0-9a-fA-F]{1,6}|#[0-9]{1,7}|[A-Za-z][A-Za-z0-9]{1,31});")
_TAG = re.compile(r"<[A-Za-z!/?]")
_BACKTICKS = re.compile(r"`+")
_STARTS = re.compile(
    r"(?P<digits>\d{1,9})(?=[.)](?:[ \t]|$))|(?=#{1,6}(?:[ \t]|$)|>|[-+](?:[ \t]|$)|-[- \t]*$|=+[ \t]*$|[|:])"
)
"""What would make a line the start of another block, or its underline."""
_BARE_TARGET = re.compile(r"[^\s<>()\\&\x00-\x20\x7f]+")
_LINE_ENDS = re.compile(r"[\n\r]")


class _Text:
    """Characters of a run between delimiters, and which of them must be written as entities."""

    __slots__ = ("after", "before", "first", "last", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.first = self.last = False
        self.before = self.after = ""
        """What is written directly before and after the characters."""

    def written(self, begins: bool, ends: bool) -> str:
        """Return the characters as Markdown.

        Args:
            begins, ends: whether a line begins before the characters, and ends after them.
        """
        text, start, end = self.text, 0, len(self.text)
        if self.first:
            start = 1
        if self.last:
            end -= 1
        if begins:
            start = max(start, len(text) - len(text.lstrip()))
        if ends:
            end = min(end, len(text.rstrip()))
        if start >= end:
            return "".join(map(_entity, text))
        entities = "".join(map(_entity, text[:start])), "".join(map(_entity, text[end:]))
        return f"{entities[0]}{self._escaped(start, end)}{entities[1]}"

    def _escaped(self, start: int, end: int) -> str:
        out = []
        for index in range(start, end):
            character = self.text[index]
            if character in "\n\r":
                out.append(_entity(character))
            else:
                out.append("\\" + character if self._is_special(index, start, end) else character)
        return "".join(out)

    def _is_special(self, index: int, start: int, end: int) -> bool:
        """Whether a character must be escaped; those outside of `start` to `end` are written as entities."""
        text, last = self.text, len(self.text) - 1
        match text[index]:
            case "\\" | "`" | "*" | "[" | "]":
                return True
            case "_":
                return not (start < index < end - 1 and text[index - 1].isalnum() and text[index + 1].isalnum())
            case "~":
                before = text[index - 1] if index else self.before
                after = text[index + 1] if index < last else self.after
                return before.endswith("~") or after.startswith("~")
            case "!":
                return index == last and self.after.startswith("[")
            case "<":
                return _TAG.match(text, index) is not None
            case "&":
                return _ENTITY.match(text, index) is not None
        return False


_Part = tuple[str, str] | _Text
"""Characters, or something written: whether it opens, closes, or is whole, and how."""


def write_inline(inline: Inline, place: Place = "paragraph") -> str:
    """Return inline content as Markdown: in a paragraph several lines if there are breaks, else one line."""
    parts = _parts(inline, place)
    _fit_delimiters(parts)
    written = _assembled(parts)
    if place == "paragraph":
        return "\n".join(map(_escape_start, written.split("\n")))
    if place == "heading":
        bare = written.rstrip("#")
        return written if len(bare) == len(written) or bare.endswith("\\") else f"{bare}\\{written[len(bare) :]}"
    return written.replace("|", "\\|")


def write_target(href: str, title: str) -> str:
    """Return the target of a link or an image, without the parentheses."""
    target = href if _BARE_TARGET.fullmatch(href) else f"<{_in_target(href, '<>')}>"
    return f'{target} "{_in_target(title, chr(34))}"' if title else target


def _in_target(text: str, special: str) -> str:
    out = []
    for index, character in enumerate(text):
        if character in special or character == "\\":
            out.append("\\" + character)
        elif character == "&" and _ENTITY.match(text, index):
            out.append("&amp;")
        elif character in "\n\r\t":
            out.append(_entity(character))
        else:
            out.append(character)
    return "".join(out)


def opaque(attributes: Sequence[str], *, block: bool) -> str:
    """Return the placeholder of what Markdown cannot say."""
    name, place = attributes
    return f"<!-- {name} #{place} -->" if block else f"<!--{name} #{place}-->"


def _parts(inline: Inline, place: Place) -> list[_Part]:
    parts: list[_Part] = []
    open_marks: list[Mark] = []
    all_marks = [_marks_at(inline, index) for index in range(len(inline))]
    for index, piece in enumerate(inline):
        wanted = all_marks[index]
        _close(parts, open_marks, next((at for at, mark in enumerate(open_marks) if mark not in wanted), None))
        opening = sorted(wanted.difference(open_marks), key=lambda mark: _extent(all_marks, index, mark))
        for mark in opening:
            parts.append(("open", "[" if mark.kind == "link" else _DELIMITERS[mark.kind]))
            open_marks.append(mark)
        if isinstance(piece, Atom):
            parts.append(("whole", _atom(inline, index, place)))
        elif any(mark.kind == "code" for mark in piece.marks) and not _LINE_ENDS.search(piece.text):
            parts.append(("whole", _code(piece.text)))
        else:
            parts.append(_Text(piece.text))
    _close(parts, open_marks, 0)
    return parts


def _close(parts: list[_Part], open_marks: list[Mark], first: int | None) -> None:
    if first is None:
        return
    for mark in reversed(open_marks[first:]):
        link = f"]({write_target(mark.href, mark.title)})"
        parts.append(("close", link if mark.kind == "link" else _DELIMITERS[mark.kind]))
    del open_marks[first:]


def _marks_at(inline: Inline, index: int) -> Marks:
    """Return the marks around a piece; a line break has those that its neighbours share."""
    piece = inline[index]
    marks = NO_MARKS
    if isinstance(piece, Run):
        marks = piece.marks
    elif piece.kind == "break" and 0 < index < len(inline) - 1:
        before, after = inline[index - 1], inline[index + 1]
        marks = before.marks & after.marks if isinstance(before, Run) and isinstance(after, Run) else NO_MARKS
    return frozenset(mark for mark in marks if mark.kind != "code")


def _extent(all_marks: Sequence[Marks], index: int, mark: Mark) -> tuple[int, int]:
    """Return the key by which marks that open together are nested: the longest outside."""
    end = index
    while end < len(all_marks) and mark in all_marks[end]:
        end += 1
    return -end, _ORDER.index(mark.kind)


def _atom(inline: Inline, index: int, place: Place) -> str:
    piece = inline[index]
    assert isinstance(piece, Atom)
    if piece.kind == "break":
        return "\\\n" if place == "paragraph" and 0 < index < len(inline) - 1 else "<br>"
    if piece.kind == "image":
        source, alternative, title = piece.attributes
        return write_image(source, alternative, title)
    return opaque(piece.attributes, block=False)


def write_image(source: str, alternative: str, title: str) -> str:
    text = _Text(alternative).written(False, False) if alternative else ""
    return f"![{text}]({write_target(source, title)})"


def _code(text: str) -> str:
    longest = {len(found) for found in _BACKTICKS.findall(text)}
    fence = "`" * next(length for length in range(1, len(longest) + 2) if length not in longest)
    padded = text[0] == "`" or text[-1] == "`" or (text[0] == text[-1] == " " and text.strip(" "))
    return f"{fence} {text} {fence}" if padded else f"{fence}{text}{fence}"


def _fit_delimiters(parts: Sequence[_Part]) -> None:
    """Mark the characters beside delimiters that must be written as entities for the delimiters to be read."""
    for index, part in enumerate(parts):
        if isinstance(part, _Text) or part[0] == "whole" or part[1][0] in "[]":
            continue
        opens = part[0] == "open"
        inside, outside = (index + 1, index - 1) if opens else (index - 1, index + 1)
        inner = parts[inside]
        plain = False
        if isinstance(inner, _Text):
            if inner.text[0 if opens else -1].isspace():
                _as_entity(inner, first=opens)
            plain = not _is_punctuation(inner, first=opens)
        outer = parts[outside] if 0 <= outside < len(parts) else None
        if isinstance(outer, _Text) and (not plain or part[1] == "_") and not _is_apart(outer, first=not opens):
            _as_entity(outer, first=not opens)


def _as_entity(text: _Text, *, first: bool) -> None:
    if first:
        text.first = True
    else:
        text.last = True
    if len(text.text) == 1:
        text.first = text.last = True


def _is_punctuation(text: _Text, *, first: bool) -> bool:
    if text.first if first else text.last:
        return True
    from markdown_it.common.utils import isMdAsciiPunct, isPunctChar  # here, as with it comes the whole parser

    character = text.text[0 if first else -1]
    return isMdAsciiPunct(ord(character)) or isPunctChar(character)


def _is_apart(text: _Text, *, first: bool) -> bool:
    from markdown_it.common.utils import isWhiteSpace

    return _is_punctuation(text, first=first) or isWhiteSpace(ord(text.text[0 if first else -1]))


def _assembled(parts: Sequence[_Part]) -> str:
    written: list[str] = []
    begins = True
    for index, part in enumerate(parts):
        if isinstance(part, _Text):
            following = parts[index + 1 :]
            after = following[0] if following else ("", "")
            part.before = written[-1] if written else ""
            part.after = "" if isinstance(after, _Text) else after[1]
            written.append(part.written(begins, _ends_line(following)))
            begins = False
        else:
            written.append(part[1])
            if part[0] == "whole":
                begins = part[1] == "\\\n"
    return "".join(written)


def _ends_line(following: Sequence[_Part]) -> bool:
    """Whether a line ends before anything but delimiters follows."""
    for part in following:
        if isinstance(part, _Text):
            return False
        if part[0] == "whole":
            return part[1] == "\\\n"
    return True


def _escape_start(line: str) -> str:
    found = _STARTS.match(line)
    if found is None:
        return line
    end = found.end("digits") if found["digits"] else 0
    return f"{line[:end]}\\{line[end:]}"


def _entity(character: str) -> str:
    return f"&#{ord(character)};"
