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

    def require_room(self, connection: sqlite3.Connection) -> None:
        """Empty a log that has grown large, as far as its readers allow.

        Raises:
            LogHeld: the log is still too large.
        """
        size = self.look(connection)
        if self.held is not None and size > self._limit:
            raise LogHeld(f"nothing is written for now: {self.held}")

    def look(self, connection: sqlite3.Connection) -> int:
        """Return the size of the log in bytes; if it is large, first try to empty it, at most once a second."""
        size = self._size()
        if size <= self._limit // _TELL_SHARE:
            self.held = None
        elif self._clock() - self._tried >= _TRY_EVERY_S:
            self._empty(connection)
            self._tried = self._clock()
            size = self._size()
            self.held = self._in_words(size) if size > self._limit // _TELL_SHARE else None
        return size

    def _size(self) -> int:
        try:
            return self._path.stat().st_size
        except FileNotFoundError:
            return 0

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
