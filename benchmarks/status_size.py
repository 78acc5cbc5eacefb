"""(d) Whether a status question costs what changed, or what the project holds.

Two gateways, each with a project of its own in a database of its own: 1,000 files and 200,000. In both, ten files have
changed since the client's cursor, spread over the whole project. Asked in four ways: what changed in the project since
the cursor; which of 100 named files changed since the cursor; which of 100 named files are not at these versions; and
what the feed holds after the cursor. The answers name the same ten paths. Compared is the time that a gateway kept busy
takes for one question.
"""

import itertools
import json
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from benchmarks.documents import PROJECT, fill, keystrokes
from benchmarks.harness import Aim, Plan, Row, folder, take_turns
from benchmarks.load import Load, compare_times, fetch, put_under_load, request
from benchmarks.servers import Server, gateway

_CHANGED = 10
_NAMED = 100
_CONNECTIONS = 8
_URL = f"/api/projects/{PROJECT}"


def run(plan: Plan) -> Iterator[Row]:
    """Measure."""
    sizes = plan.size(1_000, 200), plan.size(200_000, 2_000)
    with ExitStack() as stack:
        data = stack.enter_context(folder())
        small, large = (stack.enter_context(_project(data / f"{size}.db", size)) for size in sizes)
        questions = zip(_questions(small, sizes[0]), _questions(large, sizes[1]), strict=True)
        for (what, to_small), (_, to_large) in questions:
            _check_same(fetch(small, to_small).json(), fetch(large, to_large).json())

            def load(server: Server, message: bytes) -> Load:
                return put_under_load(server, [itertools.repeat(message)] * _CONNECTIONS, seconds=plan.seconds)

            taken = take_turns(plan, {"small": partial(load, small, to_small), "large": partial(load, large, to_large)})
            yield compare_times(
                f"{what}, {sizes[1]:,} files", taken["large"], f"{sizes[0]:,} files", taken["small"],
                aim=Aim("<=", 1.15),
            )  # fmt: skip


def _project(database: Path, files: int) -> Server:
    (update,) = keystrokes(1)
    fill(database, {_path(number): [update] for number in range(files)})
    return gateway(database)


def _path(number: int) -> str:
    return f"docs/{number // 100:04}/chapter-{number:06}.md"


def _questions(server: Server, files: int) -> list[tuple[str, bytes]]:
    """Change ten files, and ask."""
    named = [_path(files // _NAMED * number) for number in range(_NAMED)]
    changed = named[:: _NAMED // _CHANGED]
    cursor = _ask(server, {"paths": [], "versions": {}})["cursor"]
    second = keystrokes(2)[1]
    for path in changed:
        fetch(server, request("PATCH", f"{_URL}/files/{path}", second))
    return [
        ("the project since a cursor", _status({"since": cursor})),
        ("100 files since a cursor", _status({"since": cursor, "paths": named})),
        ("100 files by version", _status({"versions": dict.fromkeys(named, 1), "paths": named})),
        ("the feed after a cursor", request("GET", f"{_URL}/changes?since={cursor}")),
    ]


def _status(question: object) -> bytes:
    return request("POST", f"{_URL}/files/status", json.dumps(question).encode(), content_type="application/json")


def _ask(server: Server, question: object) -> dict[str, str]:
    answer: dict[str, str] = fetch(server, _status(question)).json()
    return answer


def _check_same(small: dict[str, list[object]], large: dict[str, list[object]]) -> None:
    if not len(small["changes"]) == len(large["changes"]) == _CHANGED:
        raise RuntimeError(f"ten files changed, but the answers are {small} and {large}")
