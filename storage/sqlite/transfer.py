"""Backup, export and import of projects."""

import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from msgspec import Struct
from msgspec.structs import asdict

from storage.checksums import DAMAGED, check_row, checksum, credential_checksum, row_checksum, squashed_checksum
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
from storage.records import Milliseconds, ProjectHead, Sequence, new_incarnation
from storage.sqlite.files import log_from
from storage.sqlite.row_checks import checksum_of_values, intact


def back_up(connection: sqlite3.Connection, target: Path) -> None:
    """Write everything committed as of now into a new database file, marked as a backup."""
    connection.execute("VACUUM INTO ?", (str(target),))
    with sqlite3.connect(target, isolation_level=None) as copy:
        copy.execute("DELETE FROM identity")
        copy.execute("INSERT INTO backup (made_at) VALUES (?)", (wall_clock(),))
    copy.close()


def export_project(connection: sqlite3.Connection, project: str) -> Iterator[Record]:
    """Yield the records of a project; none if there is no such project."""
    row = connection.execute(
        f"SELECT {intact('project')}, id, sequence, last_modified, tombstone_floor FROM project WHERE name = ?",
        (project,),
    ).fetchone()
    if row is None:
        return
    _require(row[0], f"project {project!r}")
    sequence, last_modified, floor = row[2:]
    yield ProjectRecord(project, sequence, last_modified, floor, exported_at=wall_clock())
    yield from _files(connection, row[1])
    yield from _sessions(connection, row[1])


def _require(is_intact: int, what: str) -> None:
    if not is_intact:
        raise DataDamaged(None, DAMAGED, what=what)


def _files(connection: sqlite3.Connection, project: int) -> Iterator[Record]:
    for id, is_intact, *columns in connection.execute(
        f"SELECT id, {intact('file')}, path, version, sequence, last_modified, size, deleted, born_version,"
        " born_sequence, base_version FROM file WHERE project = ? ORDER BY path",
        (project,),
    ):
        path, version, sequence, last_modified, size, deleted, born_version, born_sequence, base = columns
        _require(is_intact, f"the newest state of {path!r}")
        lives = connection.execute(
            f"SELECT {intact('past_life')}, born_version, born_sequence, died_sequence FROM past_life"
            " WHERE file = ? ORDER BY born_version",
            (id,),
        ).fetchall()
        _require(all(life[0] for life in lives), f"a former incarnation of {path!r}")
        yield FileRecord(
            path,
            version,
            sequence,
            last_modified,
            size,
            bool(deleted),
            born_version,
            born_sequence,
            base,
            tuple(LifeRecord(*life[1:]) for life in lives),
        )
        for row in log_from(connection, id, base):
            if not check_row(row, squashed=row.version == base):
                raise DataDamaged(path, DAMAGED, row.version)
            yield VersionRow(row.version, row.last_modified, row.size, row.author, row.body, row.credential)


def _sessions(connection: sqlite3.Connection, project: int) -> Iterator[Record]:
    for id, is_intact, *columns in connection.execute(
        f"SELECT id, {intact('session')}, name, title, sequence, created_at FROM session WHERE project = ? ORDER BY id",
        (project,),
    ):
        session = columns[0]
        _require(is_intact, f"session {session!r}")
        yield SessionRecord(*columns)
        turns = connection.execute(
            f"SELECT turn.id, {intact('turn')} AND {intact('prompt')}"
            f" AND (output_state.turn IS NULL OR {intact('output_state')}), name, status, block_count,"
            " sequence, last_updated, created_at, started_at, completed_at,"
            " error, size, output_offset, prompt.body, ifnull(output_state.body, x''), result_status, result_error,"
            " settling, grown"
            " FROM turn JOIN prompt ON prompt.turn = turn.id LEFT JOIN output_state ON output_state.turn = turn.id"
            " WHERE session = ? ORDER BY turn.id",
            (id,),
        )
        for turn, is_whole, *fields in turns:
            what = f"turn {fields[0]!r} of session {session!r}"
            _require(is_whole, what)
            yield TurnRecord(*fields)
            blocks = connection.execute(
                f"SELECT {intact('block')}, position, type, created_at, content, told_from FROM block"
                " WHERE turn = ? ORDER BY position",
                (turn,),
            )
            for is_sound, *block in blocks:
                _require(is_sound, f"block {block[0]} of {what}")
                yield BlockRecord(*block)


def import_project(connection: sqlite3.Connection, name: str, records: Iterable[Record]) -> ProjectHead:
    """Write the records of a project under a name, with a new epoch and new incarnations.

    Raises:
        ProjectExists, NotAnExport
    """
    if connection.execute("SELECT 1 FROM project WHERE name = ?", (name,)).fetchone() is not None:
        raise ProjectExists(name)
    try:
        return _Import(connection, name).write(records)
    except sqlite3.IntegrityError as error:
        raise NotAnExport(name, f"its records do not fit together: {error}") from None
    except UnicodeEncodeError:
        raise NotAnExport(name, "it has text that is not valid Unicode") from None


class _Import:
    """The state of one import: the rows that the next records belong to."""

    def __init__(self, connection: sqlite3.Connection, name: str) -> None:
        self._connection = connection
        self._name = name
        self._project = self._file = self._session = self._turn = 0
        self._session_name = ""
        self._newest = 0, 0
        """The newest version of the file and its sequence."""
        self._base = 0
        """The oldest available version of the file."""
        self._size = 0
        """Bytes of the content of the turn's blocks so far."""

    def write(self, records: Iterable[Record]) -> ProjectHead:
        head: ProjectHead | None = None
        for record in records:
            match record:
                case ProjectRecord():
                    head = self._add_project(record)
                case FileRecord():
                    self._add_file(record)
                case VersionRow(update=body):
                    told = _fields(record, but=("update",))
                    told |= self._place(record)
                    told["credential_check"] = credential_checksum(self._file, record.version, record.credential)
                    self._insert("file_update", file=self._file, **told, checksum=self._checksum(record), body=body)
                case SessionRecord(session_id=name):
                    told = _fields(record, but=("session_id",))
                    self._session_name = name
                    self._session = self._insert("session", project=self._project, name=name, **told)
                case TurnRecord():
                    self._add_turn(record)
                case BlockRecord(index=position):
                    told = _fields(record, but=("index",))
                    self._size += len(record.content)
                    told["checksum"] = checksum(record.content)
                    self._insert("block", turn=self._turn, position=position, size=self._size, **told)
        if head is None:
            raise NotAnExport(self._name, "there is no project in it")
        return head

    def _checksum(self, record: VersionRow) -> int | None:
        if record.update is None:
            return None
        return squashed_checksum(record.update) if record.version == self._base else checksum(record.update)

    def _place(self, record: VersionRow) -> dict[str, object]:
        """Return the sequence of a row of the log, with a checksum; it is known only for the file's newest version."""
        version, sequence = self._newest
        if record.version != version:
            return {}
        return {"sequence": sequence, "sequence_check": row_checksum(self._file, version, sequence)}

    def _insert(self, table: str, **values: object) -> int:
        """Insert a row with its checksum and return its id."""
        named = {**values, "session": self._session_name} if table == "turn" else values
        values["row_check"] = checksum_of_values(table, named)
        marks = ", ".join("?" * len(values))
        statement = f"INSERT INTO {table} ({', '.join(values)}) VALUES ({marks})"
        return int(self._connection.execute(statement, tuple(values.values())).lastrowid or 0)

    def _add_project(self, record: ProjectRecord) -> ProjectHead:
        epoch = new_epoch()
        told = _fields(record, but=("name", "exported_at", "format"))
        told["floor_check"] = row_checksum(record.tombstone_floor)
        self._project = self._insert("project", name=self._name, epoch=epoch, **told)
        return ProjectHead(self._name, epoch, Sequence(record.sequence), Milliseconds(record.last_modified))

    def _add_file(self, record: FileRecord) -> None:
        self._base = record.base_version
        self._newest = record.version, record.sequence
        told = _fields(record, but=("lives",)) | {"base_check": row_checksum(record.base_version)}
        self._file = self._insert("file", project=self._project, incarnation=new_incarnation(), **told)
        for life in record.lives:
            self._insert("past_life", file=self._file, incarnation=new_incarnation(), **_fields(life))

    def _add_turn(self, record: TurnRecord) -> None:
        self._size = 0
        told = _fields(record, but=("turn_id", "prompt", "output_state"))
        self._turn = self._insert("turn", project=self._project, session=self._session, name=record.turn_id, **told)
        self._insert("prompt", turn=self._turn, body=record.prompt)
        if record.output_state:
            self._insert("output_state", turn=self._turn, body=record.output_state)


def _fields(record: Struct, but: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return the fields of a record, by column name."""
    return {name: value for name, value in asdict(record).items() if name not in but}
