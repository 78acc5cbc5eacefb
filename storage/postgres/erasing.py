"""The list of projects, and erasing one.

The row of the project is locked first, against every statement that adds something to the project: what waits for it
finds no project afterwards.
"""

from collections.abc import Collection

from storage.paths import path_after_prefix
from storage.postgres.database import Connection, Database, project_id
from storage.postgres.files import PROJECT, project_from_row
from storage.postgres.generations import DRAWN_EPOCH, GENERATION, drawn_name, split_name
from storage.records import Epoch, ProjectHead, StoredProject

_TABLES = (
    "file",  # first: squashing locks its row before it changes rows of the others
    "change",
    "past_life",
    "snapshot",
    "block",
    "prompt",
    "output_state",
    "turn",
    "session",
    "done",
    "reader",
    "writer",
)
_ERASE_S = 3600


async def list_projects(
    database: Database, names: Collection[str] | None, prefix: str, after: str, limit: int
) -> list[StoredProject]:
    end = path_after_prefix(prefix) if prefix else None
    rows = await database.fetch(
        f"SELECT {PROJECT}, f.files, f.size FROM project p CROSS JOIN LATERAL (SELECT count(*) AS files,"
        " coalesce(sum(file.size), 0)::bigint AS size FROM file WHERE file.project = p.id AND NOT deleted) f"
        " WHERE p.name > $1 AND p.name >= $2 AND ($3::text IS NULL OR p.name < $3)"
        " AND ($4::text[] IS NULL OR p.name = ANY($4)) ORDER BY p.name LIMIT $5",
        after,
        prefix,
        end,
        None if names is None else list(names),
        limit,
    )
    return [StoredProject(project_from_row(tuple(row)[:-2]), row[-2], row[-1]) for row in rows]


async def erase_project(connection: Connection, name: str) -> ProjectHead | None:
    """Delete every row of a project, even damaged ones, and return the head that the project had."""
    project = project_id(name)
    row = await connection.fetchrow(
        f"SELECT p.name, p.epoch || {GENERATION}, p.sequence, p.last_modified, {DRAWN_EPOCH} FROM project p"
        " WHERE p.id = $1 AND p.name = $2 FOR UPDATE OF p",
        project,
        name,
    )
    if row is None:
        return None
    await connection.execute("INSERT INTO erased (project, epoch) VALUES ($1, $2)", project, row[4])
    for table in _TABLES:
        await connection.execute(f"DELETE FROM {table} WHERE project = $1", project, timeout=_ERASE_S)
    await connection.execute("DELETE FROM ticket WHERE project = $1", name)
    await connection.execute("DELETE FROM project WHERE id = $1", project)
    return ProjectHead(row[0], Epoch(split_name(row[1])[1]), row[2], row[3])


async def was_erased(connection: Connection, project: int, epoch: Epoch) -> bool:
    """Return whether the project with an id was erased in an epoch."""
    found = await connection.fetchrow(
        "SELECT 1 FROM erased WHERE project = $1 AND epoch = $2", project, drawn_name(epoch)
    )
    return found is not None


async def hold_epoch(connection: Connection, project: str, epoch: Epoch | None) -> bool:
    """Keep a project from being erased until the transaction ends; return whether it exists and is in an epoch (None:
    in any)."""
    found = await connection.fetchval(
        f"SELECT p.epoch || {GENERATION} FROM project p WHERE p.id = $1 FOR KEY SHARE OF p", project_id(project)
    )
    return found is not None and (epoch is None or split_name(found)[1] == epoch)
