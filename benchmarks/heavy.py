"""Heavy requests, one after another, on a gateway that runs already: `python -m benchmarks.heavy PORT SEED PAUSE`.

They are the cases of `stalls`, in an order that the seed gives, each in a project of its own. Ends with its stdin.
"""

import random
import select
import sys
import time

import httpx

from benchmarks.harness import Plan
from benchmarks.stalls import CASES
from benchmarks.stalls.client import Client

_NOT_BESIDE_OTHERS = ("first_write_after_a_start",)


class _Running:
    """A gateway that is not ours to start."""

    def __init__(self, port: int) -> None:
        self.port = port

    def restart(self) -> None:
        raise NotImplementedError


def main(port: int, seed: int, pause: float, quick: bool) -> None:
    chance, plan = random.Random(seed), Plan(quick, 1, 1.0)
    names = [name for name in CASES if name not in _NOT_BESIDE_OTHERS]
    random.seed(seed)
    for number in range(2**31):
        if select.select([sys.stdin], [], [], pause)[0]:
            return
        name, started = chance.choice(names), time.monotonic()
        try:
            for _ in CASES[name](Client(_Running(port), f"heavy-{number}"), plan):
                pass
        except httpx.TransportError as error:
            print(f"{name}: {type(error).__name__}", flush=True)
        else:
            print(f"{name}: {time.monotonic() - started:.1f} s", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), sys.argv[4] == "quick")
