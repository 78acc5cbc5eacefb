"""Requests that are in flight at the same time: each is stored with what it builds on, or refused."""

import asyncio
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pycrdt

from storage.sqlite import SQLiteStorage
from tests.gateway.test_retention import running
from tests.support.oracle import Oracle
from tests.support.server import GatewayProcess
from tests.support.statements import HeldWrite

_FILES = 300
_PLAIN = {"Content-Type": "text/plain"}


def typed(text: str) -> list[bytes]:
    """One update for each character."""
    document: pycrdt.Doc[Any] = pycrdt.Doc()
    content = document.get("content", type=pycrdt.Text)
    updates: list[bytes] = []
    subscription = document.observe(lambda event: updates.append(event.update))
    for character in text:
        content.insert(len(str(content)), character)
    document.unobserve(subscription)
    return updates


class Connection:
    """A connection on which requests are sent without waiting for answers."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), 120)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = b""

    def send(self, method: str, path: str, body: bytes = b"") -> None:
        head = f"{method} /api/projects/demo/files{path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
        kind = "application/json" if method == "POST" else "application/octet-stream"
        self._socket.sendall(f"{head}Content-Type: {kind}\r\n\r\n".encode() + body)

    def status(self) -> int:
        """The status of the next answer."""
        while b"\r\n\r\n" not in self._buffer:
            self._receive()
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        length = int(lengths[0].split(b":")[1]) if lengths else 0
        while len(self._buffer) < length:
            self._receive()
        self._buffer = self._buffer[length:]
        return int(head.split()[1])

    def _receive(self) -> None:
        received = self._socket.recv(65536)
        assert received, "the gateway closed the connection"
        self._buffer += received

    def close(self) -> None:
        self._socket.close()


def test_what_builds_on_an_update_that_came_too_late_is_not_stored_without_it(
    gateway: GatewayProcess, oracle: Oracle
) -> None:
    connections = [Connection(gateway.port) for _ in range(3)]
    first, second, third = connections
    a, b, c = typed("abc")
    for number in range(_FILES):
        first.send("PATCH", f"/{number}", a)
        assert first.status() == 201
        if number % 2:
            first.send("DELETE", f"/{number}")
        else:
            first.send("POST", "/move", b'{"from": "%d", "to": "to/%d"}' % (number, number))
        second.send("PATCH", f"/{number}", b)
        third.send("PATCH", f"/{number}", c)
        statuses = [connection.status() for connection in connections]
        assert statuses[0] in (200, 201, 204)
        assert set(statuses[1:]) <= {200, 201, 409}
    for connection in connections:
        connection.close()
    with gateway.client() as client:
        for entry in client.get("/files", params={"limit": 1000}).raise_for_status().json()["files"]:
            whole = client.get(f"/files/{entry['path']}").content
            assert oracle.text([whole]) in ("a", "ab", "abc"), entry
    assert gateway.stop() == 0
    verified = subprocess.run(
        [sys.executable, "-m", "gateway", "verify", "--database", f"sqlite:///{gateway.database}"],
        capture_output=True,
        text=True,
    )
    assert (verified.returncode, ", 0 faults" in verified.stdout) == (0, True), verified.stdout


def test_a_write_whose_tag_cannot_fit_any_more_waits_for_nobody(tmp_path: Path) -> None:
    """Where others write without end there is always something that is not durable yet."""

    async def work() -> None:
        async with running(tmp_path) as (storage, client):
            stale = (await client.put("/files/a.md", content=b"one", headers=_PLAIN)).headers["ETag"]
            await client.put("/files/a.md", content=b"two", headers=_PLAIN)
            assert isinstance(storage, SQLiteStorage)
            write = HeldWrite(storage)
            await write.arm()
            others = asyncio.create_task(client.put("/files/a.md", content=b"three", headers=_PLAIN))
            await write.held()
            late = client.put("/files/a.md", content=b"late", headers={**_PLAIN, "If-Match": stale})
            refused = await asyncio.wait_for(late, 120)
            assert (refused.status_code, refused.headers["X-Version"]) == (412, "2")
            assert not others.done()
            write.release()
            assert (await others).json()["version"] == 3

    asyncio.run(work())
