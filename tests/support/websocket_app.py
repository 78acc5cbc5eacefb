"""The smallest application that the server runs for WebSockets, in the place of the gateway."""

from typing import Any

from gateway.http.connections import Connections


class WebSocketApp:
    """Accepts each WebSocket; `talk` says what happens on it."""

    def __init__(self) -> None:
        self.connections = Connections()

    def drain(self) -> None: ...

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await receive()
        if scope["type"] == "lifespan":
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        await send({"type": "websocket.accept"})
        await self.talk(receive, send)

    async def talk(self, receive: Any, send: Any) -> None:
        """Receive from a client, and send to it, until the WebSocket ends."""
        raise NotImplementedError
