"""Squashing: the oldest versions of a file become its base, in steps that each are one short transaction."""

import sqlite3
from bisect import bisect_left

from storage.checksums import DAMAGED, squashed_checksum
from storage.errors import DataDamaged
from storage.records import Milliseconds, Retention, SquashPoint, Version

_PAGE_FILES = 500
_SWEPT_TOGETHER = 1000
_FORGOTTEN_TOGETHER = 500


def squash_points(
    connection: sqlite3.Connection, rule: Retention, worth: int, after: int
) -> tuple[list[SquashPoint], int | None]:
    """What is to be squashed or purged among the next files after a row id; the id to go on from, None at the end."""
    rows = connection.execute(
        "SELECT file.id, project.name, path, version, base_version FROM file JOIN project ON project.id = file.project"
        " WHERE file.id > ? ORDER BY file.id LIMIT ?",
        (after, _PAGE_FILES),
    ).fetchall()
    points = []
    for id, project, path, version, base in rows:
        (first,) = connection.execute("SELECT min(version) FROM file_update WHERE file = ?", (id,)).fetchone()
        oldest = max(base, 1)
        kept = _oldest_kept(connection, id, oldest, version, rule)
        if kept - oldest >= worth:
            points.append(SquashPoint(project, path, Version(kept), squashed=False))
        elif first is not None and first < base:  # somebody stopped before it was purged
            points.append(SquashPoint(project, path, Version(base), squashed=True))
    return points, rows[-1][0] if len(rows) == _PAGE_FILES else None


def _oldest_kept(connection: sqlite3.Connection, file: int, oldest: int, newest: int, rule: Retention) -> int:
    """The oldest version that a rule keeps: the newest of all it always keeps."""
    if rule.versions is None and rule.since is None:
        return oldest
    kept = newest
    if rule.versions is not None:
        kept = min(kept, max(oldest, newest - rule.versions + 1))
    if rule.since is not None and kept > oldest:

        def modified(version: int) -> Milliseconds:
            row = connection.execute(
                "SELECT last_modified FROM file_update WHERE file = ? AND version = ?", (file, version)
            ).fetchone()
            return Milliseconds(row[0])

        if modified(oldest) >= rule.since:
            return oldest
        kept = oldest + bisect_left(range(oldest, kept), rule.since, key=modified)
    return kept


def squash(connection: sqlite3.Connection, project: str, path: str, version: int, body: bytes | None) -> bool:
    """Make a version the oldest one. False where it is no version, or older than the oldest."""
    row = connection.execute(
        "SELECT file.id, file_update.id, body IS NULL FROM file JOIN file_update ON file_update.file = file.id"
        " WHERE project = (SELECT id FROM project WHERE name = ?) AND path = ? AND file_update.version = ?"
        " AND base_version < ?",
        (project, path, version, version),
    ).fetchone()
    if row is None or bool(row[2]) != (body is None):
        return False
    file, update, _ = row
    if body is not None:
        connection.execute(
            "UPDATE file_update SET body = ?, checksum = ? WHERE id = ?", (body, squashed_checksum(body), update)
        )
    connection.execute("UPDATE file SET base_version = ? WHERE id = ?", (version, file))
    connection.execute("DELETE FROM snapshot WHERE file = ? AND version <= ?", (file, version))
    return True


def purge(connection: sqlite3.Connection, project: str, path: str) -> int:
    """Delete some of the rows below a file's oldest version; returns how many there were."""
    row = connection.execute(
        "SELECT id, base_version, (SELECT min(version) FROM file_update WHERE file = file.id) FROM file"
        " WHERE project = (SELECT id FROM project WHERE name = ?) AND path = ?",
        (project, path),
    ).fetchone()
    if row is None or row[2] is None or row[2] >= row[1]:
        return 0
    file, base, first = row
    kept = connection.execute(
        "SELECT body, checksum FROM file_update WHERE file = ? AND version = ?", (file, base)
    ).fetchone()
    if kept is None or kept[1] != (None if kept[0] is None else squashed_checksum(kept[0])):
        raise DataDamaged(path, DAMAGED, base)  # what lies below it may be all that there is
    return connection.execute(
        "DELETE FROM file_update WHERE file = ? AND version < ?", (file, min(base, first + _SWEPT_TOGETHER))
    ).rowcount


def forget_tombstones(connection: sqlite3.Connection, before: int) -> list[tuple[str, str]]:
    """Squash some files that were deleted before a time to their tombstones; returns their projects and paths."""
    rows = connection.execute(
        "SELECT file.id, project.id, name, path, version, file.sequence"
        " FROM file INDEXED BY tombstone_by_age JOIN project ON project.id = file.project"
        " WHERE deleted = 1 AND base_version < version AND file.last_modified < ? LIMIT ?",
        (before, _FORGOTTEN_TOGETHER),
    ).fetchall()
    for file, project, _, _, version, sequence in rows:
        connection.execute("UPDATE file SET base_version = ? WHERE id = ?", (version, file))
        connection.execute("DELETE FROM snapshot WHERE file = ?", (file,))
        connection.execute(
            "UPDATE project SET tombstone_floor = max(tombstone_floor, ?) WHERE id = ?", (sequence, project)
        )
    return [(name, path) for _, _, name, path, _, _ in rows]


def tombstone_floor(connection: sqlite3.Connection, project: str) -> int:
    row = connection.execute("SELECT tombstone_floor FROM project WHERE name = ?", (project,)).fetchone()
    return 0 if row is None else row[0]


def base_version(connection: sqlite3.Connection, project: str, path: str) -> int:
    row = connection.execute(
        "SELECT max(base_version, 1) FROM file WHERE project = (SELECT id FROM project WHERE name = ?) AND path = ?",
        (project, path),
    ).fetchone()
    return 1 if row is None else row[0]
