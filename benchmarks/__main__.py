"""The command: `python -m benchmarks [NAME…]`, or `scripts/bench`."""

import argparse
import importlib
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.harness import Plan, Row
from benchmarks.plot import plot
from benchmarks.report import machine, table, write_json

QUESTIONS = (
    "unchanged",
    "increments",
    "durable_writes",
    "status_size",
    "memory",
    "turns",
    "day",
    "waiters",
    "websocket",
    "history",
    "sync",
    "browser",
    "start",
    "stalls",
    "subscribers",
    "readers",
    "live",
    "scale",
    "soak",
)


def main() -> None:
    """Run the benchmarks that are named, or all."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description="Measure the gateway beside its baselines.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one or more of {', '.join(QUESTIONS)}")
    parser.add_argument("--quick", action="store_true", help="a smoke test: small, short, and no figure to rely on")
    parser.add_argument("--rounds", type=int, help="how often every candidate has its turn [7]")
    parser.add_argument("--seconds", type=float, help="how long a turn is [1.0]")
    parser.add_argument(
        "--only",
        default="",
        help="of the cases of `stalls` and the parts of `scale`, those with a part of this list in their names",
    )
    parser.add_argument("--minutes", type=float, help="how long `soak` is [15]")
    parser.add_argument(
        "--clients", type=int, help="how many clients `soak` [200] and the crowd of `scale` [10000] have"
    )
    parser.add_argument("--output", type=Path, help="the JSON file [benchmarks/results/TIME.json]")
    parser.add_argument("--plots", type=Path, help="a folder, in which a plot of each question is drawn")
    given = parser.parse_args()
    for name in given.names:
        if name not in QUESTIONS:
            parser.error(f"there is no benchmark {name!r}; there are {', '.join(QUESTIONS)}")
    rounds, seconds = (1, 0.05) if given.quick else (7, 1.0)
    only = tuple(part for part in given.only.split(",") if part)
    plan = Plan(given.quick, given.rounds or rounds, given.seconds or seconds, only, given.minutes, given.clients)
    about = machine()
    print(f"{about['cpu']}, {about['cores']} cores, Python {about['python']}, a flush takes {about['flush_ms']} ms")
    results: dict[str, list[Row]] = {}
    for name in given.names or QUESTIONS:
        module = importlib.import_module(f"benchmarks.{name}")
        started = time.monotonic()
        run: Callable[[Plan], Iterator[Row]] = module.run
        results[name] = list(_reported(run(plan)))
        title = (module.__doc__ or name).partition("\n")[0]
        print(f"\n{title}  [{name}, {time.monotonic() - started:.0f} s]\n{table(results[name])}", flush=True)
        if given.plots is not None:
            given.plots.mkdir(parents=True, exist_ok=True)
            (given.plots / f"{name}.svg").write_text(plot(title, results[name]), encoding="utf-8")
    path = write_json(results, plan, about, to=given.output)
    print(f"\nWritten to {path}")


def _reported(rows: Iterator[Row]) -> Iterator[Row]:
    """Tell of each row when it is measured: some questions take minutes, and may end with an error."""
    for row in rows:
        print(f"{row.what.strip()}: {row.ours:.3g} {row.unit}", file=sys.stderr, flush=True)
        yield row


if __name__ == "__main__":
    main()
