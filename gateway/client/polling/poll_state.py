"""What the schedule knows of one key."""

from gateway.client.policy import Answer, FastLoop, PollSettings, StopReason

INFINITY = float("inf")


class PollState:
    """One key: who wants it, and where it stands."""

    def __init__(self, key: str, order: int, now: float, settings: PollSettings, cursor: str | None) -> None:
        self.key = key
        self.order = order
        self.intervals: dict[str, float] = {}
        """By subscriber; those that are held still are not here."""
        self.subscribers: set[str] = set()
        self.fresh: dict[str, None] = {}
        """Who is owed a result, news or not: new subscribers and those who asked for a refresh."""
        self.cursor = cursor
        self.position = -INFINITY
        self.answered_at: float | None = None
        self.changed_at: float | None = None
        self.idle_since = now
        self.due: float | None = None
        self.not_before = -INFINITY
        """A retry, or the end of a fast loop's punishment."""
        self.timer: float | None = None
        """The one entry among the timers that counts."""
        self.queued = self.in_flight = self.again = self.upgraded = self.gone = False
        self.answer: Answer | None = None
        """The one that is being delivered."""
        self.attempts = 0
        self.failing = False
        self.stopped: StopReason | None = None
        self.fast_loop = FastLoop(settings)

    @property
    def busy(self) -> bool:
        return self.in_flight or self.answer is not None

    def counts(self, time: float) -> bool:
        """Whether a timer of this poll, set for `time`, is the one that counts."""
        return not self.gone and self.timer == time
