"""(o) What do 1,000 subscribers of one turn cost by GraphQL, beside 1,000 event streams of the change feed?

A turn grows block by block, and after each block all clients are told: by GraphQL its status and number of blocks, over
graphql-transport-ws or graphql-sse; by the HTTP API the turn's entry in the feed. Compared is the server's CPU time for
one client that is told of one block. The clients are sockets of one process; a client that is not told ends the
benchmark. Who follows the status alone is told nothing meanwhile: that row is the CPU time of as many blocks.
"""

import json
import resource
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import Literal

from benchmarks.harness import Aim, Plan, Row, compare, folder, take_turns
from benchmarks.load import fetch, request
from benchmarks.servers import CLIENT_CORE, Server, gateway, on_core
from benchmarks.waiters import Crowd

_SESSIONS = "/api/projects/demo/sessions"
_GRAPHQL = "/api/graphql"
_Way = Literal["graphql-transport-ws", "graphql-sse", "event streams", "status alone"]


def run(plan: Plan) -> Iterator[Row]:
    """Measure."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    count, blocks = plan.size((1_000, 50), (20, 3))
    ways: tuple[_Way, ...] = ("graphql-transport-ws", "graphql-sse", "event streams", "status alone")
    taken = take_turns(plan, {way: partial(_microseconds, way, count, blocks) for way in ways})
    streams = taken["event streams"]
    for way in ways:
        if way != "event streams":
            what = f"{count:,} subscribers of a turn, {way}"
            yield compare(what, "µs", taken[way], "event streams", streams, aim=Aim("<=", 3))


def _microseconds(way: _Way, count: int, blocks: int) -> float:
    """The CPU time of the server for each client that is told of each block."""
    with ExitStack() as stack:
        server = stack.enter_context(gateway(stack.enter_context(folder()) / "gateway.db"))
        session = _post(server, _SESSIONS, {})["id"]
        turn = _post(server, f"{_SESSIONS}/{session}/turns", {"prompt": "Build it"})["id"]
        path = f"{_SESSIONS}/{session}/turns/{turn}"
        _add(server, path, 0)
        stack.enter_context(on_core(CLIENT_CORE))
        crowd = stack.enter_context(Crowd(server.port, count))
        question, begun, told = _asked(way, server, session, turn)
        crowd.send(question)
        crowd.gather(begun)
        before = server.cpu_seconds()
        for number in range(1, blocks + 1):
            _add(server, path, number)
            if told is not None:
                crowd.gather(partial(told, number + 1))
        return 1e6 * (server.cpu_seconds() - before) / blocks / count


def _asked(
    way: _Way, server: Server, session: str, turn: str
) -> tuple[bytes, Callable[[bytes], bool], Callable[[int, bytes], bool] | None]:
    """What each client sends; how it knows that it is served, and that it was told of so many blocks."""
    if way == "event streams":
        query = "/api/projects/demo/changes?kinds=turn"
        return (
            request("GET", query, accept="text/event-stream"),
            lambda received: b"event: ready" in received,
            lambda count, received: b'"block_count":%d,' % count in received,
        )
    fields = "status" if way == "status alone" else "status blockCount"
    question = {"query": f'subscription {{ turn(project: "demo", session: "{session}", id: "{turn}") {{ {fields} }} }}'}
    if way == "graphql-sse":
        asked = request(
            "POST", _GRAPHQL, json.dumps(question).encode(), content_type="application/json", accept="text/event-stream"
        )
    else:
        upgrade = [
            f"GET {_GRAPHQL} HTTP/1.1",
            "Host: localhost",
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            "Sec-WebSocket-Protocol: graphql-transport-ws",
        ]
        subscribe = {"type": "subscribe", "id": "1", "payload": question}
        asked = "\r\n".join([*upgrade, "", ""]).encode() + _frame({"type": "connection_init"}) + _frame(subscribe)
    told = None if way == "status alone" else lambda count, received: b'"blockCount":%d}' % count in received
    return asked, lambda received: b'"status"' in received, told


def _frame(message: object) -> bytes:
    """A text message as a client sends it, masked with zeros."""
    text = json.dumps(message).encode()
    length = bytes([0x80 | len(text)]) if len(text) < 126 else bytes([0x80 | 126]) + len(text).to_bytes(2, "big")
    return b"\x81" + length + bytes(4) + text


def _add(server: Server, turn: str, number: int) -> None:
    _post(server, f"{turn}/blocks", {"blocks": [{"type": "text", "content": f"Block {number}"}]})


def _post(server: Server, path: str, body: object) -> dict[str, str]:
    answer = fetch(server, request("POST", path, json.dumps(body).encode(), content_type="application/json"))
    return dict(answer.json())
