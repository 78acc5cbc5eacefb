"""Large values in statements.

SQLite keeps a copy of what was bound last, and `sqlite3` keeps the statements. `sqlite3` also holds the GIL while it
copies a value that is bound or fetched: 15 MB for several milliseconds, in which nobody else is served. So very large
values are written and read by SQLite's incremental I/O (`sqlite3.Blob`), which releases it.
"""

import sqlite3
from collections.abc import Sequence

VERY_LARGE_BYTES = 2**20
"""From so many bytes on, a value is neither bound nor fetched."""


def insert_statement(table: str, columns: str, *, replacing: bool = False) -> str:
    """Return the statement that inserts a row, and nothing where the first value is NULL.

    Args:
        replacing: whether the row takes the place of one with the same key.
    """
    first, *others = ("?" for _ in columns.split(","))
    chosen = ", ".join([f"{first} AS given", *others])
    insert = "INSERT OR REPLACE" if replacing else "INSERT"
    return f"{insert} INTO {table} ({columns}) SELECT * FROM (SELECT {chosen}) WHERE given IS NOT NULL"


def execute_and_forget(connection: sqlite3.Connection, statement: str, rows: Sequence[Sequence[object]]) -> None:
    """Execute a statement for each row, and make it forget the last one.

    Args:
        statement: one that does nothing where all values are NULL.
    """
    connection.executemany(statement, [*rows, [None] * len(rows[0])])


def is_very_large(value: object) -> bool:
    """Return whether a value is to be written by `write_value` into a row that was stored with zeros in its place."""
    return isinstance(value, bytes) and len(value) >= VERY_LARGE_BYTES


def write_value(connection: sqlite3.Connection, table: str, column: str, row: int, value: bytes) -> None:
    """Write a value into a row, by its row id, in which there are as many zeros (`zeroblob`)."""
    with connection.blobopen(table, column, row) as blob:
        blob.write(value)


def unless_very_large(column: str) -> str:
    """Return an SQL expression for a value, which is NULL if it is to be read by `read_value`."""
    return f"iif(length({column}) < {VERY_LARGE_BYTES}, {column}, NULL)"


def read_value(connection: sqlite3.Connection, table: str, column: str, row: int) -> bytes:
    """Return the value in a row, by its row id; b"" if what is there is no value of bytes, since it is damaged."""
    try:
        blob = connection.blobopen(table, column, row, readonly=True)
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_ERROR:
            return b""
        raise
    with blob:
        return blob.read()
