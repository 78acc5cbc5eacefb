"""What commands print: rows for people, JSON for programs, errors on stderr."""

import sys
import unicodedata
from collections.abc import Sequence
from typing import Any, NoReturn

import typer

_JOINERS = "\u200c\u200d"
"""They are a part of words in some languages, and of emoji."""


def print_json(value: Any, indent: int = 2) -> None:
    """A value of the wire as JSON."""
    import msgspec

    encoded = msgspec.json.encode(value)
    sys.stdout.buffer.write((msgspec.json.format(encoded, indent=indent) if indent else encoded) + b"\n")


def echo(line: str, *, err: bool = False) -> None:
    """Print a line with names of others in it: what would steer a terminal, or turn the order of its characters, is
    printed as an escape."""
    typer.echo(printable(line), err=err)


def printable(text: str) -> str:
    return "".join(f"\\u{ord(each):04x}" if _steers(each) else each for each in text)


def _steers(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cf", "Zl", "Zp", "Cs") and character not in _JOINERS


def print_rows(rows: Sequence[Sequence[str]], numbers: Sequence[int] = (0, 2)) -> None:
    """Columns; some are numbers."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [
            cell.rjust(width) if number in numbers else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        echo("  ".join(cells).rstrip())


def complain(fault: str) -> None:
    """Print an error on stderr."""
    echo(f"error: {fault}", err=True)


def fail(fault: str) -> NoReturn:
    """Print an error on stderr, and exit with 1."""
    complain(fault)
    raise typer.Exit(1)
