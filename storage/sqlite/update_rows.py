"""The rows of the log, in two tables: `file_update`, and `recent_update` for rows that are still to be moved there.

The index of `file_update` is in the order of files, so a batch of updates of 64 files changes 64 of its pages. Each of
them is written to the write-ahead log, with a checksum, and later to the database. Such a batch is stored in
`recent_update`, whose index has a few pages. Once that table has `MOVED_TOGETHER` rows, all of them are moved in the
order of files: a page of the large index then changes once for all updates of its files.

A query of the log reads both tables (`from_both`). A function that changes or squashes rows of the log first moves all
recent updates (`move_recent`).
"""

import sqlite3
from collections.abc import Sequence
from typing import Any

from storage.checksums import credential_checksum, row_checksum
from storage.log import VersionRow
from storage.sqlite.large_values import execute_and_forget, insert_statement, is_very_large, write_value

MANY_FILES = 8
"""The updates of a batch that changes more files than this are stored in `recent_update`; for fewer, it costs more."""
MOVED_TOGETHER = 4096
"""The number of recent updates at which they are moved."""
_SHORT_BODY = 1024
"""The most bytes of the body of a recent update. Up to so many, a body is also copied to be bound faster."""

# sqlite3 asks each value that is not an int, float, str or bytearray whether it adapts itself: None and bytes take
# several times as long as others. Most rows have no author, and a short body.
_COLUMNS = "file, version, last_modified, size, checksum, row_check, body, sequence, sequence_check"
_ALL_COLUMNS = f"{_COLUMNS}, author, credential, credential_check"
_TABLES = ("file_update", "recent_update")
_INSERT = [f"INSERT INTO {table} ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)" for table in _TABLES]
_INSERT_BY = [f"INSERT INTO {table} ({_ALL_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)" for table in _TABLES]
_INSERT_LONG = insert_statement("file_update", _ALL_COLUMNS)
_BODY = _COLUMNS.split(", ").index("body")
_PLACES = ", ".join("zeroblob(?)" if column == "body" else "?" for column in _ALL_COLUMNS.split(", "))
_INSERT_VERY_LARGE = f"INSERT INTO file_update ({_ALL_COLUMNS}) VALUES ({_PLACES})"
_MOVE = f"INSERT INTO file_update ({_ALL_COLUMNS}) SELECT {_ALL_COLUMNS} FROM recent_update ORDER BY file, version"


def from_both(statement: str) -> str:
    """Return a statement that reads the rows of the log in both tables.

    Args:
        statement: a SELECT in which `{log}` stands for the table. Its parameters are numbered (`?1`), since the
            statement that is returned has each of them twice.
    """
    return " UNION ALL ".join(statement.format(log=table) for table in _TABLES)


def move_recent(connection: sqlite3.Connection) -> None:
    """Move all recent updates to `file_update`, in the transaction that is open."""
    connection.execute(_MOVE)
    connection.execute("DELETE FROM recent_update")


class UpdateRows:
    """Inserts rows of the log. Runs in the writer's thread, inside the transaction."""

    def __init__(self) -> None:
        self._recent: int | None = None
        """The number of recent updates, or more: those that others moved are not taken off. None: not known."""

    def forget(self) -> None:
        """Forget how many recent updates there are: a transaction was rolled back."""
        self._recent = None

    def insert(self, connection: sqlite3.Connection, rows: Sequence[VersionRow], *, files: int) -> None:
        """Insert rows of a batch.

        Args:
            files: how many files the rows are of.
        """
        short: list[tuple[object, ...]] = []
        by_somebody: list[tuple[object, ...]] = []
        long: list[tuple[object, ...]] = []
        very_large: list[tuple[object, ...]] = []
        for row in rows:
            body = row.body
            values = _values(row)
            if is_very_large(body):
                very_large.append((*values, *_author_values(row)))
            elif body is not None and len(body) > _SHORT_BODY:
                long.append((*values, *_author_values(row)))
            elif row.author is None and row.credential is None:
                short.append(values)
            else:
                by_somebody.append((*values, *_author_values(row)))
        is_recent = files > MANY_FILES
        if is_recent:
            self._make_room(connection, len(short) + len(by_somebody))
        if short:
            connection.executemany(_INSERT[is_recent], short)
        if by_somebody:
            connection.executemany(_INSERT_BY[is_recent], by_somebody)
        if long:
            execute_and_forget(connection, _INSERT_LONG, long)
        for each in very_large:
            _insert_very_large(connection, each)

    def _make_room(self, connection: sqlite3.Connection, count: int) -> None:
        """Move the recent updates if with `count` more they would be too many."""
        if self._recent is None:
            (self._recent,) = connection.execute("SELECT count(*) FROM recent_update").fetchone()
        if self._recent + count > MOVED_TOGETHER:
            move_recent(connection)
            self._recent = 0
        self._recent += count


def _insert_very_large(connection: sqlite3.Connection, values: tuple[Any, ...]) -> None:
    body: bytes = values[_BODY]
    inserted = connection.execute(_INSERT_VERY_LARGE, (*values[:_BODY], len(body), *values[_BODY + 1 :])).lastrowid
    assert inserted is not None
    write_value(connection, "file_update", "body", inserted, body)


def _values(row: VersionRow) -> tuple[int | bytes | bytearray | None, ...]:
    """Return the values of the columns `_COLUMNS` of a row of the log."""
    file, version, last_modified, size, checksum = row.file.id, row.version, row.last_modified, row.size, row.checksum
    check = row_checksum(file, version, last_modified, size, row.author, checksum)
    body: bytes | bytearray | None = row.body
    if body is not None and len(body) <= _SHORT_BODY:
        body = bytearray(body)
    sequence_check = row_checksum(file, version, row.sequence)
    return file, version, last_modified, size, checksum, check, body, row.sequence, sequence_check


def _author_values(row: VersionRow) -> tuple[int | str | None, ...]:
    """Return the values of the other columns."""
    return row.author, row.credential, credential_checksum(row.file.id, row.version, row.credential)
