"""The bound of the write-ahead log: who reads an old state for long keeps SQLite from emptying it."""

import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

from storage.errors import LogHeld

_TRY_EVERY_S = 1.0
_TRY_FOR_MS = 100
_TELL_SHARE = 4
"""Above this share of the bound it is told that somebody holds the log."""


class LogBound:
    """Looks at the size of the log before each transaction. Runs in the writer's thread.

    Args:
        path: the log.
        limit: the most bytes of it; beyond them nothing is written.
    """

    def __init__(self, path: Path, limit: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._limit = limit
        self._clock = clock
        self._tried = -_TRY_EVERY_S
        self.held: str | None = None
        """That somebody keeps the log from being emptied, in words; None: nobody does, or it is small."""

    def require_room(self, connection: sqlite3.Connection) -> None:
        """Empty a log that has grown large, as far as its readers let it.

        Raises:
            LogHeld: it is too large.
        """
        size = self.look(connection)
        if self.held is not None and size > self._limit:
            raise LogHeld(f"nothing is written for now: {self.held}")

    def look(self, connection: sqlite3.Connection) -> int:
        """Bytes of the log, after an attempt to empty it where it is large; one attempt a second."""
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
