"""What all connections together may take, and what was refused: one object, shared by the protocols and `/metrics`."""

from collections import Counter
from collections.abc import Iterator, Sized

from msgspec import Struct
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


class ConnectionLimits(Struct, frozen=True):
    """The bounds of connections."""

    connections: int = 100_000
    """How many may be open at once."""
    head_seconds: float = 30.0
    """Within how many seconds the head of a request must be there, from the connection or from its first byte on."""
    keep_alive_seconds: float = 75.0
    """How long a connection may be idle between two requests. Longer than proxies keep idle connections to their
    servers: the proxy closes first, and no request is lost."""


class BodyLimits(Struct, frozen=True):
    """The bounds of bodies."""

    bytes: int = 256 * 2**20
    """What all bodies that are coming in may hold together."""
    seconds: float = 30.0
    """How long a body may pause, and within which time it has to come apart from what `rate` allows."""
    rate: int = 1024
    """How many bytes a second have to come at least, on average."""


class Connections(Collector):
    """The connections of a server. Under a server whose protocols are not ours, nothing is counted here."""

    def __init__(self, limits: ConnectionLimits | None = None) -> None:
        self.limits = limits or ConnectionLimits()
        self.open: Sized = ()
        """The open connections: the server's own set of them."""
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
