"""The list of projects, and erasing one. Every function takes a connection inside a transaction."""

import json
import sqlite3
from collections.abc import Collection

from storage.checksums import is_intact
from storage.errors import DataDamaged
from storage.paths import path_after_prefix
from storage.records import Epoch, Milliseconds, ProjectHead, Sequence, StoredProject
from storage.sqlite.files import DAMAGED_STATE

_FILES = "(SELECT id FROM file WHERE project = ?)"
_TURNS = "(SELECT id FROM turn WHERE project = ?)"
_ROWS = {
    "file_update": f"file IN {_FILES}",
    "recent_update": f"file IN {_FILES}",
    "past_life": f"file IN {_FILES}",
    "snapshot": f"file IN {_FILES}",
    "file": "project = ?",
    "block": f"turn IN {_TURNS}",
    "prompt": f"turn IN {_TURNS}",
    "output_state": f"turn IN {_TURNS}",
    "turn": "project = ?",
    "session": "project = ?",
    "done": "project = ?",
    "reader": "project = ?",
    "project": "id = ?",
}
"""The tables whose rows belong to a project, and which rows do; a table before those that its condition reads."""


def list_projects(
    connection: sqlite3.Connection, names: Collection[str] | None, prefix: str, after: str, limit: int
) -> list[StoredProject]:
    where, values = ["name > ?"], [after]
    if prefix:
        where.append("name >= ?")
        values.append(prefix)
        if (end := path_after_prefix(prefix)) is not None:
            where.append("name < ?")
            values.append(end)
    if names is not None:
        where.append("name IN (SELECT value FROM json_each(?))")
        values.append(json.dumps(list(names)))
    rows = connection.execute(
        "SELECT page.name, epoch, page.sequence, page.last_modified, page.row_check, count(file.id),"
        f" coalesce(sum(file.size), 0) FROM (SELECT * FROM project WHERE {' AND '.join(where)} ORDER BY name LIMIT ?)"
        " AS page LEFT JOIN file ON file.project = page.id AND deleted = 0 GROUP BY page.id ORDER BY page.name",
        (*values, limit),
    ).fetchall()
    for row in rows:
        if not is_intact(row[:5]):
            raise DataDamaged(None, f"its state {DAMAGED_STATE}", what=f"project {row[0]!r}")
    return [
        StoredProject(ProjectHead(name, Epoch(epoch), Sequence(sequence), Milliseconds(time)), files, size)
        for name, epoch, sequence, time, _, files, size in rows
    ]


def erase_project(connection: sqlite3.Connection, name: str) -> ProjectHead | None:
    """Delete every row of a project, even damaged ones, and return the head that the project had."""
    row = connection.execute(
        "SELECT id, name, epoch, sequence, last_modified FROM project WHERE name = ?", (name,)
    ).fetchone()
    if row is None:
        return None
    for table, condition in _ROWS.items():
        connection.execute(f"DELETE FROM {table} WHERE {condition}", (row[0],))
    connection.execute("DELETE FROM ticket WHERE project = ?", (name,))
    return ProjectHead(*row[1:])
