"""How changes become rows: versions, sequence numbers, times and incarnations, in the transaction that writes."""

import secrets
import sqlite3
import time
import zlib
from collections.abc import Callable, Iterable

from storage.errors import PredecessorFailed, StorageError, VersionConflict
from storage.records import (
    AppendUpdate,
    Change,
    Commit,
    Committed,
    CreateSession,
    CreateTurn,
    DeleteFile,
    Epoch,
    FileHead,
    Incarnation,
    Milliseconds,
    ProjectHead,
    Sequence,
    TurnChange,
    UpdateTurn,
    Version,
    new_incarnation,
)
from storage.sqlite.files import head_from_row
from storage.sqlite.turn_log import TurnLog

Clock = Callable[[], int]
"""Gives milliseconds since 1970."""
_UpdateRow = tuple[int, int, int, int, str | None, int | None, bytes | None]
"""File, version, last_modified, size, author, checksum, body."""


def wall_clock() -> int:
    return time.time_ns() // 1_000_000


_CACHED_FILES = 16_384
_TURN_CHANGES = (CreateSession, CreateTurn, UpdateTurn)


class _Project:
    """A project's row, as the writer knows it."""

    __slots__ = ("epoch", "id", "last_modified", "name", "sequence")

    def __init__(self, id: int, name: str, epoch: Epoch, sequence: int, last_modified: int) -> None:
        self.id = id
        self.name = name
        self.epoch = epoch
        self.sequence = sequence
        self.last_modified = last_modified


class _File:
    """A file's row, as the writer knows it."""

    __slots__ = ("head", "id")

    def __init__(self, id: int, head: FileHead) -> None:
        self.id = id
        self.head = head


class Log:
    """Turns changes into rows. Runs in the writer's thread, inside the transaction.

    It remembers the rows it has written or read: nobody else writes to this file. A transaction that fails takes the
    memory with it (`forget`).
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._projects: dict[str, _Project] = {}
        self._files: dict[tuple[str, str], _File] = {}
        self._turns = TurnLog()

    def forget(self) -> None:
        self._projects.clear()
        self._files.clear()
        self._turns.forget()

    def write(
        self, connection: sqlite3.Connection, requests: list[tuple[str, tuple[Change | TurnChange, ...]]]
    ) -> list[tuple[Commit, ...] | StorageError]:
        if len(self._files) > _CACHED_FILES:
            self.forget()
        now = self._clock()
        results: list[tuple[Commit, ...] | StorageError] = []
        rows: list[_UpdateRow] = []
        files: dict[int, FileHead] = {}
        projects: dict[int, _Project] = {}
        for name, changes in requests:
            conflict = self._first_conflict(connection, name, changes, now)
            if conflict is not None:
                break_lines(changes)
                results.append(conflict)
                continue
            project = self._project(connection, name) or self._create_project(connection, name, now)
            projects[project.id] = project
            results.append(tuple(self._add(connection, project, change, now, rows, files) for change in changes))
        connection.executemany(
            "INSERT INTO file_update (file, version, last_modified, size, author, checksum, body)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            rows,
        )
        connection.executemany(
            "UPDATE file SET version = ?, sequence = ?, last_modified = ?, size = ? WHERE id = ?",
            [(head.version, head.sequence, head.last_modified, head.size, id) for id, head in files.items()],
        )
        connection.executemany(
            "UPDATE project SET sequence = ?, last_modified = ? WHERE id = ?",
            [(project.sequence, project.last_modified, project.id) for project in projects.values()],
        )
        return results

    def _first_conflict(
        self, connection: sqlite3.Connection, project: str, changes: tuple[Change | TurnChange, ...], now: int
    ) -> StorageError | None:
        expected: dict[str, int] = {}
        for change in changes:
            if isinstance(change, _TURN_CHANGES):
                conflict = self._turns.conflict(connection, project, change, now)
                if conflict is not None:
                    return conflict
                continue
            path = change.path
            found = expected.get(path)
            head = None
            if found is None:
                file = self._files.get((project, path)) or self._load_file(connection, project, path)
                head = file.head if file else None
                found = head.version if head else 0
            if type(change) is AppendUpdate and change.line is not None and change.line.broken:
                return PredecessorFailed(project, path, change.expected_version, found)
            if found != change.expected_version:
                return VersionConflict(project, path, change.expected_version, found)
            if type(change) is AppendUpdate and head is not None and _is_for_another_life(change, head):
                return PredecessorFailed(project, path, change.expected_version, found)
            expected[path] = found + 1
        return None

    def _project(self, connection: sqlite3.Connection, name: str) -> _Project | None:
        known = self._projects.get(name)
        if known is not None:
            return known
        row = connection.execute(
            "SELECT id, name, epoch, sequence, last_modified FROM project WHERE name = ?", (name,)
        ).fetchone()
        if row is None:
            return None
        self._projects[name] = project = _Project(*row)
        return project

    def _create_project(self, connection: sqlite3.Connection, name: str, now: int) -> _Project:
        epoch = new_epoch()
        cursor = connection.execute(
            "INSERT INTO project (name, epoch, sequence, last_modified) VALUES (?, ?, 0, ?)", (name, epoch, now)
        )
        assert cursor.lastrowid is not None
        self._projects[name] = project = _Project(cursor.lastrowid, name, epoch, 0, now)
        return project

    def _load_file(self, connection: sqlite3.Connection, project_name: str, path: str) -> _File | None:
        project = self._project(connection, project_name)
        if project is None:
            return None
        row = connection.execute(
            "SELECT id, path, version, incarnation, sequence, last_modified, size, deleted, born_version, born_sequence"
            " FROM file WHERE project = ? AND path = ?",
            (project.id, path),
        ).fetchone()
        if row is None:
            return None
        self._files[project_name, path] = file = _File(row[0], head_from_row(row[1:]))
        return file

    def _add(
        self,
        connection: sqlite3.Connection,
        project: _Project,
        change: Change | TurnChange,
        now: int,
        rows: list[_UpdateRow],
        files: dict[int, FileHead],
    ) -> Commit:
        """Advance the project by one change, and write or note the rows that say so."""
        project.sequence += 1
        project.last_modified = max(project.last_modified, now)
        advanced = ProjectHead(
            project.name, project.epoch, Sequence(project.sequence), Milliseconds(project.last_modified)
        )
        if isinstance(change, _TURN_CHANGES):
            return self._turns.add(connection, project.id, advanced, change)
        return self._add_version(connection, project, advanced, change, rows, files)

    def _add_version(
        self,
        connection: sqlite3.Connection,
        project: _Project,
        advanced: ProjectHead,
        change: Change,
        rows: list[_UpdateRow],
        files: dict[int, FileHead],
    ) -> Committed:
        sequence, time = advanced.sequence, advanced.last_modified
        file = self._files.get((project.name, change.path)) or self._create_file(connection, project, change.path, time)
        old = file.head
        version = Version(old.version + 1)
        deleted = type(change) is DeleteFile
        body = change.body if type(change) is AppendUpdate else None
        size = old.size
        incarnation, born_version, born_sequence = old.incarnation, old.born_version, old.born_sequence
        if old.deleted and not deleted:
            if old.version:
                self._bury(connection, file.id, old)
            size, born_version, born_sequence = 0, version, sequence
            incarnation = (type(change) is AppendUpdate and change.incarnation) or new_incarnation()
        if body is not None:
            size += len(body)
        if old.deleted or deleted:
            connection.execute(
                "UPDATE file SET incarnation = ?, deleted = ?, born_version = ?, born_sequence = ? WHERE id = ?",
                (incarnation, deleted, born_version, born_sequence, file.id),
            )
        head = FileHead(change.path, version, incarnation, sequence, time, size, deleted, born_version, born_sequence)
        file.head = files[file.id] = head
        checksum = None if body is None else zlib.crc32(body)
        rows.append((file.id, version, time, size, change.author, checksum, body))
        return Committed(advanced, head, body)

    def _create_file(self, connection: sqlite3.Connection, project: _Project, path: str, now: int) -> _File:
        """A row for a file that is about to get its first version, with the sequence of that change."""
        cursor = connection.execute(
            "INSERT INTO file (project, path, version, incarnation, sequence, last_modified, size, deleted,"
            " born_version, born_sequence) VALUES (?, ?, 0, '', ?, ?, 0, 1, 0, 0)",
            (project.id, path, project.sequence, now),
        )
        assert cursor.lastrowid is not None
        head = FileHead(
            path, Version(0), Incarnation(""), Sequence(0), Milliseconds(now), 0, True, Version(0), Sequence(0)
        )
        self._files[project.name, path] = file = _File(cursor.lastrowid, head)
        return file

    @staticmethod
    def _bury(connection: sqlite3.Connection, file: int, head: FileHead) -> None:
        """Remember an incarnation that ended with the tombstone `head`."""
        connection.execute(
            "INSERT INTO past_life (file, born_version, incarnation, born_sequence, died_sequence)"
            " VALUES (?, ?, ?, ?, ?)",
            (file, head.born_version, head.incarnation, head.born_sequence, head.sequence),
        )


def _is_for_another_life(change: AppendUpdate, head: FileHead) -> bool:
    """Whether a change was made for another life of the file than the one that it would be added to."""
    return change.incarnation is not None and (change.incarnation == head.incarnation) is head.deleted


def break_lines(changes: Iterable[Change | TurnChange]) -> None:
    """Note that changes were not stored."""
    for change in changes:
        if type(change) is AppendUpdate and change.line is not None:
            change.line.broken = True


def new_epoch() -> Epoch:
    """A name that no other life of a project has had."""
    return Epoch(secrets.token_hex(5))
