"""How changes of sessions and turns become rows, in the transaction that writes."""

import sqlite3
from collections.abc import Iterable

from storage.errors import AlreadyDone, SessionMissing, StorageError, TurnConflict
from storage.records import (
    FINISHED,
    CommittedSession,
    CommittedTurn,
    CreateSession,
    CreateTurn,
    GrownBlock,
    NewBlock,
    OutputPosition,
    ProjectHead,
    SessionHead,
    TurnChange,
    TurnHead,
    UpdateTurn,
)
from storage.sqlite.once import find_done, note_done
from storage.sqlite.turns import find_session, find_turn

_CACHED = 16_384


class TurnLog:
    """Remembers the rows that it has written or read, as `Log` does, which calls it."""

    def __init__(self) -> None:
        self._sessions: dict[tuple[str, str], int] = {}
        self._turns: dict[tuple[str, str, str], tuple[int, TurnHead]] = {}

    def forget(self) -> None:
        self._sessions.clear()
        self._turns.clear()

    def conflict(
        self, connection: sqlite3.Connection, project: str, change: TurnChange, now: int
    ) -> StorageError | None:
        """What keeps a change from being stored."""
        if change.once is not None:
            done = find_done(connection, project, change.once.key, now)
            if done is not None:
                return AlreadyDone(project, change.once.key, done)
        session = self._session(connection, project, change.session_id)
        if isinstance(change, CreateSession):
            return None if session is None else TurnConflict(project, change.session_id, None, 0, 1)
        if isinstance(change, CreateTurn) and session is None:
            return SessionMissing(project, change.session_id)
        turn = self._turn(connection, project, change.session_id, change.turn_id)
        expected = change.expected_sequence if isinstance(change, UpdateTurn) else 0
        found = 0 if turn is None else turn[1].sequence
        if found == expected and (turn is not None or isinstance(change, CreateTurn)):
            return None
        return TurnConflict(project, change.session_id, change.turn_id, expected, found)

    def add(
        self, connection: sqlite3.Connection, project: int, head: ProjectHead, change: TurnChange
    ) -> CommittedSession | CommittedTurn:
        """Store a change that has no conflict; `project` is the project's row, `head` its head, advanced."""
        if len(self._turns) + len(self._sessions) > _CACHED:
            self.forget()
        committed = self._store(connection, project, head, change)
        if change.once is not None:
            block_count = committed.turn.block_count if isinstance(committed, CommittedTurn) else 0
            note_done(connection, project, change.once, change, block_count, head.last_modified)
        return committed

    def _store(
        self, connection: sqlite3.Connection, project: int, head: ProjectHead, change: TurnChange
    ) -> CommittedSession | CommittedTurn:
        if isinstance(change, CreateSession):
            return CommittedSession(head, self._create_session(connection, project, head, change))
        if isinstance(change, CreateTurn):
            return CommittedTurn(head, self._create_turn(connection, project, head, change))
        return CommittedTurn(head, self._update_turn(connection, head, change))

    def _session(self, connection: sqlite3.Connection, project: str, name: str) -> int | None:
        """The session's row."""
        id = self._sessions.get((project, name))
        if id is None:
            id = find_session(connection, project, name)
            if id is not None:
                self._sessions[project, name] = id
        return id

    def _turn(
        self, connection: sqlite3.Connection, project: str, session: str, name: str
    ) -> tuple[int, TurnHead] | None:
        """The turn's row and head."""
        turn = self._turns.get((project, session, name))
        if turn is None:
            turn = find_turn(connection, project, session, name)
            if turn is not None:
                self._turns[project, session, name] = turn
        return turn

    def _create_session(
        self, connection: sqlite3.Connection, project: int, head: ProjectHead, change: CreateSession
    ) -> SessionHead:
        cursor = connection.execute(
            "INSERT INTO session (project, name, title, sequence, created_at) VALUES (?, ?, ?, ?, ?)",
            (project, change.session_id, change.title, head.sequence, head.last_modified),
        )
        assert cursor.lastrowid is not None
        self._sessions[head.name, change.session_id] = cursor.lastrowid
        return SessionHead(change.session_id, change.title, head.sequence, head.last_modified)

    def _create_turn(
        self, connection: sqlite3.Connection, project: int, head: ProjectHead, change: CreateTurn
    ) -> TurnHead:
        now = head.last_modified
        cursor = connection.execute(
            "INSERT INTO turn (project, session, name, status, block_count, sequence, last_updated, created_at, size,"
            " output_offset) VALUES (?, ?, ?, 'pending', 0, ?, ?, ?, 0, 0)",
            (project, self._session(connection, head.name, change.session_id), change.turn_id, head.sequence, now, now),
        )
        assert cursor.lastrowid is not None
        connection.execute("INSERT INTO prompt (turn, body) VALUES (?, ?)", (cursor.lastrowid, change.prompt))
        turn = TurnHead(
            change.session_id, change.turn_id, "pending", 0, head.sequence, now, now, None, None, None, 0, 0
        )
        self._turns[head.name, change.session_id, change.turn_id] = (cursor.lastrowid, turn)
        return turn

    def _update_turn(self, connection: sqlite3.Connection, head: ProjectHead, change: UpdateTurn) -> TurnHead:
        found = self._turn(connection, head.name, change.session_id, change.turn_id)
        assert found is not None
        id, old = found
        size = old.size + _replace_contents(connection, id, change.grown)
        size = _insert_blocks(connection, id, old.block_count, size, head.last_modified, change.blocks)
        if change.output is not None:
            _put_output_state(connection, id, change.output)
        new = _advanced(old, head, change, size)
        connection.execute(
            "UPDATE turn SET status = ?, block_count = ?, sequence = ?, last_updated = ?, started_at = ?,"
            " completed_at = ?, error = ?, size = ?, output_offset = ?, result_status = ?, result_error = ?,"
            " settling = ?, grown = ? WHERE id = ?",
            (
                new.status,
                new.block_count,
                new.sequence,
                new.last_updated,
                new.started_at,
                new.completed_at,
                new.error,
                new.size,
                new.output_offset,
                new.result_status,
                new.result_error,
                new.settling,
                new.grown,
                id,
            ),
        )
        self._turns[head.name, change.session_id, change.turn_id] = (id, new)
        return new


def _advanced(old: TurnHead, head: ProjectHead, change: UpdateTurn, size: int) -> TurnHead:
    """A turn's state after a change."""
    now = head.last_modified
    starts = old.status == "pending" and bool(change.status == "running" or change.blocks or change.output)
    result_status, result_error = old.result_status, old.result_error
    if change.result is not None:
        result_status, result_error = change.result.status, change.result.error
    return TurnHead(
        session_id=old.session_id,
        turn_id=old.turn_id,
        status=change.status,
        block_count=old.block_count + len(change.blocks),
        sequence=head.sequence,
        last_updated=now,
        created_at=old.created_at,
        started_at=now if starts else old.started_at,
        completed_at=now if change.status in FINISHED else None,
        error=change.error,
        size=size,
        output_offset=old.output_offset if change.output is None else change.output.offset,
        result_status=result_status,
        result_error=result_error,
        settling=change.settling,
        grown=change.blocks[-1].told_from is not None if change.blocks else old.grown,
    )


def _insert_blocks(
    connection: sqlite3.Connection, turn: int, position: int, size: int, now: int, blocks: Iterable[NewBlock]
) -> int:
    """Store the blocks from a position on, after blocks of `size` bytes; returns the bytes of all."""
    rows = []
    for index, block in enumerate(blocks, position):
        size += len(block.content)
        rows.append((turn, index, block.type, now, size, block.content, block.told_from))
    connection.executemany(
        "INSERT INTO block (turn, position, type, created_at, size, content, told_from) VALUES (?, ?, ?, ?, ?, ?, ?)",
        rows,
    )
    return size


def _replace_contents(connection: sqlite3.Connection, turn: int, blocks: Iterable[GrownBlock]) -> int:
    """Store new contents of blocks; returns by how many bytes they have grown. The sizes of those behind follow."""
    grown = 0
    for block in blocks:
        (before,) = connection.execute(
            "SELECT length(content) FROM block WHERE turn = ? AND position = ?", (turn, block.index)
        ).fetchone()
        connection.execute(
            "UPDATE block SET content = ? WHERE turn = ? AND position = ?", (block.content, turn, block.index)
        )
        connection.execute(
            "UPDATE block SET size = size + ? WHERE turn = ? AND position >= ?",
            (len(block.content) - before, turn, block.index),
        )
        grown += len(block.content) - before
    return grown


def _put_output_state(connection: sqlite3.Connection, turn: int, output: OutputPosition) -> None:
    if output.state:
        connection.execute("INSERT OR REPLACE INTO output_state (turn, body) VALUES (?, ?)", (turn, output.state))
    else:
        connection.execute("DELETE FROM output_state WHERE turn = ?", (turn,))
