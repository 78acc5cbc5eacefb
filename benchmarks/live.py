"""(r) How soon a live folder and its project are alike, and what 10,000 files cost while nothing happens.

Two folders are kept equal with one project by `yjs-gateway live`. A save in one of them (written aside and renamed, as
editors do) beside the same text put by a client: until a long poll has the change, and until the other folder has the
text. A change of the project beside a long poll: until the folder has the text. What runs on idly beside a process that
does nothing but watch a folder of as many files.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import httpx

from benchmarks.harness import Aim, Plan, Row, compare, folder, take_turns
from benchmarks.servers import Server, gateway

_PROJECT = "live"
_PATIENCE_S = 120.0
_SETTLED_S = 2.0
"""Before a process counts as idle."""
_WATCHER = """
import sys, watchfiles
print("Watching", flush=True)
for _ in watchfiles.watch(sys.argv[1]): pass
"""


def run(plan: Plan) -> Iterator[Row]:
    """Measure."""
    with folder() as data, gateway(data / "gateway.db") as ours:
        url = f"http://127.0.0.1:{ours.port}"
        one, other = data / "one", data / "other"
        for each in (one, other):
            each.mkdir()
        with (
            _live(url, one),
            _live(url, other),
            httpx.Client(base_url=f"{url}/api/projects/{_PROJECT}", timeout=70, verify=False) as client,
            ThreadPoolExecutor() as pool,
        ):
            yield from _propagation(plan, _Sides(client, pool, one, other))
        yield from _idle(plan, url, data)


def _live(url: str, directory: Path) -> Server:
    live = Server(
        "live", str(directory), "--url", url, "--project", _PROJECT, program=(sys.executable, "-m", "gateway")
    )
    live.next_line("live: ")
    return live


class _Sides:
    """A project, and two folders that are kept equal with it. Each method returns milliseconds."""

    def __init__(self, client: httpx.Client, pool: ThreadPoolExecutor, one: Path, other: Path) -> None:
        self._client, self._pool, self._one, self._other = client, pool, one, other
        self._number = 0
        self._put("0\n")
        self._until(one, "0\n")
        self._until(other, "0\n")

    def saved_to_project(self) -> float:
        return self._measure(self._save, self._poll)

    def put_to_project(self) -> float:
        return self._measure(self._put, self._poll)

    def saved_to_folder(self) -> float:
        return self._measure(self._save, lambda text: partial(self._until, self._other, text))

    def put_to_folder(self) -> float:
        return self._measure(self._put, lambda text: partial(self._until, self._other, text))

    def _measure(self, write: Callable[[str], object], wait: Callable[[str], Callable[[], object]]) -> float:
        """From before a text is written until it is seen elsewhere; then until it is everywhere."""
        self._number += 1
        text = f"{self._number}\n"
        seen = self._pool.submit(_time_after, wait(text))
        time.sleep(0.05)  # it waits by now; a time before that is no fault, only too long
        started = time.perf_counter()
        write(text)
        taken = seen.result(_PATIENCE_S) - started
        self._until(self._one, text)
        self._until(self._other, text)
        return taken * 1e3

    def _save(self, text: str) -> None:
        aside = self._one / ".a.md.tmp"
        aside.write_text(text)
        os.replace(aside, self._one / "a.md")

    def _put(self, text: str) -> None:
        self._client.put("/files/a.md", content=text, headers={"Content-Type": "text/plain"}).raise_for_status()

    def _poll(self, text: str) -> Callable[[], object]:
        cursor = self._client.get("/files", params={"limit": 1}).raise_for_status().json()["cursor"]
        return lambda: self._client.get("/changes", params={"since": cursor, "wait": 60}).raise_for_status()

    @staticmethod
    def _until(directory: Path, text: str) -> None:
        deadline = time.monotonic() + _PATIENCE_S
        file = directory / "a.md"
        while not file.exists() or file.read_text() != text:
            if time.monotonic() > deadline:
                raise RuntimeError(f"{file} is not as it should be")
            time.sleep(0.0005)


def _time_after(wait: Callable[[], object]) -> float:
    wait()
    return time.perf_counter()


def _propagation(plan: Plan, sides: _Sides) -> Iterator[Row]:
    times = take_turns(
        plan,
        {
            "saved": sides.saved_to_project,
            "put": sides.put_to_project,
            "saved, folder": sides.saved_to_folder,
            "put, folder": sides.put_to_folder,
        },
    )
    beside = "the same text put by a client"
    aim = Aim("<=", 100, "ours")
    yield compare("saved in a folder, until a long poll has it", "ms", times["saved"], beside, times["put"], aim=aim)
    yield compare("changed in the project, until a folder has it", "ms", times["put, folder"], "a long poll",
                  times["put"], aim=aim)  # fmt: skip
    yield compare("saved in a folder, until another folder has it", "ms", times["saved, folder"], "a long poll",
                  times["put"], aim=Aim("<=", 200, "ours"))  # fmt: skip


def _idle(plan: Plan, url: str, data: Path) -> Iterator[Row]:
    count = plan.size(10_000, 100)
    directory, watched = data / "many", data / "watched"
    for each in (directory, watched):
        for number in range(count):
            file = each / f"folder {number % 100}" / f"file {number}.md"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"{number}\n")
    with ExitStack() as stack:
        live = Server("live", str(directory), "--url", url, "--project", "many", "--json",
                      program=(sys.executable, "-m", "gateway"))  # fmt: skip
        stack.enter_context(live)
        json.loads('{"live":' + live.next_line('{"live":', patience=600))
        bare = stack.enter_context(Server("-c", _WATCHER, str(watched), program=(sys.executable,)))
        bare.next_line("Watching")
        time.sleep(plan.size(_SETTLED_S, 0.1))

        def busy(server: Server) -> float:
            before = server.cpu_seconds()
            time.sleep(plan.size(5.0, 0.5))
            return max(server.cpu_seconds() - before, 1e-6) / plan.size(5.0, 0.5) * 100

        cpu = take_turns(plan, {"live": partial(busy, live), "bare": partial(busy, bare)})
        memory = take_turns(plan, {"live": live.resident_bytes, "bare": bare.resident_bytes})
    what = f"{count:,} files, idle"
    yield compare(what, "% of a core", cpu["live"], "watchfiles alone", cpu["bare"], aim=Aim("<=", 1, "ours"))
    yield compare(what, "MB", [size / 1e6 for size in memory["live"]], "watchfiles alone",
                  [size / 1e6 for size in memory["bare"]])  # fmt: skip
