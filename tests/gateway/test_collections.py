"""Garbage collections look at few objects at a time, however many come to live, and connections leave them nothing."""

import asyncio
import gc
import subprocess
import sys
import weakref

import httptools
from starlette.types import Receive, Scope, Send
from uvicorn import Config
from uvicorn.server import ServerState

from gateway.asgi.outlets import Outlet
from gateway.server.http_protocol import HttpProtocol
from tests.support.transports import Transport
from tests.support.turns import until

_MANY = """
import gc
from gateway.server.garbage import collect_in_small_parts

gc.collect()
gc.freeze()
gc.disable()
looked_at, full = [], [0]

def note(phase, info):
    if phase == "start":
        looked_at.append(sum(len(gc.get_objects(generation)) for generation in range(info["generation"] + 1)))
        full[0] += info["generation"] == 2

gc.callbacks.append(note)
collect_in_small_parts()
gc.enable()
kept = [[] for _ in range(300_000)]
gc.disable()
print(max(looked_at), full[0], len(looked_at))
"""


def test_no_collection_looks_at_very_many_objects_while_many_come_to_live() -> None:
    printed = subprocess.run([sys.executable, "-c", _MANY], check=True, capture_output=True, text=True, timeout=120)
    most, full, count = map(int, printed.stdout.split())
    assert most <= 2_000
    assert full == 0
    assert count >= 100


_CLOSES = """
import gc
from gateway.server.garbage import ClosedByGateway, collect_in_small_parts

collect_in_small_parts()
connections = [[[] for _ in range(12)] for _ in range(2_000)]
gc.collect()
gc.freeze()
looked_at = []

def note(phase, info):
    if phase == "start":
        looked_at.append(sum(len(gc.get_objects(generation)) for generation in range(info["generation"] + 1)))

gc.callbacks.append(note)
closed, new = ClosedByGateway(), []
for _ in range(2_000):
    new.append([[] for _ in range(11)])
    connections.pop()
    closed.note()
kept = [[] for _ in range(2_000)]  # the collector comes
print(max(looked_at), len(looked_at))
"""


def test_no_collection_looks_at_very_many_objects_after_the_gateway_has_closed_many_connections() -> None:
    """They free as many objects as they make, so that the collector does not come by itself."""
    printed = subprocess.run([sys.executable, "-c", _CLOSES], check=True, capture_output=True, text=True, timeout=120)
    most, count = map(int, printed.stdout.split())
    assert most <= 2_000
    assert count >= 2_000 // 64


_RESTS = """
import gc
from gateway.server.garbage import FullCollections, collect_in_small_parts

class Cycle:
    def __init__(self):
        self.itself = self

def living():
    return sum(type(each) is Cycle for each in gc.get_objects())

collect_in_small_parts()
kept = [Cycle() for _ in range(100_000)]
collections = FullCollections(now=100.0, used=10.0, requests=1000)
del kept[:]
print(collections.look(now=101.0, used=10.5, requests=1000), living())
print(collections.look(now=102.0, used=10.501, requests=1200), living())
print(collections.look(now=103.0, used=10.502, requests=1205), living())
print(collections.look(now=104.0, used=10.503, requests=1205), living())
"""


def test_all_objects_are_looked_at_in_a_moment_of_rest_after_many_have_come_to_live() -> None:
    printed = subprocess.run([sys.executable, "-c", _RESTS], check=True, capture_output=True, text=True, timeout=120)
    busy, polled, at_rest, again = printed.stdout.splitlines()
    for look in (busy, polled):
        collected, living = look.split()
        assert collected == "False"
        assert int(living) > 90_000
    assert at_rest == "True 0"
    assert again == "False 0"


def test_a_connection_that_is_closed_leaves_no_cycle() -> None:
    async def work() -> None:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body", "body": b""})

        config = Config(app, lifespan="off", proxy_headers=False, log_config=None)
        config.load()
        transport = Transport()
        protocol = HttpProtocol(config, ServerState(), {})
        protocol.connection_made(transport)
        protocol.data_received(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
        await transport.answered.wait()
        assert _parsers() == 1
        protocol.connection_lost(None)
        del protocol
        await until(lambda: _parsers() == 0)

    gc.collect()
    gc.disable()
    try:
        asyncio.run(asyncio.wait_for(work(), 60))
    finally:
        gc.enable()


def _parsers() -> int:
    return sum(isinstance(each, httptools.HttpRequestParser) for each in gc.get_objects())


class _Connection:
    """What has an outlet, and is asked by it whether anything is buffered."""

    def __init__(self) -> None:
        self.outlet = Outlet(lambda data: None, self.is_empty, 0)

    def is_empty(self) -> bool:
        return True


def test_an_outlet_that_has_ended_leaves_no_cycle() -> None:
    gc.disable()
    try:
        connection = _Connection()
        connection.outlet.end()
        connection.outlet.open()
        assert connection.outlet.fd == -1
        left = weakref.ref(connection)
        del connection
        assert left() is None
    finally:
        gc.enable()
