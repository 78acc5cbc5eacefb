"""The lock on the database file: its name and inode, and whether the file is still in place."""

import contextlib
import fcntl
import os
import re
import socket
import sys
from pathlib import Path

from msgspec import Struct

from storage.errors import DatabaseInUse, DatabaseMoved, NotAGatewayDatabase

_NOTE = re.compile(r"^database (\w+) opened (\d+) inode (\d+) log (\d+)$", re.MULTILINE)


class OpenedNote(Struct, frozen=True):
    """What was noted in the lock file when the database was last opened."""

    database: str
    """The identity of the database."""
    opened: int
    """How often the database had been opened."""
    inode: int
    log: int
    """The inode of its write-ahead log."""


class DatabaseLock:
    """An advisory lock on a database, released when the process ends, however it ends.

    There are two locks: one on `<database>.lock`, which names the holder, and one on the file itself, which may have
    other names through links (`flock`; SQLite's own locks on Linux are of another kind). A symbolic link is resolved
    first, so that the log and the lock lie where SQLite looks for them.

    Raises:
        DatabaseInUse: another process holds it.
        NotAGatewayDatabase: the file cannot be opened.
    """

    def __init__(self, database: Path) -> None:
        self.path = database.resolve()
        self.log_path = self.path.with_name(self.path.name + "-wal")
        self._log: int | None = None
        with contextlib.ExitStack() as opened:
            self._named = self._open(self.path.with_name(self.path.name + ".lock"), opened)
            content = os.pread(self._named, 1000, 0).decode(errors="replace")
            self._lock(self._named, content.partition("\n")[0].strip() or "another process")
            noted = _NOTE.search(content)
            self.former = OpenedNote(noted[1], int(noted[2]), int(noted[3]), int(noted[4])) if noted else None
            # Kept open until SQLite has closed: closing any descriptor of the file would release SQLite's locks on it.
            self._file = self._open(self.path, opened)
            if sys.platform == "linux":  # elsewhere the two kinds of locks exclude each other
                self._lock(self._file, "another process, by another name of the file")
            opened.pop_all()
        status = os.fstat(self._file)
        self._identity = (status.st_dev, status.st_ino)

    def _open(self, path: Path, opened: contextlib.ExitStack) -> int:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise NotAGatewayDatabase(str(self.path), str(error)) from None
        opened.callback(os.close, descriptor)
        return descriptor

    def _lock(self, descriptor: int, holder: str) -> None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DatabaseInUse(str(self.path), holder) from None

    @property
    def inode(self) -> int:
        return self._identity[1]

    def note(self, database: str, opened: int) -> None:
        """Note the holder and the identity of the database in the lock file. The database must be open, because only
        then does its log exist."""
        self._log = os.stat(self.log_path).st_ino
        holder = f"process {os.getpid()} on {socket.gethostname()}"
        text = f"{holder}\ndatabase {database} opened {opened} inode {self.inode} log {self._log}\n"
        # A full disk must not keep the gateway from serving reads: without the note, the next opening detects less.
        with contextlib.suppress(OSError):
            os.ftruncate(self._named, 0)
            os.pwrite(self._named, text.encode(), 0)

    def is_in_place(self) -> bool:
        """Return whether the path still names the locked file."""
        try:
            status = os.stat(self.path)
        except OSError:
            return False
        return (status.st_dev, status.st_ino) == self._identity

    def require_in_place(self) -> None:
        """Check that the database and its log are in place: two file system calls, a few microseconds.

        Raises:
            DatabaseMoved: the database, or its log, was removed or replaced.
        """
        if not self.is_in_place():
            raise DatabaseMoved(str(self.path))
        if self._log is not None and not self._has_own_log():
            raise DatabaseMoved(str(self.log_path))

    def _has_own_log(self) -> bool:
        try:
            return os.stat(self.log_path).st_ino == self._log
        except OSError:
            return False

    def part_log(self, *, rescued: bool) -> None:
        """Move the log of the database, which SQLite has closed, away from another database that took its place. The
        log is removed if its contents were rescued, otherwise renamed."""
        if self.is_in_place() or not self._has_own_log():
            return
        if rescued:
            self.log_path.unlink()
        else:
            self.log_path.rename(self.log_path.with_name(f"{self.log_path.name}.{self._log}"))
        self.path.with_name(self.path.name + "-shm").unlink(missing_ok=True)

    def release(self) -> None:
        """Release the lock. The lock file stays: removing it would race with a process that has just opened it."""
        os.close(self._file)
        os.close(self._named)
