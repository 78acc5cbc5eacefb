"""A receiver of requests on a real socket, which answers as the test says."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from msgspec import Struct


class Received(Struct):
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Receiver:
    """Answers with `status`, or not at all where it is None; `requests` are those that came."""

    def __init__(self) -> None:
        self.status: int | None = 204
        self.headers: dict[str, str] = {}
        self.requests: list[Received] = []
        self._came = asyncio.Condition()
        self.url = ""
        self._serving: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        try:
            await self._answer(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass  # the other side has gone, or the test is over
        finally:
            self._serving.discard(task)
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            method, path, _ = head[0].split(" ")
            async with self._came:
                self.requests.append(Received(method, path, headers, body))
                self._came.notify_all()
            if self.status is None:
                await reader.read()  # until the other side gives up
            more = "".join(f"{name}: {value}\r\n" for name, value in self.headers.items())
            writer.write(f"HTTP/1.1 {self.status} X\r\ncontent-length: 0\r\n{more}\r\n".encode())
            await writer.drain()

    async def close(self) -> None:
        """End the connections that are open."""
        for task in list(self._serving):
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    async def wait_for(self, count: int) -> Received:
        """The request number `count`, counted from 1, once it is there."""
        async with self._came:
            await asyncio.wait_for(self._came.wait_for(lambda: len(self.requests) >= count), 120)
        return self.requests[count - 1]


@contextlib.asynccontextmanager
async def receiver() -> AsyncIterator[Receiver]:
    it = Receiver()
    server = await asyncio.start_server(it.serve, "127.0.0.1", 0)
    it.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield it
    finally:
        server.close()
        await it.close()
