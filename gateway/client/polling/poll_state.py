"""The state that the schedule keeps for one key."""

from gateway.client.policy import Answer, FastLoop, PollSettings, StopReason

INFINITY = float("inf")


class PollState:
    """The subscribers and the progress of one key."""

    def __init__(self, key: str, order: int, now: float, settings: PollSettings, cursor: str | None) -> None:
        self.key = key
        self.order = order
        self.intervals: dict[str, float] = {}
        """The intervals of the enabled subscribers, by subscriber."""
        self.subscribers: set[str] = set()
        self.fresh: dict[str, None] = {}
        """Names that must get the next result even without news: new subscribers and waiting refreshes."""
        self.cursor = cursor
        self.position = -INFINITY
        self.answered_at: float | None = None
        self.changed_at: float | None = None
        self.idle_since = now
        self.due: float | None = None
        self.not_before = -INFINITY
        """The earliest time of the next poll, after a failure or a fast loop."""
        self.timer: float | None = None
        """The time of the poll's only valid entry among the timers."""
        self.queued = self.in_flight = self.again = self.upgraded = self.gone = False
        self.answer: Answer | None = None
        """The answer that is being delivered."""
        self.attempts = 0
        self.failing = False
        self.stopped: StopReason | None = None
        self.fast_loop = FastLoop(settings)

    @property
    def busy(self) -> bool:
        return self.in_flight or self.answer is not None

    def counts(self, time: float) -> bool:
        """Whether a timer of this poll, set for `time`, is still valid."""
        return not self.gone and self.timer == time
