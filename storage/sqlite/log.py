"""Stores what a plan of `storage.log` holds, in the transaction that writes."""

import sqlite3
from collections.abc import Sequence

from storage.log import (
    Clock,
    KnownFile,
    KnownProject,
    Needs,
    Plan,
    Request,
    Result,
    needs,
    new_project,
)
from storage.records import Epoch, Milliseconds, ProjectHead
from storage.records import Sequence as Position
from storage.sqlite.files import head_from_row
from storage.sqlite.turn_log import load_turns, store_turns

_REMEMBERED_ROWS = 16_384


class Log:
    """Turns changes into rows. Runs in the writer's thread, inside the transaction.

    It remembers the rows it has written or read: nobody else writes to this file. A transaction that fails takes the
    memory with it (`forget`).
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._projects: dict[str, KnownProject] = {}

    def forget(self) -> None:
        self._projects.clear()

    def write(self, connection: sqlite3.Connection, requests: Sequence[tuple[str, Request]]) -> list[Result]:
        """Store requests, each of a project; returns what came of each, in their order."""
        if sum(project.size for project in self._projects.values()) > _REMEMBERED_ROWS:
            self.forget()
        now = self._clock()
        plans: dict[str, Plan] = {}
        for name, request in requests:
            plan = plans.get(name)
            if plan is None:
                known = self._projects.get(name) or _load_project(connection, name) or new_project(name, now)
                plan = plans[name] = Plan(known, now)
            if missing := needs(plan.known, (request,)):
                _load(connection, plan.known, missing, now)
            plan.add(request)
        results = {name: iter(plan.results) for name, plan in plans.items()}
        for name, plan in plans.items():
            if plan.stores:
                _store(connection, plan)
            if plan.known.id:
                self._projects[name] = plan.known
            plan.settle()
        return [next(results[name]) for name, _ in requests]


def _load_project(connection: sqlite3.Connection, name: str) -> KnownProject | None:
    row = connection.execute(
        "SELECT id, epoch, sequence, last_modified FROM project WHERE name = ?", (name,)
    ).fetchone()
    if row is None:
        return None
    return KnownProject(row[0], ProjectHead(name, Epoch(row[1]), Position(row[2]), Milliseconds(row[3])))


def _load(connection: sqlite3.Connection, known: KnownProject, missing: Needs, now: int) -> None:
    """Read what is missing and there."""
    if not known.id:
        return
    for path in missing.paths:
        row = connection.execute(
            "SELECT id, path, version, incarnation, sequence, last_modified, size, deleted, born_version, born_sequence"
            " FROM file WHERE project = ? AND path = ?",
            (known.id, path),
        ).fetchone()
        if row is not None:
            known.files[path] = KnownFile(row[0], head_from_row(row[1:]))
    load_turns(connection, known, missing, now)


def _store(connection: sqlite3.Connection, plan: Plan) -> None:
    project, head = plan.known, plan.head
    if project.id:
        connection.execute(
            "UPDATE project SET sequence = ?, last_modified = ? WHERE id = ?",
            (head.sequence, head.last_modified, project.id),
        )
    else:
        project.id = _insert(
            connection,
            "INSERT INTO project (name, epoch, sequence, last_modified) VALUES (?, ?, ?, ?)",
            (head.name, head.epoch, head.sequence, head.last_modified),
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
            " born_version, born_sequence) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
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
            ),
        )
    for life in plan.past_lives:
        connection.execute(
            "INSERT INTO past_life (file, born_version, incarnation, born_sequence, died_sequence)"
            " VALUES (?, ?, ?, ?, ?)",
            (
                life.file.id,
                life.head.born_version,
                life.head.incarnation,
                life.head.born_sequence,
                life.head.sequence,
            ),
        )
    connection.executemany(
        "INSERT INTO file_update (file, version, last_modified, size, author, checksum, body)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        [
            (row.file.id, row.version, row.last_modified, row.size, row.author, row.checksum, row.body)
            for row in plan.rows
        ],
    )
    changed = [(path, file.id, file.head) for path, file in plan.files.items() if path not in plan.new_files]
    connection.executemany(
        "UPDATE file SET version = ?, sequence = ?, last_modified = ?, size = ? WHERE id = ?",
        [(head.version, head.sequence, head.last_modified, head.size, id) for _, id, head in changed],
    )
    # Its columns are in an index: written only where a life began or ended.
    connection.executemany(
        "UPDATE file SET incarnation = ?, deleted = ?, born_version = ?, born_sequence = ? WHERE id = ?",
        [
            (head.incarnation, head.deleted, head.born_version, head.born_sequence, id)
            for path, id, head in changed
            if head.deleted or head.born_version != plan.known.files[path].head.born_version
        ],
    )


def _insert(connection: sqlite3.Connection, statement: str, values: tuple[object, ...]) -> int:
    """Insert a row; returns its id."""
    id = connection.execute(statement, values).lastrowid
    assert id is not None
    return id
