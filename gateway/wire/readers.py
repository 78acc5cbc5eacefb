"""Readers with a place of their own, as they stand on the wire: webhooks and Web Push."""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from gateway.wire.changes import FeedEntry

Seconds = Annotated[float, Meta(ge=0, le=86_400)]
Include = Literal["none", "text", "update"]


class ReaderFilter(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a reader wants to hear of; left out: of everything."""

    prefix: str = ""
    paths: list[str] | None = None
    kinds: list[Literal["file", "turn"]] | None = None
    turns: Literal["all", "finished"] = "all"
    """`finished`: of a turn only that it has ended."""


class HookRequest(Struct, frozen=True, forbid_unknown_fields=True):
    url: str
    filter: ReaderFilter = ReaderFilter()
    include: Include = "none"
    """What each file comes with: `text` what changed in its text, `update` what the receiver lacks of it."""
    quiet_seconds: Seconds = 0
    """Files are told after so many seconds without a change of them; the end of a turn at once."""
    since: str | None = None
    """The cursor to begin after; left out, a new hook begins now."""


class LastAnswer(Struct, frozen=True, omit_defaults=True):
    """What came of the newest attempt."""

    at: str
    status: int | UnsetType = UNSET
    """The receiver's; left out where it did not answer."""
    error: str | UnsetType = UNSET


class Hook(Struct, frozen=True):
    """A webhook, and how far it is."""

    id: str
    url: str
    filter: ReaderFilter
    include: Include
    quiet_seconds: float
    cursor: str
    """Up to here everything was delivered."""
    lag: int
    """By how many changes of the project it is behind, of those too that the filter leaves out."""
    attempts: int
    """Failed ones since the last success."""
    next_attempt: str | None
    last_answer: LastAnswer | None
    ended: str | None
    """Why nothing is delivered any more."""
    secret: str | UnsetType = UNSET
    """What signs the messages. Only in the answer that creates the hook."""


class HookListing(Struct, frozen=True):
    hooks: list[Hook]
    next: str | None


class ReplayRequest(Struct, frozen=True, forbid_unknown_fields=True):
    since: str
    """The cursor to deliver after, once more."""


class HookMessage(Struct, frozen=True, omit_defaults=True):
    """What a webhook is sent: an answer of the feed."""

    type: str
    project: str
    hook: str
    since: str
    """The cursor that it goes on from."""
    changes: list[FeedEntry]
    cursor: str
    more: bool
    reset: bool | UnsetType = UNSET


class PushKeys(Struct, frozen=True):
    p256dh: str
    auth: str


class PushSubscription(Struct, frozen=True, rename="camel"):
    """What `PushSubscription.toJSON()` gives in a browser."""

    endpoint: str
    keys: PushKeys
    expiration_time: float | None = None


class PushRequest(Struct, frozen=True, forbid_unknown_fields=True):
    subscription: PushSubscription
    since: str | None = None
    filter: ReaderFilter = ReaderFilter(turns="finished")
    quiet_seconds: Seconds = 30


class PushState(Struct, frozen=True):
    """A subscription, and how far it is."""

    client: str
    cursor: str
    lag: int
    attempts: int
    last_answer: LastAnswer | None
    ended: str | None


class PushKey(Struct, frozen=True):
    key: str
    """The public key of the gateway (VAPID) for `pushManager.subscribe`, base64url."""


class PushMessage(Struct, frozen=True):
    """What a push carries, encrypted."""

    project: str
    cursor: str
    changes: list[FeedEntry]
    more: bool
    """True where there are changes that did not fit."""
