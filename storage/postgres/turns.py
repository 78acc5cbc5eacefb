"""Queries on sessions and turns. Each is consistent: it is one statement, or runs inside a read transaction."""

from typing import Any

from storage.checksums import DAMAGED, checksum, is_intact
from storage.errors import DataDamaged
from storage.postgres.database import Connection, Database, Row, project_id
from storage.postgres.files import PROJECT, project_from_row
from storage.postgres.text import from_text, from_text_or_none, to_text
from storage.records import BlockRow, ProjectHead, SessionHead, StoredBlock, StoredTurn, TurnHead, TurnRows

TURN = (
    "t.session, t.name, t.status, t.block_count, t.sequence, t.last_updated, t.created_at, t.started_at,"
    " t.completed_at, t.error, t.size, t.output_offset, t.result_status, t.result_error, t.settling, t.grown,"
    " t.row_check"
)
SESSION = "s.name, s.title, s.sequence, s.created_at, s.row_check"
_HIGHEST = 2**63 - 1
_PAGE_ROWS = 1000


def turn_head_from_row(row: tuple[Any, ...]) -> TurnHead:
    """Return a turn's head from the columns of `TURN`, checked.

    Raises:
        DataDamaged
    """
    if not is_intact(tuple(row)):
        raise DataDamaged(None, DAMAGED, what=f"turn {row[0]}/{row[1]}")
    return _turn_head(row)


def _turn_head(row: tuple[Any, ...]) -> TurnHead:
    """Return a turn's head without checking the row."""
    session, name, *columns, _ = row
    columns[7] = from_text_or_none(columns[7])
    columns[11] = from_text_or_none(columns[11])
    return TurnHead(from_text(session), from_text(name), *columns)


def session_from_row(row: tuple[Any, ...]) -> SessionHead:
    """Return a session from the columns of `SESSION`, checked.

    Raises:
        DataDamaged
    """
    if not is_intact(tuple(row)):
        raise DataDamaged(None, DAMAGED, what=f"session {row[0]}")
    return _session(row)


def _session(row: tuple[Any, ...]) -> SessionHead:
    """Return a session without checking the row."""
    name, title, sequence, created_at, _ = row
    return SessionHead(from_text(name), from_text_or_none(title), sequence, created_at)


async def session(database: Database, project: str, name: str) -> SessionHead | None:
    row = await database.fetch_row(
        f"SELECT {SESSION} FROM session s WHERE s.project = $1 AND s.name = $2", project_id(project), to_text(name)
    )
    return None if row is None else session_from_row(row)


async def sessions(database: Database, project: str, after: str | None, limit: int) -> list[SessionHead]:
    rows = await database.fetch(
        f"SELECT {SESSION} FROM session s WHERE s.project = $1 AND ($2::text IS NULL"
        " OR s.id < (SELECT id FROM session WHERE project = $1 AND name = $2)) ORDER BY s.id DESC LIMIT $3",
        project_id(project),
        None if after is None else to_text(after),
        limit,
    )
    return [session_from_row(row) for row in rows]


async def turn_head(database: Database, project: str, session: str, name: str) -> TurnHead | None:
    row = await database.fetch_row(
        f"SELECT {TURN} FROM turn t WHERE t.project = $1 AND t.session = $2 AND t.name = $3",
        project_id(project),
        to_text(session),
        to_text(name),
    )
    return None if row is None else turn_head_from_row(row)


async def turns(
    database: Database, project: str, session: str, after: str | None, limit: int, prompt_length: int
) -> list[StoredTurn]:
    # One character of a prompt may be stored as two.
    rows = await database.fetch(
        f"SELECT left(b.body, 2 * $5 + 2), {TURN} FROM turn t JOIN prompt b ON b.project = t.project AND b.turn = t.id"
        " WHERE t.project = $1 AND t.session = $2 AND ($3::text IS NULL"
        " OR t.id < (SELECT id FROM turn WHERE project = $1 AND session = $2 AND name = $3))"
        " ORDER BY t.id DESC LIMIT $4",
        project_id(project),
        to_text(session),
        None if after is None else to_text(after),
        limit,
        prompt_length,
    )
    found = []
    for row in rows:
        prompt = from_text(row[0])
        head = turn_head_from_row(row[1:])
        found.append(StoredTurn(head, prompt[:prompt_length], (), len(prompt) > prompt_length))
    return found


async def _find_turn(connection: Connection, project: str, session: str, name: str) -> tuple[int, TurnHead] | None:
    row = await connection.fetchrow(
        f"SELECT t.id, {TURN} FROM turn t WHERE t.project = $1 AND t.session = $2 AND t.name = $3",
        project_id(project),
        to_text(session),
        to_text(name),
    )
    return None if row is None else (row[0], turn_head_from_row(row[1:]))


async def read_turn(
    connection: Connection,
    project: str,
    session: str,
    name: str,
    after_block: int,
    limit: int | None,
    most_bytes: int,
) -> StoredTurn | None:
    found = await _find_turn(connection, project, session, name)
    if found is None:
        return None
    id, head = found
    prompt = await connection.fetchrow(
        "SELECT turn, body, row_check FROM prompt WHERE project = $1 AND turn = $2", project_id(project), id
    )
    if prompt is None or not is_intact(tuple(prompt)):
        raise DataDamaged(None, DAMAGED, what=f"the prompt of turn {session}/{name}")
    told_from = await connection.fetchval(
        "SELECT told_from FROM block WHERE project = $1 AND turn = $2 AND position = $3",
        project_id(project),
        id,
        after_block - 1,
    )
    start = after_block if told_from is None else told_from
    most = None if limit is None else limit + after_block - min(start, after_block)
    blocks = await _blocks(connection, project, id, start, most, most_bytes, after_block)
    return StoredTurn(head, from_text(prompt[1]), tuple(blocks))


async def read_blocks(
    connection: Connection, project: str, session: str, name: str, after_block: int, limit: int, most_bytes: int
) -> list[StoredBlock]:
    found = await _find_turn(connection, project, session, name)
    if found is None:
        return []
    return await _blocks(connection, project, found[0], after_block, limit, most_bytes, after_block)


async def _blocks(
    connection: Connection, project: str, turn: int, start: int, limit: int | None, most_bytes: int, known: int
) -> list[StoredBlock]:
    """Return blocks from a position on, within a limit of bytes, but at least one after the first `known`: otherwise
    the reader would ask for the same blocks again."""
    lengths = await connection.fetch(
        "SELECT position, octet_length(content) FROM block WHERE project = $1 AND turn = $2 AND position >= $3"
        " ORDER BY position LIMIT $4",
        project_id(project),
        turn,
        start,
        limit,
    )
    end, size = start - 1, 0
    for position, length in lengths:
        size += length
        if size > most_bytes and position > known:
            break
        end = position
    rows = await connection.fetch(
        "SELECT turn, position, type, created_at, told_from, row_check, checksum, content FROM block"
        " WHERE project = $1 AND turn = $2"
        " AND position BETWEEN $3 AND $4 ORDER BY position",
        project_id(project),
        turn,
        start,
        end,
    )
    return [_block(row) for row in rows]


def _block(row: Row) -> StoredBlock:
    _, position, type, created_at, _, _, check, content = row
    if not is_intact(tuple(row)[:6]) or check != checksum(content):
        raise DataDamaged(None, DAMAGED, what=f"block {position} of a turn")
    return StoredBlock(position, type, content, created_at)


async def output_state(database: Database, project: str, session: str, name: str) -> bytes:
    row = await database.fetch_row(
        "SELECT o.turn, o.body, o.row_check FROM turn t JOIN output_state o ON o.project = t.project AND o.turn = t.id"
        " WHERE t.project = $1 AND t.session = $2 AND t.name = $3",
        project_id(project),
        to_text(session),
        to_text(name),
    )
    if row is not None and not is_intact(tuple(row)):
        raise DataDamaged(None, DAMAGED, what=f"what is known of the output of turn {session}/{name}")
    return b"" if row is None else row[1]


async def running_turns_after(
    database: Database, after: tuple[int, int], limit: int
) -> list[tuple[tuple[int, int], str, TurnHead]]:
    """Return the position, project and head of each running turn."""
    rows = await database.fetch(
        f"SELECT t.project, t.id, p.name, {TURN} FROM turn t JOIN project p ON p.id = t.project"
        " WHERE t.status = 'running' AND (t.project, t.id) > ($1, $2) ORDER BY t.project, t.id LIMIT $3",
        *after,
        limit,
    )
    return [((row[0], row[1]), row[2], turn_head_from_row(row[3:])) for row in rows]


async def turn_rows_after(
    connection: Connection, project: str, after: tuple[int, int], limit: int
) -> list[tuple[tuple[int, int], TurnRows]]:
    """Return a page of the turns of a project after a session and a turn in it, each with these and all that is stored
    with it. A page ends with the turn at which it reaches `limit` turns and blocks."""
    page: list[tuple[tuple[int, int], TurnRows]] = []
    rows = await connection.fetch(
        f"SELECT s.id, t.id, {SESSION}, EXISTS (SELECT 1 FROM prompt b WHERE b.project = t.project AND b.turn = t.id),"
        " coalesce((SELECT o.body FROM output_state o WHERE o.project = t.project AND o.turn = t.id), ''::bytea),"
        f" {TURN} FROM session s JOIN turn t ON t.project = s.project AND t.session = s.name WHERE s.project = $1"
        " AND s.id >= $2 AND (s.id > $2 OR t.id > $3) ORDER BY s.id, t.id LIMIT $4",
        project_id(project),
        *after,
        limit,
    )
    for row in rows:
        blocks = await connection.fetch(
            "SELECT position, type, created_at, (sum(octet_length(content)) OVER (ORDER BY position))::bigint,"
            " octet_length(content), told_from FROM block WHERE project = $1 AND turn = $2 ORDER BY position",
            project_id(project),
            row[1],
        )
        found = TurnRows(
            _session(row[2:7]),
            _turn_head(row[9:]),
            True,
            row[7],
            row[8],
            tuple(BlockRow(*block) for block in blocks),
        )
        page.append(((row[0], row[1]), found))
        limit -= 1 + len(found.blocks)
        if limit <= 0:
            break
    return page


async def turns_changed_since(
    database: Database, project: str, sequence: int, limit: int | None
) -> tuple[ProjectHead, list[TurnHead]] | None:
    rows = await database.fetch(
        f"SELECT {PROJECT}, t.* FROM project p LEFT JOIN LATERAL (SELECT {TURN}"
        " FROM turn t WHERE t.project = p.id AND t.sequence > $3 ORDER BY t.sequence LIMIT $4) t ON true"
        " WHERE p.id = $1 AND p.name = $2 ORDER BY t.sequence",
        project_id(project),
        project,
        sequence,
        limit,
    )
    if not rows:
        return None
    return project_from_row(rows[0][:5]), [turn_head_from_row(row[5:]) for row in rows if row[5] is not None]
