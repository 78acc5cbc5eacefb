"""Structs of the requests and answers about presence: who is in a file."""

import hashlib
from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType

LONGEST_TTL = 60
"""In seconds."""
LARGEST_CLIENT = 2**53 - 1
"""The largest client id or clock: the largest safe integer of JavaScript."""
_Clock = Annotated[int, Meta(ge=0, le=LARGEST_CLIENT)]
_Seconds = Annotated[float, Meta(gt=0, le=LONGEST_TTL)]


_COLORS = ("#2f81b7", "#8250df", "#bf3989", "#1a7f37", "#9a6700", "#cf222e", "#0550ae", "#6e7781")


def writer_client(project: str, author: str) -> int:
    """Return the awareness client id of an author who writes without an editor: one per author and project."""
    return int.from_bytes(_digest(f"{project}\0{author}")[:4], "big")


def writer_state(author: str) -> dict[str, Any]:
    """Return the awareness state of an author who writes without an editor, except for the cursor."""
    color = _COLORS[_digest(author)[0] % len(_COLORS)]
    return {"user": {"name": author, "color": color, "colorLight": f"{color}33"}}


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


class PresenceState(Struct, frozen=True, forbid_unknown_fields=True):
    """The presence that a client announces."""

    state: dict[str, Any]
    """The awareness state as editors use it: `user`, `cursor` and any other members."""
    ttl: _Seconds = 30
    """The number of seconds after which the state is withdrawn unless the client announces it again."""
    clock: _Clock | UnsetType = UNSET
    """The awareness clock of y-protocols, if the client keeps one. If omitted, the gateway counts."""


class PresenceQuestion(Struct, frozen=True, forbid_unknown_fields=True):
    """Asks who else is in a file and, optionally, announces the client's own presence there."""

    client_id: _Clock | UnsetType = UNSET
    state: dict[str, Any] | None = None
    """Null if the client is not in the file, or has left it."""
    ttl: _Seconds = 30
    clock: _Clock | UnsetType = UNSET
    version: str | UnsetType = UNSET
    """The version of the last answer. If it is still current, the file is omitted from this answer."""


class PresenceClient(Struct, frozen=True, gc=False):
    """A client that is in a file."""

    client_id: int
    clock: int
    state: Any
    subject: str | None
    """The subject of the credential that announced the state; null if the gateway does not require credentials."""
    expires_in: float
    """Seconds until the state is withdrawn unless the client announces it again."""


class PresenceAnswer(Struct, frozen=True):
    """All clients that are in a file."""

    clients: list[PresenceClient]
    version: str
    """Changes whenever a client joins, leaves or changes its state."""


class PresenceEvent(Struct, frozen=True):
    """All clients that are in a file, as an event of the change feed."""

    path: str
    clients: list[PresenceClient]
    version: str
