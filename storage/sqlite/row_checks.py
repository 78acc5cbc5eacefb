"""Row checksums in SQL: which columns each checksum covers, and the expressions that verify a row."""

import sqlite3
from collections.abc import Mapping

from storage.checksums import row_checksum

CHECKED = {
    "project": ("name", "epoch", "sequence", "last_modified"),
    "file": (
        *("path", "version", "incarnation", "sequence", "last_modified", "size", "deleted", "born_version"),
        *("born_sequence", "project"),
    ),
    "file_update": ("file", "version", "last_modified", "size", "author", "checksum"),
    "past_life": ("file", "born_version", "incarnation", "born_sequence", "died_sequence"),
    "session": ("name", "title", "sequence", "created_at", "project"),
    "turn": (
        *("session", "name", "status", "block_count", "sequence", "last_updated", "created_at", "started_at"),
        *("completed_at", "error", "size", "output_offset", "result_status", "result_error", "settling", "grown"),
        "project",
    ),
    "prompt": ("turn", "body"),
    "output_state": ("turn", "body"),
    "block": ("turn", "position", "type", "created_at", "told_from", "checksum"),
    "done": ("project", "key", "digest", "session", "turn", "block_count", "done_at"),
    "access_token": ("name", "digest", "title", "subject", "granted", "created", "expires", "revoked"),
    "audit": ("time", "action", "subject", "credential", "project", "path", "version", "detail"),
}
"""The checked columns of each table, in order. A turn's session is checked by name, as it is sent with each turn."""

_APART = {
    "project": "project.floor_check IS row_checksum(project.tombstone_floor)",
    "file": "file.base_check IS row_checksum(file.base_version)",
    "block": "block.checksum IS body_checksum(block.content)",
    "file_update": "file_update.credential_check IS CASE WHEN file_update.credential IS NOT NULL"
    " THEN row_checksum(file_update.file, file_update.version, file_update.credential) END",
}
"""Columns that have a checksum of their own."""

_TURN = (
    "ifnull((SELECT session.name || '/' || own.name FROM turn AS own JOIN session ON session.id = own.session"
    " WHERE own.id = {turn}), '?')"
)
_IN_WORDS = {
    "project": "'project ' || name",
    "file": "ifnull((SELECT name FROM project WHERE id = file.project), '?') || ': ' || path || ': its newest state'",
    "past_life": "ifnull((SELECT path FROM file WHERE id = past_life.file), '?') || ': a former life'",
    "session": "ifnull((SELECT name FROM project WHERE id = session.project), '?') || ': session ' || name",
    "turn": "'turn ' || " + _TURN.format(turn="turn.id"),
    "prompt": "'the prompt of turn ' || " + _TURN.format(turn="prompt.turn"),
    "output_state": "'what is known of the output of turn ' || " + _TURN.format(turn="output_state.turn"),
    "done": "'what came of the key ' || key",
    "access_token": "'token ' || name",
    "audit": "'entry ' || id || ' of the audit'",
}


def checksum_of(table: str) -> str:
    """Return an SQL expression for the checksum that a row should have."""
    columns = ", ".join(f"{table}.{column}" for column in CHECKED[table])
    name = "(SELECT name FROM session WHERE id = turn.session)"
    return f"row_checksum({columns.replace('turn.session', name) if table == 'turn' else columns})"


def intact(table: str) -> str:
    """Return an SQL condition for whether a row is intact."""
    apart = f" AND {_APART[table]}" if table in _APART else ""
    return f"({table}.row_check IS {checksum_of(table)}{apart})"


def checksum_of_values(table: str, values: Mapping[str, object]) -> int:
    """Return the checksum of a row that is to be inserted."""
    told = (values.get(column) for column in CHECKED[table])
    return row_checksum(*(int(value) if isinstance(value, bool) else value for value in told))  # type: ignore[arg-type]


def damaged_rows(connection: sqlite3.Connection, table: str, after: int, limit: int) -> tuple[list[str], int | None]:
    """Describe the damage in the next rows of a table, and return the row to continue from; None at the end.

    Blocks and rows of the log are not checked here; they are checked with their turns and files.
    """
    id = {"past_life": "file", "prompt": "turn", "output_state": "turn"}.get(table, "id")
    rows = connection.execute(
        f"SELECT {id}, CASE WHEN {intact(table)} THEN NULL ELSE {_IN_WORDS[table]} END FROM {table}"
        f" WHERE {id} > ? ORDER BY {id} LIMIT ?",
        (after, limit),
    ).fetchall()
    found = [f"{words} is not what was written" for _, words in rows if words is not None]
    if len(rows) < limit:
        return found, None
    last = rows[-1][0]
    if table == "past_life" and rows[0][0] != last:  # the last file may have more
        last -= 1
    return found, last


SCANNED = tuple(_IN_WORDS)
"""The tables that `damaged_rows` checks."""
