"""A small TCP proxy that does to a connection what networks do."""

import asyncio
import contextlib
from types import TracebackType
from typing import Self


class FaultyProxy:
    """Passes bytes on to a server, and its faults on to who connects. Change the attributes at any time."""

    def __init__(self, port: int) -> None:
        self._server_port = port
        self.port = 0
        self.down = False
        """Connections are closed as soon as they are made, and those there are at once."""
        self.delay = 0.0
        """Seconds that every piece of an answer is late."""
        self.cut_after: int | None = None
        """After so many bytes of an answer the connection is cut."""
        self.unavailable: float | None = None
        """Every request is answered with 503 and so many seconds of `Retry-After`."""
        self.requests = 0
        """How many pieces of requests have passed or were answered."""
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        self._listener = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._listener.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.close()
        self.cut_connections()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._listener.wait_closed()

    def go_down(self) -> None:
        """Refuse everybody, and cut who is there."""
        self.down = True
        self.cut_connections()

    def cut_connections(self) -> None:
        """Close every connection, idle or not."""
        for writer in self._writers:
            writer.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.down:
            writer.close()
            return
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        try:
            with contextlib.suppress(OSError, asyncio.CancelledError):  # asyncio logs who was cancelled
                await self._pass_both_ways(reader, writer)
        finally:
            self._tasks.discard(task)
            self._writers.discard(writer)
            writer.close()

    async def _pass_both_ways(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream_reader, upstream = await asyncio.open_connection("127.0.0.1", self._server_port)
        answers = asyncio.create_task(self._pass_answers(upstream_reader, writer))
        try:
            while data := await reader.read(65536):
                self.requests += 1
                if self.unavailable is not None:
                    head = f"HTTP/1.1 503 Service Unavailable\r\nRetry-After: {self.unavailable:.0f}\r\n"
                    writer.write(f"{head}Content-Length: 0\r\nConnection: close\r\n\r\n".encode())
                    await writer.drain()
                    return
                upstream.write(data)
                await upstream.drain()
        finally:
            answers.cancel()
            upstream.close()
            await asyncio.gather(answers, return_exceptions=True)

    async def _pass_answers(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                if self.delay:
                    await asyncio.sleep(self.delay)
                if self.cut_after is not None:
                    writer.write(data[: self.cut_after])
                    await writer.drain()
                    break
                writer.write(data)
                await writer.drain()
        writer.close()
