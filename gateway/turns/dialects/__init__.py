"""The dialects of agents' output, each a pure module: the list of dialects, and the detection by a line."""

from typing import Literal, TypeAlias

from gateway.turns.dialects.acp import Acp
from gateway.turns.dialects.base import ERROR_LENGTH, Change, Close, Dialect, Grow, Line, Memory, Outcome, Put, Reading
from gateway.turns.dialects.claude import Claude
from gateway.turns.dialects.codex import Codex
from gateway.turns.dialects.gemini import Gemini

__all__ = [
    "DIALECTS",
    "ERROR_LENGTH",
    "Change",
    "Close",
    "Dialect",
    "DialectName",
    "Grow",
    "Line",
    "Memory",
    "Outcome",
    "Put",
    "Reading",
    "dialect_of",
]

DialectName: TypeAlias = Literal["auto", "claude", "codex", "acp", "gemini", "text"]
"""`auto`: detected from the first line that a dialect knows. `text`: not split into lines, but one growing text."""

DIALECTS: dict[str, Dialect] = {dialect.name: dialect for dialect in (Claude(), Codex(), Acp(), Gemini())}


def dialect_of(line: Line) -> Dialect | None:
    """Return the dialect of a line; None if no dialect knows the line."""
    return next((dialect for dialect in DIALECTS.values() if dialect.knows(line)), None)
