"""Writing to a client without waiting: an extension of ASGI by which our protocols offer what uvicorn's `send` lacks.

`send` is a coroutine: for each of a thousand who are sent the same it takes a task and a turn of the loop. What can go
out at once goes out at once here; what cannot, and everything under another server, goes through `send`.
"""

from collections.abc import Callable
from typing import Protocol

from starlette.types import Scope

_KEY = "yjs-gateway.protocol"

WriteNow = Callable[[bytes], bool]
"""Writes a part of an event stream's body, or a binary message of a WebSocket; False: nothing was written, since the
client does not take it now, or has left."""


class ImmediateWriter(Protocol):
    """What a protocol offers."""

    def write_now(self, scope: Scope, data: bytes) -> bool:
        """Write for the request of `scope`."""
        ...


def offer(scope: Scope, protocol: ImmediateWriter) -> None:
    """Let who answers the request of `scope` write by `protocol`."""
    scope[_KEY] = protocol


class _Writer:
    """How to write to one client. Ten thousand are kept: it is smaller than a function."""

    __slots__ = ("_protocol", "_scope")

    def __init__(self, protocol: ImmediateWriter, scope: Scope) -> None:
        self._protocol = protocol
        self._scope = scope

    def __call__(self, data: bytes) -> bool:
        return self._protocol.write_now(self._scope, data)


def writer_of(scope: Scope) -> WriteNow:
    """How to write at once to the client of a request; where the server does not offer it: one that never does."""
    protocol: ImmediateWriter | None = scope.get(_KEY)
    return _never if protocol is None else _Writer(protocol, scope)


def _never(data: bytes) -> bool:
    return False
