"""One gateway process for one database file."""

import contextlib
import fcntl
import os
import socket
from pathlib import Path

from storage.errors import DatabaseInUse


class ProcessLock:
    """An advisory lock on `<database>.lock`, gone with the process however it ends. The file says who holds it.

    Raises:
        DatabaseInUse: another process holds it.
    """

    def __init__(self, database: Path) -> None:
        self._path = database.with_name(database.name + ".lock")
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(self._file, 200).decode(errors="replace").strip()
            os.close(self._file)
            raise DatabaseInUse(str(database), holder or "another process") from None
        os.ftruncate(self._file, 0)
        # A full disk must not keep the gateway from serving reads: the name of the holder is a courtesy.
        with contextlib.suppress(OSError):
            os.write(self._file, f"process {os.getpid()} on {socket.gethostname()}\n".encode())

    def release(self) -> None:
        """Let go. The file stays: removing it would race with a process that has just opened it."""
        os.close(self._file)
