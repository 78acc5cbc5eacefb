"""What all connections together may take, and what was refused: one object, shared by the protocols and `/metrics`."""

from collections import Counter
from collections.abc import Iterator, Sized

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway.settings import ConnectionLimits


class Connections(Collector):
    """The connections of a server. Under a server whose protocols are not ours, nothing is counted here."""

    def __init__(self, limits: ConnectionLimits | None = None) -> None:
        self.limits = limits or ConnectionLimits()
        self.open: Sized = ()
        """The open connections: the server's own set of them."""
        self.lingering = 0
        """Connections over the bound that are being told so."""
        self.refused: Counter[str] = Counter()
        """How many connections were ended before their request reached the application, by the code of the problem."""

    @property
    def full(self) -> bool:
        """Whether one more is one too many."""
        return len(self.open) >= self.limits.connections

    def collect(self) -> Iterator[Metric]:
        """Their figures."""
        yield GaugeMetricFamily("gateway_connections", "Open connections.", value=len(self.open))
        refused = CounterMetricFamily(
            "gateway_refused_connections",
            "Connections closed by the gateway: malformed or late requests, or too many connections.",
            labels=["code"],
        )
        for code, count in self.refused.items():
            refused.add_metric([code], count)
        yield refused
