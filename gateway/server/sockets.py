"""The socket of a transport."""

import asyncio
import sys


def socket_of(transport: asyncio.Transport) -> int:
    """Return the number of the socket that takes what is written to a transport; -1 if there is none, as with TLS."""
    socket = transport.get_extra_info("socket")
    if sys.platform == "win32" or socket is None or transport.get_extra_info("sslcontext") is not None:
        return -1
    return int(socket.fileno())
