"""Edits that the gateway has not acknowledged, in memory and in a file that survives a crash.

The file is a log of records: length, CRC-32, MessagePack. The log ends at the first incomplete record.
"""

import os
import struct
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import msgspec
from msgspec import Struct

if sys.platform != "win32":
    import fcntl

_HEAD = struct.Struct("<II")
_BATCH_BYTES = 2**20
"""The most bytes of one batch; a single larger edit is a batch of its own."""


class _About(Struct, frozen=True, tag="mirror"):
    """The first record: the document that the edits belong to."""

    url: str
    path: str


class _Life(Struct, frozen=True, tag="life"):
    """The incarnation of the file that the following edits belong to."""

    incarnation: str


class _Edit(Struct, frozen=True, tag="edit"):
    update: bytes


class _Acknowledged(Struct, frozen=True, tag="acknowledged"):
    """The oldest `count` of the preceding edits have been acknowledged by the gateway."""

    count: int


_Record = _About | _Life | _Edit | _Acknowledged


class PendingEdits:
    """The unacknowledged edits of one mirror, oldest first.

    When `add` returns, the operating system has the edit, so that `kill -9` loses none; when `sync` returns, the edit
    is on disk. Two mirrors cannot open the same file (on systems with `flock`).

    Raises:
        ValueError: the file belongs to another document, or is not a file of pending edits.
        BlockingIOError: another mirror has the file open.
    """

    def __init__(self, file: Path | None, url: str, path: str) -> None:
        self.updates: list[bytes] = []
        self.incarnation: str | None = None
        """The incarnation that the edits belong to; None if it is unknown."""
        self._about = _About(url, path)
        self._file = None if file is None else _open(file)
        if file is not None:
            try:
                self._load(file)
            except BaseException:
                self.close()
                raise

    @property
    def durable(self) -> bool:
        """Whether the edits are kept in a file."""
        return self._file is not None

    def add(self, update: bytes) -> None:
        """Keep an edit."""
        self._append(_Edit(update))
        self.updates.append(update)

    def batch(self) -> list[bytes]:
        """Return the edits to send next."""
        size = 0
        for count, update in enumerate(self.updates):
            size += len(update)
            if size > _BATCH_BYTES:
                return self.updates[: max(count, 1)]
        return list(self.updates)

    def acknowledge(self, count: int) -> None:
        """Drop the oldest `count` edits: the gateway has acknowledged them."""
        del self.updates[:count]
        if self.updates:
            self._append(_Acknowledged(count))
        else:
            self._begin()

    def live(self, incarnation: str | None) -> None:
        """Set the incarnation of the file that the present and later edits belong to."""
        if incarnation != self.incarnation:
            self.incarnation = incarnation
            if incarnation is not None:
                self._append(_Life(incarnation))

    def drop(self) -> None:
        """Forget the edits and their incarnation."""
        self.updates, self.incarnation = [], None
        self._begin()

    def sync(self) -> None:
        """Wait until the added edits are on disk."""
        if self._file is not None:
            os.fsync(self._file)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _begin(self) -> None:
        """Start the log anew; no edit is unacknowledged."""
        if self._file is not None:
            os.ftruncate(self._file, 0)
            self._append(self._about)
            if self.incarnation is not None:
                self._append(_Life(self.incarnation))

    def _append(self, record: _Record) -> None:
        if self._file is not None:
            payload = msgspec.msgpack.encode(record)
            data = _HEAD.pack(len(payload), zlib.crc32(payload)) + payload
            while data:
                data = data[os.write(self._file, data) :]

    def _load(self, file: Path) -> None:
        data = file.read_bytes()
        records = list(_records(data))
        if len(data) >= _HEAD.size and not (records and isinstance(records[0][1], _About)):
            raise ValueError(f"{file} does not hold the edits of a mirror")
        for _, record in records:
            if isinstance(record, _About) and record != self._about:
                raise ValueError(f"{file} holds the edits of {record.path!r} at {record.url}")
            if isinstance(record, _Life):
                self.incarnation = record.incarnation
            elif isinstance(record, _Edit):
                self.updates.append(record.update)
            elif isinstance(record, _Acknowledged):
                del self.updates[: record.count]
        assert self._file is not None
        os.ftruncate(self._file, records[-1][0] if records else 0)
        if not records:
            self._append(self._about)


def _open(file: Path) -> int:
    binary: int = getattr(os, "O_BINARY", 0)  # of Windows
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_APPEND | binary, 0o600)
    try:
        if sys.platform != "win32":
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _records(data: bytes) -> Iterator[tuple[int, _Record]]:
    """Yield the complete records of a log, each with its end offset."""
    start = 0
    while start + _HEAD.size <= len(data):
        length, checksum = _HEAD.unpack_from(data, start)
        payload = data[start + _HEAD.size : start + _HEAD.size + length]
        if len(payload) < length or zlib.crc32(payload) != checksum:
            return
        start += _HEAD.size + length
        try:
            record: _Record = msgspec.msgpack.decode(payload, type=_Record)
        except msgspec.DecodeError:
            return
        yield start, record
