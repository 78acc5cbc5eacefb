"""Queries on readers that keep their own cursor, and on values kept for good."""

from collections.abc import Iterable
from typing import Any

from storage.postgres.database import Connection, Database, project_id
from storage.postgres.text import from_text, to_text
from storage.records import Milliseconds, Reader, ReaderFigures, ReaderStep

_READER = (
    "SELECT p.name, r.kind, r.name, r.revision, r.settings, r.cursor, r.looked, r.state, r.due, r.stage"
    " FROM reader r JOIN project p ON p.id = r.project"
)


def _reader(row: Any) -> Reader:
    project, kind, name, revision, settings, cursor, looked, state, due, stage = row
    told = (kind, from_text(name), revision, from_text(settings), cursor, looked, from_text(state), due, stage)
    return Reader(project, *told)


async def put_reader(connection: Connection, reader: Reader) -> bool:
    return bool(
        await connection.fetchval(
            "INSERT INTO reader (project, kind, name, revision, settings, cursor, looked, state, due, stage)"
            " SELECT id, $2, $3, $4, $5, $6, $7, $8, $9, $10"
            " FROM (SELECT id FROM project WHERE id = $1 FOR KEY SHARE) p"
            " ON CONFLICT (project, kind, name) DO UPDATE SET revision = EXCLUDED.revision,"
            " settings = EXCLUDED.settings, cursor = EXCLUDED.cursor, looked = EXCLUDED.looked,"
            " state = EXCLUDED.state, due = EXCLUDED.due, stage = EXCLUDED.stage RETURNING true",
            project_id(reader.project),
            reader.kind,
            to_text(reader.name),
            reader.revision,
            to_text(reader.settings),
            reader.cursor,
            reader.looked,
            to_text(reader.state),
            reader.due,
            reader.stage,
        )
    )


async def reader(database: Database, project: str, kind: str, name: str) -> Reader | None:
    row = await database.fetch_row(
        f"{_READER} WHERE r.project = $1 AND r.kind = $2 AND r.name = $3", project_id(project), kind, to_text(name)
    )
    return None if row is None else _reader(row)


async def readers(database: Database, project: str, kind: str, after: str, limit: int) -> list[Reader]:
    rows = await database.fetch(
        f"{_READER} WHERE r.project = $1 AND r.kind = $2 AND r.name > $3 ORDER BY r.name LIMIT $4",
        project_id(project),
        kind,
        to_text(after),
        limit,
    )
    return [_reader(row) for row in rows]


async def delete_reader(connection: Connection, project: str, kind: str, name: str) -> bool:
    return bool(
        await connection.fetchval(
            "DELETE FROM reader WHERE project = $1 AND kind = $2 AND name = $3 RETURNING true",
            project_id(project),
            kind,
            to_text(name),
        )
    )


async def count_readers(database: Database, project: str) -> int:
    row = await database.fetch_row("SELECT count(*) FROM reader WHERE project = $1", project_id(project))
    return 0 if row is None else int(row[0])


async def reader_projects(database: Database) -> list[str]:
    rows = await database.fetch(
        "SELECT name FROM project WHERE id IN (SELECT DISTINCT project FROM reader) ORDER BY name"
    )
    return [row[0] for row in rows]


async def idle_readers(database: Database, project: str | None, limit: int) -> list[Reader]:
    rows = await database.fetch(
        f"{_READER} WHERE r.stage = 'idle' AND looked <> p.sequence"
        " AND ($1::bigint IS NULL OR r.project = $1) LIMIT $2",
        None if project is None else project_id(project),
        limit,
    )
    return [_reader(row) for row in rows]


async def due_readers(database: Database, now: int, limit: int) -> list[Reader]:
    rows = await database.fetch(f"{_READER} WHERE r.due <= $1 ORDER BY r.due LIMIT $2", now, limit)
    return [_reader(row) for row in rows]


async def next_due(database: Database) -> Milliseconds | None:
    row = await database.fetch_row("SELECT min(due) FROM reader WHERE due IS NOT NULL")
    return None if row is None or row[0] is None else Milliseconds(row[0])


async def hasten(connection: Connection, stage: str, project: str | None, now: int) -> int:
    rows = await connection.fetch(
        "UPDATE reader SET due = $1 WHERE stage = $2 AND due > $1 AND ($3::bigint IS NULL OR project = $3)"
        " AND (stage <> 'pause' OR looked <> (SELECT p.sequence FROM project p WHERE p.id = reader.project))"
        " RETURNING 1",
        now,
        stage,
        None if project is None else project_id(project),
    )
    return len(rows)


async def bring_forward(connection: Connection, latest: int) -> int:
    return len(await connection.fetch("UPDATE reader SET due = $1 WHERE due > $1 RETURNING 1", latest))


async def reader_figures(database: Database) -> list[ReaderFigures]:
    rows = await database.fetch(
        "SELECT r.kind, count(*), count(*) FILTER (WHERE stage = 'ended'),"
        " count(*) FILTER (WHERE stage <> 'ended' AND looked <> p.sequence),"
        " coalesce(max(greatest(p.sequence - looked, 0)) FILTER (WHERE stage <> 'ended'), 0)"
        " FROM reader r JOIN project p ON p.id = r.project GROUP BY r.kind ORDER BY r.kind"
    )
    return [ReaderFigures(*row) for row in rows]


async def keep(connection: Connection, name: str, value: str) -> str:
    await connection.execute("INSERT INTO kept (name, value) VALUES ($1, $2) ON CONFLICT DO NOTHING", name, value)
    return str(await connection.fetchval("SELECT value FROM kept WHERE name = $1", name))


async def keep_newest(connection: Connection, name: str, value: str) -> None:
    await connection.execute(
        "INSERT INTO kept (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = EXCLUDED.value",
        name,
        value,
    )


async def note_steps(connection: Connection, steps: Iterable[ReaderStep]) -> None:
    await connection.executemany(
        "UPDATE reader SET cursor = $5, looked = $6, state = $7, due = $8, stage = $9"
        " WHERE project = $1 AND kind = $2 AND name = $3 AND revision = $4",
        [
            (
                project_id(each.reader.project),
                each.reader.kind,
                to_text(each.reader.name),
                each.reader.revision,
                each.cursor,
                each.looked,
                to_text(each.state),
                each.due,
                each.stage,
            )
            for each in steps
        ],
    )
