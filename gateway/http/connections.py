"""Limits shared by all connections, and counts of refusals: one object, shared by the protocols and `/metrics`."""

from collections import Counter
from collections.abc import Iterator, Sized

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway.http.unread import Unread
from gateway.settings import ConnectionLimits
from gateway.shared_turn import SharedTurn


class Connections(Collector):
    """The connections of a server. Nothing is counted under a server that does not use our protocol classes.

    Args:
        turn: what may be done for all clients in one turn of the event loop.
    """

    def __init__(self, limits: ConnectionLimits | None = None, turn: SharedTurn | None = None) -> None:
        self.limits = limits or ConnectionLimits()
        self.unread = Unread(self.limits.unread_seconds, self.limits.unread_bytes)
        self.turn = turn or SharedTurn()
        self.open: Sized = ()
        """The open connections: the server's own set of them."""
        self.lingering = 0
        """The number of connections over the limit that are still being sent their refusal."""
        self.refused: Counter[str] = Counter()
        """By problem code: the number of connections closed before their request reached the application."""

    @property
    def full(self) -> bool:
        """Whether the limit is reached, so that a further connection must be refused."""
        return len(self.open) >= self.limits.connections

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics."""
        yield GaugeMetricFamily("gateway_connections", "Open connections.", value=len(self.open))
        refused = CounterMetricFamily(
            "gateway_refused_connections",
            "Connections closed by the gateway: malformed or late requests, or too many connections.",
            labels=["code"],
        )
        for code, count in self.refused.items():
            refused.add_metric([code], count)
        yield refused
        yield GaugeMetricFamily(
            "gateway_unread_bytes", "Bytes of answers that clients have not read yet.", value=self.unread.bytes
        )
        yield CounterMetricFamily(
            "gateway_unread_closes",
            "Connections closed because their clients read nothing, or too much waited for all clients.",
            value=self.unread.closed,
        )
