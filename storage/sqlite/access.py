"""Queries about tokens and the audit. Every function takes a connection inside a transaction."""

import sqlite3
from collections.abc import Iterable, Mapping

from storage.records import AccessToken, AuditEntry, Milliseconds

_TOKEN = "name, digest, title, subject, granted, created, expires, last_used, revoked"
_FORGOTTEN_TOGETHER = 1000


def add_token(connection: sqlite3.Connection, token: AccessToken) -> None:
    connection.execute(
        f"INSERT INTO access_token ({_TOKEN}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            token.id,
            token.digest,
            token.name,
            token.subject,
            token.grant,
            token.created,
            token.expires,
            token.last_used,
            token.revoked,
        ),
    )


def token(connection: sqlite3.Connection, identifier: str) -> AccessToken | None:
    row = connection.execute(f"SELECT {_TOKEN} FROM access_token WHERE name = ?", (identifier,)).fetchone()
    return None if row is None else AccessToken(*row)


def tokens(connection: sqlite3.Connection) -> list[AccessToken]:
    return [AccessToken(*row) for row in connection.execute(f"SELECT {_TOKEN} FROM access_token ORDER BY id")]


def revoke_token(connection: sqlite3.Connection, identifier: str, now: Milliseconds) -> AccessToken | None:
    connection.execute("UPDATE access_token SET revoked = ? WHERE name = ? AND revoked IS NULL", (now, identifier))
    return token(connection, identifier)


def note_use(connection: sqlite3.Connection, used: Mapping[str, int]) -> None:
    connection.executemany(
        "UPDATE access_token SET last_used = max(ifnull(last_used, 0), ?) WHERE name = ?",
        [(time, identifier) for identifier, time in used.items()],
    )


def note_audit(connection: sqlite3.Connection, entries: Iterable[AuditEntry]) -> None:
    connection.executemany(
        "INSERT INTO audit (time, action, subject, credential, project, path, version, detail)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (each.time, each.action, each.subject, each.credential, each.project, each.path, each.version, each.detail)
            for each in entries
        ],
    )


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
        "SELECT time, action, subject, credential, project, path, version, detail, id FROM audit"
        f" WHERE {' AND '.join(conditions)} ORDER BY id DESC LIMIT ?",
        (*values, limit),
    )
    return [AuditEntry(*row) for row in rows]


def forget_audit(connection: sqlite3.Connection, before: Milliseconds) -> int:
    return connection.execute(
        "DELETE FROM audit WHERE id IN (SELECT id FROM audit WHERE time < ? ORDER BY time LIMIT ?)",
        (before, _FORGOTTEN_TOGETHER),
    ).rowcount
