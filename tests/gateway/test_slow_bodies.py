"""A write that takes its time is answered by itself alone, whatever its client sends meanwhile."""

import asyncio
from typing import Any, cast

import pytest

from gateway.http.connections import Connections
from gateway.server import http_protocol
from gateway.server.http_protocol import BODY_HELD
from gateway.settings import ConnectionLimits
from tests.support.in_process import serve


class SlowWrite:
    """An application that reads the body of a PUT only when it is told to, and answers everything else at once."""

    def __init__(self) -> None:
        self.connections = Connections(ConnectionLimits())
        self.begun = asyncio.Event()
        self.go_on = asyncio.Event()

    def drain(self) -> None: ...

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            while (await receive())["type"] != "lifespan.shutdown":
                await send({"type": "lifespan.startup.complete"})
            await send({"type": "lifespan.shutdown.complete"})
            return
        size = 0
        if scope["method"] == "PUT":
            self.begun.set()
            await self.go_on.wait()
            more = True
            while more:
                message = await receive()
                size += len(message["body"])
                more = message["more_body"]
        body = str(size).encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
        await send({"type": "http.response.body", "body": body})


@pytest.mark.parametrize(
    "behind", [b"", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * 1000], ids=["alone", "pipelined"]
)
def test_a_write_is_not_refused_while_it_is_at_work(behind: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "_BEHIND_S", 0.0)
    asyncio.run(_write_slowly(behind))


async def _write_slowly(behind: bytes) -> None:
    faults: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, fault: faults.append(fault))
    app = SlowWrite()
    size = BODY_HELD + 1000  # all of it is held, and more than is read on for
    async with serve(cast(Any, app)) as server:
        host, port = "127.0.0.1", int(server.url.rpartition(":")[2])
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(b"PUT / HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % size + bytes(size) + behind)
        await app.begun.wait()
        for _ in range(20):  # requests of others: after them, what is due is done
            answers, other = await asyncio.open_connection(host, port)
            other.write(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            await answers.read()
            other.close()
        app.go_on.set()
        assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 200 ")
        assert await reader.readuntil(b"\r\n\r\n%d" % size)
        writer.close()
    assert faults == []
