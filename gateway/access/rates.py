"""Rate limits per minute for one subject, or one address: pure, but for the clock that is passed in.

A bucket holds one minute's worth, which may be taken at once, and refills evenly. A cost known only afterwards, such as
the size of a body, may leave a debt: then nothing more is granted until the debt is paid.
"""

import time
from collections import OrderedDict
from collections.abc import Callable

from msgspec import Struct

_MINUTE_S = 60.0
_MOST = 100_000


class RateLimits(Struct, frozen=True):
    """The limits of one client, which is a subject, or an address without one; 0: no limit.

    An address with all its subjects has `ADDRESS_SHARE` times as much.
    """

    requests: int = 0
    """Per minute."""
    bytes: int = 0
    """Written per minute."""
    connections: int = 0
    """Concurrent WebSockets and event streams."""
    failures: int = 0
    """Refused credentials of one address per minute."""


ADDRESS_SHARE = 10
"""How many clients' quotas an address has: many clients may share one, in an office or behind a proxy."""


class Rate:
    """One token bucket for each key that was used recently.

    Args:
        quota: what a bucket gains per minute; more than 0.
        clock: seconds, monotonic.
    """

    def __init__(self, quota: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.quota = quota
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        """What was left, and when, by key. The most recently used key is the last."""

    def left(self, key: str) -> float:
        """Return the amount that may be taken now; negative while there is a debt."""
        known = self._buckets.get(key)
        if known is None:
            return float(self.quota)
        rest, then = known
        return min(float(self.quota), rest + (self._clock() - then) * self.quota / _MINUTE_S)

    def take(self, key: str, amount: float = 1) -> None:
        """Take an amount, even beyond what is left."""
        left = self.left(key) - amount
        self._buckets.pop(key, None)
        if len(self._buckets) >= _MOST:
            self._buckets.popitem(last=False)
        self._buckets[key] = (left, self._clock())

    def wait(self, key: str, amount: float = 1) -> float:
        """Return in how many seconds an amount may be taken; 0: now."""
        lacking = min(amount, self.quota) - self.left(key)
        return max(0.0, lacking * _MINUTE_S / self.quota)
