"""Storing a plan of `storage.log` inside the write transaction."""

import sqlite3
from collections.abc import Sequence

from storage.checksums import row_checksum
from storage.errors import DataDamaged
from storage.log import (
    Clock,
    KnownFile,
    KnownProject,
    Needs,
    Plan,
    Request,
    Result,
    break_lines,
    needs,
    new_project,
)
from storage.records import ErasedProject
from storage.sqlite.files import head_checksum, load_head, project_head, require_no_project
from storage.sqlite.projects import erase_project
from storage.sqlite.turn_log import load_turns, store_turns
from storage.sqlite.update_rows import UpdateRows

_REMEMBERED_ROWS = 16_384


class Log:
    """Turns changes into rows. Runs in the writer's thread, inside the transaction.

    Rows that were written or read are cached, because no other process writes to this file. A failed transaction
    clears the cache (`forget`).
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._projects: dict[str, KnownProject] = {}
        self._updates = UpdateRows()
        self.remembered = 0
        """How many rows are cached, without those of the projects themselves."""

    def forget(self) -> None:
        self._projects.clear()
        self._updates.forget()
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
        """How many rows were cached of each project of which more may be cached now."""
        damaged: dict[int, DataDamaged] = {}
        for place, (name, request) in enumerate(requests):
            try:
                plan = plans.get(name)
                if plan is None:
                    known = self._projects.get(name) or _load_project(connection, name) or new_project(name, now)
                    plan = plans[name] = Plan(known, now)
                if plan.add_next(request):
                    continue
                sizes.setdefault(name, plan.known.size)
                if missing := needs(plan.known, (request,)):
                    _load(connection, plan.known, missing, now)
            except DataDamaged as error:  # nothing is built on damaged data; other requests are not affected
                damaged[place] = error
                break_lines(request)
                continue
            plan.add(request)
        for name, plan in plans.items():
            if plan.stores:
                _store(connection, plan, self._updates)
            plan.settle()
            if plan.known.id:
                self._projects[name] = plan.known
                if name in sizes:
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


def _store(connection: sqlite3.Connection, plan: Plan, updates: UpdateRows) -> None:
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
        _store_files(connection, project.id, plan, updates)
    if plan.turns or plan.new_sessions:
        store_turns(connection, plan)


def _store_files(connection: sqlite3.Connection, project: int, plan: Plan, updates: UpdateRows) -> None:
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
    updates.insert(connection, plan.rows, files=len(plan.files))
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


def _insert(connection: sqlite3.Connection, statement: str, values: tuple[object, ...]) -> int:
    """Insert a row and return its id."""
    id = connection.execute(statement, values).lastrowid
    assert id is not None
    return id
