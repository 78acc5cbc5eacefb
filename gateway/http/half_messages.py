"""What has arrived of WebSocket messages that are not complete: bounded in total."""

from collections.abc import Iterator
from typing import Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


class _Connection(Protocol):
    """What is asked of a transport."""

    def abort(self) -> None:
        """Close the connection."""


class HalfMessages(Collector):
    """The connections on which a message has begun.

    Args:
        limit: the maximum of bytes of all these messages together. Beyond it, the connections whose messages began
            first are closed; one message alone may exceed it.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._sizes: dict[_Connection, int] = {}
        self.bytes = 0
        """How many bytes of all messages have arrived."""
        self.closed = 0
        """The number of connections that were closed."""

    def note(self, connection: _Connection, size: int) -> None:
        """Note how many bytes have arrived of the message that has begun on a connection; 0: none has."""
        before = self._sizes.get(connection, 0)
        self.bytes += size - before
        if size:
            self._sizes[connection] = size
        else:
            self._sizes.pop(connection, None)
        if size > before and self.bytes > self._limit:
            self._make_room(connection)

    def _make_room(self, newest: _Connection) -> None:
        for connection in [each for each in self._sizes if each is not newest]:
            if self.bytes <= self._limit:
                break
            self.bytes -= self._sizes.pop(connection)
            self.closed += 1
            connection.abort()

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics."""
        yield GaugeMetricFamily(
            "gateway_half_message_bytes", "Bytes of WebSocket messages that are not complete.", value=self.bytes
        )
        yield CounterMetricFamily(
            "gateway_half_message_closes",
            "WebSockets closed because too much of all incomplete messages had arrived.",
            value=self.closed,
        )
