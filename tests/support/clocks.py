"""Clocks for tests."""


class TickingClock:
    """A clock that is some seconds later each time it is read."""

    def __init__(self, tick: float) -> None:
        self._tick = tick
        self._now = 0.0

    def __call__(self) -> float:
        self._now += self._tick
        return self._now
