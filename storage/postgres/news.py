"""Reading what other gateways stored in a project since a position."""

from msgspec import Struct

from storage.log import KnownFile, KnownProject, KnownTurn
from storage.postgres.database import Connection
from storage.postgres.files import HEAD, head_from_row, project_from_row
from storage.postgres.generations import GENERATION, generation_of, split_name
from storage.postgres.turns import SESSION, TURN, session_from_row, turn_head_from_row
from storage.records import (
    Commit,
    Committed,
    CommittedSession,
    CommittedTurn,
    FileHead,
    Incarnation,
    Milliseconds,
    ProjectHead,
    Sequence,
)

_MOST_CHANGES = 1000
"""If there are more file changes than this, only the newest state of each file is read."""
_MOST_BODY = 65_536
"""The most bytes of an update that is read; for a longer one, the file has to be read."""


class News(Struct, frozen=True):
    """The commits after a position, oldest first, and the project's current head."""

    head: ProjectHead
    generation: str
    """The generation of the database in which this is so."""
    commits: tuple[Commit, ...]
    files: dict[str, KnownFile]
    turns: dict[tuple[str, str], KnownTurn]


_CHANGES = f"""
SELECT p.epoch || {GENERATION}, p.sequence, p.last_modified, p.row_check, c.sequence, c.version, c.last_modified,
    c.size, c.body IS NULL, CASE WHEN octet_length(c.body) <= {_MOST_BODY} THEN c.body END, f.id,
    coalesce(l.incarnation, f.incarnation) || {GENERATION}, coalesce(l.born_version, f.born_version),
    coalesce(l.born_sequence, f.born_sequence), {HEAD}
FROM project p
LEFT JOIN LATERAL (
    SELECT * FROM change c WHERE c.project = p.id AND c.sequence > $2 ORDER BY c.sequence LIMIT {_MOST_CHANGES + 1}
) c ON true
LEFT JOIN file f ON f.project = c.project AND f.id = c.file
LEFT JOIN past_life l ON l.project = c.project AND l.file = c.file AND c.version < f.born_version
    AND l.born_version = (SELECT max(m.born_version) FROM past_life m WHERE m.project = c.project
        AND m.file = c.file AND m.born_version <= c.version)
WHERE p.id = $1 ORDER BY c.sequence
"""
_FILES = f"SELECT f.id, {HEAD} FROM file f WHERE f.project = $1 AND f.sequence > $2"
_TURNS = f"SELECT t.id, {TURN} FROM turn t WHERE t.project = $1 AND t.sequence > $2"
_SESSIONS = f"SELECT {SESSION} FROM session s WHERE s.project = $1 AND s.id > $2"


class _Moved(Exception):
    """A change was stored between two reads."""


async def read_news(connection: Connection, project: int, name: str, known: KnownProject) -> News | None:
    """Return the commits after the sequence of a known project, as of one moment; None if it does not exist."""
    try:
        return await _read(connection, project, name, known)
    except _Moved:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            return await _read(connection, project, name, known)


async def _read(connection: Connection, project: int, name: str, known: KnownProject) -> News | None:
    since = known.head.sequence
    rows = await connection.fetch(_CHANGES, project, since)
    if not rows:
        return None
    head, generation = project_from_row((name, *rows[0][:4])), generation_of(rows[0][0])
    if head.sequence <= since:
        return News(head, generation, (), {}, {})
    commits: list[Commit] = []
    files: dict[str, KnownFile] = {}
    if len(rows) > _MOST_CHANGES:
        for id, *columns in await connection.fetch(_FILES, project, since):
            file = head_from_row(tuple(columns))
            _require(file.sequence, head)
            files[file.path] = KnownFile(id, file)
            commits.append(Committed(_at(head, file.sequence, file.last_modified), file))
    elif rows[0][4] is not None:
        for row in rows:
            sequence, version, time, size, deleted, body, id, incarnation, born_version, born_sequence = row[4:14]
            path, life = head_from_row(row[14:24]).path, Incarnation(split_name(incarnation)[1])
            file = FileHead(path, version, life, sequence, time, size, deleted, born_version, born_sequence)
            files[path] = KnownFile(id, file)
            commits.append(Committed(_at(head, sequence, time), file, body))
    turns: dict[tuple[str, str], KnownTurn] = {}
    if len(commits) < head.sequence - since:  # the rest are turns and sessions
        for row in await connection.fetch(_TURNS, project, since):
            turn = turn_head_from_row(row[1:])
            _require(turn.sequence, head)
            turns[turn.session_id, turn.turn_id] = KnownTurn(row[0], turn)
            commits.append(CommittedTurn(_at(head, turn.sequence, turn.last_updated), turn))
        for row in await connection.fetch(_SESSIONS, project, since):
            session = session_from_row(row)
            _require(session.sequence, head)
            commits.append(CommittedSession(_at(head, session.sequence, session.created_at), session))
        commits.sort(key=lambda commit: commit.project.sequence)
    return News(head, generation, tuple(commits), files, turns)


def _require(sequence: Sequence, head: ProjectHead) -> None:
    if sequence > head.sequence:
        raise _Moved


def _at(head: ProjectHead, sequence: Sequence, time: Milliseconds) -> ProjectHead:
    return ProjectHead(head.name, head.epoch, sequence, time)
