"""Row checksums: which columns each checksum covers, in their stored form, and the search for damaged rows."""

import operator
from collections.abc import Iterable

from storage.checksums import checksum, credential_checksum, row_checksum
from storage.postgres.database import Connection, Row

CHECKED = {
    "project": ("name", "epoch", "sequence", "last_modified"),
    "file": (
        *("path", "version", "incarnation", "sequence", "last_modified", "size", "deleted", "born_version"),
        "born_sequence",
    ),
    "change": ("file", "version", "last_modified", "size", "author", "checksum"),
    "past_life": ("file", "born_version", "incarnation", "born_sequence", "died_sequence"),
    "session": ("name", "title", "sequence", "created_at"),
    "turn": (
        *("session", "name", "status", "block_count", "sequence", "last_updated", "created_at", "started_at"),
        *("completed_at", "error", "size", "output_offset", "result_status", "result_error", "settling", "grown"),
    ),
    "prompt": ("turn", "body"),
    "output_state": ("turn", "body"),
    "block": ("turn", "position", "type", "created_at", "told_from"),
    "done": ("key", "digest", "session", "turn", "block_count", "done_at"),
}
"""The checked columns of each table, in order. A block's content, which may grow, has a checksum of its own."""
_KEYS = {
    "project": "id",
    "file": "project, id",
    "change": "project, sequence",
    "past_life": "project, file, born_version",
    "session": "project, id",
    "turn": "project, id",
    "prompt": "project, turn",
    "output_state": "project, turn",
    "block": "project, turn, position",
    "done": "project, key",
}
_PAGE_ROWS = 1000
DAMAGED_ROW = "is not what was written"


def checks_of(table: str, columns: list[str], rows: Iterable[Row]) -> list[int]:
    """Return the checksum of each row, given the columns that are to be stored."""
    checked = operator.itemgetter(*[columns.index(name) for name in CHECKED[table]])
    return [row_checksum(*checked(row)) for row in rows]


async def damaged_rows(connection: Connection, project: int | None = None) -> list[str]:
    """Describe the damaged rows of one project or of all; to be called inside a read transaction."""
    found = []
    for table, columns in CHECKED.items():
        content = {"block": "checksum, content", "change": "credential_check, credential"}.get(table, "0, NULL")
        rows = connection.cursor(
            f"SELECT {_KEYS[table]}, {content}, row_check, {', '.join(columns)} FROM {table}"
            f" WHERE $1::bigint IS NULL OR {_KEYS[table].split(',')[0]} = $1 ORDER BY {_KEYS[table]}",
            project,
            prefetch=_PAGE_ROWS,
        )
        keys = _KEYS[table].count(",") + 1
        async for row in rows:
            key, (other_check, other, check), values = row[:keys], row[keys : keys + 3], row[keys + 3 :]
            intact = check == row_checksum(*values)
            if table == "block":
                intact = intact and other_check == checksum(other)
            elif table == "change":
                intact = intact and other_check == credential_checksum(values[0], values[1], other)
            if not intact:
                found.append(f"a row of {table} ({_KEYS[table]}: {', '.join(map(str, key))}) {DAMAGED_ROW}")
    return found
