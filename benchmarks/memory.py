"""(e) What a file costs while nobody has it open: its memory, and fetching it whole.

Memory: two gateways that serve 1,000 and 200,000 files are asked the same: a page of the listing, the status of the
project since its newest cursor, some files whole. The difference of their memory, by the difference of their files, is
what a file costs that exists. The second figure is that of a file whose status clients ask for by its version; the
gateway remembers the newest heads of some files of a project, up to a bound. Beside them stands what a file costs that
is open for writing.

Whole fetch: documents of 1 KB, 100 KB and 1 MB that nobody has open, so that every fetch reads them from the database
(which the system may have in its cache). Compared with a raw ASGI callable on the same uvicorn that answers with the
same bytes at once, and with one that loads the document by pycrdt and encodes it. There is a snapshot of the newest
version, or, "with a tail", one of a hundred keystrokes before it.
"""

import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from functools import partial

from benchmarks.documents import PROJECT, fill, keystrokes, scattered
from benchmarks.harness import Aim, Plan, Row, compare, folder, take_turns
from benchmarks.load import Load, compare_times, fetch, put_under_load, request
from benchmarks.servers import Server, baseline, gateway

_URL = f"/api/projects/{PROJECT}"
_CONNECTIONS = 4
_TYPED = 100


def run(plan: Plan) -> Iterator[Row]:
    """Measure."""
    yield from _memory(plan)
    yield from _whole_fetch(plan)


def _memory(plan: Plan) -> Iterator[Row]:
    few, many = plan.size(1_000, 100), plan.size(200_000, 4_000)
    polled, written = plan.size(10_000, 1_000), plan.size(1_000, 50)
    existing, known, opened = list[float](), list[float](), list[float]()
    with folder() as data:
        update = keystrokes(1)
        for files in (few, many):
            fill(data / f"{files}.db", {_path(number): update for number in range(files)})
        for _ in range(plan.size(3, 1)):
            with gateway(data / f"{few}.db") as small, gateway(data / f"{many}.db") as large:
                _look_around(small, few)
                _look_around(large, few)
                existing.append((large.resident_bytes() - small.resident_bytes()) / (many - few))
                # in this order: what the greater question leaves behind would hide what the documents take
                opened.append(_growth(large, _write, written))
                known.append(_growth(large, _poll, polled))
    most = Aim("<=", 200, of="ours")
    yield compare("memory of a file that exists", "B", existing, "open for writing", opened, aim=most)
    yield compare("memory of a file that is polled by version", "B", known, "open for writing", opened)


def _path(number: int) -> str:
    return f"docs/{number // 100:04}/chapter-{number:06}.md"


def _look_around(server: Server, files: int) -> None:
    cursor = fetch(server, request("GET", f"{_URL}/files?limit=1000")).json()["cursor"]
    fetch(server, _status({"since": cursor}))
    for number in range(0, files, files // 50):
        fetch(server, request("GET", f"{_URL}/files/{_path(number)}"))


def _status(question: object) -> bytes:
    return request("POST", f"{_URL}/files/status", json.dumps(question).encode(), content_type="application/json")


def _growth(server: Server, use: Callable[[Server, Iterable[str]], None], files: int) -> float:
    """Bytes that each of `files` adds when it is used, after files of another name have been."""
    use(server, [f"other/{number // 100:04}/chapter-{number:06}.md" for number in range(files)])
    before = server.resident_bytes()
    use(server, [_path(number) for number in range(files)])
    return (server.resident_bytes() - before) / files


def _poll(server: Server, paths: Iterable[str]) -> None:
    fetch(server, _status({"versions": dict.fromkeys(paths, 0)}))


def _write(server: Server, paths: Iterable[str]) -> None:
    (update,) = keystrokes(1, seed=1)
    for path in paths:
        fetch(server, request("PATCH", f"{_URL}/files/{path}", update))


def _whole_fetch(plan: Plan) -> Iterator[Row]:
    documents = {
        "1-KB": scattered(1024, _TYPED),
        "100-KB": scattered(plan.size(100, 10) * 1024, _TYPED),
        "1-MB": scattered(plan.size(1024, 100) * 1024, _TYPED),
    }
    with folder() as data, ExitStack() as stack:
        database = data / "gateway.db"
        fill(database, documents, snapshots_behind=0)
        fill(database, {f"{path}-tail": updates for path, updates in documents.items()}, snapshots_behind=_TYPED)
        ours = stack.enter_context(gateway(database))
        loading = stack.enter_context(baseline("load_and_diff", database=str(database)))
        replays = {path: stack.enter_context(_replay(ours, path)) for path in documents}
        for path, (tail, suffix) in itertools.product(documents, {"": "", "-tail": ", with a tail"}.items()):
            taken = take_turns(
                plan,
                {
                    "ours": partial(_load, plan, ours, f"{_URL}/files/{path}{tail}"),
                    "replay": partial(_load, plan, replays[path], "/"),
                    "load": partial(_load, plan, loading, f"/{path}{tail}"),
                },
            )
            what = f"whole fetch, {path}{suffix}"
            yield compare_times(what, taken["ours"], "raw ASGI, same bytes", taken["replay"])
            yield compare_times("", taken["ours"], "load, encode, answer", taken["load"], inverse=True)


def _replay(ours: Server, path: str) -> Server:
    whole = fetch(ours, request("GET", f"{_URL}/files/{path}"))
    headers = [(name, value) for name, value in whole.headers if name != "date"]
    return baseline("replay", status=200, headers=headers, body=whole.body.decode("latin-1"))


def _load(plan: Plan, server: Server, url: str) -> Load:
    return put_under_load(server, [itertools.repeat(request("GET", url))] * _CONNECTIONS, seconds=plan.seconds)
