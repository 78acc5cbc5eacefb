"""What is measured and how it is told: a plan, rounds in which candidates take turns, rows of a result.

A measurement is never one number. All candidates take turns in every round, so that what else the machine does hits all
of them, and a ratio is the median of the ratios of the rounds.
"""

import contextlib
import random
import statistics
import tempfile
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Plan:
    """How much to measure."""

    quick: bool
    rounds: int
    seconds: float
    """How long one candidate is under load in one round."""
    only: tuple[str, ...] = ()
    """Of a question with many cases, those whose names contain one of these; empty: all."""
    minutes: float | None = None
    """How long a long run is; None: as the question has it."""
    clients: int | None = None
    """How many clients a long run has; None: as the question has it."""

    def size(self, full: T, quick: T) -> T:
        """The real size, or sizes, of something, or the one for a smoke test."""
        return quick if self.quick else full


@dataclass(frozen=True)
class Aim:
    """What the ratio of a row, or our own figure, should reach."""

    relation: Literal[">=", "<="]
    bound: float
    of: Literal["ratio", "ours"] = "ratio"

    def met(self, row: "Row") -> bool:
        reached = row.ratio if self.of == "ratio" else row.ours
        return reached >= self.bound if self.relation == ">=" else reached <= self.bound


@dataclass(frozen=True)
class Row:
    """One line of a result: our figure beside another one."""

    what: str
    unit: str
    ours: float
    baseline: str
    theirs: float
    ratio: float
    """ours / theirs, unless `unit` is a time and `baseline` says "slower": then theirs / ours."""
    spread: tuple[float, float]
    """The lowest and the highest ratio of the rounds."""
    aim: Aim | None = None
    details: dict[str, Any] = field(default_factory=dict)
    """What else was measured, for the JSON."""


def take_turns(plan: Plan, candidates: Mapping[K, Callable[[], T]]) -> dict[K, list[T]]:
    """Run every candidate once in each round, in an order that changes, and collect what they return.

    A round before the first is not counted, except in a smoke test: it warms caches, allocators and cores.
    """
    order, shuffle = list(candidates), random.Random(0)
    taken: dict[K, list[T]] = {name: [] for name in candidates}
    warm_up = 0 if plan.quick else 1
    for _ in range(warm_up + plan.rounds):
        for name in order:
            taken[name].append(candidates[name]())
        shuffle.shuffle(order)
    return {name: results[warm_up:] for name, results in taken.items()}


def compare(
    what: str,
    unit: str,
    ours: Sequence[float],
    baseline: str,
    theirs: Sequence[float],
    *,
    aim: Aim | None = None,
    inverse: bool = False,
    details: Mapping[str, Any] | None = None,
) -> Row:
    """A row of two candidates that took turns: the medians, and the median of the rounds' ratios.

    Args:
        inverse: the ratio is theirs / ours: so many times faster, where the figures are times.
    """
    ratios = [b / a if inverse else a / b for a, b in zip(ours, theirs, strict=True)]
    return Row(
        what,
        unit,
        statistics.median(ours),
        baseline,
        statistics.median(theirs),
        statistics.median(ratios),
        (min(ratios), max(ratios)),
        aim,
        {"rounds": {"ours": list(ours), "baseline": list(theirs)}, **(details or {})},
    )


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """A folder for databases, on the file system of the repository: a flush costs what it costs there."""
    RESULTS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="data-", dir=RESULTS) as name:
        yield Path(name)
