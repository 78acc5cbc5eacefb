"""Checksums of rows, which show whether a row is what was written.

Every row has a checksum of its values (`row_checksum`), except rows that may be dropped. A row with a body that is not
always read (an update or the content of a block) has a separate checksum of the body, which is one of these values.

A row of the log is also checked by its position and by the running total of the sizes. The checksum of its body is the
CRC-32 of the body, inverted for a version into which older ones were squashed, whose body is a whole document and which
is the first of the log. So a flipped bit cannot turn one kind of row into the other.
"""

import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from storage.errors import DataDamaged
from storage.records import Milliseconds, Version

DAMAGED = "it is not what was written"
_INVERTED = 0xFFFF_FFFF


class StoredRow(NamedTuple):
    """A row of the log."""

    file: int
    version: Version
    last_modified: Milliseconds
    size: int
    author: str | None
    checksum: int | None
    body: bytes | None
    intact: bool = True
    """Whether the values other than the body are those that were written, as far as the backend can tell."""
    credential: str | None = None


_encode = msgspec.msgpack.Encoder().encode


def row_checksum(*values: int | float | str | bytes | None) -> int:
    """Return the checksum of the values of a row: the CRC-32 of the values as one msgpack array."""
    return zlib.crc32(_encode(values))


def body_row_checksum(row: int, body: bytes) -> int:
    """Return `row_checksum(row, body)`, without copies of a long body."""
    if len(body) < 2**16:
        return row_checksum(row, body)
    # In msgpack, bytes whose length follows in four bytes, in the place of those without any (two bytes).
    head = _encode((row, b""))[:-2] + b"\xc6" + len(body).to_bytes(4)
    return zlib.crc32(body, zlib.crc32(head))


def is_intact(row: Sequence[int | float | str | bytes | None]) -> bool:
    """Return whether the last value of a row is the checksum of the others."""
    return row[-1] == row_checksum(*row[:-1])


def credential_checksum(file: int, version: int, credential: str | None) -> int | None:
    """Return the checksum of the id of a version's credential, which rows without one do not have."""
    return None if credential is None else row_checksum(file, version, credential)


def checksum(body: bytes) -> int:
    """Return the checksum of a snapshot or an update."""
    return zlib.crc32(body)


def squashed_checksum(body: bytes) -> int:
    """Return the checksum of a version into which older ones were squashed."""
    return zlib.crc32(body) ^ _INVERTED


def check_row(row: StoredRow, *, squashed: bool) -> bool:
    """Return whether a row matches its checksums; `squashed`: it is the oldest available version."""
    if not row.intact:
        return False
    if row.body is None:
        return row.checksum is None
    return row.checksum == (squashed_checksum(row.body) if squashed else checksum(row.body))


class Chain:
    """Checks that rows of one incarnation of a file follow each other without gaps or damage.

    Args:
        version: the version before the first row.
        size: bytes of the log up to and including that version; None if the first row is a whole document.
        squashed: the oldest available version; 0 if nothing was squashed.
    """

    def __init__(self, path: str, file: int, version: int, size: int | None, *, squashed: int = 0) -> None:
        self._path = path
        self._file = file
        self.version = version
        self._size = size
        self._squashed = squashed

    def take(self, row: StoredRow) -> bytes:
        """Check the next row and return its update.

        Raises:
            DataDamaged
        """
        self.version += 1
        body = row.body
        if body is None or row.version != self.version or row.file != self._file:
            raise self.damage(DAMAGED)
        if not check_row(row, squashed=row.version == self._squashed):
            raise self.damage(DAMAGED)
        if self._size is not None and row.size != self._size + len(body):
            raise self.damage(f"{row.size} bytes of log are noted, and there are {self._size + len(body)}")
        self._size = row.size
        return body

    def take_columns(self, row: tuple[Any, ...]) -> bytes | None:
        """Check the next row as `take` does, and return its update; None: `take` must decide.

        Args:
            row: the values of `StoredRow` up to `body`, then credential, checksum of the credential and of the row.
        """
        file, version, last_modified, size, author, check, body, credential, credential_check, row_check = row
        if (
            not body
            or self._size is None
            or file != self._file
            or version != self.version + 1
            or version == self._squashed
            or size != self._size + len(body)
            or check != zlib.crc32(body)
            or row_check != zlib.crc32(_encode((file, version, last_modified, size, author, check)))
            or credential_check != credential_checksum(file, version, credential)
        ):
            return None
        self.version, self._size = version, size
        checked: bytes = body
        return checked

    def require_end(self, version: int) -> None:
        """Raise DataDamaged unless the last row taken was `version`."""
        if self.version != version:
            self.version += 1
            raise self.damage("it is missing")

    def damage(self, reason: str) -> DataDamaged:
        return DataDamaged(self._path, reason, self.version)
