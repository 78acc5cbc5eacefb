"""Large messages to many clients: written to the sockets in parts, few of them in one turn of the event loop."""

import asyncio
import contextlib
import socket
from collections import Counter
from typing import Protocol

from gateway.asgi.outlets import PART_BYTES
from gateway.shared_turn import Pieces, SharedTurn

_sharers: Counter[int] = Counter()
"""How many connections wait to write a message, by the `id` of its bytes."""


def bound_unsent(transport: asyncio.Transport) -> None:
    """Let the kernel take no more for a client than it can send, and a part beyond that (Linux, macOS).

    Without this bound the kernel takes up to 4 MB for each client, in 12 ms, whether the client reads or not. The bound
    is for clients that are sent the same messages as others: the bytes that the kernel does not take wait here, once
    for all of these clients.
    """
    option: int | None = getattr(socket, "TCP_NOTSENT_LOWAT", None)
    connected = transport.get_extra_info("socket")
    if option is not None and connected is not None and connected.family in (socket.AF_INET, socket.AF_INET6):
        with contextlib.suppress(OSError):  # the client has left
            connected.setsockopt(socket.IPPROTO_TCP, option, PART_BYTES)


class Blocked(Protocol):
    """What is told that nothing more is to be written for now, and that it may be: a protocol."""

    def block_writing(self) -> None: ...

    def unblock_writing(self) -> None: ...


class PartedWrites:
    """What waits to be written to one transport, of which the next part is written when it is its turn."""

    __slots__ = ("_held", "_protocol", "_size", "_transport", "_turn", "_under_way", "_waiting")

    def __init__(self, transport: asyncio.Transport, turn: SharedTurn, protocol: Blocked) -> None:
        self._transport = transport
        self._turn = turn
        self._protocol: Blocked | None = protocol
        self._waiting: list[memoryview] = []
        self._size = 0
        self._held = False
        """Whether the transport has something in its buffer, and will tell when more may be written."""
        self._under_way = False
        """Whether the next part waits for its turn."""

    def __len__(self) -> int:
        """How many bytes wait, beside those in the buffer of the transport."""
        return self._size

    @property
    def kept_bytes(self) -> int:
        """How much memory is kept for what waits: a message for many clients is shared among them."""
        return sum(len(each) // _sharers[id(each.obj)] for each in self._waiting)

    def write(self, data: bytes | memoryview) -> None:
        """Write behind what waits. A large message is written in parts."""
        if not self._waiting and (len(data) <= PART_BYTES or self._protocol is None):
            self._transport.write(data)
            return
        begins = not self._waiting
        view = memoryview(data)
        _sharers[id(view.obj)] += 1
        self._waiting.append(view)
        self._size += len(view)
        if begins and self._protocol is not None:
            self._protocol.block_writing()
            self._write_in_turn()

    def hold(self) -> None:
        """Write nothing until `go_on`: the client does not take what it is sent."""
        self._held = True

    def go_on(self) -> bool:
        """Write the next part once it is its turn. False: nothing waits."""
        self._held = False
        self._write_in_turn()
        return bool(self._waiting)

    def end(self) -> None:
        """Forget what waits: the client has left."""
        while self._waiting:
            self._let_go(self._waiting.pop())
        self._size, self._protocol = 0, None  # the protocol would be a cycle

    def _write_in_turn(self) -> None:
        if self._waiting and not self._held and not self._under_way:
            self._under_way = True
            self._turn.run(self._write())

    def _write(self) -> Pieces:
        while self._waiting and not self._transport.is_closing():
            first = self._waiting[0]
            part, rest = first[:PART_BYTES], first[PART_BYTES:]
            self._size -= len(part)
            if rest:
                self._waiting[0] = rest
            else:
                self._let_go(self._waiting.pop(0))
            self._transport.write(part)
            if self._held or not self._waiting:
                break
            yield 0.0
        self._under_way = False
        if not self._waiting and not self._held and self._protocol is not None:
            self._protocol.unblock_writing()
        return 0.0

    @staticmethod
    def _let_go(view: memoryview) -> None:
        key = id(view.obj)
        _sharers[key] -= 1
        if not _sharers[key]:
            del _sharers[key]
