"""Queries on readers that keep their own cursor, and on values kept for good. Every function takes a connection inside
a transaction."""

import sqlite3
from collections.abc import Iterable
from typing import Any

from msgspec.structs import replace

from storage.checksums import DAMAGED, is_intact, row_checksum
from storage.errors import DataDamaged
from storage.records import Milliseconds, Reader, ReaderFigures, ReaderStep

_COLUMNS = "project.name, kind, reader.name, revision, settings, cursor, looked, state, due, stage"
_READER = f"SELECT {_COLUMNS}, reader.row_check, seat_check FROM reader JOIN project ON project.id = reader.project"
_PROJECT = "(SELECT id FROM project WHERE name = ?)"


def _reader(row: tuple[Any, ...]) -> Reader:
    *values, row_check, seat_check = row
    intact = row_check == row_checksum(*values[:5]) and seat_check == row_checksum(*values[5:8])
    return replace(Reader(*values), intact=intact)


def put_reader(connection: sqlite3.Connection, reader: Reader) -> bool:
    told = (reader.project, reader.kind, reader.name, reader.revision, reader.settings)
    seat = (reader.cursor, reader.looked, reader.state)
    return bool(
        connection.execute(
            "INSERT INTO reader (project, kind, name, revision, settings, cursor, looked, state, due, stage,"
            " row_check, seat_check) SELECT id, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ? FROM project WHERE name = ?"
            " ON CONFLICT (project, kind, name) DO UPDATE SET revision = excluded.revision,"
            " settings = excluded.settings, cursor = excluded.cursor, looked = excluded.looked,"
            " state = excluded.state, due = excluded.due, stage = excluded.stage,"
            " row_check = excluded.row_check, seat_check = excluded.seat_check",
            (
                *told[1:],
                *seat,
                reader.due,
                reader.stage,
                row_checksum(*told),
                row_checksum(*seat),
                reader.project,
            ),
        ).rowcount
    )


def reader(connection: sqlite3.Connection, project: str, kind: str, name: str) -> Reader | None:
    row = connection.execute(
        f"{_READER} WHERE reader.project = {_PROJECT} AND kind = ? AND reader.name = ?", (project, kind, name)
    ).fetchone()
    return None if row is None else _reader(row)


def readers(connection: sqlite3.Connection, project: str, kind: str, after: str, limit: int) -> list[Reader]:
    rows = connection.execute(
        f"{_READER} WHERE reader.project = {_PROJECT} AND kind = ? AND reader.name > ? ORDER BY reader.name LIMIT ?",
        (project, kind, after, limit),
    )
    return [_reader(row) for row in rows]


def delete_reader(connection: sqlite3.Connection, project: str, kind: str, name: str) -> bool:
    return bool(
        connection.execute(
            f"DELETE FROM reader WHERE project = {_PROJECT} AND kind = ? AND name = ?", (project, kind, name)
        ).rowcount
    )


def count_readers(connection: sqlite3.Connection, project: str) -> int:
    (count,) = connection.execute(f"SELECT count(*) FROM reader WHERE project = {_PROJECT}", (project,)).fetchone()
    return int(count)


def reader_projects(connection: sqlite3.Connection) -> list[str]:
    rows = connection.execute("SELECT name FROM project WHERE id IN (SELECT project FROM reader) ORDER BY name")
    return [name for (name,) in rows]


def idle_readers(connection: sqlite3.Connection, project: str | None, limit: int) -> list[Reader]:
    where, values = ("", ()) if project is None else (f" AND reader.project = {_PROJECT}", (project,))
    rows = connection.execute(
        f"{_READER} WHERE stage = 'idle' AND looked <> project.sequence{where} LIMIT ?", (*values, limit)
    )
    return [_reader(row) for row in rows]


def due_readers(connection: sqlite3.Connection, now: int, limit: int) -> list[Reader]:
    rows = connection.execute(f"{_READER} WHERE due IS NOT NULL AND due <= ? ORDER BY due LIMIT ?", (now, limit))
    return [_reader(row) for row in rows]


def next_due(connection: sqlite3.Connection) -> Milliseconds | None:
    (due,) = connection.execute("SELECT min(due) FROM reader WHERE due IS NOT NULL").fetchone()
    return None if due is None else Milliseconds(due)


def hasten(connection: sqlite3.Connection, stage: str, project: str | None, now: int) -> int:
    where, values = ("", ()) if project is None else (f" AND project = {_PROJECT}", (project,))
    return connection.execute(
        f"UPDATE reader SET due = ? WHERE stage = ? AND due > ?{where} AND (stage <> 'pause' OR looked <>"
        " (SELECT sequence FROM project WHERE project.id = reader.project))",
        (now, stage, now, *values),
    ).rowcount


def bring_forward(connection: sqlite3.Connection, latest: int) -> int:
    return connection.execute("UPDATE reader SET due = ? WHERE due > ?", (latest, latest)).rowcount


def reader_figures(connection: sqlite3.Connection) -> list[ReaderFigures]:
    rows = connection.execute(
        "SELECT kind, count(*), sum(stage = 'ended'), sum(stage <> 'ended' AND looked <> project.sequence),"
        " max((stage <> 'ended') * max(project.sequence - looked, 0))"
        " FROM reader JOIN project ON project.id = reader.project GROUP BY kind ORDER BY kind"
    )
    return [ReaderFigures(*row) for row in rows]


def keep(connection: sqlite3.Connection, name: str, value: str) -> str:
    row = connection.execute("SELECT value, row_check FROM kept WHERE name = ?", (name,)).fetchone()
    if row is None:
        connection.execute("INSERT INTO kept VALUES (?, ?, ?)", (name, value, row_checksum(name, value)))
        return value
    if not is_intact((name, *row)):
        raise DataDamaged(None, DAMAGED, what=f"what is kept as {name!r}")
    return str(row[0])


def keep_newest(connection: sqlite3.Connection, name: str, value: str) -> None:
    connection.execute("INSERT OR REPLACE INTO kept VALUES (?, ?, ?)", (name, value, row_checksum(name, value)))


def note_steps(connection: sqlite3.Connection, steps: Iterable[ReaderStep]) -> None:
    connection.executemany(
        "UPDATE reader SET cursor = ?, looked = ?, state = ?, due = ?, stage = ?, seat_check = ?"
        f" WHERE project = {_PROJECT} AND kind = ? AND name = ? AND revision = ?",
        [
            (
                each.cursor,
                each.looked,
                each.state,
                each.due,
                each.stage,
                row_checksum(each.cursor, each.looked, each.state),
                each.reader.project,
                each.reader.kind,
                each.reader.name,
                each.reader.revision,
            )
            for each in steps
        ],
    )
