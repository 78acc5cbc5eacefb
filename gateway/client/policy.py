"""The polling policy, without I/O: settings, intervals, retries and decisions. Times are in milliseconds.

`gateway.client.polling.schedule` applies the policy to many polls. The TypeScript client has the same rules, and both
are tested with the same vectors (`tests/vectors/polling.json`).
"""

from typing import Literal, TypeAlias

from msgspec import UNSET, Struct, UnsetType

StopReason = Literal["completed", "timed_out", "failed", "refused", "inactive"]
"""Why a poll stopped: its turn ended; nothing changed for a long time; every retry failed; the gateway refused with an
error that is not retried; the user was inactive."""

RESTARTED_BY_TOUCH: frozenset[StopReason] = frozenset(["timed_out", "failed", "inactive"])
RESTARTED_BY_RESUME: frozenset[StopReason] = RESTARTED_BY_TOUCH | {"refused"}

_RETRIED_STATUSES = (408, 429)


class PollSettings(Struct, frozen=True):
    """The settings of the policy, with their defaults."""

    turn_interval_ms: float = 2_000
    document_interval_ms: float = 3_000
    active_interval_ms: float = 1_000
    """The interval right after a change."""
    active_ms: float = 30_000
    """How long after a change the interval stays at `active_interval_ms`."""
    slowing_ms: float = 30_000
    """How long the interval then takes to grow linearly to `slow_interval_ms`."""
    slow_interval_ms: float = 5_000
    """The interval long after a change."""
    idle_stop_ms: float | None = 120_000
    """How long a poll goes on without a change before it stops; None: forever."""
    retry_delays_ms: tuple[float, ...] = (2_000, 4_000, 8_000, 16_000, 16_000)
    retry_for_ever: bool = False
    """Whether to keep retrying with the last delay after the table is exhausted."""
    retry_jitter: float = 0.1
    cache_ms: float = 500
    max_concurrent: int = 3
    constrained_factor: float = 2
    """The factor for intervals on a phone, on low battery, or in data-saving mode."""
    inactive_stop_ms: float | None = 300_000
    """After how long without user activity all polls stop; None: there is no user."""
    fast_loop_polls: int = 5
    fast_loop_ms: float = 500

    @classmethod
    def unattended(cls) -> "PollSettings":
        """Return settings for a program without a user: polls never stop for inactivity, and retry forever."""
        return cls(idle_stop_ms=None, inactive_stop_ms=None, retry_for_ever=True)


class Answer(Struct, frozen=True):
    """The result of a poll."""

    changed: bool
    """Whether the answer contains news; False for a 304."""
    terminal: bool = False
    """Whether the resource is final and will never change again."""
    cursor: str | None = None
    """Where the next poll continues; adopted once the news has been delivered."""
    based_on: str | None = None
    """The cursor that the request was sent with."""
    position: float | None = None
    """A version, or another number that never decreases."""
    backoff_s: float | None = None
    """The server's `Backoff` header."""
    active: bool = False
    """Whether the resource is active, like a pending or running turn: polled as after a change from the start."""


class Failure(Struct, frozen=True):
    """The failure of a poll. `status` is None if no response came."""

    status: int | None = None
    retry_after_s: float | None = None
    backoff_s: float | None = None


class Poll(Struct, frozen=True, tag_field="do", tag="poll"):
    """Send the request now."""

    key: str


class Deliver(Struct, frozen=True, tag_field="do", tag="deliver", omit_defaults=True):
    """Deliver the newest result to these subscribers, then call `PollSchedule.delivered`."""

    key: str
    to: list[str]
    cached: bool = False
    """Whether a late subscriber gets a cached result; `delivered` is not called then."""


class Drop(Struct, frozen=True, tag_field="do", tag="drop"):
    """Discard the answer: it is older than what was already delivered."""

    key: str


class Fail(Struct, frozen=True, tag_field="do", tag="fail", omit_defaults=True):
    """Report the error to these subscribers."""

    key: str
    to: list[str]
    retry_in: float | UnsetType = UNSET
    """Milliseconds until the next retry; unset if there is none."""


class Recover(Struct, frozen=True, tag_field="do", tag="recover"):
    """The error is over."""

    key: str


class Stop(Struct, frozen=True, tag_field="do", tag="stop"):
    """The poll has stopped."""

    key: str
    reason: StopReason


class Abort(Struct, frozen=True, tag_field="do", tag="abort"):
    """Cancel the request in flight: no subscriber is left."""

    key: str


class WarnFastLoop(Struct, frozen=True, tag_field="do", tag="warn_fast_loop"):
    """Log a warning: polls repeat without pause and without news, and are slowed down."""

    key: str


Decision: TypeAlias = Poll | Deliver | Drop | Fail | Recover | Stop | Abort | WarnFastLoop


def interval_ms(
    settings: PollSettings, asked_ms: float, since_change_ms: float | None, *, constrained: bool = False
) -> float:
    """Return the time from an answer to the next poll.

    Args:
        asked_ms: the shortest interval that a subscriber requested, used until the first change. If it is shorter than
            the active interval, or longer than the slow one, it replaces that interval.
        since_change_ms: the age of the last change; None if no change was seen.
    """
    interval = asked_ms
    if since_change_ms is not None:
        first, last = min(settings.active_interval_ms, asked_ms), max(settings.slow_interval_ms, asked_ms)
        slowed = (since_change_ms - settings.active_ms) / settings.slowing_ms
        interval = first + (last - first) * min(max(slowed, 0), 1)
    return interval * settings.constrained_factor if constrained else interval


def retry_delay_ms(settings: PollSettings, attempt: int, random: float, retry_after_s: float | None = None) -> float:
    """Return the delay before retry number `attempt` (1, 2, …). `random` is from 0 to 1."""
    delay = settings.retry_delays_ms[min(attempt, len(settings.retry_delays_ms)) - 1]
    delay *= 1 + settings.retry_jitter * (2 * random - 1)
    return max(delay, (retry_after_s or 0) * 1000)


def gives_up(settings: PollSettings, attempts: int) -> bool:
    """Whether no further retry follows after this many attempts."""
    return not settings.retry_for_ever and attempts >= len(settings.retry_delays_ms)


def is_retried(status: int | None) -> bool:
    """Whether a failed request may succeed later: no response (None), 5xx, 408, 429."""
    return status is None or status >= 500 or status in _RETRIED_STATUSES


def after_refused_write(code: str, *, difference_sent: bool) -> Literal["send_difference", "report"]:
    """Decide what to do about a write that the server refused.

    If the server lacks predecessors of an update, the full difference is sent once.
    """
    return "send_difference" if code == "missing_predecessors" and not difference_sent else "report"


class FastLoop:
    """Detects polls that repeat without pause and without news."""

    def __init__(self, settings: PollSettings) -> None:
        self._settings = settings
        self._times: list[float] = []
        self.found = 0
        """How many times a fast loop was detected since the last news."""

    def empty(self, now: float) -> bool:
        """Record a poll without news; returns whether there were too many of them in too short a time."""
        self._times = [*self._times[1 - self._settings.fast_loop_polls :], now]
        too_many = len(self._times) == self._settings.fast_loop_polls
        if not too_many or now - self._times[0] > self._settings.fast_loop_ms:
            return False
        self._times.clear()
        self.found += 1
        return True

    def news(self) -> None:
        """Record a poll with news."""
        self._times.clear()
        self.found = 0
