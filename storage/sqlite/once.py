"""Changes that are made once: what came of each is kept with it, in the same transaction, for a day."""

import sqlite3

from storage.log import DONE_KEPT_MS
from storage.records import Done

_MOST_KEPT = 1_000_000
_SWEPT_TOGETHER = 8
"""More than one for each that is added: those of a burst are gone some time after their day."""


def find_done(connection: sqlite3.Connection, project: str, key: str, now: int) -> Done | None:
    """What came of the change that bore a key in the day before `now`."""
    row = connection.execute(
        "SELECT digest, session, turn, block_count, done_at FROM done"
        " WHERE project = (SELECT id FROM project WHERE name = ?) AND key = ? AND done_at > ?",
        (project, key, now - DONE_KEPT_MS),
    ).fetchone()
    return None if row is None else Done(*row)


def note_done(connection: sqlite3.Connection, project: int, key: str, done: Done) -> None:
    """Keep what came of a change, and forget some of what is older than a day."""
    cursor = connection.execute(
        "INSERT OR REPLACE INTO done (project, key, digest, session, turn, block_count, done_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (project, key, done.digest, done.session_id, done.turn_id, done.block_count, done.done_at),
    )
    assert cursor.lastrowid is not None
    connection.execute(
        "DELETE FROM done WHERE id IN (SELECT id FROM done ORDER BY id LIMIT ?) AND (done_at <= ? OR id <= ?)",
        (_SWEPT_TOGETHER, done.done_at - DONE_KEPT_MS, cursor.lastrowid - _MOST_KEPT),
    )
