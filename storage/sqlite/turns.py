"""Queries on sessions and turns. Every function takes a connection inside a read transaction and returns records."""

import sqlite3
from typing import Any

from msgspec.structs import astuple

from storage.checksums import body_row_checksum, checksum, is_intact, row_checksum
from storage.errors import DataDamaged
from storage.records import BlockRow, FileHead, ProjectHead, SessionHead, StoredBlock, StoredTurn, TurnHead, TurnRows
from storage.sqlite.files import DAMAGED_STATE, files_changed_since
from storage.sqlite.large_values import read_value, unless_very_large

_HEAD = (
    "session.name, turn.name, status, block_count, turn.sequence, last_updated, turn.created_at, started_at,"
    " completed_at, error, turn.size, output_offset, result_status, result_error, settling, grown,"
    " turn.project, turn.row_check"
)
_BLOCK = "turn, position, type, created_at, told_from, checksum, row_check"
_PROJECT = "(SELECT id FROM project WHERE name = ?)"
_TURN = f"session.project = {_PROJECT} AND session.name = ? AND turn.name = ?"


_SESSION = "name, title, sequence, created_at, project, row_check"


def turn_head_from_row(row: tuple[Any, ...]) -> TurnHead:
    """Return a turn's head from the columns of `_HEAD` (its fields, the project and the checksum), checked.

    Raises:
        DataDamaged
    """
    if not is_intact(row):
        raise DataDamaged(None, f"its newest state {DAMAGED_STATE}", what=_turn_in_words(row[0], row[1]))
    return _head(row)


def _head(row: tuple[Any, ...]) -> TurnHead:
    """Return a head without checking the row."""
    return TurnHead(*(*row[:-4], bool(row[-4]), bool(row[-3])))


def turn_checksum(project: int, head: TurnHead) -> int:
    """Return the checksum of a turn's row."""
    *values, settling, grown = astuple(head)
    return row_checksum(*values, int(settling), int(grown), project)


def _turn_in_words(session: str, name: str) -> str:
    return f"turn {name!r} of session {session!r}"


def _session_head(row: tuple[Any, ...]) -> SessionHead:
    """Return a session from the columns of `_SESSION`."""
    if not is_intact(row):
        raise DataDamaged(None, "it is not what was written", what=f"session {row[0]!r}")
    return SessionHead(*row[:4])


def session(connection: sqlite3.Connection, project: str, name: str) -> SessionHead | None:
    row = connection.execute(
        f"SELECT {_SESSION} FROM session WHERE project = {_PROJECT} AND name = ?",
        (project, name),
    ).fetchone()
    return None if row is None else _session_head(row)


def sessions(connection: sqlite3.Connection, project: str, after: str | None, limit: int) -> list[SessionHead]:
    rows = connection.execute(
        f"SELECT {_SESSION} FROM session INDEXED BY session_by_age WHERE project = {_PROJECT}"
        f" AND id < ifnull((SELECT id FROM session WHERE project = {_PROJECT} AND name = ?), ?)"
        " ORDER BY id DESC LIMIT ?",
        (project, project, after, _before(after), limit),
    )
    return [_session_head(row) for row in rows]


def _before(after: str | None) -> int:
    """Return the row id that a page lies below if there is no item `after`: the first page has no bound, and nothing
    lies below an unknown item."""
    return 2**63 - 1 if after is None else 0


def find_session(connection: sqlite3.Connection, project: str, name: str) -> int | None:
    """Return the session's row id."""
    row = connection.execute(
        f"SELECT id, {_SESSION} FROM session WHERE project = {_PROJECT} AND name = ?", (project, name)
    ).fetchone()
    if row is None:
        return None
    _session_head(row[1:])
    return int(row[0])


def turn_head(connection: sqlite3.Connection, project: str, session: str, name: str) -> TurnHead | None:
    found = find_turn(connection, project, session, name)
    return None if found is None else found[1]


def find_turn(connection: sqlite3.Connection, project: str, session: str, name: str) -> tuple[int, TurnHead] | None:
    """Return the turn's row id and head."""
    row = connection.execute(
        f"SELECT turn.id, {_HEAD} FROM session JOIN turn ON turn.session = session.id WHERE {_TURN}",
        (project, session, name),
    ).fetchone()
    return None if row is None else (row[0], turn_head_from_row(row[1:]))


def turns(
    connection: sqlite3.Connection, project: str, session: str, after: str | None, limit: int, prompt_length: int
) -> list[StoredTurn]:
    id = find_session(connection, project, session)
    if id is None:
        return []
    rows = connection.execute(
        f"SELECT prompt.turn, prompt.body, prompt.row_check, {_HEAD}"
        " FROM turn JOIN session ON session.id = turn.session JOIN prompt ON prompt.turn = turn.id"
        " WHERE turn.session = ?"
        " AND turn.id < ifnull((SELECT id FROM turn WHERE session = ? AND name = ?), ?) ORDER BY turn.id DESC LIMIT ?",
        (id, id, after, _before(after), limit),
    )
    listed = []
    for row in rows:
        prompt, head = _prompt(row[:3], session, row[4]), turn_head_from_row(row[3:])
        listed.append(StoredTurn(head, prompt[:prompt_length], (), len(prompt) > prompt_length))
    return listed


def _prompt(row: tuple[int, str, int] | None, session: str, name: str) -> str:
    if row is None or not is_intact(row):
        raise DataDamaged(None, f"its prompt {DAMAGED_STATE}", what=_turn_in_words(session, name))
    return row[1]


def read_turn(
    connection: sqlite3.Connection,
    project: str,
    session: str,
    name: str,
    after_block: int,
    limit: int | None,
    most_bytes: int,
) -> StoredTurn | None:
    found = find_turn(connection, project, session, name)
    if found is None:
        return None
    id, head = found
    row = connection.execute("SELECT turn, body, row_check FROM prompt WHERE turn = ?", (id,)).fetchone()
    prompt = _prompt(row, session, name)
    start = _told_from(connection, id, head, after_block)
    most = -1 if limit is None else limit + after_block - min(start, after_block)
    return StoredTurn(head, prompt, tuple(_blocks(connection, id, head, start, most, most_bytes, after_block)))


def read_blocks(
    connection: sqlite3.Connection,
    project: str,
    session: str,
    name: str,
    after_block: int,
    limit: int,
    most_bytes: int,
) -> list[StoredBlock]:
    found = find_turn(connection, project, session, name)
    return [] if found is None else _blocks(connection, *found, after_block, limit, most_bytes, after_block)


def _told_from(connection: sqlite3.Connection, turn: int, head: TurnHead, after_block: int) -> int:
    """Return the position of the first block that may have changed since a reader received `after_block` blocks."""
    if after_block == 0:
        return 0
    row = connection.execute(
        f"SELECT {_BLOCK} FROM block WHERE turn = ? AND position = ?", (turn, after_block - 1)
    ).fetchone()
    if row is not None and not is_intact(row):
        raise _damaged_block(head, after_block - 1)
    return after_block if row is None or row[4] is None else int(row[4])


def _damaged_block(head: TurnHead, index: int) -> DataDamaged:
    what = f"block {index} of {_turn_in_words(head.session_id, head.turn_id)}"
    return DataDamaged(None, "it is not what was written", what=what)


def _size_before(connection: sqlite3.Connection, turn: int, position: int) -> int:
    """Return the bytes of content of the blocks before a position."""
    row = connection.execute("SELECT size FROM block WHERE turn = ? AND position = ?", (turn, position - 1)).fetchone()
    return 0 if row is None else int(row[0])


def _blocks(
    connection: sqlite3.Connection, turn: int, head: TurnHead, start: int, limit: int, most_bytes: int, known: int
) -> list[StoredBlock]:
    """Return blocks from a position on, within a limit of bytes, but at least one after the first `known`: otherwise
    the reader would ask for the same blocks again."""
    most_size = _size_before(connection, turn, start) + most_bytes
    blocks: list[StoredBlock] = []
    index = start
    for id, size, content, *row in connection.execute(
        f"SELECT id, size, {unless_very_large('content')}, {_BLOCK} FROM block WHERE turn = ? AND position >= ?"
        " ORDER BY position LIMIT ?",
        (turn, start, limit),
    ):
        _, position, type, created_at, _, check, _ = row
        if content is None:
            content = read_value(connection, "block", "content", id)
        if position != index or not is_intact(row) or check != checksum(content):
            raise _damaged_block(head, index)
        if size > most_size and index > known:
            return blocks
        blocks.append(StoredBlock(index, type, content, created_at))
        index += 1
    if start < head.block_count != index and index - start != limit:
        raise _damaged_block(head, index)
    return blocks


def extent_after(
    connection: sqlite3.Connection, project: str, session: str, name: str, after_block: int, most_bytes: int
) -> tuple[int, int]:
    """Return how many blocks a reader of the first `after_block` is sent, and their bytes of content; 0: no turn.

    If the block before them is longer than `most_bytes`, its size is returned: what is stored behind a long content
    takes SQLite as long to read as the content.
    """
    found = find_turn(connection, project, session, name)
    if found is None or after_block > found[1].block_count:
        return 0, 0
    id, head = found
    row = connection.execute(
        "SELECT length(content) FROM block WHERE turn = ? AND position = ?", (id, after_block - 1)
    ).fetchone()
    if row is not None and row[0] > most_bytes:
        return 1, int(row[0])
    start = _told_from(connection, id, head, after_block)
    return head.block_count - start, head.size - _size_before(connection, id, start)


def output_state(
    connection: sqlite3.Connection, project: str, session: str, name: str, most_bytes: int | None = None
) -> bytes | None:
    """Return the state; None if it has more than `most_bytes`."""
    row = connection.execute(
        "SELECT output_state.turn, length(output_state.body) FROM session JOIN turn ON turn.session = session.id"
        f" JOIN output_state ON output_state.turn = turn.id WHERE {_TURN}",
        (project, session, name),
    ).fetchone()
    if row is None:
        return b""
    turn, size = row
    if most_bytes is not None and size > most_bytes:  # it takes as long to read what is stored behind it
        return None
    body, check = connection.execute(
        f"SELECT {unless_very_large('body')}, row_check FROM output_state WHERE turn = ?", (turn,)
    ).fetchone()
    if body is None:
        body = read_value(connection, "output_state", "body", turn)
    if check != body_row_checksum(turn, body):
        raise DataDamaged(None, f"what is known of its output {DAMAGED_STATE}", what=_turn_in_words(session, name))
    return bytes(body)


def running_turns_after(connection: sqlite3.Connection, id: int, limit: int) -> list[tuple[int, str, TurnHead | None]]:
    """Return the row, project and head of each running turn; the head is None if it is damaged."""
    rows = connection.execute(
        f"SELECT turn.id, project.name, {_HEAD} FROM turn INDEXED BY running_turn"
        " JOIN session ON session.id = turn.session JOIN project ON project.id = turn.project"
        " WHERE status = 'running' AND turn.id > ? ORDER BY turn.id LIMIT ?",
        (id, limit),
    )
    return [(row[0], row[1], _head(row[2:]) if is_intact(row[2:]) else None) for row in rows]


def turn_rows_after(
    connection: sqlite3.Connection, project: str, after: tuple[int, int], limit: int
) -> list[tuple[tuple[int, int], TurnRows]]:
    """Return a page of the turns of a project after a session row and a turn row in it, each with these rows and all
    that is stored with it. A page ends with the turn at which it reaches `limit` turns and blocks."""
    page: list[tuple[tuple[int, int], TurnRows]] = []
    for session, turn, title, sequence, created_at, in_project, has_prompt, state, *row in connection.execute(
        "SELECT session.id, turn.id, title, session.sequence, session.created_at, turn.project = session.project,"
        " EXISTS (SELECT 1 FROM prompt WHERE prompt.turn = turn.id),"
        f" ifnull((SELECT body FROM output_state WHERE output_state.turn = turn.id), x''), {_HEAD}"
        " FROM session INDEXED BY session_by_age CROSS JOIN turn INDEXED BY turn_by_age ON turn.session = session.id"
        f" WHERE session.project = {_PROJECT} AND session.id >= ?"
        " AND turn.id > CASE WHEN session.id = ? THEN ? ELSE 0 END ORDER BY session.id, turn.id LIMIT ?",
        (project, after[0], *after, limit),
    ):
        head = _head(row)
        blocks = connection.execute(
            "SELECT position, type, created_at, size, length(content), told_from FROM block WHERE turn = ?"
            " ORDER BY position",
            (turn,),
        )
        rows = TurnRows(
            SessionHead(head.session_id, title, sequence, created_at),
            head,
            bool(in_project),
            bool(has_prompt),
            state,
            tuple(BlockRow(*block) for block in blocks),
        )
        page.append(((session, turn), rows))
        limit -= 1 + len(rows.blocks)
        if limit <= 0:
            break
    return page


def changes_since(
    connection: sqlite3.Connection, project: str, sequence: int, limit: int | None
) -> tuple[ProjectHead, list[FileHead | TurnHead]] | None:
    """Return the files and turns changed after `sequence` as one sequence, oldest change first."""
    answer = files_changed_since(connection, project, sequence, limit)
    if answer is None:
        return None
    head, heads = answer
    turns = turns_changed_since(connection, project, sequence, limit)
    changes: list[FileHead | TurnHead] = sorted([*heads, *turns], key=lambda change: change.sequence)
    return head, changes if limit is None else changes[:limit]


def turns_changed_since(
    connection: sqlite3.Connection, project: str, sequence: int, limit: int | None
) -> list[TurnHead]:
    rows = connection.execute(
        f"SELECT {_HEAD} FROM turn INDEXED BY turn_by_sequence JOIN session ON session.id = turn.session"
        f" WHERE turn.project = {_PROJECT} AND turn.sequence > ? ORDER BY turn.sequence LIMIT ?",
        (project, sequence, -1 if limit is None else limit),
    )
    return [turn_head_from_row(row) for row in rows]
