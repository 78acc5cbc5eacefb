"""Rich text as a tree of blocks: what Markdown can say, whatever an editor calls it. Pure.

The kinds of blocks, with their attributes:
paragraph · heading(level) · code(language) hold inline content; quote · bullets · numbers(start) · tasks · item ·
task(checked) · row hold blocks; table(align) holds rows; cell holds inline content; rule; image(src, alt, title);
opaque(name, id): a block that Markdown cannot say. In BlockNote, bullet · number(start) · check(checked) and quote are
blocks with inline content and with nested blocks.
"""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple


class Mark(NamedTuple):
    """bold, italic, strike, code, or a link with its target."""

    kind: str
    href: str = ""
    title: str = ""


Marks = frozenset[Mark]
NO_MARKS: Marks = frozenset()


class Run(NamedTuple):
    """Characters with the same marks."""

    text: str
    marks: Marks = NO_MARKS


class Atom(NamedTuple):
    """An inline element without text of its own: break, image(src, alt, title), or opaque(name, id)."""

    kind: str
    attributes: tuple[Any, ...] = ()


Inline = tuple[Run | Atom, ...]
BREAK = Atom("break")


class Block(NamedTuple):
    kind: str
    attributes: tuple[Any, ...] = ()
    inline: Inline = ()
    children: tuple["Block", ...] = ()


EMPTY_PARAGRAPH = Block("paragraph")


def joined(pieces: Iterable[Run | Atom]) -> Inline:
    """Join neighbouring runs with the same marks, and drop empty runs."""
    found: list[Run | Atom] = []
    for piece in pieces:
        last = found[-1] if found else None
        if not isinstance(piece, Run):
            found.append(piece)
        elif isinstance(last, Run) and last.marks == piece.marks:
            found[-1] = Run(last.text + piece.text, piece.marks)
        elif piece.text:
            found.append(piece)
    return tuple(found)


def plain_text(block: Block) -> str:
    """Return the characters of a block and of the blocks in it."""
    return "".join(_texts(block))


def _texts(block: Block) -> Iterator[str]:
    for piece in block.inline:
        yield piece.text if isinstance(piece, Run) else "\ufffc"
    for child in block.children:
        yield "\n"
        yield from _texts(child)


def opaques(block: Block) -> Iterator[tuple[Any, ...]]:
    """Yield name and id of every opaque block and atom in a block."""
    if block.kind == "opaque":
        yield block.attributes
    for piece in block.inline:
        if isinstance(piece, Atom) and piece.kind == "opaque":
            yield piece.attributes
    for child in block.children:
        yield from opaques(child)
