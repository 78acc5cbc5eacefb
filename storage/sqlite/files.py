"""Queries on files. Every function takes a connection inside a read transaction and returns records."""

import sqlite3
from collections.abc import Collection, Iterable, Iterator
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
    Tombstone,
    Version,
    VersionRecord,
)
from storage.sqlite.large_values import execute_and_forget, is_very_large, read_value, unless_very_large, write_value
from storage.sqlite.update_rows import from_both

_HEAD = (
    "path, version, incarnation, sequence, last_modified, size, deleted, born_version, born_sequence, project,"
    " row_check"
)

_LIFE = "file, born_version, incarnation, born_sequence, died_sequence, row_check"
DAMAGED_STATE = "is not what was written"
_FILE_HEAD = ", ".join(f"file.{name}" for name in _HEAD.split(", "))


def _log_rows(condition: str) -> str:
    """Return a statement for rows of a log, oldest first, as `_stored_row` takes them.

    Every column but the last is read from the row itself; the index only gives the order. So a mismatch between the two
    is noticed. A very large body is left to `_with_body`.

    Args:
        condition: on the `entry` in the index; `?1` is the file.
    """
    rows = from_both(
        "SELECT row.file, row.version, row.last_modified, row.size, row.author, row.checksum,"
        f" {unless_very_large('row.body')}, row.credential, row.credential_check, row.row_check, entry.version"
        f" FROM {{log}} AS entry JOIN {{log}} AS row ON row.id = entry.id WHERE entry.file = ?1 AND {condition}"
    )
    return f"{rows} ORDER BY 11"


_ROWS_FROM = _log_rows("entry.version >= ?2")
_ROWS_AFTER = _log_rows("entry.version > ?2")
_ROWS_AFTER_UP_TO = _log_rows("entry.version > ?2 AND entry.version <= ?3")
_ROW_OF_VERSION = _log_rows("entry.version = ?2")
_SIZE_AT_VERSION = from_both(
    "SELECT row.file, row.version, row.size FROM {log} AS entry JOIN {log} AS row ON row.id = entry.id"
    " WHERE entry.file = ?1 AND entry.version = ?2"
)
_LENGTHS = from_both("SELECT length(body) AS length, version FROM {log} WHERE file = ?1 AND version < ?2")
_LONGEST = f"SELECT max(length) FROM ({_LENGTHS} ORDER BY version DESC LIMIT ?3)"
_SEQUENCE_OF_VERSION = from_both(
    "SELECT file, version, sequence, sequence_check FROM {log} WHERE file = ?1 AND version = ?2"
)
_NEWEST_VERSION = f"SELECT max(version) FROM ({from_both('SELECT max(version) AS version FROM {log} WHERE file = ?1')})"
_SIZE_AT_SNAPSHOT = from_both("SELECT size FROM {log} WHERE file = snapshot.file AND version = snapshot.version")
_SNAPSHOTS = (
    f"SELECT version, {unless_very_large('body')}, size, checksum, ({_SIZE_AT_SNAPSHOT}), rowid"
    " FROM snapshot WHERE file = ? AND version BETWEEN ? AND ? ORDER BY version DESC"
)
_HISTORY_COLUMNS = "credential, credential_check, file, version, last_modified, size, author, checksum, row_check"
_HISTORY = from_both(f"SELECT {_HISTORY_COLUMNS} FROM {{log}} WHERE file = ?1 AND version < ?2 AND version >= ?3")
_VERSION_WITH_BODY = from_both(
    "SELECT file, version, size FROM {log} WHERE version = ?3 AND body IS NOT NULL AND file ="
    " (SELECT id FROM file WHERE project ="
    " (SELECT id FROM project WHERE name = ?4 AND epoch = coalesce(?5, epoch)) AND path = ?6 AND base_version < ?3)"
)
_INSERT_SNAPSHOT = (
    "INSERT OR IGNORE INTO snapshot (file, version, size, checksum, body)"
    f" SELECT file, version, size, ?1, {{}} FROM ({_VERSION_WITH_BODY})"
)


def project_head(connection: sqlite3.Connection, name: str) -> tuple[int, ProjectHead] | None:
    """Return the project's row id and head."""
    row = connection.execute(
        "SELECT id, name, epoch, sequence, last_modified, row_check FROM project WHERE name = ?", (name,)
    ).fetchone()
    if row is None:
        return None
    if not is_intact(row[1:]):
        raise DataDamaged(None, f"its state {DAMAGED_STATE}", what=f"project {name!r}")
    return row[0], ProjectHead(name, Epoch(row[2]), Sequence(row[3]), Milliseconds(row[4]))


def require_no_project(connection: sqlite3.Connection, name: str) -> None:
    """Raise DataDamaged if there is a project that its index does not name: another one must not take its place."""
    if connection.execute("SELECT 1 FROM project NOT INDEXED WHERE name = ?", (name,)).fetchone():
        raise DataDamaged(None, "it is missing in an index", what=f"project {name!r}")


def _require_no_file(connection: sqlite3.Connection, project: int, path: str) -> None:
    """Raise DataDamaged if there is a file that one index does not name, and another one does."""
    place = {"project": project, "path": path}
    if connection.execute(_OTHER_INDEXES, place).fetchone():
        raise DataDamaged(path, "it is missing in an index")


_OTHER_INDEXES = (
    "SELECT 1 FROM file INDEXED BY live_file_by_path WHERE project = :project AND path = :path AND deleted = 0"
    " UNION ALL SELECT 1 FROM file INDEXED BY tombstone_by_path"
    " WHERE project = :project AND path = :path AND deleted = 1 AND base_version < version"
)


def _file(connection: sqlite3.Connection, project: str, path: str) -> tuple[int, int, FileHead] | None:
    """Return the file's row id, its oldest available version (0: the first), and its head."""
    # The path is read from the row, not from its index: the code checks that they are the same.
    row = connection.execute(
        f"SELECT file.id, file.base_version, file.base_check, {_FILE_HEAD}"
        " FROM file AS entry JOIN file ON file.id = entry.id"
        " WHERE entry.project = (SELECT id FROM project WHERE name = ?) AND entry.path = ?",
        (project, path),
    ).fetchone()
    if row is None:
        found = project_head(connection, project)
        if found is not None:
            _require_no_file(connection, found[0], path)
        return None
    if row[3] != path:
        raise DataDamaged(path, "the index of the files does not fit the file")
    if row[2] != row_checksum(row[1]):
        raise DataDamaged(path, f"its oldest version {DAMAGED_STATE}")
    return row[0], row[1], head_from_row(row[3:])


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
    heads = (load_head(connection, id, path) for path in paths)
    return head, [each[1] for each in heads if each is not None]


def list_files(
    connection: sqlite3.Connection, project: str, prefix: str, after: str, limit: int
) -> tuple[ProjectHead, list[FileHead]] | None:
    found = project_head(connection, project)
    if found is None:
        return None
    id, head = found
    between, bounds = _between(prefix, after)
    statement = (
        f"SELECT {_HEAD} FROM file INDEXED BY live_file_by_path WHERE project = ? AND deleted = 0"
        f" AND {between} ORDER BY path LIMIT ?"
    )
    return head, [head_from_row(row) for row in connection.execute(statement, (id, *bounds, limit))]


def list_tombstones(
    connection: sqlite3.Connection, project: str, prefix: str, after: str, limit: int
) -> tuple[ProjectHead, list[Tombstone]] | None:
    found = project_head(connection, project)
    if found is None:
        return None
    id, head = found
    between, bounds = _between(prefix, after)
    rows = connection.execute(
        f"SELECT id, {_HEAD} FROM file INDEXED BY tombstone_by_path WHERE project = ? AND deleted = 1"
        f" AND base_version < version AND {between} ORDER BY path LIMIT ?",
        (id, *bounds, limit),
    )
    return head, [_tombstone(connection, row[0], head_from_row(row[1:])) for row in rows]


def _tombstone(connection: sqlite3.Connection, file: int, head: FileHead) -> Tombstone:
    row = _row_of_version(connection, file, head.version)
    if row is not None and not check_row(row, squashed=False):
        raise DataDamaged(head.path, DAMAGED, head.version)
    return Tombstone(head, None if row is None else row.author)


def _between(prefix: str, after: str) -> tuple[str, list[str]]:
    """Return the SQL condition for a page of paths, and its values."""
    end = path_after_prefix(prefix)
    # `>` for a position, `>=` for a prefix: the prefix itself may be a path.
    condition = f"path > ? AND path >= ?{' AND path < ?' if end is not None else ''}"
    return condition, [after, prefix] + ([end] if end is not None else [])


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
        f"SELECT {_LIFE} FROM past_life WHERE file = ? AND born_sequence <= ? AND died_sequence > ? LIMIT 1",
        (id, sequence, sequence),
    ).fetchone()
    if row is not None and not is_intact(row):
        raise DataDamaged(path, f"a former incarnation of it {DAMAGED_STATE}")
    return row is not None


def version_at(connection: sqlite3.Connection, project: str, path: str, sequence: int) -> Version | None:
    file = _file(connection, project, path)
    if file is None:
        return Version(0)
    id, base, head = file
    if head.sequence <= sequence:
        return head.version
    # The sequence rises with the version: use a binary search.
    low, high = max(base, 1) - 1, head.version - 1
    while low < high:
        middle = (low + high + 1) // 2
        found = _sequence_of(connection, path, id, middle)
        if found is not None and found > sequence:
            high = middle - 1
        else:
            low = middle
    if low < max(base, 1):
        return Version(0) if low == 0 else None
    return None if _sequence_of(connection, path, id, low) is None else Version(low)


def _sequence_of(connection: sqlite3.Connection, path: str, file: int, version: int) -> int | None:
    """Return the sequence of a row of the log; None if it is not known."""
    row = connection.execute(_SEQUENCE_OF_VERSION, (file, version)).fetchone()
    if row is None or row[2] is None:
        return None
    if not is_intact(row):
        raise DataDamaged(path, DAMAGED, version)
    return int(row[2])


class TooManyRows(Exception):
    """More rows would be read than were allowed."""


def read_increment(
    connection: sqlite3.Connection, project: str, path: str, after: int, most_bytes: int, most_rows: int | None = None
) -> Increment | None:
    """Return the updates of a file after a version.

    Raises:
        TooManyRows: there are more than `most_rows`.
    """
    file = _file(connection, project, path)
    if file is None:
        return None
    id, base, head = file
    if head.deleted or not max(head.born_version, base) <= after <= head.version:
        return None
    if most_rows is not None and head.version - after > most_rows:
        raise TooManyRows
    size = _size_at(connection, id, after)
    chain = Chain(path, id, after, size)
    if size is None:
        raise chain.damage(DAMAGED)
    if head.size - size > most_bytes:
        return None
    bodies = _take_all(connection, chain, connection.execute(_ROWS_AFTER, (id, after)))
    chain.require_end(head.version)
    return Increment(head, Version(after), bodies)


def file_id(connection: sqlite3.Connection, project: str, path: str) -> int:
    file = _file(connection, project, path)
    return 0 if file is None else file[0]


def increment_up_to(
    connection: sqlite3.Connection, file: int, head: FileHead, after: int, most_bytes: int
) -> Increment | None:
    """Return the increment of a file whose newest state is `head`; None also if its newest state is another."""
    if head.deleted or not head.born_version <= after <= head.version:
        return None
    size = _size_at(connection, file, after)
    if size is None or head.size - size > most_bytes:
        return None
    chain = Chain(head.path, file, after, size)
    try:
        bodies = _take_all(connection, chain, connection.execute(_ROWS_AFTER, (file, after)))
        chain.require_end(head.version)
    except DataDamaged:  # or it was squashed meanwhile: a caller that also reads the file's row can tell
        return None
    return Increment(head, Version(after), bodies)


def _size_at(connection: sqlite3.Connection, file: int, version: int) -> int | None:
    """Return the size of the log up to a version. Its body, which may be long, is not read."""
    row = connection.execute(_SIZE_AT_VERSION, (file, version)).fetchone()
    return row[2] if row is not None and row[:2] == (file, version) else None


def longest_row(connection: sqlite3.Connection, project: str, path: str, before: int, limit: int) -> int:
    """Return the length of the longest of up to `limit` updates of a file before a version, without reading them."""
    file = _file(connection, project, path)
    if file is None:
        return 0
    (longest,) = connection.execute(_LONGEST, (file[0], before, limit)).fetchone()
    return longest or 0


def read_document(
    connection: sqlite3.Connection, project: str, path: str, at_version: int | None
) -> tuple[StoredDocument | None, list[tuple[int, int]]]:
    """Return the data that builds a document, and the row ids and versions of damaged snapshots that were skipped."""
    file = _file(connection, project, path)
    if file is None:
        return None, []
    id, oldest, head = file
    version = head.version if at_version is None else at_version
    if not max(oldest, 1) <= version <= head.version:
        return None, []
    row = _row(connection, path, id, version, oldest)
    if row is None:
        raise DataDamaged(path, "it is missing", version)
    if row.body is None:
        return None, []
    (newest,) = connection.execute(_NEWEST_VERSION, (id,)).fetchone()
    if newest != head.version:
        raise DataDamaged(path, f"its log ends at version {newest}, and it is to be at version {head.version}")
    born, incarnation = head.born_version, head.incarnation
    if version < born:
        born, incarnation = _past_life(connection, path, id, version)
    snapshot, damaged = _snapshot(connection, id, born, row)
    chain = Chain(path, id, max(born, oldest) - 1, None if oldest >= born else 0, squashed=oldest)
    if snapshot is not None:
        chain = Chain(path, id, snapshot.version, snapshot.log_size)
    updates = _take_all(connection, chain, connection.execute(_ROWS_AFTER_UP_TO, (id, chain.version, version)))
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


def _stored_row(row: tuple[Any, ...]) -> StoredRow:
    """Return a row of the log from a row that a statement of `_log_rows` gives."""
    file, version, last_modified, size, author, check, body, credential, credential_check, row_check, _ = row
    intact = row_check == row_checksum(file, version, last_modified, size, author, check)
    intact = intact and credential_check == credential_checksum(file, version, credential)
    return StoredRow(file, version, last_modified, size, author, check, body, intact, credential)


def log_from(connection: sqlite3.Connection, file: int, version: int) -> Iterator[StoredRow]:
    """Yield the rows of a log from a version on, oldest first."""
    return (_stored_row(_with_body(connection, row)) for row in connection.execute(_ROWS_FROM, (file, version)))


def _with_body(connection: sqlite3.Connection, row: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return a row that a statement of `_log_rows` gives with its body, if that is very large."""
    file, version, *others, check, body = row[:7]
    if body is not None or check is None:  # the row of a deletion has neither
        return row
    found = connection.execute("SELECT id FROM file_update WHERE file = ? AND version = ?", (file, version)).fetchone()
    body = b"" if found is None else read_value(connection, "file_update", "body", found[0])
    return file, version, *others, check, body, *row[7:]


def _take_all(connection: sqlite3.Connection, chain: Chain, rows: Iterable[tuple[Any, ...]]) -> tuple[bytes, ...]:
    """Return the updates of rows of a log, oldest first, each checked.

    Raises:
        DataDamaged
    """
    return tuple([chain.take_columns(row[:-1]) or chain.take(_stored_row(_with_body(connection, row))) for row in rows])


def _row_of_version(connection: sqlite3.Connection, file: int, version: int) -> StoredRow | None:
    """Return one row of a log, unchecked."""
    row = connection.execute(_ROW_OF_VERSION, (file, version)).fetchone()
    return None if row is None else _stored_row(_with_body(connection, row))


def _row(connection: sqlite3.Connection, path: str, file: int, version: int, oldest: int) -> StoredRow | None:
    """Return one row of a log, checked."""
    row = _row_of_version(connection, file, version)
    if row is None:
        return None
    if (row.file, row.version) != (file, version) or not check_row(row, squashed=version == oldest):
        raise DataDamaged(path, DAMAGED, version)
    return row


def _past_life(connection: sqlite3.Connection, path: str, file: int, version: int) -> tuple[Version, Incarnation]:
    """Return the first version and the name of the incarnation to which a version belongs."""
    life = connection.execute(
        f"SELECT {_LIFE} FROM past_life WHERE file = ? AND born_version <= ? ORDER BY born_version DESC LIMIT 1",
        (file, version),
    ).fetchone()
    if life is None:
        raise DataDamaged(path, "the incarnation of which it is has no row", version)
    if not is_intact(life):
        raise DataDamaged(path, f"the incarnation of which it is {DAMAGED_STATE}", version)
    return Version(life[1]), Incarnation(life[2])


def _snapshot(
    connection: sqlite3.Connection, file: int, born: int, row: StoredRow
) -> tuple[Snapshot | None, list[tuple[int, int]]]:
    """Find the newest intact snapshot of an incarnation at or before a row of its log, and damaged ones after it."""
    damaged: list[tuple[int, int]] = []
    for version, body, log_size, check, size, rowid in connection.execute(_SNAPSHOTS, (file, born, row.version)):
        if body is None:
            body = read_value(connection, "snapshot", "body", rowid)
        if check == checksum(body) and log_size == size:
            return Snapshot(Version(version), body, log_size), damaged
        damaged.append((rowid, version))
    return None, damaged


def drop_damaged_snapshots(connection: sqlite3.Connection, rows: list[tuple[int, int]]) -> None:
    """Delete damaged snapshots, given by row id and version."""
    connection.executemany("DELETE FROM snapshot WHERE rowid = ?", [(row,) for row, _ in rows])


def past_incarnations(connection: sqlite3.Connection, project: str, path: str, limit: int) -> list[Version]:
    file = _file(connection, project, path)
    if file is None:
        return []
    id, _, head = file
    rows = connection.execute(
        f"SELECT {_LIFE} FROM past_life WHERE file = ? ORDER BY born_version DESC LIMIT ?", (id, limit)
    ).fetchall()
    if not all(map(is_intact, rows)):
        raise DataDamaged(path, f"a former incarnation of it {DAMAGED_STATE}")
    # The tombstone of each incarnation is the version before the next one is born.
    tombstones = [head.version] if head.deleted else []
    if rows:
        tombstones += [born - 1 for born in (head.born_version, *(row[1] for row in rows[:-1]))]
    return [Version(tombstone - 1) for tombstone in tombstones[:limit]]


def read_history(
    connection: sqlite3.Connection, project: str, path: str, before: int | None, limit: int
) -> tuple[FileHead, list[VersionRecord]] | None:
    file = _file(connection, project, path)
    if file is None:
        return None
    id, oldest, head = file
    rows = connection.execute(
        f"{_HISTORY} ORDER BY version DESC LIMIT ?4",
        (id, head.version + 1 if before is None else before, oldest, limit),
    )
    return head, [_version_record(path, row) for row in rows]


def _version_record(path: str, row: tuple[Any, ...]) -> VersionRecord:
    credential, credential_check, file, version, time, size, author, check, _ = row
    if not is_intact(row[2:]) or credential_check != credential_checksum(file, version, credential):
        raise DataDamaged(path, DAMAGED, version)
    return VersionRecord(version, time, size, author, check is None, credential)


def read_version(connection: sqlite3.Connection, project: str, path: str, version: int) -> StoredUpdate | None:
    file = _file(connection, project, path)
    if file is None or version < file[1]:
        return None
    row = _row(connection, path, file[0], version, file[1])
    return (
        None
        if row is None
        else StoredUpdate(row.version, row.last_modified, row.size, row.author, row.body, credential=row.credential)
    )


def put_snapshot(
    connection: sqlite3.Connection, project: str, path: str, snapshot: Snapshot, epoch: Epoch | None
) -> None:
    body, about = snapshot.body, (snapshot.version, project, epoch, path)
    if not is_very_large(body):
        execute_and_forget(connection, _INSERT_SNAPSHOT.format("?2"), [(checksum(body), body, *about)])
        return
    inserted = connection.execute(_INSERT_SNAPSHOT.format("zeroblob(?2)"), (checksum(body), len(body), *about))
    if inserted.rowcount == 1:
        assert inserted.lastrowid is not None
        write_value(connection, "snapshot", "body", inserted.lastrowid, body)


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
    return [_head(row) for row in rows]


def updates_after(
    connection: sqlite3.Connection, project: str, path: str, version: int, limit: int
) -> list[StoredUpdate]:
    file = _file(connection, project, path)
    if file is None:
        return []
    id, oldest, _ = file
    found = connection.execute(f"{_ROWS_AFTER} LIMIT ?3", (id, max(version, oldest - 1), limit))
    rows = (_stored_row(_with_body(connection, row)) for row in found)
    return [
        StoredUpdate(
            row.version,
            row.last_modified,
            row.size,
            row.author,
            row.body,
            row.file == id and check_row(row, squashed=row.version == oldest),
            row.credential,
        )
        for row in rows
    ]


def snapshots(connection: sqlite3.Connection, project: str, path: str) -> list[Snapshot]:
    file = _file(connection, project, path)
    if file is None:
        return []
    rows = connection.execute(
        "SELECT version, body, size, checksum FROM snapshot WHERE file = ? ORDER BY version", (file[0],)
    )
    return [Snapshot(version, body, size, check == checksum(body)) for version, body, size, check in rows]


def head_from_row(row: tuple[Any, ...]) -> FileHead:
    """Return a file's head from the columns of `_HEAD`, checked.

    Raises:
        DataDamaged
    """
    if not is_intact(row):
        raise DataDamaged(row[0], f"its newest state {DAMAGED_STATE}")
    return _head(row)


def _head(row: tuple[Any, ...]) -> FileHead:
    """Return a head without checking the row."""
    path, version, incarnation, sequence, last_modified, size, deleted, born_version, born_sequence, _, _ = row
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


def load_head(connection: sqlite3.Connection, project: int, path: str) -> tuple[int, FileHead] | None:
    """Return a file's row id and head."""
    row = connection.execute(f"SELECT id, {_HEAD} FROM file WHERE project = ? AND path = ?", (project, path)).fetchone()
    if row is None:
        _require_no_file(connection, project, path)
        return None
    return row[0], head_from_row(row[1:])


def head_checksum(project: int, head: FileHead) -> int:
    """Return the checksum of a file's row."""
    return row_checksum(
        head.path,
        head.version,
        head.incarnation,
        head.sequence,
        head.last_modified,
        head.size,
        int(head.deleted),
        head.born_version,
        head.born_sequence,
        project,
    )
