"""The gateway with a watch on its event loop: `python -m benchmarks.held_loop serve …` is `yjs-gateway serve …`.

Every 2 ms a timer of the loop looks at the clock. What passed since it looked last is how long the loop was *held*: by
its own work, or by a thread that kept the interpreter or the disk from it. What the kernel let other processes have of
the core meanwhile (the run delay of `/proc/thread-self/schedstat`) is taken off: a busy machine is no fault of the
gateway. Beside it stands the most CPU time that the loop's thread took between two looks: what no other process and
no other thread has a part in. At a SIGUSR1 the process prints both since the one before, as a line of JSON.
"""

import asyncio
import gc
import json
import os
import signal
import sys
import threading
import time
from dataclasses import dataclass
from types import FrameType
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
        """Return where the loop is, then where the other threads are: one of them may keep the interpreter from it."""
        frames = sys._current_frames()
        places = _places(frames.pop(self._thread, None))
        frames.pop(threading.get_ident(), None)
        return places + [place for frame in frames.values() for place in ["beside it:", *_places(frame)[:4]]]


def _places(frame: FrameType | None) -> list[str]:
    """Where a thread is, the innermost place first."""
    found: list[str] = []
    while frame is not None and len(found) < _DEEPEST:
        found.append(f"{frame.f_code.co_filename}:{frame.f_lineno} {frame.f_code.co_name}")
        frame = frame.f_back
    return found


def _watch_servers() -> None:
    start = uvicorn.Server.startup

    async def startup(self: uvicorn.Server, sockets: Any = None) -> None:
        Watch(asyncio.get_running_loop())
        await start(self, sockets)

    uvicorn.Server.startup = startup  # type: ignore[method-assign]


if __name__ == "__main__":  # a worker process imports the main module too
    _watch_servers()
    main()
