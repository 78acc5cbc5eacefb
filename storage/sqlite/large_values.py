"""Large values in statements: SQLite keeps a copy of what was bound last, and `sqlite3` keeps the statements."""

import sqlite3
from collections.abc import Sequence

LARGE_BYTES = 64 * 2**10
"""From so many bytes on, a value is not left in the memory of its statement."""


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
