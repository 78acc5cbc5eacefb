"""Writing to sockets past their transports, and one frame or chunk to the sockets of many clients."""

import os
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

PART_BYTES = 128 * 2**10
"""How many bytes are written to a socket at once, of a message to many clients: the kernel copies them in 0.1 ms."""


class Outlet:
    """The way to the socket of a WebSocket for whole frames, or of a stream for whole chunks, past the transport.

    Writing to a thousand clients takes half the time then, since nothing else of each has to come into the processor's
    cache.

    The way is open only while nothing is buffered for the client, so that no frame overtakes another. The server closes
    it when the client does not take all that it is sent, and the room when it queues other messages for the client.

    Args:
        finish: sends the rest of a frame that was written in part; all clients share the memory of the frame.
        is_empty: whether nothing is buffered for the client.
        socket: the number of the socket; -1: there is no way past the transport.
    """

    __slots__ = ("_is_empty", "_socket", "fd", "finish")

    def __init__(self, finish: Callable[[bytes | memoryview], None], is_empty: Callable[[], bool], socket: int) -> None:
        self.fd = -1
        """The number of the socket while the way is open, else -1."""
        self.finish = finish
        self._is_empty = is_empty
        self._socket = socket

    def write(self, frame: bytes) -> bool:
        """Write a frame; False: nothing was written."""
        if self.fd < 0:
            return False
        try:
            sent = os.write(self.fd, _first_part(frame))
        except OSError:  # the client is not reading, or has left: the transport will notice as well
            sent = 0
        if sent == len(frame):
            return True
        self.fd = -1
        if sent:
            self.finish(memoryview(frame)[sent:])
        return sent > 0

    def open(self) -> None:
        """Open the way if nothing is buffered."""
        if self._socket >= 0 and self._is_empty():
            self.fd = self._socket

    def close(self) -> None:
        """Close the way until it is opened again."""
        self.fd = -1

    def end(self) -> None:
        """Close the way for good: the number of the socket may soon be that of another one."""
        self.fd = self._socket = -1
        self._is_empty = _never  # a cycle, with what holds the outlet


def _first_part(frame: bytes) -> bytes | memoryview:
    return frame if len(frame) <= PART_BYTES else memoryview(frame)[:PART_BYTES]


def _never() -> bool:
    return False


def write_to_all(outlets: dict[Outlet, T], frame: bytes) -> list[T]:
    """Write a frame to all outlets that are open; return what belongs to the others, which have not got it."""
    write, size, part = os.write, len(frame), _first_part(frame)
    others: list[T] = []
    for outlet in outlets:
        if outlet.fd >= 0:
            try:  # as `Outlet.write`, without a call for each
                sent = write(outlet.fd, part)
            except OSError:
                sent = 0
            if sent == size:
                continue
            outlet.fd = -1
            if sent:
                outlet.finish(memoryview(frame)[sent:])
                continue
        others.append(outlets[outlet])
    return others
