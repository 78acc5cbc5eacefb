"""Conversions of tokens and audit entries between their stored form and their wire form."""

import asyncio
import math
import time
from collections.abc import AsyncIterator
from typing import Any, cast

import msgspec

from gateway.access.grants import Grant, InvalidGrant, grant_json, is_name, parse_grant
from gateway.access.tokens import new_token
from gateway.wire.access import AuditRecord, MadeToken, NewToken, TokenEntry, TokenListing
from gateway.wire.problems import InvalidBody
from gateway.wire.values import rfc3339
from storage import AccessToken, AuditEntry, Milliseconds, Storage, wall_clock

_LONGEST_LIFE_S = 100 * 366 * 24 * 3600
_READ_AT_ONCE = 16
"""How many tokens are read in one step, since a grant may name very many projects and paths."""
_LARGEST_PAGE = 2**20
"""Bytes of grants that end a page."""


def make_token(name: str, subject: str, grant: Grant, expires: float | None) -> tuple[AccessToken, str]:
    """Make a new token; return the stored form, and the full text, which is shown once.

    Args:
        expires: seconds since 1970; None: never.
    """
    identifier, text, digest = new_token()
    stored = AccessToken(
        identifier,
        digest,
        name,
        subject,
        msgspec.json.encode(grant_json(grant)).decode(),
        wall_clock(),
        None if expires is None else Milliseconds(int(expires * 1000)),
    )
    return stored, text


def token_of(given: NewToken) -> tuple[AccessToken, str]:
    """Make the token that a request asks for.

    Raises:
        InvalidBody
    """
    subject = given.name if given.subject is None else given.subject
    if not is_name(given.name) or not is_name(subject):
        raise InvalidBody("a name and a subject have 1 to 200 visible characters")
    try:
        grant = parse_grant({"projects": given.projects, "admin": given.admin})
    except InvalidGrant as error:
        raise InvalidBody(str(error)) from None
    if not grant.projects and not grant.admin:
        raise InvalidBody("the token grants nothing: name projects, or set admin")
    life = given.expires_in
    if life is not None and not (math.isfinite(life) and 0 < life <= _LONGEST_LIFE_S):
        raise InvalidBody("expires_in is a number of seconds, more than 0")
    return make_token(given.name, subject, grant, None if life is None else time.time() + life)


class _DecodedGrant(msgspec.Struct):
    projects: dict[str, Any]
    admin: bool


class _EncodedGrant(msgspec.Struct):
    projects: msgspec.Raw
    admin: bool


def token_entry(token: AccessToken) -> TokenEntry:
    """Return the wire form of a token, without its secret."""
    return _entry(token, msgspec.json.decode(token.grant, type=_DecodedGrant))


def _entry(token: AccessToken, grant: _DecodedGrant | _EncodedGrant) -> TokenEntry:
    return TokenEntry(
        token.id,
        token.name,
        token.subject,
        cast(dict[str, Any], grant.projects),
        grant.admin,
        rfc3339(token.created),
        *(None if when is None else rfc3339(when) for when in (token.expires, token.last_used, token.revoked)),
    )


def made_token(token: AccessToken, text: str) -> MadeToken:
    """Return the wire form of a token, with its secret."""
    return MadeToken(**msgspec.structs.asdict(token_entry(token)), token=text)


async def every_token(storage: Storage, after: str | None = None) -> AsyncIterator[AccessToken]:
    """Yield every token, oldest first; with `after` only those that are newer than the token with that id."""
    while found := await storage.tokens(after=after, limit=_READ_AT_ONCE):
        for token in found:
            yield token
        after = found[-1].id


async def token_page(storage: Storage, after: str | None, limit: int) -> TokenListing:
    """Return a page of up to `limit` tokens, oldest first, that are newer than the token with the id `after`.

    Large grants end a page early. Each token has a turn of the event loop, as its grant may be large. The projects of
    an entry stay the JSON that they are stored as: the page is freed in one step, and may name 100,000 projects.
    """
    entries: list[TokenEntry] = []
    size = 0
    async for token in every_token(storage, after):
        if len(entries) == limit or size > _LARGEST_PAGE:
            return TokenListing(entries, entries[-1].id)
        entries.append(_entry(token, msgspec.json.decode(token.grant, type=_EncodedGrant)))
        size += len(token.grant)
        await asyncio.sleep(0)
    return TokenListing(entries, None)


def audit_record(entry: AuditEntry) -> AuditRecord:
    return AuditRecord(
        entry.number,
        rfc3339(entry.time),
        entry.action,
        entry.subject,
        entry.credential,
        entry.project,
        entry.path,
        entry.version,
        entry.detail,
    )
