"""Space for the write-ahead log, allocated before it is needed."""

import os
import sqlite3
from pathlib import Path

import structlog

_log = structlog.get_logger("storage")

_PART_BYTES = 2**20


def allocate_log(path: Path, size: int, connection: sqlite3.Connection) -> None:
    """Extend the log with zeros to `size` bytes; runs in the writer's thread, between two transactions.

    To make a longer file durable, a file system must commit its own journal, too: where the log has to grow, the flush
    of a small transaction takes twice as long. Once SQLite has filled the log and writes it anew, it grows no more.
    The zeros are no frames, so whoever reads the log ignores them. If they cannot be written, the log stays as it is.
    """
    try:
        connection.execute("BEGIN IMMEDIATE")  # so that no other process writes to the log
    except sqlite3.Error as error:
        _log.debug("log not allocated", reason=str(error))
        return
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            _extend(descriptor, size)
        finally:
            os.close(descriptor)
    except OSError as error:
        _log.debug("log not allocated", reason=str(error))
    finally:
        connection.execute("ROLLBACK")


def _extend(descriptor: int, size: int) -> None:
    former = end = os.fstat(descriptor).st_size
    try:
        while end < size:
            end += os.pwrite(descriptor, bytes(min(_PART_BYTES, size - end)), end)
        if end > former:
            os.fsync(descriptor)
    except OSError:
        os.ftruncate(descriptor, former)  # the disk is full: what is left is for those who store something
        raise


def is_log_empty(path: Path) -> bool:
    """Return whether a log holds nothing: it is an empty file, or consists of allocated space only."""
    with path.open("rb") as log:
        return not any(log.read(32))
