"""Structs of the requests and answers about tokens, tickets and the audit log."""

from typing import Any

from msgspec import Struct


class NewToken(Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """The token to create. `projects` and `admin` are its grant, as in the claim `yjs_gateway` of a JSON Web Token."""

    name: str
    subject: str | None = None
    """The subject that the token stands for, and the author of its writes. Default: `name`."""
    projects: dict[str, Any] = {}
    admin: bool = False
    expires_in: float | None = None
    """Lifetime in seconds. If omitted, the token does not expire."""


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
    """Accurate to the hour."""
    revoked: str | None


class MadeToken(TokenEntry, frozen=True, gc=False):
    """A token that was just created. Only this answer contains the token itself."""

    token: str


class TokenListing(Struct, frozen=True, gc=False):
    """A page of the tokens, oldest first."""

    tokens: list[TokenEntry]
    next: str | None
    """The `after` of the next page; null on the last page."""


class Ticket(Struct, frozen=True, gc=False):
    """A ticket, which replaces the credential in the URL of a single connection (`?ticket=`)."""

    ticket: str
    expires_in: int
    """Lifetime in seconds."""


class AuditRecord(Struct, frozen=True, gc=False):
    """An action that was performed or refused."""

    number: int
    time: str
    action: str
    subject: str | None
    credential: str | None
    """The id of the token, or `jwt` and the `jti` of the JSON Web Token."""
    project: str | None
    path: str | None
    version: int | None
    detail: str | None


class AuditListing(Struct, frozen=True, gc=False):
    """A page of the audit log, newest entry first."""

    entries: list[AuditRecord]
    next: int | None
    """The `before` of the next page; null on the last page."""
