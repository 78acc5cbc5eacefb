"""The stored form of a reader, and when a message is due to it. Pure."""

import hashlib
from collections.abc import Iterable

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from gateway.access.access import Access
from gateway.access.grants import Paths, View
from gateway.watch.filter import ChangeFilter
from gateway.wire.changes import FeedEntry, FileFeedEntry, TurnFeedEntry
from gateway.wire.readers import Include, LastAnswer, PushKeys, ReaderFilter
from gateway.wire.values import parse_rfc3339
from storage import FINISHED, Reader

_MOST_PAUSES = 10
"""Files that keep changing are sent after this many times the pause."""


class Owner(Struct, frozen=True, omit_defaults=True):
    """The subject that made a reader, and what of the project it could see then."""

    subject: str | None
    credential: str | None
    expires: float | None
    """When the credential expires, in seconds since 1970."""
    files: bool
    turns: bool
    paths: list[str] | None
    """In the form of a grant; None: all."""

    @classmethod
    def of(cls, access: Access, view: View) -> "Owner":
        paths = None if view.paths is None else [*view.paths.folders, *view.paths.files]
        return cls(access.subject, access.credential, access.expires, "read" in view.scopes, view.sees_turns, paths)


class HookTarget(Struct, frozen=True):
    url: str
    include: Include
    secret: str


class PushTarget(Struct, frozen=True):
    endpoint: str
    keys: PushKeys


class ReaderSettings(Struct, frozen=True, omit_defaults=True):
    """The settings of a reader. `Reader.settings` is this as JSON."""

    owner: Owner
    filter: ReaderFilter
    quiet_seconds: float
    hook: HookTarget | None = None
    push: PushTarget | None = None

    @property
    def change_filter(self) -> ChangeFilter:
        """The filter for what is read for the reader: only what exists for its owner."""
        wanted, owner = self.filter, self.owner
        kinds = wanted.kinds or ("file", "turn")
        return ChangeFilter(
            files="file" in kinds and owner.files,
            turns="turn" in kinds and owner.turns,
            prefix=wanted.prefix,
            paths=None if wanted.paths is None else frozenset(wanted.paths),
            visible=None if owner.paths is None else Paths.of(owner.paths),
        )

    def wants(self, entry: FeedEntry) -> bool:
        """Whether the reader wants an entry that passed the filter."""
        return not isinstance(entry, TurnFeedEntry) or self.filter.turns == "all" or entry.status in FINISHED


class ReaderState(Struct, frozen=True, omit_defaults=True):
    """The state of a reader. `Reader.state` is this as JSON."""

    attempts: int = 0
    pending: str | None = None
    """The cursor at the end of the message in flight: a retry sends the same stretch."""
    news_at: int | None = None
    """Since when there has been something to send, in milliseconds since 1970."""
    sent_at: int | None = None
    answer: LastAnswer | None = None
    ended: str | None = None


_encode_state = msgspec.json.Encoder().encode


def settings_of(reader: Reader) -> ReaderSettings:
    return msgspec.json.decode(reader.settings, type=ReaderSettings)


def state_of(reader: Reader) -> ReaderState:
    return msgspec.json.decode(reader.state, type=ReaderState)


def encoded(value: ReaderSettings | ReaderState) -> str:
    return _encode_state(value).decode()


def ends_a_turn(changes: Iterable[FeedEntry]) -> bool:
    return any(isinstance(entry, TurnFeedEntry) and entry.status in FINISHED for entry in changes)


def send_time(
    changes: Iterable[FeedEntry], state: ReaderState, quiet_seconds: float, spacing_seconds: float, now: int
) -> int:
    """Return when changes are to be sent, in milliseconds since 1970: the end of a turn at once; anything else when
    nothing has changed for a while, and not too soon after the previous message."""
    changes = list(changes)
    if ends_a_turn(changes):
        return now
    quiet = int(quiet_seconds * 1000)
    paused = min(
        newest_time(changes, state, now) + quiet,
        (now if state.news_at is None else state.news_at) + _MOST_PAUSES * quiet,
    )
    return max(paused, 0 if state.sent_at is None else state.sent_at + int(spacing_seconds * 1000))


def newest_time(changes: Iterable[FeedEntry], state: ReaderState, now: int) -> int:
    """Return the time of the newest of some changes, in milliseconds since 1970.

    The times of a project never go back. Where they are ahead of the clock, because it was set back, what counts is
    when the reader first had something to be sent.
    """
    newest = max((parse_rfc3339(_time(entry)) for entry in changes), default=now)
    if newest <= now:
        return newest
    return now if state.news_at is None else state.news_at


def by_clock(state: ReaderState, now: int) -> ReaderState:
    """Return the state without times that the clock has not reached, because it was set back meanwhile."""
    news_at, sent_at = state.news_at, state.sent_at
    if (news_at is None or news_at <= now) and (sent_at is None or sent_at <= now):
        return state
    return replace(
        state,
        news_at=None if news_at is None else min(news_at, now),
        sent_at=None if sent_at is None else min(sent_at, now),
    )


def _time(entry: FeedEntry) -> str:
    return entry.last_modified if isinstance(entry, FileFeedEntry) else entry.last_updated


def message_id(reader: Reader, until: str) -> str:
    """Return the id of a message, which names its stretch of the feed: the same on each retry."""
    named = "\n".join((reader.project, reader.kind, reader.name, reader.revision, reader.cursor, until))
    return f"msg_{hashlib.sha256(named.encode()).hexdigest()[:32]}"
