"""The WebSocket room of a file, a channel for pycrdt's `Provider` that carries y-protocols messages both ways."""

from types import TracebackType
from typing import Self

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, ConnectionClosedOK, WebSocketException

from gateway.client.answers import Sender
from gateway.client.errors import NoAnswer


class Room:
    """The room of a file: `async with project.room(path) as room, Provider(doc, room): …`. Created by `Project.room`.

    A room is a pycrdt `Channel`. A sent message has left this process, but is not yet on the gateway's disk. Iteration
    ends when the connection is closed cleanly. A room does not reconnect; a `DocumentMirror` does.
    """

    def __init__(self, sender: Sender, url_path: str, path: str) -> None:
        self.path = path
        self._sender = sender
        self._url_path = url_path
        self._socket: ClientConnection | None = None

    async def __aenter__(self) -> Self:
        """Connect.

        Raises:
            NoAnswer: the gateway cannot be reached.
        """
        headers = await self._sender.identity(self._url_path)
        url = f"{self._sender.url}{self._url_path}".replace("http", "ws", 1)
        try:
            self._socket = await connect(url, additional_headers=headers, max_size=None)
        except (OSError, TimeoutError, WebSocketException) as fault:
            raise NoAnswer(f"{url}: {str(fault) or type(fault).__name__}") from fault
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._socket is not None
        await self._socket.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        try:
            return await self.recv()
        except NoAnswer as ended:
            if isinstance(ended.__cause__, ConnectionClosedOK):
                raise StopAsyncIteration from None
            raise

    async def send(self, message: bytes) -> None:
        """Send a message.

        Raises:
            NoAnswer: the connection is closed; the message has the close code and reason.
        """
        assert self._socket is not None
        try:
            await self._socket.send(message)
        except ConnectionClosed as closed:
            raise NoAnswer(f"the room of {self.path!r} is closed: {closed}") from closed

    async def recv(self) -> bytes:
        """Receive the next message.

        Raises:
            NoAnswer: the connection is closed.
        """
        assert self._socket is not None
        try:
            return await self._socket.recv(decode=False)
        except ConnectionClosed as closed:
            raise NoAnswer(f"the room of {self.path!r} is closed: {closed}") from closed
