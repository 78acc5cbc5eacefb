"""A TCP proxy in front of a database, for the loop of the test, that loses what networks lose."""

import asyncio
import contextlib
from types import TracebackType
from typing import Self


class CuttingProxy:
    """Passes bytes on between clients and a server. Change the attributes at any time."""

    def __init__(self, port: int) -> None:
        self._server_port = port
        self.port = 0
        self.swallowing = False
        """What the server answers is lost; what it is asked still comes to it."""
        self.swallow_after = b""
        """Once the server is asked this, `swallowing` begins; empty: never."""
        self.refusing = False
        """New connections are closed at once."""
        self.refused = asyncio.Event()
        """Set once a connection was."""
        self._open = asyncio.Event()
        self._open.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def block(self) -> None:
        """Pass nothing on, and close nothing: connections are half-open."""
        self._open.clear()

    def unblock(self) -> None:
        self._open.set()

    def cut(self) -> None:
        """Reset every connection."""
        for writer in list(self._writers):
            writer.transport.abort()

    async def __aenter__(self) -> Self:
        self._listener = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._listener.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.close()
        self.unblock()
        self.cut()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refusing:
            self.refused.set()
            writer.transport.abort()
            return
        try:
            server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._server_port)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, server_writer}
        for one, other, answers in ((reader, server_writer, False), (server_reader, writer, True)):
            task = asyncio.create_task(self._pass_on(one, other, answers=answers))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answers: bool) -> None:
        try:
            while data := await reader.read(65536):
                await self._open.wait()
                if answers and self.swallowing:
                    continue
                if not answers and self.swallow_after and self.swallow_after in data:
                    self.swallowing = True
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            with contextlib.suppress(OSError):
                writer.transport.abort()
            self._writers.discard(writer)
