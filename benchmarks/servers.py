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
    """A process that serves HTTP on the server's core, or on all, and says where it listens."""

    def __init__(
        self,
        *arguments: str,
        program: tuple[str, ...] = (sys.executable, "-m"),
        environment: dict[str, str] | None = None,
        told: str = "",
        on_all_cores: bool = False,
    ) -> None:
        with contextlib.nullcontext() if on_all_cores else on_core(SERVER_CORE):
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
        if self._port is None:
            self._port = int(self.next_line("Listening on ").rpartition(":")[2])
        return self._port

    def next_line(self, beginning: str, *, patience: float = _PATIENCE_S) -> str:
        """The rest of the next line that it prints which begins so.

        Raises:
            RuntimeError: it ended.
            queue.Empty: it printed none for so many seconds.
        """
        while (line := self._lines.get(timeout=patience)) is not None:
            if line.startswith(beginning):
                return line.removeprefix(beginning).strip()
        raise RuntimeError("the server ended:\n" + "".join(self._log))

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def kill(self) -> None:
        """End it at once, whatever it does."""
        self._process.kill()
        self._process.wait()

    @property
    def pid(self) -> int:
        return self._process.pid

    def cpu_seconds(self) -> float:
        """The time that its threads have been running, in itself and in the kernel."""
        return time.clock_gettime((~self.pid << 3) | 2)  # as glibc's clock_getcpuclockid makes it of a process id

    def resident_bytes(self) -> int:
        """Its memory in RAM."""
        return memory_of(self.pid, "VmRSS")

    def peak_bytes(self) -> int:
        """The most memory in RAM that it ever had."""
        return memory_of(self.pid, "VmHWM")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def memory_of(pid: int, figure: str) -> int:
    """A figure of the memory of a process, in bytes, by its name in `/proc/PID/status`."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith(f"{figure}:"))


def gateway(database: Path, *, module: str = "gateway", on_all_cores: bool = False, **settings: object) -> Server:
    """The real gateway, as `yjs-gateway serve` runs it.

    Args:
        module: a module that starts it in another way.
        on_all_cores: not on the server's core alone: for those whose work its worker processes share.
        settings: environment variables.
    """
    environment = {name: str(value) for name, value in settings.items()} | {"GATEWAY_DATABASE": f"sqlite:///{database}"}
    return Server(module, "serve", "--port", "0", environment=environment, on_all_cores=on_all_cores)


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


def baseline(name: str, *, of_uvicorn: bool = False, **options: object) -> Server:
    """One of `benchmarks.baselines`, on the same uvicorn with the same options.

    Args:
        of_uvicorn: with uvicorn's own class for HTTP/1.1 (httptools) in the place of the gateway's.
    """
    protocol = ("uvicorn",) if of_uvicorn else ()
    return Server("benchmarks.baselines", name, *protocol, told=json.dumps(options))
