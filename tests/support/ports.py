"""Ports for servers that are killed and started again."""

import os
import random
import socket

# Below the range that Linux takes the ports of outgoing connections from: while a server is down, one of those
# would get its port.
_PORTS = range(10_240, 32_768)
_random = random.SystemRandom()
"""Not the generator of the tests: Hypothesis gives it the same seed in every process."""
_WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_given: set[int] = set()


def free_port() -> int:
    """A port of loopback on which nobody listens, and which no connection is given while its server is down.

    No other test is given the port, also before its server listens.
    """
    while True:
        port = _random.choice(_PORTS)
        if port in _given or port % _WORKERS != _WORKER % _WORKERS:
            continue
        with socket.socket() as candidate:
            candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                candidate.bind(("127.0.0.1", port))
            except OSError:
                continue
        _given.add(port)
        return port
