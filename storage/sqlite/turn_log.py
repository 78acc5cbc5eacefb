"""Storing the sessions and turns of a plan of `storage.log` inside the write transaction."""

import sqlite3

from storage.checksums import body_row_checksum, checksum, row_checksum
from storage.log import KnownProject, KnownTurn, Needs, Plan, PlannedTurn
from storage.sqlite.large_values import execute_and_forget, insert_statement, is_very_large, write_value
from storage.sqlite.once import find_done, note_done
from storage.sqlite.turns import find_session, find_turn, turn_checksum

_INSERT_BLOCK = insert_statement(
    "block", "turn, position, type, created_at, told_from, checksum, row_check, size, content"
)
_INSERT_PROMPT = insert_statement("prompt", "turn, body, row_check")
_SET_STATE = insert_statement("output_state", "turn, body, row_check", replacing=True)
_SET_LARGE_STATE = "INSERT OR REPLACE INTO output_state (turn, body, row_check) VALUES (?, zeroblob(?), ?)"
_INSERT_LARGE_BLOCK = (
    "INSERT INTO block (turn, position, type, created_at, told_from, checksum, row_check, size, content)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, zeroblob(?))"
)
_GROW_BLOCK = (  # rows that were damaged before stay damaged
    "UPDATE block SET content = {}, checksum = ?, row_check = CASE row_check"
    " WHEN row_checksum(turn, position, type, created_at, told_from, checksum)"
    " THEN row_checksum(turn, position, type, created_at, told_from, ?) END WHERE turn = ? AND position = ?"
)


def load_turns(connection: sqlite3.Connection, known: KnownProject, missing: Needs, now: int) -> None:
    """Load the missing rows that exist."""
    name = known.head.name
    for key in missing.keys:
        done = find_done(connection, name, key, now)
        if done is not None:
            known.done[key] = done
    for session in missing.sessions:
        id = find_session(connection, name, session)
        if id is not None:
            known.sessions[session] = id
    for session, turn in missing.turns:
        found = find_turn(connection, name, session, turn)
        if found is not None:
            known.turns[session, turn] = KnownTurn(*found)
    for session, turn, index in missing.lengths:
        grown = known.turns.get((session, turn))
        if grown is None:
            continue
        row = connection.execute(
            "SELECT length(content) FROM block WHERE turn = ? AND position = ?", (grown.id, index)
        ).fetchone()
        if row is not None:
            grown.lengths[index] = row[0]


def store_turns(connection: sqlite3.Connection, plan: Plan) -> None:
    """Insert and update the rows."""
    project = plan.known.id
    for name, session in plan.new_sessions.items():
        values = (name, session.title, session.sequence, session.created_at, project)
        cursor = connection.execute(
            "INSERT INTO session (name, title, sequence, created_at, project, row_check) VALUES (?, ?, ?, ?, ?, ?)",
            (*values, row_checksum(*values)),
        )
        assert cursor.lastrowid is not None
        plan.session_ids[name] = cursor.lastrowid
    for planned in plan.turns.values():
        _store_turn(connection, plan, planned)
    for key, done in plan.done.items():
        note_done(connection, project, key, done)


def _store_turn(connection: sqlite3.Connection, plan: Plan, planned: PlannedTurn) -> None:
    turn = planned.turn
    changing = (
        turn.status,
        turn.block_count,
        turn.sequence,
        turn.last_updated,
        turn.started_at,
        turn.completed_at,
        turn.error,
        turn.size,
        turn.output_offset,
        turn.result_status,
        turn.result_error,
        turn.settling,
        turn.grown,
        turn_checksum(plan.known.id, turn),
    )
    if planned.is_new:
        session = plan.session_ids.get(turn.session_id) or plan.known.sessions[turn.session_id]
        cursor = connection.execute(
            "INSERT INTO turn (status, block_count, sequence, last_updated, started_at, completed_at, error, size,"
            " output_offset, result_status, result_error, settling, grown, row_check,"
            " project, session, name, created_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (*changing, plan.known.id, session, turn.turn_id, turn.created_at),
        )
        assert cursor.lastrowid is not None
        planned.id = cursor.lastrowid
        values = (planned.id, planned.prompt)
        execute_and_forget(connection, _INSERT_PROMPT, [(*values, row_checksum(*values))])
    else:
        connection.execute(
            "UPDATE turn SET status = ?, block_count = ?, sequence = ?, last_updated = ?, started_at = ?,"
            " completed_at = ?, error = ?, size = ?, output_offset = ?, result_status = ?, result_error = ?,"
            " settling = ?, grown = ?, row_check = ? WHERE id = ?",
            (*changing, planned.id),
        )
    _store_blocks(connection, planned)
    if planned.output_state:
        _store_state(connection, planned.id, planned.output_state)
    elif planned.output_state is not None:
        connection.execute("DELETE FROM output_state WHERE turn = ?", (planned.id,))


def _store_state(connection: sqlite3.Connection, turn: int, state: bytes) -> None:
    check = body_row_checksum(turn, state)
    if is_very_large(state):
        connection.execute(_SET_LARGE_STATE, (turn, len(state), check))
        write_value(connection, "output_state", "body", turn, state)
    else:
        execute_and_forget(connection, _SET_STATE, [(turn, state, check)])


def _store_blocks(connection: sqlite3.Connection, planned: PlannedTurn) -> None:
    """Store blocks. Each has the total size of the blocks up to it, so blocks after a grown one are updated too."""
    turn, size = planned.id, 0 if planned.is_new else planned.old.size
    for index, content in planned.grown.items():
        row, before = connection.execute(
            "SELECT id, length(content) FROM block WHERE turn = ? AND position = ?", (turn, index)
        ).fetchone()
        check = checksum(content)
        if is_very_large(content):
            connection.execute(_GROW_BLOCK.format("zeroblob(?)"), (len(content), check, check, turn, index))
            write_value(connection, "block", "content", row, content)
        else:
            execute_and_forget(connection, _GROW_BLOCK.format("?"), [(content, check, check, turn, index)])
        connection.execute(
            "UPDATE block SET size = size + ? WHERE turn = ? AND position >= ?",
            (len(content) - before, turn, index),
        )
        size += len(content) - before
    rows = []
    for index, block in planned.blocks.items():
        size += len(block.content)
        told = (turn, index, block.type, block.created_at, block.told_from, checksum(block.content))
        values = *told, row_checksum(*told), size
        if is_very_large(block.content):
            row = connection.execute(_INSERT_LARGE_BLOCK, (*values, len(block.content))).lastrowid
            assert row is not None
            write_value(connection, "block", "content", row, block.content)
        else:
            rows.append((*values, block.content))
    if rows:
        execute_and_forget(connection, _INSERT_BLOCK, rows)
