"""Storing a plan of `storage.log` in one atomic statement.

The statement moves the project from the sequence that the plan builds on to a new one, and all its other effects depend
on the row that it moved. If another gateway was faster, no row is moved, and nothing is stored.
"""

import functools
from collections.abc import Iterable, Sequence
from typing import Any

from storage.checksums import DAMAGED, checksum, credential_checksum, is_intact
from storage.errors import DataDamaged
from storage.log import KnownFile, KnownProject, KnownTurn, Needs, Plan, results_since
from storage.postgres.database import Connection, Row, project_id
from storage.postgres.files import HEAD, head_from_row, project_check
from storage.postgres.generations import DRAWN_EPOCH, GENERATION, drawn_name, stored_name
from storage.postgres.row_checks import checks_of
from storage.postgres.text import from_text, from_text_or_none, to_text, to_text_or_none
from storage.postgres.turns import TURN, turn_head_from_row
from storage.records import Done, FileHead

_TOUCHED_FILE = (
    "version",
    "incarnation",
    "sequence",
    "last_modified",
    "size",
    "deleted",
    "born_version",
    "born_sequence",
    "deleted_at",
    "row_check",
)
_TOUCHED_TURN = (
    "status",
    "block_count",
    "sequence",
    "last_updated",
    "started_at",
    "completed_at",
    "error",
    "size",
    "output_offset",
    "result_status",
    "result_error",
    "settling",
    "grown",
    "written_ms",
    "row_check",
)
_PLACES = {
    "change": "sequence bigint, file bigint, version bigint, last_modified bigint, size bigint, author text,"
    " checksum bigint, body bytea, credential text, credential_check bigint",
    "file": "id bigint, path text, version bigint, incarnation text, sequence bigint, last_modified bigint,"
    " size bigint, deleted boolean, born_version bigint, born_sequence bigint, deleted_at bigint",
    "past_life": "file bigint, born_version bigint, incarnation text, born_sequence bigint, died_sequence bigint",
    "session": "id bigint, name text, title text, sequence bigint, created_at bigint",
    "turn": "id bigint, session text, name text, status text, block_count bigint, sequence bigint, last_updated bigint,"
    " created_at bigint, started_at bigint, completed_at bigint, error text, size bigint, output_offset bigint,"
    " result_status text, result_error text, settling boolean, grown boolean",
    "prompt": "turn bigint, body text",
    "output_state": "turn bigint, body bytea",
    "block": "turn bigint, position bigint, type text, created_at bigint, content bytea, told_from bigint,"
    " checksum bigint",
    "done": "key text, digest bytea, session text, turn text, block_count bigint, done_at bigint",
}
"""The columns that a batch writes, except the project."""
_COLUMNS = {table: [column.split()[0] for column in columns.split(", ")] for table, columns in _PLACES.items()}
"""Their names."""


def _overwrite(key: str, columns: Iterable[str]) -> str:
    """Return the SQL clause that overwrites an existing row: one statement must not change a table in two ways."""
    return f" ON CONFLICT (project, {key}) DO UPDATE SET " + ", ".join(f"{name} = EXCLUDED.{name}" for name in columns)


_CONFLICT = {
    "file": _overwrite("id", _TOUCHED_FILE),
    "turn": _overwrite("id", _TOUCHED_TURN),
    "output_state": _overwrite("turn", ["body", "row_check"]),
    "block": _overwrite("turn, position", ["content", "checksum"]),
    "done": _overwrite("key", ["digest", "session", "turn", "block_count", "done_at", "row_check"]),
}


DONE = "key, digest, session, turn, block_count, done_at, row_check"
AWAKE = (
    "SELECT awake_ms + least(greatest((extract(epoch FROM clock_timestamp() - awake_at) * 1000)::bigint, 0), 2000)"
    " FROM cluster"
)
"""The total milliseconds for which gateways of the database have been up, independent of their own clocks. Gateways
advance it at least every second; a gap of more than two seconds is time in which no gateway was up."""


class _Statement:
    """A statement under construction, with its values."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.values: list[object] = []

    def value(self, value: object) -> str:
        self.values.append(value)
        return f"${len(self.values)}"

    def insert(self, table: str, rows: Sequence[tuple[Any, ...]], *, computed: str = "", of: str = "") -> None:
        """Insert rows into a table, provided that the project was moved.

        Args:
            computed, of: an additional column, and the SQL expression for its value.
        """
        if not rows:
            return
        checks = checks_of(table, _COLUMNS[table], rows)
        self.parts.append(_insertion(table, len(self.values) + 1, computed, of))
        self.values += map(list, zip(*rows, strict=True))
        self.values.append(checks)


@functools.cache
def _insertion(table: str, first: int, computed: str, of: str) -> str:
    """Return the part of a statement that inserts rows, whose values are in parameters from the number `first`, the
    checksums last."""
    columns = [*_PLACES[table].split(", "), "row_check bigint"]
    names = ", ".join(column.split()[0] for column in columns)
    arrays = ", ".join(f"${number}::{column.split()[1]}[]" for number, column in enumerate(columns, first))
    return (
        f"{table}_rows AS (INSERT INTO {table} (project, {names}{computed and ', ' + computed}) SELECT"
        f" moved.id, r.*{of and ', ' + of} FROM moved, unnest({arrays}) AS r ({names})"
        f" WHERE true{_CONFLICT.get(table, '')})"
    )


async def store(connection: Connection, plan: Plan, node: str, batch: int, generation: str) -> bool:
    """Store a plan if the project is still at the sequence that the plan builds on, and the database in the generation
    in which this was read; return whether it was stored.

    Args:
        node, batch: stored with the plan, so that `was_stored` can recognize it.
    """
    _give_ids(plan)
    statement = _Statement()
    _move_project(statement, plan, generation)
    statement.parts.append(
        "noted AS (INSERT INTO writer (project, node, batch, wrote_at)"
        f" SELECT id, {statement.value(node)}, {statement.value(batch)}::bigint, now() FROM moved WHERE true"
        " ON CONFLICT (project, node) DO UPDATE SET batch = EXCLUDED.batch, wrote_at = EXCLUDED.wrote_at)"
    )
    _store_files(statement, plan, generation)
    _store_turns(statement, plan)
    text = f"WITH {', '.join(statement.parts)} SELECT 1 FROM moved"
    return await connection.fetchrow(text, *statement.values) is not None


def _give_ids(plan: Plan) -> None:
    """Use the sequence of the change that creates a row as its id: known before the row is written, and unique."""
    for path, file in plan.new_files.items():
        file.id = plan.first[path]
    for name, session in plan.new_sessions.items():
        plan.session_ids[name] = session.sequence
    for planned in plan.turns.values():
        if planned.is_new:
            planned.id = planned.old.sequence


def _move_project(statement: _Statement, plan: Plan, generation: str) -> None:
    head, known, value = plan.head, plan.known, statement.value
    epoch = stored_name(head.epoch, generation)
    check = project_check(head, epoch)
    if known.id:
        statement.parts.append(
            f"moved AS (UPDATE project p SET epoch = {value(epoch)}, sequence = {value(head.sequence)}, last_modified ="
            f" {value(head.last_modified)}, row_check = {value(check)} WHERE id = {value(known.id)} AND sequence ="
            f" {value(known.head.sequence)} AND {DRAWN_EPOCH} = {value(drawn_name(head.epoch))} AND {GENERATION} ="
            f" {value(generation)} RETURNING id)"
        )
        return
    statement.parts.append(
        "moved AS (INSERT INTO project (id, name, epoch, sequence, last_modified, row_check)"
        f" SELECT {value(project_of(plan))}::bigint, {value(head.name)}, {value(epoch)},"
        f" {value(head.sequence)}::bigint, {value(head.last_modified)}::bigint, {value(check)}::bigint FROM cluster"
        f" WHERE generation = {value(generation)} ON CONFLICT (id) DO NOTHING RETURNING id)"
    )


def project_of(plan: Plan) -> int:
    """Return the id of a plan's project."""
    return project_id(plan.head.name)


def _store_files(statement: _Statement, plan: Plan, generation: str) -> None:
    statement.insert(
        "change",
        [
            (
                row.sequence,
                row.file.id,
                row.version,
                row.last_modified,
                row.size,
                to_text_or_none(row.author),
                row.checksum,
                row.body,
                credential,
                credential_checksum(row.file.id, row.version, credential),
            )
            for row in plan.rows
            for credential in [to_text_or_none(row.credential)]
        ],
    )
    statement.insert("file", [_file_row(file.id, file.head, generation) for file in plan.files.values()])
    statement.insert(
        "past_life",
        [
            (
                life.file.id,
                life.head.born_version,
                stored_name(life.head.incarnation, generation),
                life.head.born_sequence,
                life.head.sequence,
            )
            for life in plan.past_incarnations
        ],
    )


def _file_row(id: int, head: FileHead, generation: str) -> tuple[object, ...]:
    return (
        id,
        head.path,
        head.version,
        stored_name(head.incarnation, generation),
        head.sequence,
        head.last_modified,
        head.size,
        head.deleted,
        head.born_version,
        head.born_sequence,
        head.last_modified if head.deleted else None,
    )


def _store_turns(statement: _Statement, plan: Plan) -> None:
    if not (plan.new_sessions or plan.turns):
        return
    statement.insert(
        "session",
        [
            (session.sequence, to_text(name), to_text_or_none(session.title), session.sequence, session.created_at)
            for name, session in plan.new_sessions.items()
        ],
    )
    planned = list(plan.turns.values())
    statement.insert(
        "turn",
        [
            (
                each.id,
                to_text(each.turn.session_id),
                to_text(each.turn.turn_id),
                each.turn.status,
                each.turn.block_count,
                each.turn.sequence,
                each.turn.last_updated,
                each.turn.created_at,
                each.turn.started_at,
                each.turn.completed_at,
                to_text_or_none(each.turn.error),
                each.turn.size,
                each.turn.output_offset,
                each.turn.result_status,
                to_text_or_none(each.turn.result_error),
                each.turn.settling,
                each.turn.grown,
            )
            for each in planned
        ],
        computed="written_ms",
        of=f"CASE WHEN r.status = 'running' THEN ({AWAKE}) END",
    )
    statement.insert("prompt", [(each.id, to_text(each.prompt)) for each in planned if each.prompt is not None])
    states = [(each.id, each.output_state) for each in planned if each.output_state is not None]
    statement.insert("output_state", states)
    # Only the content of an existing block changes: the rest of its row is not checked.
    blocks: list[tuple[object, ...]] = [
        (each.id, index, "text", 0, content, None, checksum(content))
        for each in planned
        for index, content in each.grown.items()
    ]
    blocks += [
        (each.id, index, block.type, block.created_at, block.content, block.told_from, checksum(block.content))
        for each in planned
        for index, block in each.blocks.items()
    ]
    statement.insert("block", blocks)
    statement.insert(
        "done",
        [
            (
                to_text(key),
                done.digest,
                to_text(done.session_id),
                to_text_or_none(done.turn_id),
                done.block_count,
                done.done_at,
            )
            for key, done in plan.done.items()
        ],
    )


async def was_stored(connection: Connection, plan: Plan, node: str, batch: int) -> bool | None:
    """Return whether a plan whose answer was lost was stored; None: not yet, but it may still be."""
    row = await connection.fetchrow(
        "SELECT p.sequence, w.batch FROM project p LEFT JOIN writer w ON w.project = p.id AND w.node = $2"
        " WHERE p.id = $1",
        project_of(plan),
        node,
    )
    if row is None:
        return None
    if row[1] == batch:
        return True
    return None if row[0] == plan.known.head.sequence else False


async def load(connection: Connection, known: KnownProject, missing: Needs, now: int) -> None:
    """Load the missing rows that exist. Changes that another gateway makes meanwhile are detected on storing."""
    if not known.id:
        return
    project = known.id
    if missing.paths:
        rows = await connection.fetch(
            f"SELECT f.id, {HEAD} FROM file f WHERE f.project = $1 AND f.path = ANY($2::text[])",
            project,
            missing.paths,
        )
        known.files.update({row[1]: KnownFile(row[0], head_from_row(row[1:])) for row in rows})
    if missing.keys:
        rows = await connection.fetch(
            f"SELECT {DONE} FROM done WHERE project = $1 AND key = ANY($2::text[]) AND done_at > $3",
            project,
            list(map(to_text, missing.keys)),
            results_since(now),
        )
        known.done.update({from_text(row[0]): done_from_row(row) for row in rows})
    if missing.sessions:
        rows = await connection.fetch(
            "SELECT name, id FROM session WHERE project = $1 AND name = ANY($2::text[])",
            project,
            list(map(to_text, missing.sessions)),
        )
        known.sessions.update({from_text(name): id for name, id in rows})
    if missing.turns:
        rows = await connection.fetch(
            f"SELECT t.id, {TURN} FROM unnest($2::text[], $3::text[]) AS k (session, name) JOIN turn t"
            " ON t.project = $1 AND t.session = k.session AND t.name = k.name",
            project,
            [to_text(session) for session, _ in missing.turns],
            [to_text(turn) for _, turn in missing.turns],
        )
        for row in rows:
            head = turn_head_from_row(row[1:])
            known.turns[head.session_id, head.turn_id] = KnownTurn(row[0], head)
    for session, turn, index in missing.lengths:
        grown = known.turns.get((session, turn))
        if grown is None:
            continue
        length = await connection.fetchval(
            "SELECT octet_length(content) FROM block WHERE project = $1 AND turn = $2 AND position = $3",
            project,
            grown.id,
            index,
        )
        if length is not None:
            grown.lengths[index] = length


def done_from_row(row: Row) -> Done:
    """Return the result of a change with an idempotency key, from the columns of `DONE`.

    Raises:
        DataDamaged
    """
    key, digest, session, turn, block_count, done_at, _ = row
    if not is_intact(tuple(row)):
        raise DataDamaged(None, DAMAGED, what=f"what came of the key {from_text(key)!r}")
    return Done(digest, from_text(session), from_text_or_none(turn), block_count, done_at)
