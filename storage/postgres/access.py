"""Queries on tokens and the audit log."""

from collections.abc import Collection, Iterable, Mapping

from storage.checksums import DAMAGED, is_intact, row_checksum
from storage.errors import DataDamaged
from storage.postgres.database import Connection, Database, Row
from storage.postgres.text import from_text, from_text_or_none, to_text, to_text_or_none
from storage.records import AccessToken, AuditEntry, Milliseconds, StoredTicket

_CHECKED = "name, digest, title, subject, granted, created, expires, revoked"
_TOKEN = f"{_CHECKED}, row_check, last_used"
_AUDIT = "time, action, subject, credential, project, path, version, detail"
_FORGOTTEN_TOGETHER = 1000


async def add_token(connection: Connection, token: AccessToken) -> None:
    checked = (
        token.id,
        token.digest,
        to_text(token.name),
        to_text(token.subject),
        to_text(token.grant),
        token.created,
        token.expires,
        token.revoked,
    )
    await connection.execute(
        f"INSERT INTO access_token ({_TOKEN}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        *checked,
        row_checksum(*checked),
        token.last_used,
    )


async def token(database: Database, identifier: str) -> AccessToken | None:
    row = await database.fetch_row(f"SELECT {_TOKEN} FROM access_token WHERE name = $1", to_text(identifier))
    return None if row is None else _token(row)


def _token(row: Row) -> AccessToken:
    name, digest, title, subject, grant, created, expires, revoked, _, last_used = row
    if not is_intact(tuple(row)[:-1]):
        raise DataDamaged(None, DAMAGED, what=f"token {name!r}")
    told = from_text(title), from_text(subject), from_text(grant)
    return AccessToken(name, digest, *told, created, expires, last_used, revoked)


async def tokens(database: Database, after: str | None, limit: int) -> list[AccessToken]:
    rows = await database.fetch(
        f"SELECT {_TOKEN} FROM access_token WHERE $1::text IS NULL"
        " OR (added_at, name) > (SELECT added_at, name FROM access_token WHERE name = $1)"
        " ORDER BY added_at, name LIMIT $2",
        None if after is None else to_text(after),
        limit,
    )
    return [_token(row) for row in rows]


async def revoked_tokens(database: Database, identifiers: Collection[str]) -> list[str]:
    rows = await database.fetch(
        "SELECT name FROM access_token WHERE revoked IS NOT NULL AND name = ANY($1::text[])",
        [to_text(identifier) for identifier in identifiers],
    )
    return [name for (name,) in rows]


async def revoke_token(connection: Connection, identifier: str, now: Milliseconds) -> AccessToken | None:
    row = await connection.fetchrow(
        f"SELECT {_TOKEN} FROM access_token WHERE name = $1 FOR UPDATE", to_text(identifier)
    )
    if row is None:
        return None
    found = _token(row)
    if found.revoked is not None:
        return found
    checked = (*tuple(row)[:7], now)
    changed = await connection.fetchrow(
        f"UPDATE access_token SET revoked = $2, row_check = $3 WHERE name = $1 RETURNING {_TOKEN}",
        to_text(identifier),
        now,
        row_checksum(*checked),
    )
    return None if changed is None else _token(changed)


async def note_use(connection: Connection, used: Mapping[str, int]) -> None:
    await connection.execute(
        "UPDATE access_token SET last_used = greatest(last_used, t.time)"
        " FROM unnest($1::text[], $2::bigint[]) AS t (name, time) WHERE access_token.name = t.name",
        [to_text(name) for name in used],
        list(used.values()),
    )


async def add_ticket(connection: Connection, ticket: StoredTicket, now: Milliseconds) -> None:
    await connection.execute(
        "DELETE FROM ticket WHERE digest IN (SELECT digest FROM ticket WHERE expires <= $1 ORDER BY expires LIMIT $2"
        " FOR UPDATE SKIP LOCKED)",
        now,
        _FORGOTTEN_TOGETHER,
    )
    await connection.execute(
        "INSERT INTO ticket (digest, project, sealed, expires) VALUES ($1, $2, $3, $4)",
        ticket.digest,
        to_text(ticket.project),
        ticket.sealed,
        ticket.expires,
    )


async def take_ticket(connection: Connection, digest: bytes) -> StoredTicket | None:
    row = await connection.fetchrow(
        "DELETE FROM ticket WHERE digest = $1 RETURNING digest, project, sealed, expires", digest
    )
    return None if row is None else StoredTicket(row[0], from_text(row[1]), row[2], row[3])


async def note_audit(connection: Connection, entries: Iterable[AuditEntry]) -> None:
    rows = [
        (
            each.time,
            to_text(each.action),
            to_text_or_none(each.subject),
            to_text_or_none(each.credential),
            to_text_or_none(each.project),
            to_text_or_none(each.path),
            each.version,
            to_text_or_none(each.detail),
        )
        for each in entries
    ]
    await connection.executemany(
        f"INSERT INTO audit ({_AUDIT}, row_check) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        [(*row, row_checksum(*row)) for row in rows],
    )


async def audit(
    database: Database, since: int, project: str | None, subject: str | None, before: int | None, limit: int
) -> list[AuditEntry]:
    conditions: list[str] = ["time >= $1"]
    values: list[int | str] = [since, limit]
    for column, value in (("project", project), ("subject", subject)):
        if value is not None:
            values.append(to_text(value))
            conditions.append(f"{column} = ${len(values)}")
    if before is not None:
        values.append(before)
        conditions.append(f"id < ${len(values)}")
    rows = await database.fetch(
        f"SELECT {_AUDIT}, row_check, id FROM audit WHERE {' AND '.join(conditions)} ORDER BY id DESC LIMIT $2",
        *values,
    )
    return [_entry(row) for row in rows]


def _entry(row: Row) -> AuditEntry:
    time, action, who, credential, project, path, version, detail, _, number = row
    if not is_intact(tuple(row)[:-1]):
        raise DataDamaged(None, DAMAGED, what=f"entry {number} of the audit")
    who, credential, project, path = map(from_text_or_none, (who, credential, project, path))
    return AuditEntry(
        time, from_text(action), who, credential, project, path, version, from_text_or_none(detail), number
    )


async def forget_audit(connection: Connection, before: Milliseconds) -> int:
    rows = await connection.fetch(
        "DELETE FROM audit WHERE id IN (SELECT id FROM audit WHERE time < $1 ORDER BY time LIMIT $2) RETURNING 1",
        before,
        _FORGOTTEN_TOGETHER,
    )
    return len(rows)
