"""How much one subject, or one address, may ask for in a minute: pure, but for the clock that is given.

A bucket holds what may be taken at once, one minute's worth, and fills evenly. What is known only afterwards, as the
bytes of a body, may leave a debt: then nothing more is given until it is paid.
"""

import time
from collections.abc import Callable

from msgspec import Struct

_MINUTE_S = 60.0
_MOST = 100_000


class RateLimits(Struct, frozen=True):
    """What may be set; 0: no limit."""

    requests: int = 0
    """In a minute."""
    bytes: int = 0
    """Written in a minute."""
    connections: int = 0
    """WebSockets and event streams at once."""
    failures: int = 0
    """Refused credentials of one address in a minute."""


class Rate:
    """One bucket for each key, of those that took something lately.

    Args:
        quota: what a minute brings; more than 0.
        clock: seconds, never going back.
    """

    def __init__(self, quota: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.quota = quota
        self._clock = clock
        self._buckets: dict[str, tuple[float, float]] = {}
        """What was left, and when. The one that was taken from last is the last."""

    def left(self, key: str) -> float:
        """What may be taken now; negative where there is a debt."""
        known = self._buckets.get(key)
        if known is None:
            return float(self.quota)
        rest, then = known
        return min(float(self.quota), rest + (self._clock() - then) * self.quota / _MINUTE_S)

    def take(self, key: str, amount: float = 1) -> None:
        """Take it, whether it is there or not."""
        left = self.left(key) - amount
        self._buckets.pop(key, None)
        if len(self._buckets) >= _MOST:
            del self._buckets[next(iter(self._buckets))]
        self._buckets[key] = (left, self._clock())

    def wait(self, key: str, amount: float = 1) -> float:
        """In how many seconds so much may be taken; 0: now."""
        lacking = min(amount, self.quota) - self.left(key)
        return max(0.0, lacking * _MINUTE_S / self.quota)
