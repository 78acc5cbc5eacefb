"""A result as a plot: bars of the gateway's figures, with those of what stands beside it."""

from collections.abc import Iterator, Sequence
from html import escape

from benchmarks.harness import Row

_WIDTH, _LEFT, _BARS, _BAR, _GAP = 760, 16, 300, 12, 14
_OURS, _THEIRS = "#2563eb", "#b8bec9"
_LABEL = 44
"""How many characters of a label fit to the left of the bars."""


def plot(title: str, rows: Sequence[Row]) -> str:
    """Draw the rows of one question as an SVG: a group for each measurement, its longest bar as wide as that of others.

    Figures of one group have one unit, so their bars can be compared; those of two groups cannot.
    """
    parts: list[str] = [_text(_LEFT, 22, title, weight="bold", size=13)]
    y = 44
    for what, group in _groups(rows):
        bars = [("the gateway", group[0].ours, _OURS), *((row.baseline, row.theirs, _THEIRS) for row in group)]
        most = max(value for _, value, _ in bars) or 1.0
        parts.append(_text(_LEFT, y, f"{what} ({group[0].unit})", weight="bold"))
        for label, value, color in bars:
            y += _BAR + 4
            wide = max(1.0, round(value / most * (_WIDTH - _BARS - 90), 1))
            parts.append(_text(_BARS - 8, y, label[:_LABEL], anchor="end"))
            parts.append(f'<rect x="{_BARS}" y="{y - 9}" width="{wide}" height="{_BAR - 2}" fill="{color}"/>')
            parts.append(_text(_BARS + wide + 6, y, f"{value:,.0f}" if value >= 100 else f"{value:.3g}"))
        y += _BAR + _GAP
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {y}" font-family="sans-serif"'
    return "\n".join(
        [f'{head} font-size="11">', f'<rect width="{_WIDTH}" height="{y}" fill="#fff"/>', *parts, "</svg>\n"]
    )


def _groups(rows: Sequence[Row]) -> Iterator[tuple[str, list[Row]]]:
    """Yield each measurement with its rows: one without a name, or with that of the row above, has the same figure."""
    group: list[Row] = []
    for row in rows:
        if group and row.what not in ("", group[0].what):
            yield group[0].what, group
            group = []
        group.append(row)
    if group:
        yield group[0].what, group


def _text(x: float, y: float, text: str, *, anchor: str = "start", weight: str = "normal", size: int = 11) -> str:
    style = f'text-anchor="{anchor}" font-weight="{weight}" font-size="{size}"'
    return f'<text x="{x}" y="{y}" {style} fill="#222">{escape(text)}</text>'
