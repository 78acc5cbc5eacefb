"""Connections whose clients have left are closed in turns of the event loop."""

import asyncio

from gateway.shared_turn import Pieces, SharedTurn

_CLOSE_S = 0.00003
"""What it takes to close a connection in the next iteration of the loop, in seconds."""


def is_closed_later(transport: asyncio.Transport, turn: SharedTurn) -> bool:
    """Close a connection whose client has left, or leave that to the caller of `eof_received`, which returns the
    result.

    uvloop hears of all clients that have left in one iteration of the loop, and closes all of their connections in
    the next one: 2,000 took 60 ms, most of it in the garbage collector, which had to look at all that is then new.
    """
    if not turn.is_over():
        turn.note(_CLOSE_S)
        return False
    if transport.get_extra_info("sslcontext") is not None:  # TLS is closed in any case
        return False
    turn.run(_close(transport))
    return True


def _close(transport: asyncio.Transport) -> Pieces:
    yield from ()
    transport.close()
    return _CLOSE_S
