"""Structs of the requests and answers about changes in many files: status, change feed and sync."""

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from gateway.wire.presence import PresenceAnswer, PresenceQuestion
from gateway.wire.values import LARGEST_INTEGER
from storage import TurnStatus

ChangeType = Literal["created", "modified", "deleted"]


class StatusQuestion(Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """A status question about many files. Every member is optional."""

    paths: list[str] | None = None
    """The files to check. Default: all files of the project."""
    since: str | None = None
    """The cursor up to which the client has followed the project."""
    versions: dict[str, int] | None = None
    """The client's version of each file, 0 for none. Takes precedence over `since` for the files that it names."""
    wait: float = 0
    """Seconds to wait for a change if there is none yet."""


class FileChange(Struct, frozen=True, gc=False, omit_defaults=True):
    path: str
    last_modified: str
    version: int
    change_type: ChangeType
    reset: bool | UnsetType = UNSET
    """True if the client's version is newer than the gateway's, which was restored: the client must start over."""


class StatusAnswer(Struct, frozen=True, gc=False, omit_defaults=True):
    changes: list[FileChange]
    cursor: str
    reset: bool | UnsetType = UNSET
    """True if `since` is from another epoch: `changes` is then the complete listing."""


class FileFeedEntry(Struct, frozen=True, gc=False, omit_defaults=True, tag_field="kind", tag="file"):
    """The newest state of a file that changed."""

    path: str
    last_modified: str
    version: int
    change_type: ChangeType
    from_version: int | UnsetType | None = UNSET
    """With `diff=text`: the version that the client has, 0 for none; null if it is no longer known. With `update`: the
    version that it builds on."""
    authors: list[str] | UnsetType = UNSET
    """With `diff=text`: the authors of the later versions, as far as they are known."""
    diff: str | UnsetType | None = UNSET
    """With `diff=text`: the changes of the text as a unified diff; null if they exceed `max_bytes` or the root is not a
    text."""
    incarnation: str | UnsetType = UNSET
    """With `include=update`: the incarnation of the file that `update` belongs to."""
    update: bytes | UnsetType = UNSET
    """With `include=update`, if it is small: everything since `from_version`. In a message to a webhook that includes
    updates, also the whole document, since 0."""


class TurnFeedEntry(Struct, frozen=True, gc=False, tag_field="kind", tag="turn"):
    """The newest state of a turn that changed."""

    session_id: str
    turn_id: str
    status: TurnStatus
    block_count: int
    last_updated: str
    prompt: str | UnsetType = UNSET
    """With `diff=text`: the beginning of the prompt."""


FeedEntry = FileFeedEntry | TurnFeedEntry


class FeedAnswer(Struct, frozen=True, gc=False, omit_defaults=True):
    """A section of the change feed."""

    changes: list[FeedEntry]
    cursor: str
    """The position up to which the feed was read, even if the filter matched nothing."""
    more: bool
    """True if there are already more changes after `cursor`."""
    reset: bool | UnsetType = UNSET
    """True if `since` is from another epoch: `changes` then begins with the complete listing."""


class SyncRequest(Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """A push and a pull: first `updates` are applied, then the other members are answered like a status question."""

    since: str | None = None
    versions: dict[str, int] | None = None
    updates: dict[str, bytes] = {}
    """Yjs updates (v1) by file; base64 in JSON."""
    paths: list[str] | None = None
    atomic: bool = False
    """Apply all of `updates` or none of them."""
    max_bytes: Annotated[int, Meta(ge=0, le=LARGEST_INTEGER)] = 4 * 2**20
    """The maximum number of bytes of updates in the answer."""
    presence: dict[str, PresenceQuestion] = {}
    """By file: the client's own presence there."""


class SyncChange(Struct, frozen=True, gc=False, omit_defaults=True):
    """A changed file with the update that the client is missing."""

    path: str
    last_modified: str
    version: int
    change_type: ChangeType
    reset: bool | UnsetType = UNSET
    update: bytes | UnsetType = UNSET
    """Omitted if there is nothing to send: the file was deleted, or the client has just written this version itself."""
    from_version: int | UnsetType = UNSET
    """The version that `update` builds on; 0 if `update` is the whole document."""


class SyncAnswer(Struct, frozen=True, gc=False, omit_defaults=True):
    results: dict[str, Any]
    """By file: the receipt, or the problem with its update."""
    changes: list[SyncChange]
    cursor: str
    more: bool
    """True if `max_bytes` was reached: continue from `cursor`."""
    reset: bool | UnsetType = UNSET
    presence: dict[str, PresenceAnswer] | UnsetType = UNSET
    """Who is in each file that `presence` asked about, except where the client already has the current state. After
    more than 4 MiB of states, the other files come with the next exchange."""
