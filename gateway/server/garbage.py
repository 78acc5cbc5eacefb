"""When garbage is collected: few objects at a time while clients are served, and all of them in a moment of rest."""

import gc

_COLLECT_EVERY = 500
"""After how many new objects the youngest ones are looked at, which takes a millisecond at most. Python's default is
700."""
_YOUNG, _OLD = 1, 1_800
"""The thresholds of the other two generations. A collection of the middle one looks at 1,500 to 3,000 objects, which
takes 1 to 3 ms: 3 ms where hundreds of clients speak at once, as nothing of it is in the processor's cache. A full
collection, of all objects, takes 40 ms with 500 rooms. It comes by itself only after 2 million new objects and growth
by a quarter."""
_WORTH_A_LOOK = 60
"""After how many collections of the middle generation all objects are looked at as soon as there is rest: it has been
emptied into the oldest one so often, with up to 60,000 objects together."""
_CLOSED_TOGETHER = 64
"""After how many connections that the gateway closes the younger objects are looked at: about 700 of them are new."""
_AT_REST = 0.005
"""The share of a core up to which the event loop is at rest."""
_FEW_REQUESTS = 10
"""How many requests a second there may be at rest. 200 polls, which would have to wait, take 0.4 % of a core."""


def collect_in_small_parts() -> None:
    """Have the garbage collector look at few objects at a time."""
    gc.set_threshold(_COLLECT_EVERY, _YOUNG, _OLD)


class ClosedByGateway:
    """Has the younger objects collected while the gateway closes very many connections.

    The collector counts new objects less those that are freed. To close a connection makes 11 objects, which live
    until the client has answered, and frees as many older ones: the collector does not come, and looks at 22,000 young
    objects at once when 2,000 clients have answered, which takes 20 to 50 ms.
    """

    def __init__(self) -> None:
        self._closed = 0

    def note(self) -> None:
        """Note that a connection is being closed."""
        self._closed += 1
        if self._closed == _CLOSED_TOGETHER:
            self._closed = 0
            gc.collect(1)


class FullCollections:
    """Looks at all objects in a moment of rest, so that this is hardly ever due while clients are served.

    Args:
        now, used: the time, and the CPU time that the event loop has taken, in seconds.
        requests: how many requests were answered.
    """

    def __init__(self, now: float, used: float, requests: int) -> None:
        self._now, self._used, self._requests = now, used, requests

    def look(self, now: float, used: float, requests: int) -> bool:
        """Collect if the loop has been at rest since the last look, and many objects have come to live since the last
        full collection. Returns whether all objects were looked at."""
        passed = now - self._now
        at_rest = used - self._used <= _AT_REST * passed and requests - self._requests <= _FEW_REQUESTS * passed
        due = at_rest and gc.get_count()[2] >= _WORTH_A_LOOK
        self._now, self._used, self._requests = now, used, requests
        if due:
            gc.collect()
        return due
