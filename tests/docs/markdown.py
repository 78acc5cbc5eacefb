"""What a Markdown file of ours holds: blocks of code, tables, links. Only the Markdown that we write."""

import itertools
import re
from pathlib import Path

from msgspec import Struct

PROJECT = Path(__file__).parent.parent.parent

_FENCE = re.compile(r"```(\w*)")
_LINK = re.compile(r"\]\(([^)\s]+)\)|src(?:set)?=\"([^\"]+)\"")


class CodeBlock(Struct, frozen=True):
    """A fenced block of code. `line` is where it begins in the file."""

    language: str
    lines: list[str]
    line: int


def code_blocks(file: Path) -> list[CodeBlock]:
    """The fenced blocks, in order."""
    blocks: list[CodeBlock] = []
    block: CodeBlock | None = None
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        if block is None:
            fence = _FENCE.match(line)
            if fence is not None:
                block = CodeBlock(fence[1], [], number)
        elif line == "```":
            blocks.append(block)
            block = None
        else:
            block.lines.append(line)
    assert block is None, f"{file}: the block of line {block.line if block else 0} has no end"
    return blocks


def table(file: Path, header: str) -> list[str]:
    """The rows of the table whose first column has this header."""
    lines = iter(file.read_text(encoding="utf-8").splitlines())
    for line in lines:
        if line.startswith(f"| {header} |"):
            next(lines)
            break
    return list(itertools.takewhile(lambda line: line.startswith("|"), lines))


def table_row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def links(file: Path) -> list[str]:
    """The targets of links and pictures."""
    return [first or second for first, second in _LINK.findall(file.read_text(encoding="utf-8"))]
