"""Who is in a file, as it stands on the wire."""

import hashlib
from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType

LONGEST_TTL = 60
"""Seconds."""
LARGEST_CLIENT = 2**53 - 1
"""A client id, or a clock: what JavaScript can count to."""
_Clock = Annotated[int, Meta(ge=0, le=LARGEST_CLIENT)]
_Seconds = Annotated[float, Meta(gt=0, le=LONGEST_TTL)]


_COLORS = ("#2f81b7", "#8250df", "#bf3989", "#1a7f37", "#9a6700", "#cf222e", "#0550ae", "#6e7781")


def writer_client(project: str, author: str) -> int:
    """The awareness client of somebody who writes without an editor: the same for all that it writes in a project."""
    return int.from_bytes(_digest(f"{project}\0{author}")[:4], "big")


def writer_state(author: str) -> dict[str, Any]:
    """What such a client says of itself, but for the place."""
    color = _COLORS[_digest(author)[0] % len(_COLORS)]
    return {"user": {"name": author, "color": color, "colorLight": f"{color}33"}}


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


class PresenceState(Struct, frozen=True, forbid_unknown_fields=True):
    """What a client says of itself."""

    state: dict[str, Any]
    """As editors use it: `user`, `cursor` and whatever else."""
    ttl: _Seconds = 30
    """After how many seconds it is withdrawn, unless it was said again."""
    clock: _Clock | UnsetType = UNSET
    """That of y-protocols, for a client that has one; left out, the gateway counts."""


class PresenceQuestion(Struct, frozen=True, forbid_unknown_fields=True):
    """Who else is in a file, and what the client says of itself there, if it does."""

    client_id: _Clock | UnsetType = UNSET
    state: dict[str, Any] | None = None
    """Null: the client is not there, or not any more."""
    ttl: _Seconds = 30
    clock: _Clock | UnsetType = UNSET
    version: str | UnsetType = UNSET
    """The one of the last answer: where it is still that one, the file is left out of this answer."""


class PresenceClient(Struct, frozen=True, gc=False):
    """Somebody who is in a file."""

    client_id: int
    clock: int
    state: Any
    subject: str | None
    """Whose credential said so; null where nobody is asked for one."""
    expires_in: float
    """Seconds until it is withdrawn, unless it is said again."""


class PresenceAnswer(Struct, frozen=True):
    """Everybody who is in a file."""

    clients: list[PresenceClient]
    version: str
    """Another one whenever somebody came, left or said something else."""


class PresenceEvent(Struct, frozen=True):
    """The same, as an event of the feed."""

    path: str
    clients: list[PresenceClient]
    version: str
