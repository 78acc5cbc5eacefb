"""The lock on the database file: its name and inode, and whether the file is still in place."""

import contextlib
import fcntl
import os
import re
import socket
import sys
from pathlib import Path

from msgspec import Struct

from storage.errors import DatabaseInUse, DatabaseMoved, DatabaseOverwritten, NotAGatewayDatabase
from storage.sqlite.contents import Contents

_NOTE = re.compile(r"^database (\w+) opened (\d+) inode (\d+) log (\d+)(?: alone (\d+))?$", re.MULTILINE)

_OVERWRITTEN = "\nits files were overwritten\n"


class OpenedNote(Struct, frozen=True):
    """What was noted in the lock file when the database was last opened."""

    database: str
    """The identity of the database."""
    opened: int
    """How often the database had been opened."""
    inode: int
    log: int
    """The inode of its write-ahead log."""
    alone: int | None
    """How often the database had been opened according to its file without the log; None: not known."""
    overwritten: bool
    """Whether another program wrote into its files while it was open."""

    def was_left_with(self, database: object, opened: object) -> bool:
        """Return whether a file may be the one that was left beside the log, by its identity and how often it was
        opened. An earlier copy of it is not, nor a copy that was served elsewhere since."""
        if database != self.database or self.alone is None:
            return database == self.database
        return isinstance(opened, int) and self.alone <= opened <= self.opened


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
        self._names = str(self.path), str(self.log_path)
        """The paths as `os.stat` takes them: it would call a method of each path."""
        self._log: int | None = None
        self.log_bytes: int | None = None
        """The size of the log when `require_in_place` looked last; None: it has not looked yet."""
        self._contents: Contents | None = None
        self._noted_overwritten = False
        with contextlib.ExitStack() as opened:
            self._named = self._open(self.path.with_name(self.path.name + ".lock"), opened)
            content = os.pread(self._named, 1000, 0).decode(errors="replace")
            self._lock(self._named, content.partition("\n")[0].strip() or "another process")
            noted = _NOTE.search(content)
            self.former = _opened_note(noted, _OVERWRITTEN in content) if noted else None
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

    def note(self, database: str, opened: int, *, alone: bool, place: int) -> None:
        """Note the holder and the identity of the database in the lock file, and watch its files from now on. The
        database must be open, because only then does its log exist.

        Args:
            alone: whether the file without the log says the same.
            place: where in the file both are, in bytes.
        """
        self._log = os.stat(self.log_path).st_ino
        self._contents = self._watch(place)
        holder = f"process {os.getpid()} on {socket.gethostname()}"
        text = f"{holder}\ndatabase {database} opened {opened} inode {self.inode} log {self._log}"
        text += f" alone {opened}\n" if alone else "\n"
        # A full disk must not keep the gateway from serving reads: without the note, the next opening detects less.
        with contextlib.suppress(OSError):
            os.ftruncate(self._named, 0)
            os.pwrite(self._named, text.encode(), 0)

    def _watch(self, place: int) -> Contents:
        with contextlib.ExitStack() as opened:
            log, index = (
                self._open(path, opened) for path in (self.log_path, self.path.with_name(self.path.name + "-shm"))
            )
            opened.pop_all()
        return Contents(self._file, log, index, place)

    def is_in_place(self) -> bool:
        """Return whether the path still names the locked file."""
        status = _status(self._names[0])
        return status is not None and (status.st_dev, status.st_ino) == self._identity

    def require_in_place(self) -> None:
        """Check that the database and its log are in place, and were not overwritten: four file system calls.

        Raises:
            DatabaseMoved: the database, or its log, was removed or replaced.
            DatabaseOverwritten: another program wrote into one of them.
        """
        name, log_name = self._names
        database, log = _status(name), _status(log_name)
        if database is None or (database.st_dev, database.st_ino) != self._identity:
            raise DatabaseMoved(name)
        contents = self._contents
        if contents is None:
            return
        if log is None or log.st_ino != self._log:
            raise DatabaseMoved(log_name)
        self.log_bytes = log.st_size
        if contents.are_as_noted((database.st_size, database.st_mtime_ns), log.st_size):
            return
        if self.is_overwritten():
            raise DatabaseOverwritten(name)

    def require_contents(self) -> None:
        """Check that the database file was not overwritten: one file system call.

        Raises:
            DatabaseOverwritten
        """
        if self._contents is not None and self._contents.is_database_overwritten():
            self._note_overwritten()
            raise DatabaseOverwritten(str(self.path))

    def is_overwritten(self) -> bool:
        """Return whether another program wrote into the database or its log."""
        contents = self._contents
        if contents is None or not (contents.is_database_overwritten() or contents.is_log_overwritten()):
            return False
        self._note_overwritten()
        return True

    def _note_overwritten(self) -> None:
        """Note it for the next opening: what was acknowledged may be lost, and no client may go on from there."""
        if not self._noted_overwritten:
            self._noted_overwritten = True
            with contextlib.suppress(OSError):
                os.pwrite(self._named, _OVERWRITTEN.encode(), os.fstat(self._named).st_size)

    def _has_own_log(self) -> bool:
        status = _status(self._names[1])
        return status is not None and status.st_ino == self._log

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
        if self._contents is not None:
            self._contents.close()
        os.close(self._file)
        os.close(self._named)


def _status(name: str) -> os.stat_result | None:
    """Return the status of a file; None: it cannot be found."""
    try:
        return os.stat(name)
    except OSError:
        return None


def _opened_note(noted: re.Match[str], overwritten: bool) -> OpenedNote:
    database, opened, inode, log, alone = noted.groups()
    return OpenedNote(database, int(opened), int(inode), int(log), None if alone is None else int(alone), overwritten)
