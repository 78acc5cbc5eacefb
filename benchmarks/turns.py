"""(f) What following a turn costs: polls while nothing changes, and a long turn to its end.

An unchanged poll of a turn's status (304) is compared with a Starlette application of one route that answers the same
304 without looking at anything. A turn of 10,000 blocks is written, ten blocks at a time, and followed by `after_block`
to its end; the CPU time for a block is compared with that of a turn of a tenth of the blocks: near 1, it is linear.
"""

import itertools
import json
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial

from benchmarks.harness import Aim, Plan, Row, compare, folder, take_turns
from benchmarks.load import Load, compare_rates, fetch, put_under_load, request
from benchmarks.servers import Server, baseline, gateway

_SESSIONS = "/api/projects/demo/sessions"
_CONNECTIONS = 16
_BLOCKS_A_POLL = 10


def run(plan: Plan) -> Iterator[Row]:
    """Measure."""
    with ExitStack() as stack:
        ours = stack.enter_context(gateway(stack.enter_context(folder()) / "gateway.db"))
        yield _unchanged(plan, stack, ours)
        yield _followed(plan, ours)


def _unchanged(plan: Plan, stack: ExitStack, ours: Server) -> Row:
    status = f"{_turn(ours, 3)}/status"
    tag = fetch(ours, request("GET", status)).header("etag")
    poll = request("GET", status, if_none_match=tag)
    headers = [(name, value) for name, value in fetch(ours, poll).headers if name not in ("date", "content-length")]
    route = stack.enter_context(baseline("one_route", path=status, status=304, headers=headers))

    def load(server: Server) -> Load:
        return put_under_load(server, [itertools.repeat(poll)] * _CONNECTIONS, seconds=plan.seconds, statuses=(304,))

    taken = take_turns(plan, {"ours": partial(load, ours), "route": partial(load, route)})
    return compare_rates(
        "304 of a turn's status", taken["ours"], "Starlette, one route", taken["route"], aim=Aim(">=", 0.8)
    )


def _followed(plan: Plan, ours: Server) -> Row:
    long = plan.size(10_000, 200)
    sizes = {"long": long, "short": long // 10}

    def microseconds(blocks: int) -> float:
        """The CPU time for a block, written and fetched by turns on one connection, in a turn of its own."""
        turn = _turn(ours, 0)
        requests = itertools.chain.from_iterable(
            (_append(turn, after), request("GET", f"{turn}?after_block={after}"))
            for after in range(0, blocks, _BLOCKS_A_POLL)
        )
        load = put_under_load(ours, [requests], seconds=3600)
        return 2e6 * load.cpu / _BLOCKS_A_POLL

    taken = take_turns(plan, {name: partial(microseconds, blocks) for name, blocks in sizes.items()})
    return compare(
        f"{long:,} blocks, {_BLOCKS_A_POLL} a poll", "µs/block", taken["long"], f"{long // 10:,} blocks",
        taken["short"], aim=Aim("<=", 1.25),
    )  # fmt: skip


def _append(turn: str, start: int) -> bytes:
    blocks = [{"type": "text", "content": f"Block {number}"} for number in range(start, start + _BLOCKS_A_POLL)]
    body = json.dumps({"blocks": blocks, "first_index": start}).encode()
    return request("POST", f"{turn}/blocks", body, content_type="application/json")


def _turn(server: Server, blocks: int) -> str:
    """The path of a new turn with so many blocks."""
    session = _post(server, _SESSIONS, {})["id"]
    turn = f"{_SESSIONS}/{session}/turns/{_post(server, f'{_SESSIONS}/{session}/turns', {'prompt': 'Build it'})['id']}"
    for start in range(0, blocks, 1000):
        numbers = range(start, min(start + 1000, blocks))
        _post(server, f"{turn}/blocks", {"blocks": [{"type": "text", "content": f"Block {n}"} for n in numbers]})
    return turn


def _post(server: Server, path: str, body: object) -> dict[str, str]:
    answer: dict[str, str] = fetch(
        server, request("POST", path, json.dumps(body).encode(), content_type="application/json")
    ).json()
    return answer
