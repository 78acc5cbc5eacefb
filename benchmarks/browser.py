"""(l) What an open page costs a browser in an hour, by the way in which it hears of changes.

Pages in a real Chromium, all at the same time, each with one document of 8 KB to which somebody else writes once a
minute, and with a user who moves the mouse as often; visible, hidden, and on a phone (a touch screen as Chromium
emulates it). Beside the provider's four ways stands what one writes first: `setInterval`, and the whole file every
three seconds. A proxy in front of each page counts bytes in both directions, and radio wake-ups: bytes that follow
5 seconds of silence. The page counts the timers that fire; Chromium tells how long scripts ran.

Real time, not a clock that is turned: four minutes after a first one that is not counted. The day of such a page
repeats itself each minute, so that an hour is fifteen times that. The hidden page is told that it is hidden; that
browsers slow down timers of hidden pages comes on top of that, and helps `setInterval` alone.

It draws `docs/browser.svg`, unless it is a smoke test.
"""

import json
import os
import subprocess
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

from benchmarks.harness import Aim, Plan, Row, compare, folder
from benchmarks.servers import gateway

_REPOSITORY = Path(__file__).parent.parent
_PLOT = _REPOSITORY / "docs" / "browser.svg"
_NAIVE = "setInterval"
_WAYS = {_NAIVE: "#999999", "poll": "#0072b2", "long-poll": "#56b4e9", "sse": "#009e73", "websocket": "#d55e00"}
_STATES = ("visible", "hidden", "mobile")
_FIGURES = {
    "requests": "requests",
    "bytes": "kB on the wire",
    "timers": "timers fired",
    "wake_ups": "radio wake-ups",
    "script_ms": "ms of script",
}


def run(plan: Plan) -> Iterator[Row]:
    period = plan.size(60, 2)
    measured = _measure(seconds=plan.size(4 * period, period), period=period)
    for state in _STATES:
        naive = measured[_NAIVE, state]
        for way in list(_WAYS)[1:]:
            ours = measured[way, state]
            aims = {"requests": Aim("<=", 0.01)} if way == "poll" and state == "hidden" else {}
            for figure, unit in _FIGURES.items():
                yield compare(
                    f"{state}, {way}",
                    f"{unit}/h",
                    [max(ours[figure], 1e-3)],
                    _NAIVE,
                    [max(naive[figure], 1e-3)],
                    aim=aims.get(figure),
                    details=ours,
                )
    if not plan.quick:
        _PLOT.write_text(_plot(measured), encoding="utf-8")


def _measure(*, seconds: float, period: float) -> dict[tuple[str, str], dict[str, float]]:
    """Figures an hour, by way and state."""
    script = _REPOSITORY / "benchmarks" / "browser_pages" / "measure.mjs"
    if not (_REPOSITORY / "web" / "node_modules").is_dir():
        install = ["npm", "ci", "--no-audit", "--no-fund", "--loglevel=error"]
        subprocess.run(install, cwd=_REPOSITORY / "web", check=True, stdout=subprocess.DEVNULL)
    with folder() as data, gateway(data / "gateway.db") as server:
        command = ["node", str(script), f"http://127.0.0.1:{server.port}", str(seconds), str(period)]
        told = subprocess.run(command, stdout=subprocess.PIPE, check=True, env=os.environ).stdout
    rows: list[dict[str, Any]] = json.loads(told)
    return {
        (row["way"], row["state"]): {
            figure: row[figure] / 1000 if figure == "bytes" else row[figure] for figure in _FIGURES
        }
        for row in rows
    }


def _plot(measured: dict[tuple[str, str], dict[str, float]]) -> str:
    """Bars: a row for each figure, a group for each state, a bar for each way."""
    width, left, top, high, group = 720, 16, 44, 96, 228
    parts = [
        _text(left + 90 * number + 14, 20, way) + _bar(left + 90 * number, 11, 10, 10, color)
        for number, (way, color) in enumerate(_WAYS.items())
    ]
    for row, (figure, unit) in enumerate(_FIGURES.items()):
        base = top + row * (high + 44) + high
        most = max(figures[figure] for figures in measured.values()) or 1
        parts.append(_text(left, base - high + 4, f"{unit} an hour", weight="bold"))
        for place, state in enumerate(_STATES):
            start = left + place * group
            parts.append(_text(start, base + 16, state))
            for number, (way, color) in enumerate(_WAYS.items()):
                value = measured[way, state][figure]
                tall = round(value / most * (high - 34), 1)
                parts.append(_bar(start + number * 42, base - tall, 36, max(tall, 0.5), color))
                parts.append(_text(start + number * 42 + 18, base - tall - 3, f"{value:,.0f}", anchor="middle"))
    height = top + len(_FIGURES) * (high + 44)
    box = f'viewBox="0 0 {width} {height}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {box} font-family="sans-serif" font-size="10">'
    return "\n".join([head, f'<rect width="{width}" height="{height}" fill="#fff"/>', *parts, "</svg>", ""])


def _text(x: float, y: float, text: str, anchor: str = "start", weight: str = "normal") -> str:
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}" font-weight="{weight}" fill="#222">{escape(text)}</text>'


def _bar(x: float, y: float, width: float, height: float, color: str) -> str:
    return f'<rect x="{x}" y="{y}" width="{width}" height="{height}" fill="{color}"/>'
