"""Queries about files. Every function takes a connection inside a read transaction and returns records."""

import sqlite3
import zlib
from collections.abc import Collection

from storage.records import (
    Epoch,
    FileHead,
    Incarnation,
    Increment,
    Milliseconds,
    ProjectHead,
    Sequence,
    Snapshot,
    StoredDocument,
    StoredUpdate,
    Version,
    VersionRecord,
)

_HEAD = "path, version, incarnation, sequence, last_modified, size, deleted, born_version, born_sequence"


def project_head(connection: sqlite3.Connection, name: str) -> tuple[int, ProjectHead] | None:
    """The project's row id and head."""
    row = connection.execute(
        "SELECT id, epoch, sequence, last_modified FROM project WHERE name = ?", (name,)
    ).fetchone()
    if row is None:
        return None
    return row[0], ProjectHead(name, Epoch(row[1]), Sequence(row[2]), Milliseconds(row[3]))


def _file(connection: sqlite3.Connection, project: str, path: str) -> tuple[int, int, FileHead] | None:
    """The file's row id, its oldest version that can be had (0: the first), and its head."""
    row = connection.execute(
        f"SELECT id, base_version, {_HEAD} FROM file WHERE project = (SELECT id FROM project WHERE name = ?)"
        " AND path = ?",
        (project, path),
    ).fetchone()
    return None if row is None else (row[0], row[1], head_from_row(row[2:]))


def file_head(connection: sqlite3.Connection, project: str, path: str) -> FileHead | None:
    file = _file(connection, project, path)
    return None if file is None else file[2]


def file_heads(
    connection: sqlite3.Connection, project: str, paths: Collection[str]
) -> tuple[ProjectHead, list[FileHead]] | None:
    found = project_head(connection, project)
    if found is None:
        return None
    id, head = found
    statement = f"SELECT {_HEAD} FROM file WHERE project = ? AND path = ?"
    rows = (connection.execute(statement, (id, path)).fetchone() for path in paths)
    return head, [head_from_row(row) for row in rows if row is not None]


def list_files(
    connection: sqlite3.Connection, project: str, prefix: str, after: str, limit: int
) -> tuple[ProjectHead, list[FileHead]] | None:
    found = project_head(connection, project)
    if found is None:
        return None
    id, head = found
    end = path_after_prefix(prefix)
    # `>` for a position, `>=` for a prefix: the prefix itself may be a path.
    statement = (
        f"SELECT {_HEAD} FROM file INDEXED BY live_file_by_path WHERE project = ? AND deleted = 0"
        f" AND path > ? AND path >= ?{' AND path < ?' if end is not None else ''} ORDER BY path LIMIT ?"
    )
    bounds = [after, prefix] + ([end] if end is not None else [])
    return head, [head_from_row(row) for row in connection.execute(statement, (id, *bounds, limit))]


def path_after_prefix(prefix: str) -> str | None:
    """The smallest text that sorts after everything that begins with `prefix`; None if there is none."""
    for index in range(len(prefix) - 1, -1, -1):
        code = ord(prefix[index])
        if code < 0x10FFFF:
            return prefix[:index] + chr(0xE000 if code == 0xD7FF else code + 1)
    return None


def files_changed_since(
    connection: sqlite3.Connection, project: str, sequence: int, limit: int | None
) -> tuple[ProjectHead, list[FileHead]] | None:
    found = project_head(connection, project)
    if found is None:
        return None
    id, head = found
    rows = connection.execute(
        f"SELECT {_HEAD} FROM file WHERE project = ? AND sequence > ? ORDER BY sequence LIMIT ?",
        (id, sequence, -1 if limit is None else limit),
    )
    return head, [head_from_row(row) for row in rows]


def existed_at(connection: sqlite3.Connection, project: str, path: str, sequence: int) -> bool:
    file = _file(connection, project, path)
    if file is None:
        return False
    id, _, head = file
    if head.born_sequence <= sequence:
        return not head.deleted or head.sequence > sequence
    row = connection.execute(
        "SELECT 1 FROM past_life WHERE file = ? AND born_sequence <= ? AND died_sequence > ? LIMIT 1",
        (id, sequence, sequence),
    ).fetchone()
    return row is not None


def read_increment(
    connection: sqlite3.Connection, project: str, path: str, after: int, most_bytes: int
) -> Increment | None:
    file = _file(connection, project, path)
    if file is None:
        return None
    id, base, head = file
    if head.deleted or not max(head.born_version, base) <= after <= head.version:
        return None
    rows = connection.execute(
        "SELECT size, body FROM file_update WHERE file = ? AND version >= ? ORDER BY version", (id, after)
    )
    size, _ = rows.fetchone()  # of the version that the client has: how far the log had grown
    if head.size - size > most_bytes:
        rows.close()
        return None
    return Increment(head, Version(after), tuple([body for _, body in rows]))


def file_id(connection: sqlite3.Connection, project: str, path: str) -> int:
    file = _file(connection, project, path)
    return 0 if file is None else file[0]


def increment_up_to(
    connection: sqlite3.Connection, file: int, head: FileHead, after: int, most_bytes: int
) -> Increment | None:
    """The same of a file whose newest state is `head`; None also where it is not."""
    if head.deleted or not head.born_version <= after <= head.version:
        return None
    rows = connection.execute(
        "SELECT version, size, body FROM file_update WHERE file = ? AND version >= ? ORDER BY version", (file, after)
    )
    first = rows.fetchone()
    if first is None or first[0] != after or head.size - first[1] > most_bytes:
        rows.close()
        return None
    added = rows.fetchall()
    if (added[-1] if added else first)[0] != head.version:
        return None
    return Increment(head, Version(after), tuple([body for _, _, body in added]))


def read_document(
    connection: sqlite3.Connection, project: str, path: str, at_version: int | None
) -> StoredDocument | None:
    file = _file(connection, project, path)
    if file is None:
        return None
    id, oldest, head = file
    version = head.version if at_version is None else at_version
    if version < oldest:
        return None
    row = connection.execute(
        "SELECT last_modified, size, body IS NULL FROM file_update WHERE file = ? AND version = ?", (id, version)
    ).fetchone()
    if row is None or row[2]:
        return None
    born, incarnation = head.born_version, head.incarnation
    if version < born:
        born, incarnation = connection.execute(
            "SELECT born_version, incarnation FROM past_life WHERE file = ? AND born_version <= ?"
            " ORDER BY born_version DESC LIMIT 1",
            (id, version),
        ).fetchone()
    snapshot = connection.execute(
        "SELECT version, body, size FROM snapshot WHERE file = ? AND version BETWEEN ? AND ?"
        " ORDER BY version DESC LIMIT 1",
        (id, born, version),
    ).fetchone()
    base = max(born, oldest) - 1 if snapshot is None else snapshot[0]
    rows = connection.execute(
        "SELECT body FROM file_update WHERE file = ? AND version > ? AND version <= ? ORDER BY version",
        (id, base, version),
    )
    return StoredDocument(
        head=head,
        version=Version(version),
        incarnation=Incarnation(incarnation),
        last_modified=Milliseconds(row[0]),
        size=row[1],
        snapshot=None if snapshot is None else Snapshot(Version(snapshot[0]), snapshot[1], snapshot[2]),
        updates=tuple(body for (body,) in rows),
    )


def read_history(
    connection: sqlite3.Connection, project: str, path: str, before: int | None, limit: int
) -> tuple[FileHead, list[VersionRecord]] | None:
    file = _file(connection, project, path)
    if file is None:
        return None
    id, oldest, head = file
    rows = connection.execute(
        "SELECT version, last_modified, size, author, body IS NULL FROM file_update WHERE file = ? AND version < ?"
        " AND version >= ? ORDER BY version DESC LIMIT ?",
        (id, head.version + 1 if before is None else before, oldest, limit),
    )
    return head, [
        VersionRecord(version, time, size, author, bool(deleted)) for version, time, size, author, deleted in rows
    ]


def read_version(connection: sqlite3.Connection, project: str, path: str, version: int) -> StoredUpdate | None:
    file = _file(connection, project, path)
    if file is None or version < file[1]:
        return None
    row = connection.execute(
        "SELECT version, last_modified, size, author, body FROM file_update WHERE file = ? AND version = ?",
        (file[0], version),
    ).fetchone()
    return None if row is None else StoredUpdate(*row)


def put_snapshot(connection: sqlite3.Connection, project: str, path: str, snapshot: Snapshot) -> None:
    connection.execute(
        "INSERT OR IGNORE INTO snapshot (file, version, size, checksum, body)"
        " SELECT file, version, size, ?, ? FROM file_update WHERE version = ? AND body IS NOT NULL AND file ="
        " (SELECT id FROM file WHERE project = (SELECT id FROM project WHERE name = ?) AND path = ?"
        " AND base_version < ?)",
        (zlib.crc32(snapshot.body), snapshot.body, snapshot.version, project, path, snapshot.version),
    )


def drop_snapshots(connection: sqlite3.Connection) -> int:
    return connection.execute("DELETE FROM snapshot").rowcount


def projects_after(connection: sqlite3.Connection, name: str, limit: int) -> list[ProjectHead]:
    rows = connection.execute(
        "SELECT name, epoch, sequence, last_modified FROM project WHERE name > ? ORDER BY name LIMIT ?", (name, limit)
    )
    return [ProjectHead(*row) for row in rows]


def files_after(connection: sqlite3.Connection, project: str, path: str, limit: int) -> list[FileHead]:
    rows = connection.execute(
        f"SELECT {_HEAD} FROM file WHERE project = (SELECT id FROM project WHERE name = ?) AND path > ?"
        " ORDER BY path LIMIT ?",
        (project, path, limit),
    )
    return [head_from_row(row) for row in rows]


def updates_after(
    connection: sqlite3.Connection, project: str, path: str, version: int, limit: int
) -> list[StoredUpdate]:
    file = _file(connection, project, path)
    if file is None:
        return []
    rows = connection.execute(
        "SELECT version, last_modified, size, author, body, checksum FROM file_update WHERE file = ? AND version > ?"
        " ORDER BY version LIMIT ?",
        (file[0], max(version, file[1] - 1), limit),
    )
    return [
        StoredUpdate(version, last_modified, size, author, body, _intact(body, checksum))
        for version, last_modified, size, author, body, checksum in rows
    ]


def snapshots(connection: sqlite3.Connection, project: str, path: str) -> list[Snapshot]:
    file = _file(connection, project, path)
    if file is None:
        return []
    rows = connection.execute(
        "SELECT version, body, size, checksum FROM snapshot WHERE file = ? ORDER BY version", (file[0],)
    )
    return [Snapshot(version, body, size, _intact(body, checksum)) for version, body, size, checksum in rows]


def _intact(body: bytes | None, checksum: int | None) -> bool:
    return checksum == (None if body is None else zlib.crc32(body))


def head_from_row(row: tuple[str, int, str, int, int, int, int, int, int]) -> FileHead:
    """A head from (path, version, incarnation, sequence, last_modified, size, deleted, born_version, born_sequence)."""
    path, version, incarnation, sequence, last_modified, size, deleted, born_version, born_sequence = row
    return FileHead(
        path,
        Version(version),
        Incarnation(incarnation),
        Sequence(sequence),
        Milliseconds(last_modified),
        size,
        bool(deleted),
        Version(born_version),
        Sequence(born_sequence),
    )
