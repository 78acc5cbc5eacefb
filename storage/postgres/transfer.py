"""Export and import of projects."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import Any

import asyncpg

from storage.checksums import DAMAGED, check_row, checksum, credential_checksum, squashed_checksum
from storage.errors import DataDamaged, NotAnExport, ProjectExists
from storage.log import new_epoch, wall_clock
from storage.portable import (
    BlockRecord,
    FileRecord,
    LifeRecord,
    ProjectRecord,
    Record,
    SessionRecord,
    TurnRecord,
    VersionRow,
)
from storage.postgres.database import Connection, project_id
from storage.postgres.files import stored_row
from storage.postgres.row_checks import DAMAGED_ROW, checks_of, damaged_rows
from storage.postgres.text import from_text, from_text_or_none, to_text, to_text_or_none
from storage.records import Milliseconds, ProjectHead, Sequence, new_incarnation

_TOGETHER = 200
_BYTES_TOGETHER = 8 * 2**20
_IMPORTED = -(2**40)
"""The ids of imported rows count up from here: below the ids of later changes, so that imported rows come first."""


async def export_project(connection: Connection, project: str, take: Callable[[Record], None]) -> None:
    """Pass the records of a project to `take`, inside a read transaction; none if there is no such project."""
    await _take_time(connection)
    row = await connection.fetchrow(
        "SELECT sequence, last_modified, tombstone_floor FROM project WHERE id = $1 AND name = $2",
        project_id(project),
        project,
    )
    if row is None:
        return
    for damaged in await damaged_rows(connection, project_id(project)):
        raise DataDamaged(None, DAMAGED, what=damaged.removesuffix(f" {DAMAGED_ROW}"))
    sequence, last_modified, floor = row
    told = ProjectRecord(project, sequence, last_modified, floor, exported_at=wall_clock())
    together: list[Record] = [told]
    size = 0
    async for record in _records(connection, project_id(project)):
        together.append(record)
        size += _size(record)
        if len(together) >= _TOGETHER or size > _BYTES_TOGETHER:
            await asyncio.to_thread(_take_all, take, together)
            together, size = [], 0
    await asyncio.to_thread(_take_all, take, together)


async def _take_time(connection: Connection) -> None:
    """Allow the transaction to be idle for long, while records are processed in between."""
    await connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")


def _take_all(take: Callable[[Record], None], records: list[Record]) -> None:
    for record in records:
        take(record)


def _size(record: Record) -> int:
    if isinstance(record, VersionRow):
        return len(record.update or b"")
    return len(record.content) if isinstance(record, BlockRecord) else 0


async def _records(connection: Connection, project: int) -> AsyncIterator[Record]:
    async for record in _files(connection, project):
        yield record
    async for record in _sessions(connection, project):
        yield record


async def _files(connection: Connection, project: int) -> AsyncIterator[Record]:
    files = connection.cursor(
        "SELECT id, path, version, sequence, last_modified, size, deleted, born_version, born_sequence, base_version"
        " FROM file WHERE project = $1 ORDER BY path",
        project,
        prefetch=_TOGETHER,
    )
    async for id, path, *columns in files:
        lives = await connection.fetch(
            "SELECT born_version, born_sequence, died_sequence FROM past_life WHERE project = $1 AND file = $2"
            " ORDER BY born_version",
            project,
            id,
        )
        base = columns[-1]
        yield FileRecord(*(path, *columns, tuple(LifeRecord(*life) for life in lives)))
        rows = connection.cursor(
            "SELECT file, version, last_modified, size, author, checksum, body, credential, credential_check,"
            " row_check FROM change"
            " WHERE project = $1 AND file = $2 AND version >= $3 ORDER BY version",
            project,
            id,
            base,
            prefetch=_TOGETHER,
        )
        async for found in rows:
            row = stored_row(found)
            if not check_row(row, squashed=row.version == base):
                raise DataDamaged(path, DAMAGED, row.version)
            yield VersionRow(row.version, row.last_modified, row.size, row.author, row.body, row.credential)


async def _sessions(connection: Connection, project: int) -> AsyncIterator[Record]:
    sessions = await connection.fetch(
        "SELECT name, title, sequence, created_at FROM session WHERE project = $1 ORDER BY id", project
    )
    for name, title, *columns in sessions:
        yield SessionRecord(from_text(name), from_text_or_none(title), *columns)
        turns = connection.cursor(
            "SELECT t.id, t.name, t.status, t.block_count, t.sequence, t.last_updated, t.created_at, t.started_at,"
            " t.completed_at, t.error, t.size, t.output_offset, b.body, coalesce(o.body, ''::bytea), t.result_status,"
            " t.result_error, t.settling::int, t.grown::int FROM turn t"
            " JOIN prompt b ON b.project = t.project AND b.turn = t.id"
            " LEFT JOIN output_state o ON o.project = t.project AND o.turn = t.id"
            " WHERE t.project = $1 AND t.session = $2 ORDER BY t.id",
            project,
            name,
            prefetch=_TOGETHER,
        )
        async for id, turn, *fields in turns:
            fields[7] = from_text_or_none(fields[7])
            fields[10] = from_text(fields[10])
            fields[13] = from_text_or_none(fields[13])
            yield TurnRecord(from_text(turn), *fields)
            blocks = connection.cursor(
                "SELECT position, type, created_at, content, told_from FROM block WHERE project = $1 AND turn = $2"
                " ORDER BY position",
                project,
                id,
                prefetch=_TOGETHER,
            )
            async for block in blocks:
                yield BlockRecord(*block)


async def import_project(connection: Connection, name: str, records: Iterable[Record]) -> ProjectHead:
    """Write the records of a project under a name, with a new epoch and new incarnations.

    Raises:
        ProjectExists, NotAnExport
    """
    await _take_time(connection)
    if await connection.fetchrow("SELECT 1 FROM project WHERE id = $1", project_id(name)) is not None:
        raise ProjectExists(name)
    work = _Import(name)
    left = iter(records)
    try:
        while together := await asyncio.to_thread(_next_records, left):
            work.take(together)
            await work.store(connection)
    except asyncpg.exceptions.IntegrityConstraintViolationError as error:
        raise NotAnExport(name, f"its records do not fit together: {error}") from None
    except (UnicodeEncodeError, asyncpg.exceptions.DataError) as error:
        raise NotAnExport(name, f"it has text that is not valid Unicode, or a number too large: {error}") from None
    if work.head is None:
        raise NotAnExport(name, "there is no project in it")
    return work.head


def _next_records(records: Iterator[Record]) -> list[Record]:
    together: list[Record] = []
    size = 0
    for record in records:
        together.append(record)
        size += _size(record)
        if len(together) >= _TOGETHER or size > _BYTES_TOGETHER:
            break
    return together


class _Import:
    """The state of one import: the rows that the next records belong to, and the rows to be stored."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._project = project_id(name)
        self.head: ProjectHead | None = None
        self._file: FileRecord | None = None
        self._files = self._sessions = self._turns = self._rows = 0
        self._session = ""
        self._pending: dict[str, list[tuple[Any, ...]]] = {}

    def take(self, records: Iterable[Record]) -> None:
        for record in records:
            match record:
                case ProjectRecord():
                    self._add_project(record)
                case FileRecord():
                    self._add_file(record)
                case VersionRow():
                    self._add_version(record)
                case SessionRecord():
                    self._sessions += 1
                    self._session = to_text(record.session_id)
                    self._insert(
                        "session (project, id, name, title, sequence, created_at)",
                        _IMPORTED + self._sessions,
                        self._session,
                        to_text_or_none(record.title),
                        record.sequence,
                        record.created_at,
                    )
                case TurnRecord():
                    self._add_turn(record)
                case BlockRecord():
                    self._insert(
                        "block (project, turn, position, type, created_at, content, told_from, checksum)",
                        _IMPORTED + self._turns,
                        record.index,
                        record.type,
                        record.created_at,
                        record.content,
                        record.told_from,
                        checksum(record.content),
                    )

    async def store(self, connection: Connection) -> None:
        """Store the rows collected so far."""
        for target, rows in self._pending.items():
            marks = ", ".join(f"${number}" for number in range(1, len(rows[0]) + 1))
            await connection.executemany(f"INSERT INTO {target} VALUES ({marks})", rows, timeout=600)
        self._pending.clear()

    def _insert(self, target: str, *values: object) -> None:
        """Queue a row to be stored: `target` is its table and columns, the first of which is the project."""
        table, _, names = target.partition(" ")
        columns = names.strip("()").split(", ")
        row = (self._project, *values)
        (check,) = checks_of(table, columns, [row])
        self._pending.setdefault(f"{table} ({', '.join(columns)}, row_check)", []).append((*row, check))

    def _add_project(self, record: ProjectRecord) -> None:
        epoch = new_epoch()
        self.head = ProjectHead(self._name, epoch, Sequence(record.sequence), Milliseconds(record.last_modified))
        self._insert(
            "project (id, name, epoch, sequence, last_modified, tombstone_floor)",
            self._name,
            epoch,
            record.sequence,
            record.last_modified,
            record.tombstone_floor,
        )

    def _add_file(self, record: FileRecord) -> None:
        self._files += 1
        self._file = record
        forgotten = not record.deleted or record.base_version >= record.version
        self._insert(
            "file (project, id, path, version, incarnation, sequence, last_modified, size, deleted, born_version,"
            " born_sequence, base_version, deleted_at)",
            _IMPORTED + self._files,
            record.path,
            record.version,
            new_incarnation(),
            record.sequence,
            record.last_modified,
            record.size,
            record.deleted,
            record.born_version,
            record.born_sequence,
            record.base_version,
            None if forgotten else record.last_modified,
        )
        for life in record.lives:
            self._insert(
                "past_life (project, file, born_version, incarnation, born_sequence, died_sequence)",
                _IMPORTED + self._files,
                life.born_version,
                new_incarnation(),
                life.born_sequence,
                life.died_sequence,
            )

    def _add_version(self, record: VersionRow) -> None:
        self._rows += 1
        file = self._file
        if file is None:
            raise NotAnExport(self._name, "a version belongs to no file")
        check, credential = None, to_text_or_none(record.credential)
        if record.update is not None:
            squashed = record.version == file.base_version
            check = squashed_checksum(record.update) if squashed else checksum(record.update)
        self._insert(
            "change (project, sequence, file, version, last_modified, size, author, checksum, body, credential,"
            " credential_check)",
            file.sequence if record.version == file.version else -self._rows,
            _IMPORTED + self._files,
            record.version,
            record.last_modified,
            record.size,
            to_text_or_none(record.author),
            check,
            record.update,
            credential,
            credential_checksum(_IMPORTED + self._files, record.version, credential),
        )

    def _add_turn(self, record: TurnRecord) -> None:
        self._turns += 1
        id = _IMPORTED + self._turns
        self._insert(
            "turn (project, id, session, name, status, block_count, sequence, last_updated, created_at, started_at,"
            " completed_at, error, size, output_offset, result_status, result_error, settling, grown)",
            id,
            self._session,
            to_text(record.turn_id),
            record.status,
            record.block_count,
            record.sequence,
            record.last_updated,
            record.created_at,
            record.started_at,
            record.completed_at,
            to_text_or_none(record.error),
            record.size,
            record.output_offset,
            record.result_status,
            to_text_or_none(record.result_error),
            bool(record.settling),
            bool(record.grown),
        )
        self._insert("prompt (project, turn, body)", id, to_text(record.prompt))
        if record.output_state:
            self._insert("output_state (project, turn, body)", id, record.output_state)


async def dangling(connection: Connection) -> list[str]:
    """Describe, in words, the rows that refer to rows that do not exist."""
    found = []
    for table, parent, key in (
        ("file", "project", "p.id = r.project"),
        ("session", "project", "p.id = r.project"),
        ("change", "file", "p.project = r.project AND p.id = r.file"),
        ("past_life", "file", "p.project = r.project AND p.id = r.file"),
        ("snapshot", "file", "p.project = r.project AND p.id = r.file"),
        ("turn", "session", "p.project = r.project AND p.name = r.session"),
        ("prompt", "turn", "p.project = r.project AND p.id = r.turn"),
        ("output_state", "turn", "p.project = r.project AND p.id = r.turn"),
        ("block", "turn", "p.project = r.project AND p.id = r.turn"),
    ):
        rows = await connection.fetch(
            f"SELECT r.project, count(*) FROM {table} r LEFT JOIN {parent} p ON {key} WHERE p.id IS NULL"
            " GROUP BY r.project ORDER BY r.project",
            timeout=3600,
        )
        found += [
            f"{count} rows of {table} (project {project}) belong to a {parent} that is not there"
            for project, count in rows
        ]
    return found
