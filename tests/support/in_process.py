"""A gateway in the process of the test, on a real socket: for tests that let a part of it fail."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from functools import partial
from typing import Any, cast

import uvicorn

from gateway.app import Gateway
from gateway.server.http_protocol import HttpProtocol
from gateway.server.websocket_protocol import WebSocketProtocol


class InProcess(uvicorn.Server):
    """Serves an application in the running loop."""

    def __init__(self, app: Gateway) -> None:
        protocol = cast(Any, partial(HttpProtocol, connections=app.connections))
        options: dict[str, Any] = {"http": protocol, "ws": WebSocketProtocol, "timeout_graceful_shutdown": 60}
        options["proxy_headers"] = False
        options["ws_ping_interval"] = None  # clients that are bare sockets answer no ping, however slow the machine is
        super().__init__(uvicorn.Config(app, port=0, log_config=None, **options))
        self._app = app
        self.listening = asyncio.Event()
        self.url = ""

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        if self.servers:
            self.url = f"http://127.0.0.1:{self.servers[0].sockets[0].getsockname()[1]}"
        self.listening.set()

    async def shutdown(self, sockets: Any = None) -> None:
        self._app.drain()
        await super().shutdown(sockets)

    def project(self, name: str = "demo") -> str:
        """The URL of a project."""
        return f"{self.url}/api/projects/{name}"


@contextlib.asynccontextmanager
async def serve(app: Gateway) -> AsyncIterator[InProcess]:
    server = InProcess(app)
    serving = asyncio.create_task(server.serve())
    await server.listening.wait()
    try:
        yield server
    finally:
        server.should_exit = True
        await serving
