"""A neighbour who polls an unchanged project every 5 ms, in a process of its own: `python -m benchmarks.neighbour`.

It is told what to do in lines: `poll PORT` begins, `tell` ends it and has it print its figures as JSON. A poll is timed
from the moment when it was due, not from when it was sent: who waits for an answer has also missed the polls between.
"""

import json
import select
import socket
import subprocess
import sys
import time
from typing import Self

from benchmarks.load import complete, request

PROJECT = "/api/projects/neighbour"
_FILE = f"{PROJECT}/files/calm.md"
_EVERY_S = 0.005
_PATIENCE_S = 120.0


class Neighbour:
    """Starts the process and tells it what to do."""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.neighbour"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        return self

    def __exit__(self, *error: object) -> None:
        self._process.communicate()

    def _tell(self, line: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return self._process.stdout.readline()

    def begin(self, port: int) -> None:
        """Poll the gateway that listens there."""
        self._tell(f"poll {port}")

    def end(self) -> dict[str, float]:
        """Stop polling; returns how many `polls` were answered, and in which time (`p50`, `p99`, `longest`; ms)."""
        figures: dict[str, float] = json.loads(self._tell("tell"))
        return figures


class _Poller:
    """Asks "what changed since this cursor?" where nothing does."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), _PATIENCE_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        written = self._exchange(request("PUT", _FILE, b"calm", content_type="text/plain"))
        cursor = json.loads(written.partition(b"\r\n\r\n")[2])["cursor"]
        question = json.dumps({"since": cursor}).encode()
        self._poll = request("POST", f"{PROJECT}/files/status", question, content_type="application/json")
        self._answer = self._exchange(self._poll).partition(b"\r\n\r\n")[2]
        self.times: list[float] = []
        self._due = time.perf_counter()

    def _exchange(self, message: bytes) -> bytes:
        self._socket.sendall(message)
        answer = b""
        while not complete(answer):
            received = self._socket.recv(65536)
            if not received:
                raise ConnectionError("the gateway closed the connection")
            answer += received
        return answer

    @property
    def pause(self) -> float:
        """The time until the next poll is due."""
        return max(0.0, self._due - time.perf_counter())

    def ask(self) -> None:
        try:
            answer = self._exchange(self._poll)
        finally:  # also where no answer came: it was waited for
            self.times.append(time.perf_counter() - self._due)
        if answer.partition(b"\r\n\r\n")[2] != self._answer:
            raise RuntimeError(f"an unchanged project was answered {answer!r}")
        self._due += _EVERY_S

    def close(self) -> None:
        """The connection has ended, or is no longer wanted."""
        self._socket.close()

    def figures(self) -> dict[str, float]:
        """Milliseconds."""
        times = sorted(self.times) or [0.0]
        count = len(times)
        found = {"p50": times[count // 2], "p99": times[count * 99 // 100], "longest": times[-1]}
        return {"polls": count, **{name: value * 1e3 for name, value in found.items()}}


def main() -> None:
    poller: _Poller | None = None
    ended = False
    while True:
        pause = None if poller is None or ended else poller.pause
        readable, _, _ = select.select([sys.stdin], [], [], pause)
        if readable:
            line = sys.stdin.readline()
            if line.startswith("poll"):
                poller, ended = _Poller(int(line.split()[1])), False
                print("polling", flush=True)
            elif line.startswith("tell") and poller is not None:
                print(json.dumps(poller.figures()), flush=True)
                poller.close()
                poller = None
            elif not line:
                return
        elif poller is not None:
            try:
                poller.ask()
            except OSError:  # the gateway was ended: what was told before counts
                ended = True


if __name__ == "__main__":
    main()
