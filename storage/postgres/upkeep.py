"""Maintenance that one gateway of a database does for all: the leases on jobs, and the search for silent turns."""

from storage.postgres.batch import AWAKE
from storage.postgres.database import Connection
from storage.postgres.generations import new_generation
from storage.postgres.turns import TURN, turn_head_from_row
from storage.records import TurnHead

_TOGETHER = 100
_TIDIED_TOGETHER = 10_000


async def hold(connection: Connection, node: str, job: str, seconds: float) -> bool:
    """Take or renew the lease on a job; return False if another gateway holds it."""
    row = await connection.fetchrow(
        "INSERT INTO upkeep (job, holder, until) VALUES ($1, $2, clock_timestamp() + make_interval(secs => $3))"
        " ON CONFLICT (job) DO UPDATE SET holder = EXCLUDED.holder, until = EXCLUDED.until"
        # A lease from before the clock of the database was set back does not hold for longer than it was taken for.
        " WHERE upkeep.holder = EXCLUDED.holder"
        " OR upkeep.until NOT BETWEEN clock_timestamp() AND clock_timestamp() + make_interval(secs => $3) RETURNING 1",
        job,
        node,
        seconds,
    )
    return row is not None


async def release(connection: Connection, node: str) -> None:
    """Release the jobs that this gateway holds."""
    await connection.execute("DELETE FROM upkeep WHERE holder = $1", node)


async def due_turns(connection: Connection, lease: float, grace: float) -> list[tuple[str, TurnHead]]:
    """Advance the elapsed time, and find some of the turns that have been silent for too long."""
    awake = await connection.fetchval(
        f"UPDATE cluster SET awake_ms = ({AWAKE}), awake_at = clock_timestamp() RETURNING awake_ms"
    )
    # Imported turns were not written here: their time starts now.
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
    """Delete some of the results of keyed changes from before a time, and of the old records of stored batches."""
    await connection.execute(
        "DELETE FROM done WHERE (project, key) IN (SELECT project, key FROM done WHERE done_at < $1 LIMIT $2)",
        before,
        _TIDIED_TOGETHER,
    )
    await connection.execute("DELETE FROM writer WHERE wrote_at < now() - interval '1 day'")


async def begin_new_incarnations(connection: Connection) -> int:
    """Begin a new generation; return how many projects there are. Gateways that serve the database notice with their
    next heartbeat, and drop what they know."""
    await connection.execute("UPDATE cluster SET generation = $1", new_generation())
    count: int = await connection.fetchval("SELECT count(*) FROM project", timeout=3600)
    return count
