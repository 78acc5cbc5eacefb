"""Servers in processes of their own, on one core; the load generator has another (Linux)."""

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

_PATIENCE_S = 60.0
_REPOSITORY = Path(__file__).parent.parent
_CORES = sorted(os.sched_getaffinity(0))
SERVER_CORE, CLIENT_CORE = _CORES[0], _CORES[-1]


@contextlib.contextmanager
def on_core(core: int) -> Iterator[None]:
    """This thread, and the processes and threads that it starts meanwhile, on one core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class Server:
    """A process that serves HTTP on the server's core and says where it listens."""

    def __init__(
        self,
        *arguments: str,
        program: tuple[str, ...] = (sys.executable, "-m"),
        environment: dict[str, str] | None = None,
        told: str = "",
    ) -> None:
        with on_core(SERVER_CORE):
            self._process = subprocess.Popen(
                [*program, *arguments],
                cwd=_REPOSITORY,
                env={**os.environ, **(environment or {})},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        assert self._process.stdin is not None
        with self._process.stdin:
            self._process.stdin.write(told)
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._log: list[str] = []
        threading.Thread(target=self._read, daemon=True).start()
        self._port: int | None = None

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout:
            for line in self._process.stdout:
                self._log.append(line)
                self._lines.put(line)
        self._lines.put(None)

    @property
    def port(self) -> int:
        """Where it listens; waits until it does."""
        while self._port is None:
            line = self._lines.get(timeout=_PATIENCE_S)
            if line is None:
                raise RuntimeError("the server did not start:\n" + "".join(self._log))
            if line.startswith("Listening on "):
                self._port = int(line.rpartition(":")[2])
        return self._port

    @property
    def pid(self) -> int:
        return self._process.pid

    def cpu_seconds(self) -> float:
        """The time that its threads have been running, in itself and in the kernel."""
        return time.clock_gettime((~self.pid << 3) | 2)  # as glibc's clock_getcpuclockid makes it of a process id

    def resident_bytes(self) -> int:
        """Its memory in RAM."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS:"))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def gateway(database: Path) -> Server:
    """The real gateway, as `yjs-gateway serve` runs it."""
    return Server("gateway", "serve", "--port", "0", environment={"GATEWAY_DATABASE": f"sqlite:///{database}"})


def node_packages() -> Path:
    """The folder of what runs in Node.js; its packages are installed where they are not there yet."""
    packages = _REPOSITORY / "benchmarks" / "node"
    lock, installed = packages / "package-lock.json", packages / "node_modules" / ".installed"
    if not installed.is_file() or installed.read_bytes() != lock.read_bytes():
        install = ["npm", "ci", "--no-audit", "--no-fund", "--loglevel=error"]
        subprocess.run(install, cwd=packages, check=True, stdout=subprocess.DEVNULL)
        installed.write_bytes(lock.read_bytes())
    return packages


def rooms_in_node(name: str, folder: Path) -> Server:
    """One of the servers in `benchmarks/node/rooms.mjs`."""
    return Server(str(node_packages() / "rooms.mjs"), name, str(folder), program=("node",))


def baseline(name: str, **options: object) -> Server:
    """One of `benchmarks.baselines`, on the same uvicorn with the same options."""
    return Server("benchmarks.baselines", name, told=json.dumps(options))
