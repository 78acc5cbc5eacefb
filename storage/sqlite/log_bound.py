"""The limit of the write-ahead log: a long read of an old state keeps SQLite from emptying the log."""

import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

from storage.errors import LogHeld

_TRY_EVERY_S = 1.0
_TRY_FOR_MS = 100
_TELL_SHARE = 4
"""A held log is reported once it exceeds the limit divided by this."""
_GIVE_UP_SHARE = 2
"""A read in another process is ended once the log exceeds the limit divided by this."""
_LOOK_EVERY_STEPS = 200
"""How many steps of SQLite's virtual machine are done between two looks at the log: VACUUM takes a few per row."""


class LogBound:
    """Checks the size of the log before each transaction. Runs in the writer's thread.

    Args:
        path: the log.
        limit: the maximum size of the log in bytes; beyond it, nothing is written.
    """

    def __init__(self, path: Path, limit: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._limit = limit
        self._clock = clock
        self._tried = -_TRY_EVERY_S
        self.held: str | None = None
        """A message that another process keeps the log from being emptied; None: nobody does, or the log is small."""

    def require_room(self, connection: sqlite3.Connection, seen: int | None = None) -> None:
        """Empty a log that has grown large, as far as its readers allow.

        Args:
            seen: the size of the log after the last transaction, in bytes, if it is known.

        Raises:
            LogHeld: the log is still too large.
        """
        if seen is not None and seen <= self._limit // _TELL_SHARE:
            self.held = None
            return
        size = self.look(connection)
        if self.held is not None and size > self._limit:
            raise LogHeld(f"nothing is written for now: {self.held}")

    def look(self, connection: sqlite3.Connection) -> int:
        """Return the size of the log in bytes; if it is large, first try to empty it, at most once a second."""
        size = _size(self._path)
        if size <= self._limit // _TELL_SHARE:
            self.held = None
        elif self._clock() - self._tried >= _TRY_EVERY_S:
            self._empty(connection)
            self._tried = self._clock()
            size = _size(self._path)
            self.held = self._in_words(size) if size > self._limit // _TELL_SHARE else None
        return size

    @staticmethod
    def _empty(connection: sqlite3.Connection) -> None:
        (former,) = connection.execute("PRAGMA busy_timeout").fetchone()
        connection.execute(f"PRAGMA busy_timeout = {_TRY_FOR_MS}")
        try:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        finally:
            connection.execute(f"PRAGMA busy_timeout = {former}")

    def _in_words(self, size: int) -> str:
        return (
            f"the write-ahead log {self._path.name} has {size >> 20} MiB and cannot be emptied, as another process"
            " (a backup, an export, a database shell) reads an old state of the database; writes stop at"
            f" {self._limit >> 20} MiB until that process has ended"
        )


class LongReads:
    """Ends the reads of a process that does not serve the database before the gateway must refuse writes for them.

    Args:
        path: the log.
        limit: the limit of the gateway that serves the database, in bytes.
    """

    def __init__(self, path: Path, limit: int) -> None:
        self._path = path
        self._most = max(limit // _GIVE_UP_SHARE, _size(path))

    def watch(self, connection: sqlite3.Connection) -> None:
        """Interrupt the statements of a connection once the log is too large."""
        connection.set_progress_handler(self._is_over, _LOOK_EVERY_STEPS)

    def _is_over(self) -> bool:
        return _size(self._path) > self._most

    def require_short_log(self) -> None:
        """Raise LogHeld once the log is too large."""
        if self._is_over():
            raise self.given_up()

    def given_up(self) -> LogHeld:
        """Return the error of a read that was ended."""
        return LogHeld(
            f"given up: meanwhile the write-ahead log {self._path.name} has grown to {_size(self._path) >> 20} MiB; it"
            " cannot be emptied while this command reads, and the gateway would soon refuse writes. Try again when"
            " less is written, or set a larger GATEWAY_LOG_BYTES for the gateway and for this command"
        )


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
