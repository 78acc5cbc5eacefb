"""Writes blocks as Markdown (CommonMark, with GitHub's tables, strikethrough and task lists). Pure."""

import re
from collections.abc import Iterator, Sequence

from gateway.richtext.blocks import Block, Run
from gateway.richtext.markdown_text import opaque, write_image, write_inline

EMPTY = "&nbsp;"
"""An empty paragraph, which Markdown has not."""
_FENCES = re.compile(r"`{3,}")
_RULES = {None: "---", "left": ":--", "center": ":-:", "right": "--:"}
_LISTS = ("bullets", "numbers", "tasks")
_UNSAFE_IN_INFO = re.compile(r"([\\&])")


def write_markdown(blocks: Sequence[Block]) -> tuple[str, list[int]]:
    """Return blocks as Markdown, and the line at which each begins, from 0."""
    lines: list[str] = []
    starts = []
    for block, written in _blocks(blocks):
        if lines:
            lines.append("")
        starts.append(len(lines))
        lines += written
        del block
    return ("\n".join(lines) + "\n" if lines else ""), starts


def _blocks(blocks: Sequence[Block]) -> Iterator[tuple[Block, list[str]]]:
    """Yield each block with its lines. Lists that follow each other have different markers, which parts them."""
    other = False
    before: Block | None = None
    for block in blocks:
        other = before is not None and _family(before) == _family(block) is not None and not other
        yield block, _lines(block, other)
        before = block


def _family(block: Block) -> str | None:
    return {"bullets": "bullets", "tasks": "bullets", "numbers": "numbers"}.get(block.kind)


def _lines(block: Block, other: bool) -> list[str]:
    match block.kind:
        case "paragraph":
            return write_inline(block.inline).split("\n") if block.inline else [EMPTY]
        case "heading":
            return [f"{'#' * block.attributes[0]} {write_inline(block.inline, 'heading')}".rstrip(" ")]
        case "code":
            return _code(block)
        case "quote":
            return [f"> {line}" if line else ">" for line in _within(block.children) or [""]]
        case "bullets" | "numbers" | "tasks":
            return list(_list(block, other))
        case "table":
            return _table(block)
        case "rule":
            return ["---"]
        case "image":
            return [write_image(*block.attributes)]
        case "opaque":
            return [opaque(block.attributes, block=True)]
    raise AssertionError(block.kind)


def _within(blocks: Sequence[Block]) -> list[str]:
    lines: list[str] = []
    before: Block | None = None
    for block, written in _blocks(blocks):
        if before is not None and not (before.kind == "paragraph" and _may_interrupt(block)):
            lines.append("")
        lines += written
        before = block
    return lines


def _may_interrupt(block: Block) -> bool:
    """Whether a list is read as one directly after a line of a paragraph (CommonMark §5.3)."""
    if block.kind not in _LISTS or (block.kind == "numbers" and block.attributes[0] != 1):
        return False
    first = block.children[0].children
    return block.kind == "tasks" or not (len(first) == 1 and first[0].kind == "paragraph" and not first[0].inline)


def _list(block: Block, other: bool) -> Iterator[str]:
    for index, item in enumerate(block.children):
        if block.kind == "numbers":
            marker = f"{block.attributes[0] + index}{')' if other else '.'}"
        else:
            marker = "*" if other else "-"
        blank = len(item.children) == 1 and item.children[0] == Block("paragraph")
        lines = [""] if blank or not item.children else _within(item.children)
        if block.kind == "tasks":
            lines = [f"[{'x' if item.attributes[0] else ' '}] {lines[0]}".rstrip(" "), *lines[1:]]
        yield f"{marker} {lines[0]}".rstrip(" ")
        indent = " " * (len(marker) + 1)
        yield from (indent + line if line else "" for line in lines[1:])


def _code(block: Block) -> list[str]:
    text = "".join(piece.text for piece in block.inline if isinstance(piece, Run))
    longest = max((len(found) for found in _FENCES.findall(text)), default=2)
    language = block.attributes[0]
    fence = "~" * max(3, _longest_tildes(text) + 1) if "`" in language else "`" * (longest + 1)
    info = _UNSAFE_IN_INFO.sub(r"\\\1", language)
    return [f"{fence}{info}", *(text.split("\n") if text else ()), fence]


def _longest_tildes(text: str) -> int:
    return max((len(found) for found in re.findall("~+", text)), default=0)


def _table(block: Block) -> list[str]:
    rows = [_row([write_inline(cell.inline, "cell") for cell in row.children]) for row in block.children]
    return [rows[0], _row([_RULES[each] for each in block.attributes[0]]), *rows[1:]]


def _row(cells: Sequence[str]) -> str:
    return "".join(f"| {cell} " if cell else "|  " for cell in cells) + "|"
