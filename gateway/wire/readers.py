"""Structs of the readers whose position the gateway stores: webhooks and Web Push subscriptions."""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from gateway.wire.changes import FeedEntry

Seconds = Annotated[float, Meta(ge=0, le=86_400)]
Include = Literal["none", "text", "update"]


class ReaderFilter(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Selects the changes that a reader receives. Default: all."""

    prefix: str = ""
    paths: list[str] | None = None
    kinds: list[Literal["file", "turn"]] | None = None
    turns: Literal["all", "finished"] = "all"
    """`finished`: report a turn only when it has ended."""


class HookRequest(Struct, frozen=True, forbid_unknown_fields=True):
    url: str
    filter: ReaderFilter = ReaderFilter()
    include: Include = "none"
    """What to send with each file: `text` for the changes of its text, `update` for the update that the receiver is
    missing."""
    quiet_seconds: Seconds = 0
    """A file is reported after this many seconds without a change; the end of a turn is reported at once."""
    since: str | None = None
    """The cursor after which to begin. If omitted, a new hook begins at the current position."""


class LastAnswer(Struct, frozen=True, omit_defaults=True):
    """The result of the latest delivery attempt."""

    at: str
    status: int | UnsetType = UNSET
    """The status code that the receiver answered with; omitted if it did not answer."""
    error: str | UnsetType = UNSET


class Hook(Struct, frozen=True):
    """A webhook and its delivery state."""

    id: str
    url: str
    filter: ReaderFilter
    include: Include
    quiet_seconds: float
    cursor: str
    """The position up to which everything was delivered."""
    lag: int
    """By how many changes of the project the hook is behind, including those that its filter excludes."""
    attempts: int
    """Failed attempts since the last success."""
    next_attempt: str | None
    last_answer: LastAnswer | None
    ended: str | None
    """Why delivery has ended; null while it has not."""
    secret: str | UnsetType = UNSET
    """The secret that signs the messages. Only in the answer that creates the hook."""


class HookListing(Struct, frozen=True):
    hooks: list[Hook]
    next: str | None


class ReplayRequest(Struct, frozen=True, forbid_unknown_fields=True):
    since: str
    """The cursor after which to deliver everything again."""


class HookMessage(Struct, frozen=True, omit_defaults=True):
    """The message sent to a webhook: an answer of the change feed."""

    type: str
    project: str
    hook: str
    since: str
    """The cursor after which the message continues."""
    changes: list[FeedEntry]
    cursor: str
    more: bool
    reset: bool | UnsetType = UNSET


class PushKeys(Struct, frozen=True):
    p256dh: str
    auth: str


class PushSubscription(Struct, frozen=True, rename="camel"):
    """The result of `PushSubscription.toJSON()` in a browser."""

    endpoint: str
    keys: PushKeys
    expiration_time: float | None = None


class PushRequest(Struct, frozen=True, forbid_unknown_fields=True):
    subscription: PushSubscription
    since: str | None = None
    filter: ReaderFilter = ReaderFilter(turns="finished")
    quiet_seconds: Seconds = 30


class PushState(Struct, frozen=True):
    """A Web Push subscription and its delivery state."""

    client: str
    cursor: str
    lag: int
    attempts: int
    last_answer: LastAnswer | None
    ended: str | None


class PushKey(Struct, frozen=True):
    key: str
    """The gateway's public key (VAPID) for `pushManager.subscribe`, base64url."""


class PushMessage(Struct, frozen=True):
    """The payload of a push message, sent encrypted."""

    project: str
    cursor: str
    changes: list[FeedEntry]
    more: bool
    """True if some changes did not fit."""
