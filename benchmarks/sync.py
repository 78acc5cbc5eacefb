"""(j) What it costs to sync a project in one request.

A client that follows 1,000 files, of which 10 have changed, and names the version that it has of each: one `POST /sync`
against 1,000 requests for an increment, one for each file, and against 10, as if it knew which. Then the same question
by cursor. On one connection, one request after the other: a network would add a round trip to each.
"""

import itertools
import json
from collections.abc import Callable, Iterator
from functools import partial

from benchmarks.documents import PROJECT, fill, keystrokes
from benchmarks.harness import Aim, Plan, Row, compare, folder, take_turns
from benchmarks.load import fetch, put_under_load, request
from benchmarks.servers import Server, gateway

_VERSIONS = 20
_BEHIND = 3


def run(plan: Plan) -> Iterator[Row]:
    """Measure."""
    count, changed = plan.size((1_000, 10), (40, 4))
    paths = [f"folder {number % 17}/file {number}.md" for number in range(count)]
    with folder() as data:
        updates = keystrokes(_VERSIONS)
        fill(data / "gateway.db", dict.fromkeys(paths, updates))
        with gateway(data / "gateway.db") as ours:
            cursor = json.loads(fetch(ours, request("GET", f"/api/projects/{PROJECT}/files?limit=1")).body)["cursor"]
            late = paths[:: count // changed][:changed]
            for path in late:  # what has happened since the client looked
                for update in keystrokes(_VERSIONS + _BEHIND)[_VERSIONS:]:
                    fetch(ours, request("PATCH", _url(path), update, content_type="application/octet-stream"))
            yield from _compared(plan, ours, paths, late, cursor)


def _url(path: str) -> str:
    return f"/api/projects/{PROJECT}/files/{path.replace(' ', '%20')}"


def _compared(plan: Plan, ours: Server, paths: list[str], late: list[str], cursor: str) -> Iterator[Row]:
    by_version = _sync(versions=dict.fromkeys(paths, _VERSIONS), paths=paths)
    by_cursor = _sync(since=cursor, versions=dict.fromkeys(late, _VERSIONS))
    for question in (by_version, by_cursor):
        answer = fetch(ours, question).json()
        if [change["from_version"] for change in answer["changes"]] != [_VERSIONS] * len(late):
            raise RuntimeError("the answer is not what has changed")
    single = [request("GET", f"{_url(path)}?from_version={_VERSIONS}") for path in paths]
    known = [request("GET", f"{_url(path)}?from_version={_VERSIONS}") for path in late]

    def taken(messages: list[bytes]) -> float:
        """Milliseconds for all of them."""
        load = put_under_load(ours, [itertools.cycle(messages)], seconds=plan.seconds, statuses=(200, 204))
        return len(messages) / load.per_second * 1e3

    candidates: dict[str, Callable[[], float]] = {
        "by version": partial(taken, [by_version]),
        "by cursor": partial(taken, [by_cursor]),
        "single": partial(taken, single),
        "known": partial(taken, known),
    }
    times = take_turns(plan, candidates)
    many, few = f"{len(paths):,} requests", f"{len(late)} requests"
    what = f"{len(late)} of {len(paths):,} files"
    yield compare(
        f"{what}, by version", "ms", times["by version"], many, times["single"], inverse=True, aim=Aim(">=", 20)
    )
    yield compare("", "ms", times["by version"], few, times["known"], inverse=True)
    yield compare(f"{what}, by cursor", "ms", times["by cursor"], many, times["single"], inverse=True)
    yield compare("", "ms", times["by cursor"], few, times["known"], inverse=True, aim=Aim(">=", 1))


def _sync(**question: object) -> bytes:
    return request(
        "POST", f"/api/projects/{PROJECT}/sync", json.dumps(question).encode(), content_type="application/json"
    )
