"""Squashing: the oldest versions of a file become its base, in steps of one short transaction each.

Every step checks the current state before it changes anything: two gateways may run the same step.
"""

from storage.checksums import DAMAGED, is_intact, row_checksum, squashed_checksum
from storage.errors import DataDamaged
from storage.postgres.database import Connection, project_id
from storage.records import Retention, SquashPoint, Version

_PAGE_FILES = 500
_SWEPT_TOGETHER = 1000
_FORGOTTEN_TOGETHER = 500

Position = tuple[int, int]
"""A file: its project and its id."""
START: Position = (-(2**63), -(2**63))


async def squash_points(
    connection: Connection, rule: Retention, worth: int, after: Position
) -> tuple[list[SquashPoint], Position | None]:
    """Return what to squash or purge among the next files, and the position to continue from (None: end)."""
    rows = await connection.fetch(
        "SELECT f.project, f.id, p.name, f.path, f.version, f.base_version,"
        " (SELECT min(c.version) FROM change c WHERE c.project = f.project AND c.file = f.id),"
        " (SELECT c.last_modified FROM change c WHERE c.project = f.project AND c.file = f.id"
        " AND c.version = greatest(f.base_version, 1))"
        " FROM file f JOIN project p ON p.id = f.project WHERE (f.project, f.id) > ($1, $2)"
        " ORDER BY f.project, f.id LIMIT $3",
        *after,
        _PAGE_FILES,
    )
    points = []
    for project, id, name, path, version, base, first, time in rows:
        oldest = max(base, 1)
        kept = await _oldest_kept(connection, (project, id), oldest, version, rule, time)
        if kept - oldest >= worth:
            points.append(SquashPoint(name, path, Version(kept), squashed=False))
        elif first is not None and first < base:  # squashed, but the purge was interrupted
            points.append(SquashPoint(name, path, Version(base), squashed=True))
    return points, (rows[-1][0], rows[-1][1]) if len(rows) == _PAGE_FILES else None


async def _oldest_kept(
    connection: Connection, file: Position, oldest: int, newest: int, rule: Retention, oldest_time: int | None
) -> int:
    """Return the oldest version that a rule keeps; the newest version is always kept."""
    if rule.versions is None and rule.since is None:
        return oldest
    kept = newest
    if rule.versions is not None:
        kept = min(kept, max(oldest, newest - rule.versions + 1))
    if rule.since is None or kept <= oldest:
        return kept
    if oldest_time is None or oldest_time >= rule.since:
        return oldest
    low, high = oldest, kept  # the first of these versions that was written at the time or later
    while low < high:
        middle = (low + high) // 2
        time = await connection.fetchval(
            "SELECT last_modified FROM change WHERE project = $1 AND file = $2 AND version = $3", *file, middle
        )
        if time < rule.since:
            low = middle + 1
        else:
            high = middle
    return low


async def squash(connection: Connection, project: str, path: str, version: int, body: bytes | None) -> bool:
    """Make a version the oldest one. Return False if there is no such version, or if it is not above the oldest."""
    row = await connection.fetchrow(
        "SELECT c.file, c.version, c.last_modified, c.size, c.author, c.checksum, c.row_check"
        " FROM file f JOIN change c ON c.project = f.project AND c.file = f.id AND c.version = $3"
        " WHERE f.project = $1 AND f.path = $2 AND f.base_version < $3 FOR NO KEY UPDATE OF f",
        project_id(project),
        path,
        version,
    )
    if row is None or (row[5] is None) != (body is None):
        return False
    if not is_intact(tuple(row)):
        raise DataDamaged(path, DAMAGED, version)
    key = project_id(project), row[0], version
    if body is not None:
        check = squashed_checksum(body)
        await connection.execute(
            "UPDATE change SET body = $4, checksum = $5, row_check = $6"
            " WHERE project = $1 AND file = $2 AND version = $3",
            *key,
            body,
            check,
            row_checksum(*row[:5], check),
        )
    await connection.execute(
        "UPDATE file SET base_version = $3, deleted_at = CASE WHEN version > $3 THEN deleted_at END"
        " WHERE project = $1 AND id = $2",
        *key,
    )
    await connection.execute("DELETE FROM snapshot WHERE project = $1 AND file = $2 AND version <= $3", *key)
    return True


async def purge(connection: Connection, project: str, path: str) -> int:
    """Delete some of the rows below a file's oldest version and return how many there were."""
    row = await connection.fetchrow(
        "SELECT f.id, f.base_version,"
        " (SELECT min(c.version) FROM change c WHERE c.project = f.project AND c.file = f.id)"
        " FROM file f WHERE f.project = $1 AND f.path = $2",
        project_id(project),
        path,
    )
    if row is None or row[2] is None or row[2] >= row[1]:
        return 0
    file, base, first = row
    kept = await connection.fetchrow(
        "SELECT body, checksum FROM change WHERE project = $1 AND file = $2 AND version = $3",
        project_id(project),
        file,
        base,
    )
    if kept is None or kept[1] != (None if kept[0] is None else squashed_checksum(kept[0])):
        raise DataDamaged(path, DAMAGED, base)  # the rows below it may be the only intact copy
    rows = await connection.fetch(
        "DELETE FROM change WHERE project = $1 AND file = $2 AND version < $3 RETURNING 1",
        project_id(project),
        file,
        min(base, first + _SWEPT_TOGETHER),
    )
    return len(rows)


async def forget_tombstones(connection: Connection, before: int) -> list[tuple[str, str]]:
    """Squash some files that were deleted before a time to their tombstones; return their projects and paths."""
    rows = await connection.fetch(
        "SELECT f.project, f.id, p.name, f.path, f.version, f.sequence FROM file f JOIN project p ON p.id = f.project"
        " WHERE f.deleted_at < $1 ORDER BY f.project, f.id LIMIT $2",
        before,
        _FORGOTTEN_TOGETHER,
    )
    floors: dict[int, int] = {}
    for project, _, _, _, _, sequence in rows:
        floors[project] = max(floors.get(project, 0), sequence)
    for project, floor in floors.items():  # projects before their files, in the lock order of a batch
        await connection.execute(
            "UPDATE project SET tombstone_floor = greatest(tombstone_floor, $2) WHERE id = $1", project, floor
        )
    for project, file, _, _, version, _ in rows:
        done = await connection.fetchrow(
            "UPDATE file SET base_version = version, deleted_at = NULL"
            " WHERE project = $1 AND id = $2 AND version = $3 RETURNING 1",
            project,
            file,
            version,
        )
        if done is not None:
            await connection.execute("DELETE FROM snapshot WHERE project = $1 AND file = $2", project, file)
    return [(name, path) for _, _, name, path, _, _ in rows]
