"""Ports for servers that are killed and started again."""

import random
import socket

# Below the range that Linux takes the ports of outgoing connections from: while a server is down, one of those
# would get its port.
_PORTS = range(10_240, 32_768)


def free_port() -> int:
    """A port of loopback on which nobody listens, and which no connection is given while its server is down."""
    while True:
        port = random.choice(_PORTS)
        with socket.socket() as candidate:
            candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                candidate.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
