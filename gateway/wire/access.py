"""Shapes of requests and answers about tokens, tickets and the audit."""

from typing import Any

from msgspec import Struct


class NewToken(Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """A token to be made. `projects` and `admin` are its grant, as in the claim `yjs_gateway` of a JSON Web Token."""

    name: str
    subject: str | None = None
    """Who asks with it, the author of what it writes; left out: `name`."""
    projects: dict[str, Any] = {}
    admin: bool = False
    expires_in: float | None = None
    """Seconds; left out, it does not expire."""


class TokenEntry(Struct, frozen=True, gc=False):
    """A token without its secret."""

    id: str
    name: str
    subject: str
    projects: dict[str, Any]
    admin: bool
    created: str
    expires: str | None
    last_used: str | None
    """To the hour."""
    revoked: str | None


class MadeToken(TokenEntry, frozen=True, gc=False):
    """A token that was just made: the whole of it is told this once."""

    token: str


class TokenListing(Struct, frozen=True, gc=False):
    tokens: list[TokenEntry]


class Ticket(Struct, frozen=True, gc=False):
    """Stands for the credential in the URL of one connection (`?ticket=`)."""

    ticket: str
    expires_in: int
    """Seconds."""


class AuditRecord(Struct, frozen=True, gc=False):
    """Something that was done, or refused."""

    number: int
    time: str
    action: str
    subject: str | None
    credential: str | None
    """The id of the token, or `jwt` with the token's `jti`."""
    project: str | None
    path: str | None
    version: int | None
    detail: str | None


class AuditListing(Struct, frozen=True, gc=False):
    """Newest first."""

    entries: list[AuditRecord]
    next: int | None
    """`before` of the next page; null on the last."""
