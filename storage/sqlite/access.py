"""Queries on tokens and the audit log. Every function takes a connection inside a transaction."""

import json
import sqlite3
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from storage.checksums import DAMAGED, is_intact, row_checksum
from storage.errors import DataDamaged
from storage.records import AccessToken, AuditEntry, Milliseconds, StoredTicket
from storage.sqlite.row_checks import CHECKED, checksum_of

_CHECKED = ", ".join(CHECKED["access_token"])
_TOKEN = f"{_CHECKED}, row_check, last_used"
_AUDIT = ", ".join(CHECKED["audit"])
_FORGOTTEN_TOGETHER = 1000


def add_token(connection: sqlite3.Connection, token: AccessToken) -> None:
    checked = (
        token.id,
        token.digest,
        token.name,
        token.subject,
        token.grant,
        token.created,
        token.expires,
        token.revoked,
    )
    connection.execute(
        f"INSERT INTO access_token ({_CHECKED}, row_check, last_used) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (*checked, row_checksum(*checked), token.last_used),
    )


def _token(row: tuple[Any, ...]) -> AccessToken:
    name, digest, title, subject, granted, created, expires, revoked, _, last_used = row
    if not is_intact(row[:-1]):
        raise DataDamaged(None, DAMAGED, what=f"token {name!r}")
    return AccessToken(name, digest, title, subject, granted, created, expires, last_used, revoked)


def token(connection: sqlite3.Connection, identifier: str) -> AccessToken | None:
    row = connection.execute(f"SELECT {_TOKEN} FROM access_token WHERE name = ?", (identifier,)).fetchone()
    return None if row is None else _token(row)


def tokens(connection: sqlite3.Connection, after: str | None, limit: int) -> list[AccessToken]:
    rows = connection.execute(
        f"SELECT {_TOKEN} FROM access_token WHERE id > ifnull((SELECT id FROM access_token WHERE name = ?), ?)"
        " ORDER BY id LIMIT ?",
        (after, -1 if after is None else 2**63 - 1, limit),
    )
    return [_token(row) for row in rows]


def revoked_tokens(connection: sqlite3.Connection, identifiers: Collection[str]) -> list[str]:
    rows = connection.execute(
        "SELECT name FROM access_token WHERE revoked IS NOT NULL AND name IN (SELECT value FROM json_each(?))",
        (json.dumps(list(identifiers)),),
    )
    return [name for (name,) in rows]


def revoke_token(connection: sqlite3.Connection, identifier: str, now: Milliseconds) -> AccessToken | None:
    found = token(connection, identifier)
    if found is not None and found.revoked is None:
        connection.execute("UPDATE access_token SET revoked = ? WHERE name = ?", (now, identifier))
        connection.execute(
            f"UPDATE access_token SET row_check = {checksum_of('access_token')} WHERE name = ?", (identifier,)
        )
    return token(connection, identifier)


def note_use(connection: sqlite3.Connection, used: Mapping[str, int]) -> None:
    connection.executemany(
        "UPDATE access_token SET last_used = max(ifnull(last_used, 0), ?) WHERE name = ?",
        [(time, identifier) for identifier, time in used.items()],
    )


def add_ticket(connection: sqlite3.Connection, ticket: StoredTicket, now: Milliseconds) -> None:
    connection.execute(
        "DELETE FROM ticket WHERE digest IN (SELECT digest FROM ticket WHERE expires <= ? ORDER BY expires LIMIT ?)",
        (now, _FORGOTTEN_TOGETHER),
    )
    connection.execute(
        "INSERT INTO ticket (digest, project, sealed, expires) VALUES (?, ?, ?, ?)",
        (ticket.digest, ticket.project, ticket.sealed, ticket.expires),
    )


def take_ticket(connection: sqlite3.Connection, digest: bytes) -> StoredTicket | None:
    rows = connection.execute(
        "DELETE FROM ticket WHERE digest = ? RETURNING digest, project, sealed, expires", (digest,)
    ).fetchall()
    return StoredTicket(*rows[0]) if rows else None


def note_audit(connection: sqlite3.Connection, entries: Iterable[AuditEntry]) -> None:
    connection.executemany(
        f"INSERT INTO audit ({_AUDIT}, row_check) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [(*(values := _values(each)), row_checksum(*values)) for each in entries],
    )


def _values(entry: AuditEntry) -> tuple[int | str | None, ...]:
    who = (entry.time, entry.action, entry.subject, entry.credential)
    return (*who, entry.project, entry.path, entry.version, entry.detail)


def audit(
    connection: sqlite3.Connection,
    since: Milliseconds,
    project: str | None,
    subject: str | None,
    before: int | None,
    limit: int,
) -> list[AuditEntry]:
    conditions, values = ["time >= ?"], [since]
    for column, value in (("project", project), ("subject", subject)):
        if value is not None:
            conditions.append(f"{column} = ?")
            values.append(value)  # type: ignore[arg-type]
    if before is not None:
        conditions.append("id < ?")
        values.append(before)  # type: ignore[arg-type]
    rows = connection.execute(
        f"SELECT id, {_AUDIT}, row_check FROM audit WHERE {' AND '.join(conditions)} ORDER BY id DESC LIMIT ?",
        (*values, limit),
    )
    return [_entry(row) for row in rows]


def _entry(row: tuple[Any, ...]) -> AuditEntry:
    id, time, action, subject, credential, project, path, version, detail, _ = row
    if not is_intact(row[1:]):
        raise DataDamaged(None, DAMAGED, what=f"entry {id} of the audit")
    return AuditEntry(time, action, subject, credential, project, path, version, detail, id)


def forget_audit(connection: sqlite3.Connection, before: Milliseconds) -> int:
    return connection.execute(
        "DELETE FROM audit WHERE id IN (SELECT id FROM audit WHERE time < ? ORDER BY time LIMIT ?)",
        (before, _FORGOTTEN_TOGETHER),
    ).rowcount
