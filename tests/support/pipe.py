"""`yjs-gateway turn pipe` and `turn run` as processes, with both ends of the stream in the test's hands."""

import subprocess
import sys
from collections.abc import Sequence
from types import TracebackType
from typing import Self


class PipeProcess:
    """The command at work between two pipes: `turn run` where there is an agent to be run, else `turn pipe`."""

    def __init__(self, url: str, project: str, *options: str, agent: Sequence[str] = ()) -> None:
        told = ["--url", url, "--project", project, *options, *(("--", *agent) if agent else ())]
        command = [sys.executable, "-m", "gateway", "turn", "run" if agent else "pipe", *told]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
        )

    def created(self) -> tuple[str, str]:
        """Wait until it says which session and turn it has created; the path of the turn, and its id."""
        session, turn = (self.said().split()[-1] for _ in range(2))
        return f"/sessions/{session}/turns/{turn}", turn

    def said(self) -> str:
        """The next line of its standard error."""
        assert self.process.stderr is not None
        return self.process.stderr.readline().decode()

    def write(self, data: bytes) -> None:
        """What the agent prints."""
        assert self.process.stdin is not None
        view = memoryview(data)
        while view:
            view = view[self.process.stdin.write(view) :]

    def read(self, size: int) -> bytes:
        """What the reader gets: exactly `size` bytes, unless it ends before."""
        assert self.process.stdout is not None
        data = b""
        while len(data) < size and (part := self.process.stdout.read(size - len(data))):
            data += part
        return data

    def close(self) -> None:
        """The agent ends."""
        assert self.process.stdin is not None
        self.process.stdin.close()

    def end(self) -> int:
        """The agent ends; wait for the command, and return its exit code."""
        self.close()
        return self.process.wait(120)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for end in (self.process.stdin, self.process.stdout, self.process.stderr):
            if end is not None:
                end.close()
