"""Requests and answers as they stand on the wire: shapes, and how a time, a cursor and a path are written."""

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from gateway.wire.presence import PresenceAnswer, PresenceQuestion
from gateway.wire.values import LARGEST_INTEGER
from storage import TurnStatus

ChangeType = Literal["created", "modified", "deleted"]


class StatusQuestion(Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """What a client asks about many files; every member may be left out."""

    paths: list[str] | None = None
    """The files asked about; left out: the whole project."""
    since: str | None = None
    """A cursor: what the client has followed so far."""
    versions: dict[str, int] | None = None
    """The version that the client has of each file, 0 for none. Beats `since` for the files it names."""
    wait: float = 0
    """Seconds to wait for a change where there is none."""


class FileChange(Struct, frozen=True, gc=False, omit_defaults=True):
    path: str
    last_modified: str
    version: int
    change_type: ChangeType
    reset: bool | UnsetType = UNSET
    """True where the client's version is ahead of the server's, which was restored: the client must start over."""


class StatusAnswer(Struct, frozen=True, gc=False, omit_defaults=True):
    changes: list[FileChange]
    cursor: str
    reset: bool | UnsetType = UNSET
    """True where `since` is of another epoch: `changes` is the whole listing."""


class FileFeedEntry(Struct, frozen=True, gc=False, omit_defaults=True, tag_field="kind", tag="file"):
    """A file that changed: its newest state."""

    path: str
    last_modified: str
    version: int
    change_type: ChangeType
    from_version: int | UnsetType | None = UNSET
    """With `diff=text`: the version that the client has, 0 for none; null where that is not known any more."""
    authors: list[str] | UnsetType = UNSET
    """With `diff=text`: who wrote what came after it, as far as that was said."""
    diff: str | UnsetType | None = UNSET
    """With `diff=text`: what changed in the text, as `diff -u` writes it. null: past `max_bytes`, or it is no text."""
    update: bytes | UnsetType = UNSET
    """In a message to a webhook that includes updates: what `from_version` lacks; 0: the whole document."""


class TurnFeedEntry(Struct, frozen=True, gc=False, tag_field="kind", tag="turn"):
    """A turn that changed: its newest state."""

    session_id: str
    turn_id: str
    status: TurnStatus
    block_count: int
    last_updated: str
    prompt: str | UnsetType = UNSET
    """With `diff=text`: its beginning."""


FeedEntry = FileFeedEntry | TurnFeedEntry


class FeedAnswer(Struct, frozen=True, gc=False, omit_defaults=True):
    """A stretch of the change feed."""

    changes: list[FeedEntry]
    cursor: str
    """How far the answer has looked, also where a filter left nothing to show."""
    more: bool
    """True where there is more after the cursor already."""
    reset: bool | UnsetType = UNSET
    """True where `since` is of another epoch: `changes` begins with the whole listing."""


class SyncRequest(Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """Push and pull in one: `updates` are applied, then the other members are a status question."""

    since: str | None = None
    versions: dict[str, int] | None = None
    updates: dict[str, bytes] = {}
    """Yjs updates (v1) by file; base64 in JSON."""
    paths: list[str] | None = None
    atomic: bool = False
    """All of `updates` or none."""
    max_bytes: Annotated[int, Meta(ge=0, le=LARGEST_INTEGER)] = 4 * 2**20
    """How many bytes of updates may come back."""
    presence: dict[str, PresenceQuestion] = {}
    """By file: what the client says of itself there."""


class SyncChange(Struct, frozen=True, gc=False, omit_defaults=True):
    """A changed file, with what the client lacks of it."""

    path: str
    last_modified: str
    version: int
    change_type: ChangeType
    reset: bool | UnsetType = UNSET
    update: bytes | UnsetType = UNSET
    """Left out where there is nothing to send: the file was deleted, or the client has just written it itself."""
    from_version: int | UnsetType = UNSET
    """The version that `update` builds on; 0: it is the whole document."""


class SyncAnswer(Struct, frozen=True, gc=False, omit_defaults=True):
    results: dict[str, Any]
    """By file a receipt, or the problem that its update met."""
    changes: list[SyncChange]
    cursor: str
    more: bool
    """True where `max_bytes` was reached: ask again from `cursor`."""
    reset: bool | UnsetType = UNSET
    presence: dict[str, PresenceAnswer] | UnsetType = UNSET
    """Who is in the files that `presence` asked about, but those where that is what the client has."""
