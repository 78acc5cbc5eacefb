"""Idempotent changes: the result of each is stored in the same transaction as the change, and kept for a day."""

import sqlite3

from storage.checksums import is_intact, row_checksum
from storage.errors import DataDamaged
from storage.log import results_since
from storage.records import Done

_DONE = "project, key, digest, session, turn, block_count, done_at"
_MOST_KEPT = 1_000_000
_SWEPT_TOGETHER = 8
"""How many expired results are deleted for each one added: more than one, so that the results of a burst go too."""


def find_done(connection: sqlite3.Connection, project: str, key: str, now: int) -> Done | None:
    """Return the result of the change that was made with a key in the day before `now`."""
    row = connection.execute(
        f"SELECT {_DONE}, row_check FROM done WHERE project = (SELECT id FROM project WHERE name = ?)"
        " AND key = ? AND done_at > ?",
        (project, key, results_since(now)),
    ).fetchone()
    if row is None:
        return None
    if not is_intact(row):
        raise DataDamaged(None, "it is not what was written", what=f"what came of the key {key!r}")
    return Done(*row[2:-1])


def note_done(connection: sqlite3.Connection, project: int, key: str, done: Done) -> None:
    """Store the result of a change, and delete some of the results older than a day."""
    values = (project, key, done.digest, done.session_id, done.turn_id, done.block_count, done.done_at)
    cursor = connection.execute(
        f"INSERT OR REPLACE INTO done ({_DONE}, row_check) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (*values, row_checksum(*values)),
    )
    assert cursor.lastrowid is not None
    connection.execute(
        "DELETE FROM done WHERE id IN (SELECT id FROM done ORDER BY id LIMIT ?) AND (done_at <= ? OR id <= ?)",
        (_SWEPT_TOGETHER, results_since(done.done_at), cursor.lastrowid - _MOST_KEPT),
    )
