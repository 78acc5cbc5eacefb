"""Squashing: the oldest versions of a file become its base, in steps of one short transaction each."""

import sqlite3
from bisect import bisect_left

from storage.checksums import DAMAGED, row_checksum, squashed_checksum
from storage.errors import DataDamaged
from storage.records import Epoch, Milliseconds, Retention, SquashPoint, Version
from storage.sqlite.row_checks import intact
from storage.sqlite.update_rows import from_both, move_recent

_PAGE_FILES = 500
_SWEPT_TOGETHER = 1000
_FORGOTTEN_TOGETHER = 500

_OLDEST_ROW = f"SELECT min(version) FROM ({from_both('SELECT min(version) AS version FROM {log} WHERE file = ?1')})"
_TIME_OF_VERSION = from_both("SELECT last_modified FROM {log} WHERE file = ?1 AND version = ?2")


def squash_points(
    connection: sqlite3.Connection, rule: Retention, worth: int, after: int
) -> tuple[list[SquashPoint], int | None]:
    """Return what to squash or purge among the next files after a row id, and the id to continue from (None: end)."""
    rows = connection.execute(
        f"SELECT file.id, project.name, path, version, base_version, {intact('file')}"
        " FROM file JOIN project ON project.id = file.project"
        " WHERE file.id > ? ORDER BY file.id LIMIT ?",
        (after, _PAGE_FILES),
    ).fetchall()
    points = []
    for id, project, path, version, base, is_intact in rows:
        if not is_intact:  # nothing of a damaged file is thrown away
            continue
        (first,) = connection.execute(_OLDEST_ROW, (id,)).fetchone()
        oldest = max(base, 1)
        kept = _oldest_kept(connection, id, oldest, version, rule)
        if kept - oldest >= worth:
            points.append(SquashPoint(project, path, Version(kept), squashed=False))
        elif first is not None and first < base:  # squashed, but the purge was interrupted
            points.append(SquashPoint(project, path, Version(base), squashed=True))
    return points, rows[-1][0] if len(rows) == _PAGE_FILES else None


def _oldest_kept(connection: sqlite3.Connection, file: int, oldest: int, newest: int, rule: Retention) -> int:
    """Return the oldest version that a rule keeps; the newest version is always kept."""
    if rule.versions is None and rule.since is None:
        return oldest
    kept = newest
    if rule.versions is not None:
        kept = min(kept, max(oldest, newest - rule.versions + 1))
    if rule.since is not None and kept > oldest:

        def modified(version: int) -> Milliseconds:
            row = connection.execute(_TIME_OF_VERSION, (file, version)).fetchone()
            return Milliseconds(row[0])

        if modified(oldest) >= rule.since:
            return oldest
        kept = oldest + bisect_left(range(oldest, kept), rule.since, key=modified)
    return kept


def squash(
    connection: sqlite3.Connection, project: str, path: str, version: int, body: bytes | None, epoch: Epoch | None
) -> bool:
    """Make a version the oldest one. Return False if there is no such version in the epoch, or if it is not above the
    oldest."""
    move_recent(connection)
    row = connection.execute(
        f"SELECT file.id, file_update.id, body IS NULL, {intact('file')} AND {intact('file_update')}"
        " FROM file JOIN file_update ON file_update.file = file.id"
        " WHERE project = (SELECT id FROM project WHERE name = ? AND epoch = coalesce(?, epoch)) AND path = ?"
        " AND file_update.version = ? AND base_version < ?",
        (project, epoch, path, version, version),
    ).fetchone()
    if row is None or bool(row[2]) != (body is None):
        return False
    file, update, _, is_intact = row
    if not is_intact:
        raise DataDamaged(path, DAMAGED, version)
    if body is not None:
        connection.execute(
            "UPDATE file_update SET body = ?, checksum = ?,"
            " row_check = row_checksum(file, version, last_modified, size, author, ?) WHERE id = ?",
            (body, (check := squashed_checksum(body)), check, update),
        )
    _set_base(connection, file, version)
    connection.execute("DELETE FROM snapshot WHERE file = ? AND version <= ?", (file, version))
    return True


def _set_base(connection: sqlite3.Connection, file: int, version: int) -> None:
    connection.execute(
        "UPDATE file SET base_version = ?, base_check = row_checksum(?) WHERE id = ?", (version, version, file)
    )


def purge(connection: sqlite3.Connection, project: str, path: str) -> int:
    """Delete some of the rows below a file's oldest version and return how many there were."""
    move_recent(connection)
    row = connection.execute(
        f"SELECT {intact('file')}, id, base_version,"
        " (SELECT min(version) FROM file_update WHERE file = file.id) FROM file"
        " WHERE project = (SELECT id FROM project WHERE name = ?) AND path = ?",
        (project, path),
    ).fetchone()
    if row is None or row[3] is None or row[3] >= row[2]:
        return 0
    is_intact, file, base, first = row
    if not is_intact:
        raise DataDamaged(path, "its newest state is not what was written")
    kept = connection.execute(
        "SELECT body, checksum FROM file_update WHERE file = ? AND version = ?", (file, base)
    ).fetchone()
    if kept is None or kept[1] != (None if kept[0] is None else squashed_checksum(kept[0])):
        raise DataDamaged(path, DAMAGED, base)  # the rows below it may be the only intact copy
    return connection.execute(
        "DELETE FROM file_update WHERE file = ? AND version < ?", (file, min(base, first + _SWEPT_TOGETHER))
    ).rowcount


def forget_tombstones(connection: sqlite3.Connection, before: int) -> list[tuple[str, str]]:
    """Squash some files that were deleted before a time to their tombstones; return their projects and paths."""
    rows = connection.execute(
        "SELECT file.id, project.id, name, path, version, file.sequence"
        " FROM file INDEXED BY tombstone_by_age JOIN project ON project.id = file.project"
        f" WHERE deleted = 1 AND base_version < version AND file.last_modified < ?"
        f" AND {intact('file')} AND {intact('project')} LIMIT ?",
        (before, _FORGOTTEN_TOGETHER),
    ).fetchall()
    for file, project, _, _, version, sequence in rows:
        _set_base(connection, file, version)
        connection.execute("DELETE FROM snapshot WHERE file = ?", (file,))
        connection.execute(
            "UPDATE project SET tombstone_floor = max(tombstone_floor, ?),"
            " floor_check = row_checksum(max(tombstone_floor, ?)) WHERE id = ?",
            (sequence, sequence, project),
        )
    return [(name, path) for _, _, name, path, _, _ in rows]


def tombstone_floor(connection: sqlite3.Connection, project: str) -> int:
    row = connection.execute("SELECT tombstone_floor, floor_check FROM project WHERE name = ?", (project,)).fetchone()
    if row is None:
        return 0
    if row[1] != row_checksum(row[0]):
        raise DataDamaged(None, DAMAGED, what=f"which tombstones project {project!r} keeps")
    return int(row[0])


def base_version(connection: sqlite3.Connection, project: str, path: str) -> int:
    row = connection.execute(
        "SELECT base_version, base_check FROM file"
        " WHERE project = (SELECT id FROM project WHERE name = ?) AND path = ?",
        (project, path),
    ).fetchone()
    if row is None:
        return 1
    if row[1] != row_checksum(row[0]):
        raise DataDamaged(path, "its oldest version is not what was written")
    return max(int(row[0]), 1)
