"""(m) How long one client's heavy request keeps everybody else waiting.

Each case has a gateway of its own on an empty database. What the request needs is prepared first; then one client
sends it, while a neighbour polls an unchanged project every 5 ms from another process. Of each case there are two rows:

- the longest time for which the event loop was held, measured inside the gateway (`benchmarks.held_loop`) without the
  time in which other processes had the core. It should be no more than 50 ms. In brackets: the most CPU time that the
  loop itself took at once, in which no other thread of the gateway has a part;
- the time in which the neighbour's polls are answered, measured from when each was due: 99 of 100 within 10 ms. This
  figure has in it whatever else the machine does.

Beside both stands the same of the same gateway at rest, just before. A request that is refused is as good as any: the
cases are about everybody else. The gateway and its worker processes have all cores, as in service.
"""

import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from importlib.util import find_spec

import httpx

from benchmarks.harness import Aim, Plan, Row, compare, folder
from benchmarks.held_loop import Held, held
from benchmarks.neighbour import Neighbour
from benchmarks.servers import Server, gateway
from benchmarks.stalls import (
    answers,
    bodies,
    crowds,
    documents,
    lists,
    people,
    projects,
    readers,
    reads,
    richtext,
    rooms,
    texts,
)
from benchmarks.stalls.client import PATIENCE_S, Case, Client

_LONGEST_HOLD = Aim("<=", 50.0, of="ours")
_LONGEST_POLL = Aim("<=", 10.0, of="ours")
CASES: dict[str, Case] = {
    name: each
    for subject in (texts, documents, reads, answers, richtext, rooms, people, crowds, lists, readers, projects, bodies)
    for name, each in subject.CASES.items()
}


def run(plan: Plan) -> Iterator[Row]:
    """Measure."""
    chosen = [name for name in CASES if not plan.only or any(part in name for part in plan.only)]
    if not chosen:
        raise SystemExit(f"there is no such case; there are {', '.join(CASES)}")
    with Neighbour() as neighbour, ExitStack() as stack:
        shared = stack.enter_context(_Gateways()) if plan.quick else None  # a smoke test has one gateway for all
        for name in chosen:
            if shared is not None:
                yield from _measured(plan, name, shared, neighbour)
            else:
                with _Gateways() as own:
                    yield from _measured(plan, name, own, neighbour)


@dataclass(frozen=True)
class _Felt:
    """What was measured in some time. Milliseconds."""

    held: Held
    polls: dict[str, float]


class _Gateways:
    """A gateway whose loop is watched, and the next one on the same database."""

    def __init__(self) -> None:
        self._stack = ExitStack()

    def __enter__(self) -> "_Gateways":
        self._database = self._stack.enter_context(folder()) / "gateway.db"
        self._start()
        return self

    def __exit__(self, *error: object) -> None:
        self.server.__exit__(None, None, None)
        self._stack.close()

    def _start(self) -> None:
        settings = {"GATEWAY_LOG_LEVEL": "error", "GATEWAY_HOOK_HOSTS": "127.0.0.1"}
        if find_spec("mcp") is not None:
            settings["GATEWAY_MCP"] = "true"
        self.server: Server = gateway(self._database, module="benchmarks.held_loop", on_all_cores=True, **settings)

    def restart(self) -> None:
        self.server.__exit__(None, None, None)
        self._start()

    @property
    def port(self) -> int:
        return self.server.port

    def held(self) -> Held:
        """The longest hold since this was asked before."""
        return held(self.server, patience=PATIENCE_S)


def _measured(plan: Plan, name: str, gateways: _Gateways, neighbour: Neighbour) -> Iterator[Row]:
    client = Client(gateways)
    steps = CASES[name](client, plan)
    next(steps)
    at_rest = _felt(gateways, neighbour, partial(time.sleep, plan.seconds))
    came: list[object] = []

    def attack() -> None:
        came.extend(steps)

    attacked = _felt(gateways, neighbour, attack)
    yield from _rows(name.replace("_", " "), attacked, at_rest, {"came": came, "peak": gateways.server.peak_bytes()})


def _felt(gateways: _Gateways, neighbour: Neighbour, act: Callable[[], object]) -> _Felt:
    """What the gateway and the neighbour feel while something is done.

    Raises:
        RuntimeError: it was not done within a minute; the gateway was ended.
    """
    neighbour.begin(gateways.server.port)
    gateways.held()
    failures: list[BaseException] = []

    def run() -> None:
        try:
            act()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(PATIENCE_S)
    try:
        held = gateways.held()
    except queue.Empty:
        gateways.server.kill()
        held = Held(2 * PATIENCE_S * 1e3, 0.0, 0.0, [])
        gateways.restart()
    felt = _Felt(held, neighbour.end())
    if failures and not isinstance(failures[0], httpx.TransportError):
        raise failures[0]
    return felt


def _rows(what: str, attacked: _Felt, at_rest: _Felt, details: dict[str, object]) -> Iterator[Row]:
    held, rested = attacked.held, at_rest.held
    about = {**details, "held": asdict(held), "polls": attacked.polls, "polls at rest": at_rest.polls}
    yield compare(
        f"{what} ({held.cpu:.3g} ms of CPU)",
        "ms held",
        [held.longest],
        "at rest",
        [max(rested.longest, 0.001)],
        aim=_LONGEST_HOLD,
        details=about,
    )
    polls = attacked.polls
    yield compare(
        f"  polls: half in {polls['p50']:.2g} ms, all in {polls['longest']:.3g} ms, 99 of 100",
        "ms",
        [polls["p99"]],
        "at rest",
        [at_rest.polls["p99"]],
        aim=_LONGEST_POLL,
    )
