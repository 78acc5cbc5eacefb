"""A real gateway in a process of its own, on a real socket."""

import os
import queue
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from tests.support.ports import free_port

PATIENCE_S = 120.0
"""Seconds within which everything that a test waits for has come, also where the machine stood still meanwhile: more
than the longest wait of a request."""


def url_of(database: Path | str) -> str:
    """The URL of a database, which is that or a SQLite file."""
    return f"sqlite:///{database}" if isinstance(database, Path) else database


class GatewayProcess:
    """`yjs-gateway serve` on a free port. `kill` is `kill -9`; `start` starts it again on the same database.

    Args:
        database: the file of a SQLite database, or the URL of a database.
    """

    def __init__(self, database: Path | str, **settings: object) -> None:
        self.database = database
        self.settings = {name: str(value) for name, value in settings.items()}
        self.url = ""
        self.port = free_port()
        self.process: subprocess.Popen[str] | None = None

    def start(self, *, timeout: float = PATIENCE_S) -> Self:
        """Start the process and wait until it listens."""
        # Where the database stands still for some seconds, requests wait for it unless a test wants them refused.
        patience = {"GATEWAY_DATABASE_SECONDS": "60"}
        environment = {**os.environ, "GATEWAY_DATABASE": url_of(self.database), **patience, **self.settings}
        command = [sys.executable, "-m", "gateway", "serve", "--port", str(self.port)]
        self.process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        lines: queue.Queue[str | None] = queue.Queue()
        self.log: list[str] = []
        self._reader = threading.Thread(target=_read, args=(self.process, lines, self.log), daemon=True)
        self._reader.start()
        while (line := lines.get(timeout=timeout)) is not None:
            if line.startswith("Listening on "):
                self.url = line.removeprefix("Listening on ").strip()
                return self
        self.process.wait()
        raise RuntimeError("the gateway did not start:\n" + "".join(self.log))

    def kill(self) -> None:
        """End it at once, as `kill -9` does."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self, *, timeout: float = PATIENCE_S) -> int:
        """Ask it to stop, and wait until all of its log is there; returns its exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout)
        self._reader.join(timeout)
        return code

    def project(self, name: str = "demo") -> str:
        """The URL of a project."""
        return f"{self.url}/api/projects/{name}"

    def client(self, project: str = "demo", **options: object) -> httpx.Client:
        """A client whose base is a project."""
        # There is no TLS here, and to read the system's certificates takes longer than many a test.
        return httpx.Client(base_url=self.project(project), timeout=PATIENCE_S, verify=False, **options)  # type: ignore[arg-type]

    def get(self, path: str, **options: Any) -> httpx.Response:
        """Ask for something that belongs to no project."""
        return httpx.get(f"{self.url}{path}", timeout=PATIENCE_S, verify=False, **options)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process is not None and self.process.poll() is None:
            self.stop()


def _read(process: "subprocess.Popen[str]", lines: "queue.Queue[str | None]", log: list[str]) -> None:
    assert process.stdout is not None
    with process.stdout:
        for line in process.stdout:
            log.append(line)
            lines.put(line)
    lines.put(None)
