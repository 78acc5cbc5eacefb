"""The rules of polling, pure: settings, intervals, retries, and what is decided. Times are milliseconds.

`gateway.client.polling.schedule` applies them to many polls. The TypeScript client has the same rules, and both run the
same vectors (`tests/vectors/polling.json`).
"""

from typing import Literal, TypeAlias

from msgspec import UNSET, Struct, UnsetType

StopReason = Literal["completed", "timed_out", "failed", "refused", "inactive"]
"""Why a poll stopped: its turn ended; nothing changed for long; every retry failed; an answer that no retry changes;
the user went away."""

RESTARTED_BY_TOUCH: frozenset[StopReason] = frozenset(["timed_out", "failed", "inactive"])
RESTARTED_BY_RESUME: frozenset[StopReason] = RESTARTED_BY_TOUCH | {"refused"}

_RETRIED_STATUSES = (408, 429)


class PollSettings(Struct, frozen=True):
    """All times of the policy, with their defaults."""

    turn_interval_ms: float = 2_000
    document_interval_ms: float = 3_000
    active_interval_ms: float = 1_000
    """The interval after a change …"""
    active_ms: float = 30_000
    """… for so long; after that it grows …"""
    slowing_ms: float = 30_000
    """… evenly within so long …"""
    slow_interval_ms: float = 5_000
    """… to this."""
    idle_stop_ms: float | None = 120_000
    """After so much polling without a change a poll stops; None: never."""
    retry_delays_ms: tuple[float, ...] = (2_000, 4_000, 8_000, 16_000, 16_000)
    retry_for_ever: bool = False
    """Go on with the last delay where the table stops."""
    retry_jitter: float = 0.1
    cache_ms: float = 500
    max_concurrent: int = 3
    constrained_factor: float = 2
    """What intervals are multiplied by on a phone, with a low battery, or where data is to be saved."""
    inactive_stop_ms: float | None = 300_000
    """When the user has done nothing for so long all polls stop; None: there is no user."""
    fast_loop_polls: int = 5
    fast_loop_ms: float = 500

    @classmethod
    def unattended(cls) -> "PollSettings":
        """For a program that nobody sits in front of: it never stops for want of a user, and retries for ever."""
        return cls(idle_stop_ms=None, inactive_stop_ms=None, retry_for_ever=True)


class Answer(Struct, frozen=True):
    """What a poll brought."""

    changed: bool
    """Whether it is news; False for a 304."""
    terminal: bool = False
    """Whether nothing will ever change again."""
    cursor: str | None = None
    """Where the next poll goes on; kept once the news was delivered."""
    based_on: str | None = None
    """The cursor that the question was asked with."""
    position: float | None = None
    """A version, or another number that only grows."""
    backoff_s: float | None = None
    """The server's `Backoff`."""
    active: bool = False
    """Whether the thing is at work, as a turn that is pending or running: polled as after a change, also at first."""


class Failure(Struct, frozen=True):
    """How a poll failed. `status` is None where no answer came."""

    status: int | None = None
    retry_after_s: float | None = None
    backoff_s: float | None = None


class Poll(Struct, frozen=True, tag_field="do", tag="poll"):
    """Ask now."""

    key: str


class Deliver(Struct, frozen=True, tag_field="do", tag="deliver", omit_defaults=True):
    """Give the newest result to these subscribers; then say so (`PollSchedule.delivered`)."""

    key: str
    to: list[str]
    cached: bool = False
    """It answers who came late; nothing has to be said afterwards."""


class Drop(Struct, frozen=True, tag_field="do", tag="drop"):
    """The answer is older than what was delivered: forget it."""

    key: str


class Fail(Struct, frozen=True, tag_field="do", tag="fail", omit_defaults=True):
    """Tell these subscribers of the error."""

    key: str
    to: list[str]
    retry_in: float | UnsetType = UNSET
    """Left out where there is no further retry."""


class Recover(Struct, frozen=True, tag_field="do", tag="recover"):
    """The error is over."""

    key: str


class Stop(Struct, frozen=True, tag_field="do", tag="stop"):
    """The poll has stopped."""

    key: str
    reason: StopReason


class Abort(Struct, frozen=True, tag_field="do", tag="abort"):
    """Nobody wants the answer of the request in flight."""

    key: str


class WarnFastLoop(Struct, frozen=True, tag_field="do", tag="warn_fast_loop"):
    """Polls follow each other without pause and bring nothing; they are slowed down. Say so."""

    key: str


Decision: TypeAlias = Poll | Deliver | Drop | Fail | Recover | Stop | Abort | WarnFastLoop


def interval_ms(
    settings: PollSettings, asked_ms: float, since_change_ms: float | None, *, constrained: bool = False
) -> float:
    """How long after an answer the next poll is due.

    Args:
        asked_ms: the shortest interval that a subscriber asked for. Polled at as long as no change was seen. One that
            is shorter than the active interval, or longer than the slow one, takes its place.
        since_change_ms: the age of the last change; None if none was seen.
    """
    interval = asked_ms
    if since_change_ms is not None:
        first, last = min(settings.active_interval_ms, asked_ms), max(settings.slow_interval_ms, asked_ms)
        slowed = (since_change_ms - settings.active_ms) / settings.slowing_ms
        interval = first + (last - first) * min(max(slowed, 0), 1)
    return interval * settings.constrained_factor if constrained else interval


def retry_delay_ms(settings: PollSettings, attempt: int, random: float, retry_after_s: float | None = None) -> float:
    """How long to wait before retry `attempt` (1, 2, …). `random` is from 0 to 1."""
    delay = settings.retry_delays_ms[min(attempt, len(settings.retry_delays_ms)) - 1]
    delay *= 1 + settings.retry_jitter * (2 * random - 1)
    return max(delay, (retry_after_s or 0) * 1000)


def gives_up(settings: PollSettings, attempts: int) -> bool:
    """Whether no retry follows after so many."""
    return not settings.retry_for_ever and attempts >= len(settings.retry_delays_ms)


def is_retried(status: int | None) -> bool:
    """Whether a request that failed like this may succeed later: no answer (None), 5xx, 408, 429."""
    return status is None or status >= 500 or status in _RETRIED_STATUSES


def after_refused_write(code: str, *, difference_sent: bool) -> Literal["send_difference", "report"]:
    """What to do about a write that the server refused.

    An update that builds on something the server lacks is answered once with all that it lacks.
    """
    return "send_difference" if code == "missing_predecessors" and not difference_sent else "report"


class FastLoop:
    """Notices polls that follow each other without pause and bring nothing."""

    def __init__(self, settings: PollSettings) -> None:
        self._settings = settings
        self._times: list[float] = []
        self.found = 0
        """How often, since something new came."""

    def empty(self, now: float) -> bool:
        """A poll brought nothing; returns whether there have been too many in too short a time."""
        self._times = [*self._times[1 - self._settings.fast_loop_polls :], now]
        too_many = len(self._times) == self._settings.fast_loop_polls
        if not too_many or now - self._times[0] > self._settings.fast_loop_ms:
            return False
        self._times.clear()
        self.found += 1
        return True

    def news(self) -> None:
        """A poll brought something."""
        self._times.clear()
        self.found = 0
