"""What one gateway of a database does for all: who, and which turns have been silent for too long."""

from storage.log import new_epoch
from storage.postgres.batch import AWAKE
from storage.postgres.database import Connection
from storage.postgres.turns import TURN, turn_head_from_row
from storage.records import TurnHead, new_incarnation

_TOGETHER = 100
_TIDIED_TOGETHER = 10_000


async def hold(connection: Connection, node: str, job: str, seconds: float) -> bool:
    """Take a job, or keep it; False where another gateway has it."""
    row = await connection.fetchrow(
        "INSERT INTO upkeep (job, holder, until) VALUES ($1, $2, clock_timestamp() + make_interval(secs => $3))"
        " ON CONFLICT (job) DO UPDATE SET holder = EXCLUDED.holder, until = EXCLUDED.until"
        " WHERE upkeep.holder = EXCLUDED.holder OR upkeep.until < clock_timestamp() RETURNING 1",
        job,
        node,
        seconds,
    )
    return row is not None


async def release(connection: Connection, node: str) -> None:
    """Let another gateway take what this one holds."""
    await connection.execute("DELETE FROM upkeep WHERE holder = $1", node)


async def due_turns(connection: Connection, lease: float, grace: float) -> list[tuple[str, TurnHead]]:
    """Count the time that has passed, and find some of the turns that have been silent for too long."""
    awake = await connection.fetchval(
        f"UPDATE cluster SET awake_ms = ({AWAKE}), awake_at = clock_timestamp() RETURNING awake_ms"
    )
    # What was imported has not been written here: its time begins now.
    await connection.execute("UPDATE turn SET written_ms = $1 WHERE status = 'running' AND written_ms IS NULL", awake)
    rows = await connection.fetch(
        f"SELECT p.name, {TURN} FROM turn t JOIN project p ON p.id = t.project WHERE t.status = 'running'"
        " AND t.written_ms <= greatest($1::bigint, $2::bigint)"
        " AND t.written_ms <= CASE WHEN t.settling THEN $2::bigint ELSE $1::bigint END ORDER BY t.written_ms LIMIT $3",
        awake - int(lease * 1000),
        awake - int(grace * 1000),
        _TOGETHER,
    )
    return [(row[0], turn_head_from_row(row[1:])) for row in rows]


async def tidy(connection: Connection, before: int) -> None:
    """Forget some of what came of changes with a key before a time, and which batches gateways stored long ago."""
    await connection.execute(
        "DELETE FROM done WHERE (project, key) IN (SELECT project, key FROM done WHERE done_at < $1 LIMIT $2)",
        before,
        _TIDIED_TOGETHER,
    )
    await connection.execute("DELETE FROM writer WHERE wrote_at < now() - interval '1 day'")


async def begin_new_lives(connection: Connection) -> int:
    """Give every project a new epoch, every file a new incarnation; returns how many projects there are. Gateways that
    serve the database notice, since each project moves: they forget what they know of it."""
    projects = await connection.fetch("SELECT id FROM project ORDER BY id")
    for (project,) in projects:
        await connection.execute(
            "UPDATE project SET sequence = sequence + 1, epoch = $2 WHERE id = $1", project, new_epoch()
        )
        for table, key in (("file", "id"), ("past_life", "file, born_version")):
            rows = await connection.fetch(f"SELECT {key} FROM {table} WHERE project = $1", project, timeout=3600)
            condition = " AND ".join(f"{name} = ${place}" for place, name in enumerate(key.split(", "), 3))
            await connection.executemany(
                f"UPDATE {table} SET incarnation = $2 WHERE project = $1 AND {condition}",
                [(project, new_incarnation(), *row) for row in rows],
                timeout=3600,
            )
    return len(projects)
