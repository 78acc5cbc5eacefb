"""Editing traces in the form of the recorded ones, for text that is hard to count in.

Positions are code points. The same seed gives the same trace.
"""

import random
from typing import Any

_PIECES = (
    *"abcdefghij     ",
    "\r\n",
    "\n",
    "é",
    "e\N{COMBINING ACUTE ACCENT}",
    "한국어",
    "नि",
    "שלום",
    "𝒳",
    "🙂",
    "👩‍👩‍👧‍👦",
    "🇩🇪",
    "\N{HEAVY BLACK HEART}\N{VARIATION SELECTOR-16}",
)
_RULER = "\r\n--- 🙂 ---\r\n"

Patch = tuple[int, int, str]


def typed_alone(seed: int, transactions: int) -> dict[str, Any]:
    """A text typed by one author, in some transactions at several places."""
    choices = random.Random(seed)
    text = ""
    txns = []
    for _ in range(transactions):
        patches = []
        for _ in range(choices.choice((1, 1, 1, 3))):
            patch = _patch(choices, text)
            text = _patched(text, patch)
            patches.append(patch)
        txns.append({"patches": patches})
    return {"startContent": "", "endContent": text, "txns": txns}


def typed_together(seed: int, transactions: int) -> dict[str, Any]:
    """A text typed by two authors at once, who merge now and then: one above a ruler, the other below."""
    choices = random.Random(seed)
    above = below = ""
    above_seen = ""
    """What is above the ruler in the eyes of the author who types below it."""
    txns: list[dict[str, Any]] = [{"parents": [], "agent": 0, "patches": [(0, 0, _RULER)]}]
    newest = [0, None]
    """Each author's newest transaction."""
    seen: list[int | None] = [None, None]
    """The newest transaction of the other one that each has merged."""
    for index in range(1, transactions):
        agent = choices.randrange(2)
        other = newest[1 - agent]
        parents = [parent for parent in (newest[agent],) if parent is not None]
        if other is not None and other != seen[agent] and (not parents or choices.random() < 0.1):
            parents.append(other)
            seen[agent] = other
            above_seen = above if agent == 1 else above_seen
        if agent == 0:
            patch = _patch(choices, above)
            above = _patched(above, patch)
        else:
            position, deleted, inserted = _patch(choices, below)
            below = _patched(below, (position, deleted, inserted))
            patch = (len(above_seen) + len(_RULER) + position, deleted, inserted)
        txns.append({"parents": parents, "agent": agent, "patches": [patch]})
        newest[agent] = index
    return {"kind": "concurrent", "endContent": above + _RULER + below, "numAgents": 2, "txns": txns}


def _patch(choices: random.Random, text: str) -> Patch:
    position = choices.randint(0, len(text))
    deleted = min(len(text) - position, choices.choice((0, 0, 0, 1, 2, 5)))
    inserted = "" if deleted and choices.random() < 0.5 else "".join(choices.choices(_PIECES, k=choices.randint(1, 4)))
    return position, deleted, inserted


def _patched(text: str, patch: Patch) -> str:
    position, deleted, inserted = patch
    return text[:position] + inserted + text[position + deleted :]
