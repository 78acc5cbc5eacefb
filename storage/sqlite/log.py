"""Storing a plan of `storage.log` inside the write transaction."""

import sqlite3
from collections.abc import Sequence

from storage.checksums import credential_checksum, row_checksum
from storage.errors import DataDamaged
from storage.log import (
    Clock,
    KnownFile,
    KnownProject,
    Needs,
    Plan,
    Request,
    Result,
    VersionRow,
    break_lines,
    needs,
    new_project,
)
from storage.records import ErasedProject
from storage.sqlite.files import head_checksum, load_head, project_head, require_no_project
from storage.sqlite.large_values import LARGE_BYTES, execute_and_forget, insert_statement
from storage.sqlite.projects import erase_project
from storage.sqlite.turn_log import load_turns, store_turns

_REMEMBERED_ROWS = 16_384

# sqlite3 asks each value that is not an int, float, str or bytearray whether it adapts itself: None and bytes take
# several times as long as others. Most rows have no author, and a short body.
_UPDATE_COLUMNS = "file, version, last_modified, size, checksum, row_check, body, sequence, sequence_check"
_AUTHOR_COLUMNS = "author, credential, credential_check"
_INSERT_UPDATE = f"INSERT INTO file_update ({_UPDATE_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
_ALL_COLUMNS = f"{_UPDATE_COLUMNS}, {_AUTHOR_COLUMNS}"
_INSERT_UPDATE_BY = f"INSERT INTO file_update ({_ALL_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_INSERT_LARGE_UPDATE = insert_statement("file_update", _ALL_COLUMNS)
_SHORT_BODY = 1024
"""Up to so many bytes, a body is copied to be bound faster."""


class Log:
    """Turns changes into rows. Runs in the writer's thread, inside the transaction.

    Rows that were written or read are cached, because no other process writes to this file. A failed transaction
    clears the cache (`forget`).
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._projects: dict[str, KnownProject] = {}
        self.remembered = 0
        """How many rows are cached, without those of the projects themselves."""

    def forget(self) -> None:
        self._projects.clear()
        self.remembered = 0

    def erase(self, connection: sqlite3.Connection, name: str) -> list[Result]:
        """Delete a project, and return the one result: an `ErasedProject`, or nothing if there is no such project."""
        head = erase_project(connection, name)
        self.forget()  # row ids may be used again
        return [() if head is None else (ErasedProject(head),)]

    def write(self, connection: sqlite3.Connection, requests: Sequence[tuple[str, Request]]) -> list[Result]:
        """Store requests, each for a project, and return their results in order."""
        if self.remembered > _REMEMBERED_ROWS:
            self.forget()
        now = self._clock()
        plans: dict[str, Plan] = {}
        sizes: dict[str, int] = {}
        """How many rows of each project were cached before."""
        damaged: dict[int, DataDamaged] = {}
        for place, (name, request) in enumerate(requests):
            try:
                plan = plans.get(name)
                if plan is None:
                    known = self._projects.get(name) or _load_project(connection, name) or new_project(name, now)
                    plan, sizes[name] = Plan(known, now), known.size
                    plans[name] = plan
                if plan.add_next(request):
                    continue
                if missing := needs(plan.known, (request,)):
                    _load(connection, plan.known, missing, now)
            except DataDamaged as error:  # nothing is built on damaged data; other requests are not affected
                damaged[place] = error
                break_lines(request)
                continue
            plan.add(request)
        for name, plan in plans.items():
            if plan.stores:
                _store(connection, plan)
            plan.settle()
            if plan.known.id:
                self._projects[name] = plan.known
                self.remembered += plan.known.size - sizes[name]
        if len(plans) == 1 and not damaged:
            (plan,) = plans.values()
            return plan.results
        results = {name: iter(plan.results) for name, plan in plans.items()}
        return [damaged.get(place) or next(results[name]) for place, (name, _) in enumerate(requests)]


def _load_project(connection: sqlite3.Connection, name: str) -> KnownProject | None:
    found = project_head(connection, name)
    if found is None:
        require_no_project(connection, name)
        return None
    return KnownProject(*found)


def _load(connection: sqlite3.Connection, known: KnownProject, missing: Needs, now: int) -> None:
    """Load the missing rows that exist."""
    if not known.id:
        return
    for path in missing.paths:
        found = load_head(connection, known.id, path)
        if found is not None:
            known.files[path] = KnownFile(*found)
    load_turns(connection, known, missing, now)


def _store(connection: sqlite3.Connection, plan: Plan) -> None:
    project, head = plan.known, plan.head
    check = row_checksum(head.name, head.epoch, head.sequence, head.last_modified)
    if project.id:
        connection.execute(
            "UPDATE project SET sequence = ?, last_modified = ?, row_check = ? WHERE id = ?",
            (head.sequence, head.last_modified, check, project.id),
        )
    else:
        project.id = _insert(
            connection,
            "INSERT INTO project (name, epoch, sequence, last_modified, row_check, floor_check)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            (head.name, head.epoch, head.sequence, head.last_modified, check, row_checksum(0)),
        )
    if plan.rows:
        _store_files(connection, project.id, plan)
    store_turns(connection, plan)


def _store_files(connection: sqlite3.Connection, project: int, plan: Plan) -> None:
    for file in plan.new_files.values():
        head = file.head
        file.id = _insert(
            connection,
            "INSERT INTO file (project, path, version, incarnation, sequence, last_modified, size, deleted,"
            " born_version, born_sequence, row_check, base_check) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                project,
                head.path,
                head.version,
                head.incarnation,
                head.sequence,
                head.last_modified,
                head.size,
                head.deleted,
                head.born_version,
                head.born_sequence,
                head_checksum(project, head),
                row_checksum(0),
            ),
        )
    for life in plan.past_incarnations:
        values = (
            life.file.id,
            life.head.born_version,
            life.head.incarnation,
            life.head.born_sequence,
            life.head.sequence,
        )
        connection.execute(
            "INSERT INTO past_life (file, born_version, incarnation, born_sequence, died_sequence, row_check)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            (*values, row_checksum(*values)),
        )
    anonymous, others, large = [], [], []
    for row in plan.rows:
        columns = _update_values(row)
        if row.body is not None and len(row.body) >= LARGE_BYTES:
            large.append((*columns, *_author_values(row)))
        elif row.author is None and row.credential is None:
            anonymous.append(columns)
        else:
            others.append((*columns, *_author_values(row)))
    connection.executemany(_INSERT_UPDATE, anonymous)
    if others:
        connection.executemany(_INSERT_UPDATE_BY, others)
    if large:
        execute_and_forget(connection, _INSERT_LARGE_UPDATE, large)
    changed = [(path, file.id, file.head) for path, file in plan.files.items() if path not in plan.new_files]
    connection.executemany(
        "UPDATE file SET version = ?, sequence = ?, last_modified = ?, size = ?, row_check = ? WHERE id = ?",
        [
            (head.version, head.sequence, head.last_modified, head.size, head_checksum(project, head), id)
            for _, id, head in changed
        ],
    )
    # These columns are in an index: written only if an incarnation began or ended.
    began_or_ended = [
        (head.incarnation, head.deleted, head.born_version, head.born_sequence, id)
        for path, id, head in changed
        if head.deleted or head.born_version != plan.known.files[path].head.born_version
    ]
    if began_or_ended:
        connection.executemany(
            "UPDATE file SET incarnation = ?, deleted = ?, born_version = ?, born_sequence = ? WHERE id = ?",
            began_or_ended,
        )


def _update_values(row: VersionRow) -> tuple[int | bytes | bytearray | None, ...]:
    """Return the values of the columns `_UPDATE_COLUMNS` of a row of the log."""
    file, version, last_modified, size, checksum = row.file.id, row.version, row.last_modified, row.size, row.checksum
    check = row_checksum(file, version, last_modified, size, row.author, checksum)
    body: bytes | bytearray | None = row.body
    if body is not None and len(body) <= _SHORT_BODY:
        body = bytearray(body)
    sequence_check = row_checksum(file, version, row.sequence)
    return file, version, last_modified, size, checksum, check, body, row.sequence, sequence_check


def _author_values(row: VersionRow) -> tuple[int | str | None, ...]:
    """Return the values of the columns `_AUTHOR_COLUMNS` of a row of the log."""
    return row.author, row.credential, credential_checksum(row.file.id, row.version, row.credential)


def _insert(connection: sqlite3.Connection, statement: str, values: tuple[object, ...]) -> int:
    """Insert a row and return its id."""
    id = connection.execute(statement, values).lastrowid
    assert id is not None
    return id
