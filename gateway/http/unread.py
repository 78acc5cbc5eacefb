"""What clients have not read of their answers: bounded in total, and in the time for which a client reads nothing."""

import asyncio
from typing import Protocol

LOOKS = 8
"""A client that has read nothing is looked at so many times before its connection is closed. The process may have stood
still between two looks, which is not the client's fault."""


class _Buffer(Protocol):
    """What is asked of a transport."""

    def get_write_buffer_size(self) -> int:
        """Return how many bytes wait to be sent."""

    def kept_bytes(self) -> int:
        """Return how much memory is kept for them; what is sent to many clients is kept once for all of them."""

    def abort(self) -> None:
        """Close the connection and drop what waits."""


class _Stalled:
    """A connection whose client does not keep up."""

    __slots__ = ("kept", "looks", "size")

    def __init__(self, size: int, kept: int) -> None:
        self.size = size
        """How many bytes were waiting at the last look."""
        self.kept = kept
        """How much memory was kept for them."""
        self.looks = 0
        """How many looks ago the client last took any."""


class Unread:
    """The connections on which something waits to be sent.

    Closing a connection does not free what waits there: it is sent first, and the client may never read it.

    Args:
        seconds: how long a client may read nothing.
        limit: the maximum of bytes that wait on all connections together. Beyond it, the connections whose clients have
            read nothing for the longest time are closed.
    """

    def __init__(self, seconds: float, limit: int) -> None:
        self._pause = seconds / LOOKS
        self._limit = limit
        self._stalled: dict[_Buffer, _Stalled] = {}
        self._timer: asyncio.TimerHandle | None = None
        self.bytes = 0
        """How many bytes are kept for all connections, as of the last look at each."""
        self.closed = 0
        """The number of connections that were closed."""

    def add(self, transport: _Buffer) -> None:
        """Note that something waits on a connection."""
        self.remove(transport)
        self._stalled[transport] = stalled = _Stalled(transport.get_write_buffer_size(), transport.kept_bytes())
        self.bytes += stalled.kept
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._pause, self._on_time)
        if self.bytes > self._limit:
            self._measure()
            self._make_room(transport)

    def remove(self, transport: _Buffer) -> None:
        """Note that nothing waits on a connection any more."""
        stalled = self._stalled.pop(transport, None)
        if stalled is not None:
            self.bytes -= stalled.kept

    def _on_time(self) -> None:
        self._timer = None
        self.look()
        if self._stalled:
            self._timer = asyncio.get_running_loop().call_later(self._pause, self._on_time)

    def look(self) -> None:
        """Close the connections of clients that have read nothing for too long."""
        for stalled in self._stalled.values():
            stalled.looks += 1
        self._measure()
        for transport, stalled in list(self._stalled.items()):
            if stalled.looks >= LOOKS:
                self._close(transport)

    def _measure(self) -> None:
        for transport, stalled in self._stalled.items():
            size = transport.get_write_buffer_size()
            if size < stalled.size:
                stalled.looks = 0
            kept = transport.kept_bytes()
            self.bytes += kept - stalled.kept
            stalled.size, stalled.kept = size, kept

    def _make_room(self, newest: _Buffer) -> None:
        """Close connections until what waits on the others is within the limit; one alone may exceed it."""
        others = [each for each in self._stalled.items() if each[0] is not newest]
        for transport, _ in sorted(others, key=lambda each: -each[1].looks):  # of the same, the oldest first
            if self.bytes <= self._limit:
                break
            self._close(transport)

    def _close(self, transport: _Buffer) -> None:
        self.remove(transport)
        self.closed += 1
        transport.abort()
