"""Processes of others: the workers of a gateway, and the end of one."""

import os
import select
import signal
from pathlib import Path


class Watched:
    """A process whose end can be waited for, whoever its parent is."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._descriptor = os.pidfd_open(pid)

    def has_ended(self, *, within: float = 120) -> bool:
        """Wait for the end of the process."""
        ready, _, _ = select.select([self._descriptor], [], [], within)
        return bool(ready)

    def close(self) -> None:
        os.close(self._descriptor)


def worker_pids(gateway: int, lane: str) -> list[int]:
    """The worker processes of a lane of a gateway."""
    return [pid for pid in _processes() if _parent(pid) == gateway and _is_worker(_command(pid), lane)]


def member_pids(supervisor: int) -> list[int]:
    """The gateway processes of a parent that has several on one port."""
    pids = [pid for pid in _processes() if _parent(pid) == supervisor]
    return [pid for pid in pids if b"gateway.server.member" in _command(pid)]


def _is_worker(command: bytes, lane: str) -> bool:
    return b"gateway.workers.process" in command and command.endswith(b"\0" + lane.encode() + b"\0")


def _processes() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def stop(pid: int) -> None:
    """Stop a process by SIGSTOP, and wait until it stands still."""
    os.kill(pid, signal.SIGSTOP)
    while _status(pid)[0] not in "TZ":
        os.sched_yield()


def _parent(pid: int) -> int:
    return int(_status(pid)[1])


def _status(pid: int) -> list[str]:
    """The state of a process, its parent, and more; see proc_pid_stat(5)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:  # it has ended meanwhile
        return ["Z", "0"]


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
