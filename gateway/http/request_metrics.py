"""Request metrics: counts and latencies by route. Counting costs only a few dictionary operations."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator

from gateway.wire.problems import Problem

_BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0)


class RequestMetrics:
    """Counts of requests by route and status, and latencies by route."""

    def __init__(self) -> None:
        self.answers: Counter[tuple[str, str, int]] = Counter()
        """Answered requests by method, route and status."""
        self.problems: Counter[str] = Counter()
        """Requests answered with a problem, by its code."""
        self._buckets: dict[str, list[int]] = {}
        self._seconds: dict[str, float] = {}

    def count(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one answered request."""
        self.answers[method, route, status] += 1
        buckets = self._buckets.get(route)
        if buckets is None:
            buckets = self._buckets[route] = [0] * (len(_BUCKETS_S) + 1)
            self._seconds[route] = 0.0
        buckets[bisect_left(_BUCKETS_S, seconds)] += 1
        self._seconds[route] += seconds

    def count_problem(self, method: str, route: str, problem: Problem, seconds: float = 0.0) -> None:
        """Count one request that was answered with a problem."""
        self.problems[problem.code] += 1
        self.count(method, route, problem.status, seconds)

    def latencies(self) -> Iterator[tuple[str, list[tuple[str, float]], float]]:
        """Yield each route with its cumulative buckets and sum of seconds."""
        for route, counts in self._buckets.items():
            total, buckets = 0, []
            for bound, count in zip((*map(str, _BUCKETS_S), "+Inf"), counts, strict=True):
                total += count
                buckets.append((bound, float(total)))
            yield route, buckets, self._seconds[route]
