"""Clients that do not read: the gateway's memory does not grow for them, and nobody else notices."""

import base64
import contextlib
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gateway.yjs.messages import sync_step_1
from tests.live.clients import event_stream, put, wait_for_figure
from tests.live.editors import Typewriter, client_frame, raw_client, resident_bytes
from tests.support.chunked_body import ChunkedBody
from tests.support.server import PATIENCE_S, GatewayProcess

_SMALLEST_BUFFER = 4096


@contextlib.contextmanager
def _socket(gateway: GatewayProcess, *head: str) -> Iterator[socket.socket]:
    """A connection on which a request was sent, and of which the system keeps as little as it can."""
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SMALLEST_BUFFER)
        connection.settimeout(PATIENCE_S)
        connection.connect(("127.0.0.1", gateway.port))
        connection.sendall("\r\n".join([*head, "Host: localhost", "", ""]).encode())
        yield connection


@contextlib.contextmanager
def _room_without_reader(gateway: GatewayProcess, path: str) -> Iterator[socket.socket]:
    """A WebSocket that joins a room, and reads nothing of it."""
    key = base64.b64encode(os.urandom(16)).decode()
    with _socket(
        gateway,
        f"GET /api/projects/demo/ws/{path} HTTP/1.1",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Key: {key}",
    ) as connection:
        answer = b""
        while not answer.endswith(b"\r\n\r\n"):
            answer += connection.recv(1)
        connection.sendall(client_frame(sync_step_1(b"\0")))
        yield connection


def _until_ended(connection: socket.socket) -> None:
    """Read on until the gateway has ended it."""
    with contextlib.suppress(ConnectionResetError):
        while connection.recv(2**20):
            pass


def test_a_room_ends_who_does_not_read_and_keeps_nothing_for_it(tmp_path: Path) -> None:
    rounds, size, bound = 60, 2**20, 2**20
    with (
        GatewayProcess(tmp_path / "gateway.db", GATEWAY_ROOM_QUEUE_BYTES=bound) as gateway,
        raw_client(gateway, "demo", "a.md") as writing,
        raw_client(gateway, "demo", "a.md") as reading,
        contextlib.ExitStack() as slow,
    ):
        writer, reader = Typewriter(), Typewriter()
        for client, typewriter in ((writing, writer), (reading, reader)):
            client.join(typewriter.document)

        def write_and_read() -> None:
            """One types much, and takes it back; another one sees both."""
            for change in (lambda: writer.type("x" * size), writer.erase):
                writing.send_update(change())
                reader.document.apply_update(reading.receive_sync("update"))
                writing.receive_sync("update")

        for _ in range(10):
            write_and_read()
        before = resident_bytes(gateway)
        ended = [slow.enter_context(_room_without_reader(gateway, "a.md")) for _ in range(4)]
        wait_for_figure(gateway, "gateway_room_connections", 6)
        for _ in range(rounds):
            write_and_read()
        wait_for_figure(gateway, "gateway_room_connections", 2)
        grown = resident_bytes(gateway) - before
        for connection in ended:
            _until_ended(connection)
        writing.send_update(writer.type("all well"))
        reader.document.apply_update(reading.receive_sync("update"))
        assert str(reader.text) == "all well"
    assert grown < rounds * size / 2, f"{grown / 2**20:.1f} MiB"


_FILES = 3000
_LIVE = 100


def test_a_stream_that_is_not_read_costs_a_position_and_goes_on_from_there(tmp_path: Path) -> None:
    update: str = base64.b64encode(Typewriter().type("x")).decode()
    files = {f"{'long/' * 150}{number:06}.md": update for number in range(_FILES)}  # so that there is much to tell
    with (
        GatewayProcess(tmp_path / "gateway.db") as gateway,
        gateway.client() as project,
        contextlib.ExitStack() as streams,
    ):
        project.post("/sync", json={"updates": files, "max_bytes": 1}).raise_for_status()
        with event_stream(project) as stream:
            told = sum(len(event.data) for event in stream.until_ready())
        before = resident_bytes(gateway)
        head = ("GET /api/projects/demo/changes HTTP/1.1", "Accept: text/event-stream")
        slow = [streams.enter_context(_socket(gateway, *head)) for _ in range(40)]
        wait_for_figure(gateway, "gateway_waiters", len(slow))
        with event_stream(project) as stream:
            stream.until_ready()
            for number in range(_LIVE):
                put(project, "live.md", f"{number}")
                assert stream.next("change").json["version"] == number + 1
        grown = resident_bytes(gateway) - before
        assert grown < len(slow) * told / 2, f"{grown / 2**20:.1f} MiB"
        assert _picture(slow[20]) == {**dict.fromkeys(files, 1), "live.md": _LIVE}


def _picture(connection: socket.socket) -> dict[str, int]:
    """What a stream says that there is, read late."""
    seen: dict[str, int] = {}
    event = ""
    for line in _lines(connection):
        name, _, value = line.partition(": ")
        if name == "event":
            event = value
        if name == "data" and event == "change":
            change: dict[str, Any] = json.loads(value)
            assert change["version"] > seen.get(change["path"], 0)
            seen[change["path"]] = change["version"]
            if seen.get("live.md") == _LIVE:
                return seen
    raise AssertionError("the stream ended too early")


def _lines(connection: socket.socket) -> Iterator[str]:
    """The lines of an answer."""
    body, unread = ChunkedBody(), b""
    while received := connection.recv(2**16):
        *lines, unread = (unread + body.take(received)).split(b"\n")
        for line in lines:
            yield line.decode()
