"""The gateway with a watch on its event loop: `python -m benchmarks.held_loop serve …` is `yjs-gateway serve …`.

Every 2 ms a timer of the loop looks at the clock. What passed since it looked last is how long the loop was *held*: by
its own work, or by a thread that kept the interpreter or the disk from it. What the kernel let other processes have of
the core meanwhile (the run delay of `/proc/thread-self/schedstat`) is taken off: a busy machine is no fault of the
gateway. Beside it stands the most CPU time that the loop's thread took between two looks: what no other process and
no other thread has a part in. At a SIGUSR1 the process prints both since the one before, as a line of JSON.
"""

import asyncio
import faulthandler
import gc
import json
import os
import re
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import uvicorn

from benchmarks.servers import Server
from gateway.cli.main import main

_EVERY_S = 0.002
_LOOK_S = 0.01
_WORTH_A_LOOK_S = 0.03
_DEEPEST = 12

_LINE = "Held "


@dataclass(frozen=True)
class Held:
    """The longest hold of a loop in some time. Milliseconds."""

    longest: float
    cpu: float
    """The most CPU time of the loop's thread in one hold."""
    collection: float
    """The longest garbage collection, wherever it was."""
    where: list[str]


def held(server: Server, *, patience: float) -> Held:
    """The longest hold of a server's loop since this was asked before.

    Raises:
        queue.Empty: there was no answer for `patience` seconds.
    """
    server.signal(signal.SIGUSR1)
    figures = json.loads(server.next_line(_LINE, patience=patience))
    longest, cpu, collection = (figures[name] * 1e3 for name in ("held_s", "cpu_s", "collection_s"))
    return Held(longest, cpu, collection, figures["where"])


class Watch:
    """Times a loop, in the loop's own thread; another thread notes what it is doing while it is held."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._thread = threading.get_ident()
        self._delays = os.open("/proc/thread-self/schedstat", os.O_RDONLY)
        self._dump = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the process)
        self._clear()
        gc.callbacks.append(self._collect)
        loop.add_signal_handler(signal.SIGUSR1, self._tell)
        threading.Thread(target=self._look_on, daemon=True).start()
        self._beat()

    def _clear(self) -> None:
        self._longest = self._cpu = self._collection = 0.0
        self._ran = time.thread_time()
        self._where: list[str] = []
        self._seen: list[str] = []
        self._last, self._delay = time.perf_counter(), self._run_delay()

    def _run_delay(self) -> float:
        """How long this thread has waited for a core, in seconds."""
        return int(os.pread(self._delays, 64, 0).split()[1]) / 1e9

    def _beat(self) -> None:
        self._note()
        self._loop.call_later(_EVERY_S, self._beat)

    def _note(self) -> None:
        now, delay, ran = time.perf_counter(), self._run_delay(), time.thread_time()
        self._cpu, self._ran = max(self._cpu, ran - self._ran), ran
        held = now - self._last - (delay - self._delay)
        if held > self._longest:
            self._longest, self._where = held, self._seen
        self._last, self._delay, self._seen = now, delay, []

    def _tell(self) -> None:
        self._note()
        figures = {"held_s": self._longest, "cpu_s": self._cpu, "collection_s": self._collection}
        print(_LINE + json.dumps({**figures, "where": self._where}), flush=True)
        self._clear()

    def _collect(self, phase: str, _: object) -> None:
        if phase == "start":
            self._collecting = time.thread_time()
        else:
            self._collection = max(self._collection, time.thread_time() - self._collecting)

    def _look_on(self) -> None:
        while True:
            time.sleep(_LOOK_S)
            if time.perf_counter() - self._last > _WORTH_A_LOOK_S:
                self._seen = self._threads()

    def _threads(self) -> list[str]:
        """Return where the loop is, then where the other threads are: one of them may keep the interpreter from it.

        `faulthandler` reads the frames of all threads in one call. `sys._current_frames` would give frame objects, and
        to follow them while their threads run has ended Python 3.11 with a segmentation fault.
        """
        self._dump.seek(0)
        self._dump.truncate()
        faulthandler.dump_traceback(self._dump)
        self._dump.seek(0)
        stacks = dict(_stacks_in(self._dump.read().decode()))
        places = stacks.pop(self._thread, [])[:_DEEPEST]
        stacks.pop(threading.get_ident(), None)
        return places + [place for stack in stacks.values() for place in ["beside it:", *stack[:4]]]


def _stacks_in(dump: str) -> Iterator[tuple[int, list[str]]]:
    """The threads of a dump of `faulthandler`, and where each of them is, the innermost place first."""
    for thread in re.split(r"^(?:Current t|T)hread ", dump, flags=re.MULTILINE)[1:]:
        head, *lines = thread.splitlines()
        yield int(head.split()[0], 16), [line.strip() for line in lines if line.strip()]


def _watch_servers() -> None:
    start = uvicorn.Server.startup

    async def startup(self: uvicorn.Server, sockets: Any = None) -> None:
        Watch(asyncio.get_running_loop())
        await start(self, sockets)

    uvicorn.Server.startup = startup  # type: ignore[method-assign]


if __name__ == "__main__":  # a worker process imports the main module too
    _watch_servers()
    main()
