"""What the gateway is compared with over HTTP: raw ASGI callables on the same uvicorn with the same options.

`replay` answers every request with the same prepared answer, after it has read the body: what a question costs when
nothing at all is done for it. `silent` does the same with an empty answer without headers. `ystore` stores the body
with `pycrdt-store`'s `SQLiteYStore` before it answers: the way of y-websocket servers in Python, without their rooms.
`load_and_diff` opens the document from its log for every request and answers what a state vector lacks, or all of it:
the way of servers that keep documents as bytes in a database. `hold` is the smallest application whose requests wait:
it wakes all of them at once. `pycrdt_rooms` is `pycrdt-websocket`'s own server, in memory.
"""

import json
import logging
import sqlite3
import sys
from asyncio import Lock, Task, create_task, sleep
from collections import deque
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any
from urllib.parse import parse_qs

import pycrdt
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.server.http_protocol import HttpProtocol
from gateway.yjs.snapshots import decompress

SERVER_OPTIONS: dict[str, Any] = {
    "http": HttpProtocol,
    "log_level": logging.WARNING,
    "log_config": None,
    "access_log": False,
    "server_header": False,
    "proxy_headers": False,
    "timeout_graceful_shutdown": 20,
}
"""As `gateway.cli.main.serve` has them; a test holds the two together."""
_WEBSOCKET_OPTIONS: dict[str, Any] = {"ws": "websockets-sansio", "ws_per_message_deflate": False}
_WOKEN_TOGETHER = 100

_Headers = list[tuple[bytes, bytes]]


async def _read_body(receive: Receive) -> bytes:
    message = await receive()
    body: bytes = message["body"]
    while message.get("more_body", False):
        message = await receive()
        body += message["body"]
    return body


async def _answer(send: Send, status: int, headers: _Headers, body: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def replay(status: int, headers: list[tuple[str, str]], body: str) -> ASGIApp:
    """Always the same answer."""
    prepared, content = [(name.encode(), value.encode()) for name, value in headers], body.encode("latin-1")

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] != "GET":
            await _read_body(receive)
        await _answer(send, status, prepared, content)

    return app


def silent() -> ASGIApp:
    """Nothing but a status line."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await _read_body(receive)
        await _answer(send, 204, [], b"")

    return app


def one_route(path: str, status: int, headers: list[tuple[str, str]]) -> ASGIApp:
    """A Starlette application of one route, which always gives the same answer without a body."""
    prepared = dict(headers)

    async def answer(request: Request) -> Response:
        return Response(status_code=status, headers=prepared)

    return Starlette(routes=[Route(path, answer)])


def ystore(database: str, headers: list[tuple[str, str]], body: str) -> ASGIApp:
    """Stores a body as an update of the path, then gives the prepared receipt. One store a path, as a room has it."""
    from pycrdt.store import SQLiteYStore

    class Store(SQLiteYStore):
        db_path = database

    prepared, receipt = [(name.encode(), value.encode()) for name, value in headers], body.encode("latin-1")
    stores: dict[str, Store] = {}
    opening, running = Lock(), AsyncExitStack()

    async def opened(path: str) -> Store:
        async with opening:  # two stores that create the database at once would fail
            if path not in stores:
                stores[path] = store = Store(path, metadata_callback=lambda: b"")
                await running.enter_async_context(store)
                assert store.db_initialized is not None
                await store.db_initialized.wait()
        return stores[path]

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        update = await _read_body(receive)
        store = stores.get(scope["path"]) or await opened(scope["path"])
        await store.write(update)
        await _answer(send, 200, prepared, receipt)

    return app


def load_and_diff(database: str) -> ASGIApp:
    """Reads the file that the last part of the path names from a gateway's database: its newest snapshot and what came
    after, with the statements that the gateway uses; builds the document, encodes what the state vector lacks."""
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)

    def stored(path: str) -> list[bytes]:
        ((file,),) = connection.execute("SELECT id FROM file WHERE path = ?", (path,))
        snapshot = connection.execute(
            "SELECT version, body FROM snapshot WHERE file = ? ORDER BY version DESC LIMIT 1", (file,)
        ).fetchone()
        version, parts = (0, []) if snapshot is None else (snapshot[0], [decompress(snapshot[1])])
        rows = connection.execute(
            "SELECT body FROM file_update WHERE file = ? AND version > ? ORDER BY version", (file, version)
        )
        return parts + [body for (body,) in rows]

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        vector = parse_qs(scope["query_string"].decode()).get("state_vector")
        document: pycrdt.Doc[Any] = pycrdt.Doc()
        for update in stored(scope["path"].rpartition("/")[2]):
            document.apply_update(update)
        update = document.get_update(bytes.fromhex(vector[0]) if vector else None)
        await _answer(send, 200, [(b"content-length", b"%d" % len(update))], update)

    return app


def hold(answer: str, event: str, tag: str) -> ASGIApp:
    """Holds every GET until the next POST, of which all waiting are told: by the answer, or by the event in a stream.

    Nothing else is done for it: no filter, no cursor, no deadline. `GET /waiting` is how many wait.
    """
    json_headers = [(b"content-type", b"application/json"), (b"etag", tag.encode())]
    json_headers.append((b"content-length", b"%d" % len(answer)))
    answers: deque[Send] = deque()
    streams: list[Send] = []
    stream_headers = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-store")]
    tasks: set[Task[None]] = set()

    async def wake() -> None:
        told = {"type": "http.response.body", "body": event.encode(), "more_body": True}
        for number, send in enumerate(list(streams)):
            await send(told)
            if number % _WOKEN_TOGETHER == 0:
                await sleep(0)
        for number in range(len(answers)):
            await _answer(answers.popleft(), 200, json_headers, answer.encode())
            if number % _WOKEN_TOGETHER == 0:
                await sleep(0)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] != "GET":
            await _read_body(receive)
            await _answer(send, 204, [], b"")
            tasks.add(task := create_task(wake()))
            task.add_done_callback(tasks.discard)
        elif scope["path"] == "/waiting":
            count = b"%d" % (len(answers) + len(streams))
            await _answer(send, 200, [(b"content-length", b"%d" % len(count))], count)
        elif scope["path"] == "/stream":
            await send({"type": "http.response.start", "status": 200, "headers": stream_headers})
            await send({"type": "http.response.body", "body": b"event: ready\ndata: {}\n\n", "more_body": True})
            streams.append(send)
            await _until_disconnected(receive)
            streams.remove(send)
        else:
            answers.append(send)
            await _until_disconnected(receive)

    return app


async def _until_disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def pycrdt_rooms() -> ASGIApp:
    """`pycrdt-websocket` with its default options."""
    from pycrdt.websocket import ASGIServer, WebsocketServer

    server = WebsocketServer()
    rooms, opening, running = ASGIServer(server), Lock(), AsyncExitStack()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        async with opening:
            if not server.started.is_set():
                await running.enter_async_context(server)
        await rooms(scope, receive, send)

    return app


_BASELINES: dict[str, Callable[..., ASGIApp]] = {
    "replay": replay,
    "silent": silent,
    "one_route": one_route,
    "ystore": ystore,
    "load_and_diff": load_and_diff,
    "hold": hold,
    "pycrdt_rooms": pycrdt_rooms,
}


class _Server(uvicorn.Server):
    """Says where it listens, as the gateway does."""

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        print(f"Listening on http://127.0.0.1:{self.servers[0].sockets[0].getsockname()[1]}", flush=True)


def main(name: str, protocol: str = "gateway") -> None:
    """Serve a baseline, with the options that come in as JSON, until told to stop.

    Args:
        protocol: whose class speaks HTTP/1.1: that of the `gateway`, or that of `uvicorn`.
    """
    app = _BASELINES[name](**json.load(sys.stdin))
    options = {**SERVER_OPTIONS, **_WEBSOCKET_OPTIONS, **({"http": "httptools"} if protocol == "uvicorn" else {})}
    _Server(uvicorn.Config(app, host="127.0.0.1", port=0, lifespan="off", **options)).run()


if __name__ == "__main__":
    main(*sys.argv[1:])
