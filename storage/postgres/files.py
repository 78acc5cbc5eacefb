"""Queries on files. Each is consistent: it is one statement, or its connection is inside a read transaction."""

from collections.abc import Collection
from typing import Any

from storage.checksums import (
    DAMAGED,
    Chain,
    StoredRow,
    check_row,
    checksum,
    credential_checksum,
    is_intact,
    row_checksum,
)
from storage.errors import DataDamaged
from storage.paths import path_after_prefix
from storage.postgres.database import Connection, Database, Row, project_id
from storage.postgres.generations import GENERATION, split_name
from storage.postgres.text import from_text_or_none
from storage.records import (
    Epoch,
    FileHead,
    Incarnation,
    Increment,
    Milliseconds,
    ProjectHead,
    Snapshot,
    StoredDocument,
    StoredUpdate,
    Tombstone,
    Version,
    VersionRecord,
)

HEAD = (
    f"f.path, f.version, f.incarnation || {GENERATION} AS incarnation, f.sequence, f.last_modified, f.size, f.deleted,"
    " f.born_version, f.born_sequence, f.row_check"
)
_LOG = (
    "c.file, c.version, c.last_modified, c.size, c.author, c.checksum, c.body, c.credential, c.credential_check,"
    " c.row_check"
)
PROJECT = f"p.name, p.epoch || {GENERATION}, p.sequence, p.last_modified, p.row_check"
_SCANNED_CHANGES = 1000
"""If more changes than this lie after a position, the files are read instead of the log."""


def stored_row(row: tuple[Any, ...]) -> StoredRow:
    """Return a row of the log from the columns of `_LOG`."""
    file, version, last_modified, size, author, check, body, credential, credential_check, row_check = row
    intact = row_check == row_checksum(file, version, last_modified, size, author, check)
    intact = intact and credential_check == credential_checksum(file, version, credential)
    author, credential = from_text_or_none(author), from_text_or_none(credential)
    return StoredRow(file, version, last_modified, size, author, check, body, intact, credential)


def head_from_row(row: tuple[Any, ...]) -> FileHead:
    """Return a file's head from the columns of `HEAD`, checked.

    Raises:
        DataDamaged
    """
    stored, visible = split_name(row[2])
    if not is_intact((*row[:2], stored, *row[3:])):
        raise DataDamaged(row[0], "its newest state is not what was written")
    return FileHead(row[0], row[1], Incarnation(visible), *row[3:9])


def project_check(head: ProjectHead, epoch: str) -> int:
    """Return the checksum of a project's row, in which its epoch has the form `epoch`."""
    return row_checksum(head.name, epoch, head.sequence, head.last_modified)


def project_from_row(row: tuple[Any, ...]) -> ProjectHead:
    """Return a project's head from the columns of `PROJECT`, checked.

    Raises:
        DataDamaged
    """
    stored, visible = split_name(row[1])
    if not is_intact((row[0], stored, *row[2:])):
        raise DataDamaged(None, DAMAGED, what=f"project {row[0]!r}")
    return ProjectHead(row[0], Epoch(visible), *row[2:4])


async def project_head(database: Database, name: str) -> ProjectHead | None:
    row = await database.fetch_row(
        f"SELECT {PROJECT} FROM project p WHERE p.id = $1 AND p.name = $2", project_id(name), name
    )
    return None if row is None else project_from_row(row)


async def file_head(database: Database, project: str, path: str) -> FileHead | None:
    row = await database.fetch_row(
        f"SELECT {HEAD} FROM file f WHERE f.project = $1 AND f.path = $2", project_id(project), path
    )
    return None if row is None else head_from_row(row)


async def file_heads(
    database: Database, project: str, paths: Collection[str]
) -> tuple[ProjectHead, list[FileHead]] | None:
    return await _with_head(
        database,
        project,
        f"SELECT {HEAD} FROM file f WHERE f.project = p.id AND f.path = ANY($3::text[])",
        "",
        list(paths),
    )


async def list_files(
    database: Database, project: str, prefix: str, after: str, limit: int
) -> tuple[ProjectHead, list[FileHead]] | None:
    between, bounds = _between(prefix, after)
    query = f"SELECT {HEAD} FROM file f WHERE f.project = p.id AND NOT f.deleted AND {between} ORDER BY f.path LIMIT $3"
    return await _with_head(database, project, query, "ORDER BY f.path", limit, *bounds)


async def list_tombstones(
    database: Database, project: str, prefix: str, after: str, limit: int
) -> tuple[ProjectHead, list[Tombstone]] | None:
    between, bounds = _between(prefix, after)
    author = "(SELECT c.author FROM change c WHERE c.project = f.project AND c.file = f.id AND c.version = f.version)"
    query = (
        f"SELECT {HEAD}, {author} AS author FROM file f WHERE f.project = p.id AND f.deleted_at IS NOT NULL"
        f" AND {between} ORDER BY f.path LIMIT $3"
    )
    rows = await database.fetch(
        f"SELECT {PROJECT}, f.* FROM project p LEFT JOIN LATERAL ({query}) f ON true"
        " WHERE p.id = $1 AND p.name = $2 ORDER BY f.path",
        project_id(project),
        project,
        limit,
        *bounds,
    )
    if not rows:
        return None
    found = [Tombstone(head_from_row(row[5:15]), from_text_or_none(row[15])) for row in rows if row[5] is not None]
    return project_from_row(rows[0][:5]), found


def _between(prefix: str, after: str) -> tuple[str, list[str]]:
    """Return the SQL condition for a page of paths, from the fourth parameter on, and its values."""
    end = path_after_prefix(prefix)
    if after >= prefix:
        condition, bounds = "f.path > $4", [after]
    else:
        condition, bounds = "f.path >= $4", [prefix]
    if prefix and end is not None:
        return f"{condition} AND f.path < $5", [*bounds, end]
    return condition, bounds


async def _with_head(
    database: Database, project: str, query: str, order: str, *values: object
) -> tuple[ProjectHead, list[FileHead]] | None:
    """Return a project's head and the heads that a query on `project p` returns, as of one moment."""
    rows = await database.fetch(
        f"SELECT {PROJECT}, f.* FROM project p LEFT JOIN LATERAL ({query}) f ON true"
        f" WHERE p.id = $1 AND p.name = $2 {order}",
        project_id(project),
        project,
        *values,
    )
    if not rows:
        return None
    return project_from_row(rows[0][:5]), [head_from_row(row[5:15]) for row in rows if row[5] is not None]


async def files_changed_since(
    database: Database, project: str, head: ProjectHead, sequence: int, limit: int | None
) -> tuple[ProjectHead, list[FileHead]] | None:
    """Return the files changed after `sequence`. `head` is the approximate head, which selects the table to read."""
    if head.sequence - sequence <= _SCANNED_CHANGES:
        query = (
            f"SELECT {HEAD} FROM (SELECT c.file, max(c.sequence) AS newest FROM change c WHERE c.project = p.id"
            " AND c.sequence > $3 GROUP BY c.file) c JOIN file f ON f.project = p.id AND f.id = c.file"
            " ORDER BY f.sequence LIMIT $4"
        )
    else:
        query = f"SELECT {HEAD} FROM file f WHERE f.project = p.id AND f.sequence > $3 ORDER BY f.sequence LIMIT $4"
    return await _with_head(database, project, query, "ORDER BY f.sequence", sequence, limit)


async def _file(connection: Connection, project: str, path: str) -> tuple[int, int, FileHead] | None:
    """Return the file's id, its oldest available version (0: the first), and its head."""
    row = await connection.fetchrow(
        f"SELECT f.id, f.base_version, {HEAD} FROM file f WHERE f.project = $1 AND f.path = $2",
        project_id(project),
        path,
    )
    return None if row is None else (row[0], row[1], head_from_row(row[2:]))


async def existed_at(database: Database, project: str, path: str, sequence: int) -> bool:
    row = await database.fetch_row(
        "SELECT 1 FROM file f WHERE f.project = $1 AND f.path = $2 AND CASE WHEN f.born_sequence <= $3"
        " THEN NOT f.deleted OR f.sequence > $3 ELSE EXISTS (SELECT 1 FROM past_life l WHERE l.project = f.project"
        " AND l.file = f.id AND l.born_sequence <= $3 AND l.died_sequence > $3) END",
        project_id(project),
        path,
        sequence,
    )
    return row is not None


async def version_at(connection: Connection, project: str, path: str, sequence: int) -> Version | None:
    file = await _file(connection, project, path)
    if file is None:
        return Version(0)
    id, base, head = file
    if head.sequence <= sequence:
        return head.version
    # Of the imported versions, only the newest one has a sequence that is valid here.
    row = await connection.fetchrow(
        "SELECT version FROM change WHERE project = $1 AND file = $2 AND version >= $4 AND sequence <= $3"
        " ORDER BY version DESC LIMIT 1",
        project_id(project),
        id,
        sequence,
        base,
    )
    if row is None:
        return Version(0) if base <= 1 else None
    known = await connection.fetchval(
        "SELECT sequence > 0 FROM change WHERE project = $1 AND file = $2 AND version = $3",
        project_id(project),
        id,
        row[0],
    )
    return Version(row[0]) if known else None


async def read_increment(database: Database, project: str, path: str, after: int, most_bytes: int) -> Increment | None:
    # The file's row, its log row at `after`, and the log rows after that, unless they are too many bytes.
    rows = await database.fetch(
        f"SELECT f.id, f.base_version, b.size, b.version, {HEAD}, {_LOG} FROM file f"
        " LEFT JOIN change b ON b.project = f.project AND b.file = f.id AND b.version = $3"
        " LEFT JOIN change c ON c.project = f.project AND c.file = f.id AND c.version > $3 AND NOT f.deleted"
        " AND $3 >= greatest(f.born_version, f.base_version) AND f.size - b.size <= $4"
        " WHERE f.project = $1 AND f.path = $2 ORDER BY c.version",
        project_id(project),
        path,
        after,
        most_bytes,
    )
    if not rows:
        return None
    id, base, size, first = rows[0][:4]
    head = head_from_row(rows[0][4:14])
    if head.deleted or not max(head.born_version, base) <= after <= head.version:
        return None
    chain = Chain(path, id, after, size)
    if first is None:
        raise chain.damage(DAMAGED)
    if head.size - size > most_bytes:
        return None
    bodies = tuple([chain.take(stored_row(row[14:])) for row in rows if row[14] is not None])
    chain.require_end(head.version)
    return Increment(head, Version(after), bodies)


async def read_document(
    connection: Connection, project: str, path: str, at_version: int | None
) -> tuple[StoredDocument | None, list[int]]:
    """Return the data that builds a document, and the versions of damaged snapshots that were skipped."""
    file = await _file(connection, project, path)
    if file is None:
        return None, []
    id, oldest, head = file
    version = head.version if at_version is None else at_version
    if version < oldest:
        return None, []
    row = await _row(connection, project, path, id, version, oldest)
    if row is None or row.body is None:
        return None, []
    newest = await connection.fetchval(
        "SELECT max(version) FROM change WHERE project = $1 AND file = $2", project_id(project), id
    )
    if newest != head.version:
        raise DataDamaged(path, f"its log ends at version {newest}, and it is to be at version {head.version}")
    born, incarnation = head.born_version, head.incarnation
    if version < born:
        born, incarnation = await _past_life(connection, project, path, id, version)
    snapshot, damaged = await _snapshot(connection, project, id, born, row)
    chain = Chain(path, id, max(born, oldest) - 1, None if oldest >= born else 0, squashed=oldest)
    if snapshot is not None:
        chain = Chain(path, id, snapshot.version, snapshot.log_size)
    rows = await connection.fetch(
        f"SELECT {_LOG} FROM change c WHERE c.project = $1 AND c.file = $2 AND c.version > $3 AND c.version <= $4"
        " ORDER BY c.version",
        project_id(project),
        id,
        chain.version,
        version,
    )
    updates = tuple([chain.take(stored_row(each)) for each in rows])
    chain.require_end(version)
    document = StoredDocument(
        head=head,
        version=Version(version),
        incarnation=incarnation,
        last_modified=Milliseconds(row.last_modified),
        size=row.size,
        snapshot=snapshot,
        updates=updates,
    )
    return document, damaged


async def _row(
    connection: Connection, project: str, path: str, file: int, version: int, oldest: int
) -> StoredRow | None:
    """Return one row of a log, checked."""
    found = await connection.fetchrow(
        f"SELECT {_LOG} FROM change c WHERE c.project = $1 AND c.file = $2 AND c.version = $3",
        project_id(project),
        file,
        version,
    )
    if found is None:
        return None
    row = stored_row(found)
    if not check_row(row, squashed=version == oldest):
        raise DataDamaged(path, DAMAGED, version)
    return row


async def _past_life(
    connection: Connection, project: str, path: str, file: int, version: int
) -> tuple[Version, Incarnation]:
    """Return the first version and the name of the incarnation to which a version belongs."""
    life = await connection.fetchrow(
        f"SELECT file, born_version, incarnation || {GENERATION}, born_sequence, died_sequence, row_check"
        " FROM past_life WHERE project = $1 AND file = $2 AND born_version <= $3"
        " ORDER BY born_version DESC LIMIT 1",
        project_id(project),
        file,
        version,
    )
    if life is None:
        raise DataDamaged(path, "the incarnation of which it is has no row", version)
    stored, visible = split_name(life[2])
    if not is_intact((*life[:2], stored, *life[3:])):
        raise DataDamaged(path, "a former incarnation of it is not what was written")
    return Version(life[1]), Incarnation(visible)


async def _snapshot(
    connection: Connection, project: str, file: int, born: int, row: StoredRow
) -> tuple[Snapshot | None, list[int]]:
    """Find the newest intact snapshot of an incarnation at or before a row of its log, and damaged ones after it."""
    damaged: list[int] = []
    before = row.version + 1
    while True:
        found = await connection.fetchrow(
            "SELECT s.version, s.body, s.size, s.checksum, c.size FROM snapshot s LEFT JOIN change c"
            " ON c.project = s.project AND c.file = s.file AND c.version = s.version"
            " WHERE s.project = $1 AND s.file = $2 AND s.version >= $3 AND s.version < $4"
            " ORDER BY s.version DESC LIMIT 1",
            project_id(project),
            file,
            born,
            before,
        )
        if found is None:
            return None, damaged
        version, body, log_size, check, size = found
        if check == checksum(body) and log_size == size:
            return Snapshot(Version(version), body, log_size), damaged
        damaged.append(version)
        before = version


async def drop_damaged_snapshots(connection: Connection, project: str, path: str, versions: list[int]) -> None:
    await connection.execute(
        "DELETE FROM snapshot WHERE project = $1 AND version = ANY($3::bigint[])"
        " AND file = (SELECT id FROM file WHERE project = $1 AND path = $2)",
        project_id(project),
        path,
        versions,
    )


async def past_incarnations(connection: Connection, project: str, path: str, limit: int) -> list[Version]:
    file = await _file(connection, project, path)
    if file is None:
        return []
    id, _, head = file
    rows = await connection.fetch(
        "SELECT born_version FROM past_life WHERE project = $1 AND file = $2 ORDER BY born_version DESC LIMIT $3",
        project_id(project),
        id,
        limit,
    )
    # The tombstone of each incarnation is the version before the next one is born.
    tombstones = [head.version] if head.deleted else []
    if rows:
        tombstones += [born - 1 for born in (head.born_version, *(row[0] for row in rows[:-1]))]
    return [Version(tombstone - 1) for tombstone in tombstones[:limit]]


async def read_history(
    connection: Connection, project: str, path: str, before: int | None, limit: int
) -> tuple[FileHead, list[VersionRecord]] | None:
    file = await _file(connection, project, path)
    if file is None:
        return None
    id, oldest, head = file
    rows = await connection.fetch(
        "SELECT credential, credential_check, file, version, last_modified, size, author, checksum, row_check"
        " FROM change WHERE project = $1"
        " AND file = $2 AND version < $3 AND version >= $4 ORDER BY version DESC LIMIT $5",
        project_id(project),
        id,
        head.version + 1 if before is None else before,
        oldest,
        limit,
    )
    return head, [_version_record(path, row) for row in rows]


def _version_record(path: str, row: Row) -> VersionRecord:
    credential, credential_check, file, version, time, size, author, check, _ = row
    if not is_intact(tuple(row)[2:]) or credential_check != credential_checksum(file, version, credential):
        raise DataDamaged(path, DAMAGED, version)
    author, credential = from_text_or_none(author), from_text_or_none(credential)
    return VersionRecord(version, time, size, author, check is None, credential)


async def read_version(connection: Connection, project: str, path: str, version: int) -> StoredUpdate | None:
    file = await _file(connection, project, path)
    if file is None or version < file[1]:
        return None
    row = await _row(connection, project, path, file[0], version, file[1])
    return (
        None
        if row is None
        else StoredUpdate(row.version, row.last_modified, row.size, row.author, row.body, credential=row.credential)
    )


async def put_snapshot(connection: Connection, project: str, path: str, snapshot: Snapshot) -> None:
    """Store a snapshot. The caller holds the epoch of the project."""
    await connection.execute(
        "INSERT INTO snapshot (project, file, version, size, checksum, body)"
        " SELECT c.project, c.file, c.version, c.size, $4::bigint, $5::bytea FROM file f JOIN change c"
        " ON c.project = f.project AND c.file = f.id AND c.version = $3 AND c.body IS NOT NULL"
        " WHERE f.project = $1 AND f.path = $2 AND f.base_version < $3 ON CONFLICT DO NOTHING",
        project_id(project),
        path,
        snapshot.version,
        checksum(snapshot.body),
        snapshot.body,
    )


async def drop_snapshots(connection: Connection) -> int:
    return _count(await connection.execute("DELETE FROM snapshot"))


def _count(status: str) -> int:
    """Return how many rows a statement changed, from its status ("DELETE 3")."""
    return int(status.rpartition(" ")[2])


async def projects_after(database: Database, name: str, limit: int) -> list[ProjectHead]:
    rows = await database.fetch(
        f"SELECT {PROJECT} FROM project p WHERE p.name > $1 ORDER BY p.name LIMIT $2", name, limit
    )
    return [ProjectHead(*row[:4]) for row in rows]  # whatever they hold: `verify` reads them


async def files_after(database: Database, project: str, path: str, limit: int) -> list[FileHead]:
    rows = await database.fetch(
        f"SELECT {HEAD} FROM file f WHERE f.project = $1 AND f.path > $2 ORDER BY f.path LIMIT $3",
        project_id(project),
        path,
        limit,
    )
    return [FileHead(*row[:9]) for row in rows]  # whatever they hold: `verify` reads them


async def updates_after(
    connection: Connection, project: str, path: str, version: int, limit: int
) -> list[StoredUpdate]:
    file = await _file(connection, project, path)
    if file is None:
        return []
    id, oldest, _ = file
    found: list[Row] = await connection.fetch(
        f"SELECT {_LOG} FROM change c WHERE c.project = $1 AND c.file = $2 AND c.version > $3"
        " ORDER BY c.version LIMIT $4",
        project_id(project),
        id,
        max(version, oldest - 1),
        limit,
    )
    rows = map(stored_row, found)
    return [
        StoredUpdate(
            row.version,
            row.last_modified,
            row.size,
            row.author,
            row.body,
            check_row(row, squashed=row.version == oldest),
            row.credential,
        )
        for row in rows
    ]


async def snapshots(database: Database, project: str, path: str) -> list[Snapshot]:
    rows = await database.fetch(
        "SELECT s.version, s.body, s.size, s.checksum FROM file f JOIN snapshot s ON s.project = f.project"
        " AND s.file = f.id WHERE f.project = $1 AND f.path = $2 ORDER BY s.version",
        project_id(project),
        path,
    )
    return [Snapshot(version, body, size, check == checksum(body)) for version, body, size, check in rows]


async def tombstone_floor(database: Database, project: str) -> int:
    row = await database.fetch_row("SELECT tombstone_floor FROM project WHERE id = $1", project_id(project))
    return 0 if row is None else int(row[0])


async def base_version(database: Database, project: str, path: str) -> int:
    row = await database.fetch_row(
        "SELECT greatest(base_version, 1) FROM file WHERE project = $1 AND path = $2", project_id(project), path
    )
    return 1 if row is None else int(row[0])
