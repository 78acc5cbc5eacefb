"""The outlet of a transport."""

import asyncio
import sys
from collections.abc import Callable

from gateway.asgi.outlets import Outlet


def outlet_of(
    transport: asyncio.Transport, finish: Callable[[bytes | memoryview], None], is_empty: Callable[[], bool]
) -> Outlet:
    """Return an outlet to the socket of a transport, whose protocol is from now on told of all that is buffered.

    Where the socket does not take what is written to the transport, as with TLS, the outlet never opens, and the
    protocol is told as before.
    """
    number = _socket_of(transport)
    if number >= 0:
        transport.set_write_buffer_limits(high=0)
    return Outlet(finish, is_empty, number)


def _socket_of(transport: asyncio.Transport) -> int:
    socket = transport.get_extra_info("socket")
    if sys.platform == "win32" or socket is None or transport.get_extra_info("sslcontext") is not None:
        return -1
    return int(socket.fileno())
