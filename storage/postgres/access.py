"""Queries about tokens and the audit."""

from collections.abc import Iterable, Mapping

from storage.postgres.database import Connection, Database
from storage.postgres.text import from_text, from_text_or_none, to_text, to_text_or_none
from storage.records import AccessToken, AuditEntry, Milliseconds

_TOKEN = "name, digest, title, subject, granted, created, expires, last_used, revoked"
_FORGOTTEN_TOGETHER = 1000


async def add_token(connection: Connection, token: AccessToken) -> None:
    await connection.execute(
        f"INSERT INTO access_token ({_TOKEN}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        token.id,
        token.digest,
        to_text(token.name),
        to_text(token.subject),
        to_text(token.grant),
        token.created,
        token.expires,
        token.last_used,
        token.revoked,
    )


async def token(database: Database, identifier: str) -> AccessToken | None:
    row = await database.fetch_row(f"SELECT {_TOKEN} FROM access_token WHERE name = $1", to_text(identifier))
    return None if row is None else _token(*row)


def _token(id: str, digest: bytes, name: str, subject: str, grant: str, *times: Milliseconds) -> AccessToken:
    return AccessToken(id, digest, from_text(name), from_text(subject), from_text(grant), *times)


async def tokens(database: Database) -> list[AccessToken]:
    return [_token(*row) for row in await database.fetch(f"SELECT {_TOKEN} FROM access_token ORDER BY added_at, name")]


async def revoke_token(connection: Connection, identifier: str, now: Milliseconds) -> AccessToken | None:
    row = await connection.fetchrow(
        f"UPDATE access_token SET revoked = coalesce(revoked, $2) WHERE name = $1 RETURNING {_TOKEN}",
        to_text(identifier),
        now,
    )
    return None if row is None else _token(*row)


async def note_use(connection: Connection, used: Mapping[str, int]) -> None:
    await connection.execute(
        "UPDATE access_token SET last_used = greatest(last_used, t.time)"
        " FROM unnest($1::text[], $2::bigint[]) AS t (name, time) WHERE access_token.name = t.name",
        [to_text(name) for name in used],
        list(used.values()),
    )


async def note_audit(connection: Connection, entries: Iterable[AuditEntry]) -> None:
    await connection.executemany(
        "INSERT INTO audit (time, action, subject, credential, project, path, version, detail)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        [
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
        ],
    )


async def audit(
    database: Database, since: int, project: str | None, subject: str | None, before: int | None, limit: int
) -> list[AuditEntry]:
    conditions, values = ["time >= $1"], [since, limit]
    for column, value in (("project", project), ("subject", subject)):
        if value is not None:
            values.append(to_text(value))  # type: ignore[arg-type]
            conditions.append(f"{column} = ${len(values)}")
    if before is not None:
        values.append(before)
        conditions.append(f"id < ${len(values)}")
    rows = await database.fetch(
        "SELECT time, action, subject, credential, project, path, version, detail, id FROM audit"
        f" WHERE {' AND '.join(conditions)} ORDER BY id DESC LIMIT $2",
        *values,
    )
    return [
        AuditEntry(
            time,
            from_text(action),
            from_text_or_none(who),
            from_text_or_none(credential),
            from_text_or_none(name),
            from_text_or_none(path),
            version,
            from_text_or_none(detail),
            number,
        )
        for time, action, who, credential, name, path, version, detail, number in rows
    ]


async def forget_audit(connection: Connection, before: Milliseconds) -> int:
    rows = await connection.fetch(
        "DELETE FROM audit WHERE id IN (SELECT id FROM audit WHERE time < $1 ORDER BY time LIMIT $2) RETURNING 1",
        before,
        _FORGOTTEN_TOGETHER,
    )
    return len(rows)
