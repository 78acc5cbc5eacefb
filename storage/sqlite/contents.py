"""Whether another program has written over the files of an open database, which their names and inodes do not show."""

import os
import struct
import threading
import zlib

from msgspec import Struct

_HEADER_BYTES = 48
_INDEX_BYTES = 136
"""The header of the wal-index, twice, and the state of the checkpoints (https://sqlite.org/walformat.html)."""
_LOG_HEADER_BYTES, _FRAME_HEADER_BYTES = 32, 24
_SALTS = 16
"""Where the salts are in the header of the log."""
_SALTS_BYTES = 8
_FIELDS = struct.Struct("=14xHI12x8s56x4s28x4s")
"""The fields of `_Index` in the wal-index."""
_LARGEST_PAGE_BYTES = 0x10000
_BLOCK_BYTES = 4096
_SAMPLED_BLOCKS = 64


class _Index(Struct, frozen=True):
    """What the wal-index says of the log and of what was copied from it into the database file."""

    page: int
    """The size of a page in bytes; 1: 65,536."""
    frames: int
    """How many frames of the log are valid."""
    salts: bytes
    copied: bytes
    begun: bytes
    """Up to which frame the log was copied, and up to which a checkpoint was begun."""


class _Noted(Struct, frozen=True):
    """What the database file was like after a checkpoint."""

    seen: tuple[int, int]
    """Its size in bytes and its modification time."""
    checkpoint: tuple[bytes, ...]
    sample: int
    """A checksum of some of its blocks."""


class Contents:
    """Watches the content of the database file and of its log while SQLite has both open.

    SQLite writes to the database file during a checkpoint only, before which it changes the wal-index. A file that
    changes although the wal-index stays as it is was written by something else, `cp` for example. It counts as
    overwritten if its size or some of its blocks differ, too: the time alone changes by `touch`, and may change later
    on a network file system.
    The log has at least as many frames as the wal-index says, and the salts that the wal-index has.

    The methods may be called from several threads.

    Args:
        database, log, index: descriptors of the files. The one of the wal-index has to stay open until SQLite has
            closed the database: closing any descriptor of it would release SQLite's locks.
        telling: the place in the database file of what differs in every copy that was not made just now.
    """

    def __init__(self, database: int, log: int, index: int, telling: int) -> None:
        self._database = database
        self._log = log
        self._index = index
        self._telling = telling
        self.overwritten = False
        """Whether it was found that one of the files was overwritten."""
        self._noted = _Noted((0, 0), (), 0)
        self._noting = threading.Lock()
        """Held while a thread compares the files with what was noted, which no other one may change meanwhile."""
        self._note(self._look())

    def are_as_noted(self, database: tuple[int, int], log_bytes: int) -> bool:
        """Return whether nothing but commits has changed the files since the last checkpoint that was noted: two file
        system calls. False: the other methods have to tell what has changed.

        Args:
            database: the size and the modification time of the database file now.
            log_bytes: the size of the log now.
        """
        noted = self._noted
        if database != noted.seen or self.overwritten:
            return False
        index = self._read_index()
        if index is None or index.copied != index.begun or (index.salts, index.copied) != noted.checkpoint:
            return False
        return self._has_all_of(index, log_bytes)

    def _has_all_of(self, index: _Index, log_bytes: int) -> bool:
        """Return whether a log of so many bytes has all frames that the wal-index says, and its salts."""
        page = _LARGEST_PAGE_BYTES if index.page == 1 else index.page
        needed = _LOG_HEADER_BYTES + index.frames * (page + _FRAME_HEADER_BYTES)
        return not index.frames or (log_bytes >= needed and os.pread(self._log, _SALTS_BYTES, _SALTS) == index.salts)

    def is_database_overwritten(self) -> bool:
        """Return whether the database file was overwritten: one file system call unless it has changed."""
        if self._look() != self._noted.seen and not self.overwritten:
            with self._noting:
                seen = self._look()  # again: another thread may have noted a later state than that of the first look
                if seen != self._noted.seen and self._note(seen):
                    self.overwritten = True
        return self.overwritten

    def _look(self) -> tuple[int, int]:
        status = os.fstat(self._database)
        return status.st_size, status.st_mtime_ns

    def _note(self, seen: tuple[int, int]) -> bool:
        """Note what the file is like now, and return whether anything but a checkpoint has changed it."""
        noted = self._noted
        index = self._read_index()  # after the look: a checkpoint changes the wal-index before the file
        if index is None or index.copied != index.begun:
            return False  # a checkpoint is under way
        checkpoint = index.salts, index.copied
        same = checkpoint == noted.checkpoint
        sample = self._sample(seen[0])
        if self._look() != seen:  # the file is being written
            return same and self._read_index() == index
        if self._read_index() != index:  # a checkpoint has begun, and the sample may be of its middle
            return False
        if same and (seen[0] != noted.seen[0] or sample != noted.sample):
            return True
        self._noted = _Noted(seen, checkpoint, sample)
        return False

    def _sample(self, size: int) -> int:
        """Return a checksum of blocks that are spread over the database file: all of a small one."""
        found = zlib.crc32(os.pread(self._database, _BLOCK_BYTES, self._telling))
        step = max(1, size // _BLOCK_BYTES // _SAMPLED_BLOCKS) * _BLOCK_BYTES
        for place in range(0, size, step):
            found = zlib.crc32(os.pread(self._database, _BLOCK_BYTES, place), found)
        return found

    def is_log_overwritten(self) -> bool:
        """Return whether the log was overwritten or truncated: a few file system calls. To be called before and after
        each commit: it also notes where the log begins anew."""
        index = self._read_index()
        if index is None or self.overwritten:
            return self.overwritten
        self._note_new_log(index)
        if self._has_all_of(index, os.fstat(self._log).st_size):
            return False
        if self._read_index() != index:  # another process has emptied the log meanwhile
            return False
        self.overwritten = True
        return True

    def _note_new_log(self, index: _Index) -> None:
        """Note that the wal-index has changed and the database file has not: after a checkpoint the log begins anew."""
        checkpoint = index.salts, index.copied
        if checkpoint == self._noted.checkpoint or index.copied != index.begun:
            return
        with self._noting:
            noted = self._noted
            if self._look() == noted.seen:
                self._noted = _Noted(noted.seen, checkpoint, noted.sample)

    def _read_index(self) -> _Index | None:
        """Read the wal-index; None: it is being changed."""
        read = os.pread(self._index, _INDEX_BYTES, 0)
        if len(read) < _INDEX_BYTES or read[:_HEADER_BYTES] != read[_HEADER_BYTES : 2 * _HEADER_BYTES]:
            return None
        return _Index(*_FIELDS.unpack_from(read))

    def close(self) -> None:
        """Close the log and the wal-index, after SQLite has closed the database."""
        os.close(self._log)
        os.close(self._index)
