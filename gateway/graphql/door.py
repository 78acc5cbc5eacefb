"""The door `/api/graphql`. Its parts are imported at the first request: Strawberry is optional, and large."""

import asyncio
import gc
import importlib
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.graphql.services import Services
from gateway.wire.problems import NotInstalled

PATH = "/api/graphql"
_MODULE = "gateway.graphql.endpoint"
_EXTRA = "strawberry"


def _import() -> Any:
    """Import the endpoint. What is imported lives for ever, so garbage collections leave it out from now on."""
    module = importlib.import_module(_MODULE)
    gc.freeze()
    return module


class GraphQLDoor:
    """The ASGI endpoint of HTTP requests and WebSockets."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._endpoint: Any = None
        self._opening = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raise NotInstalled if Strawberry is missing."""
        try:
            if self._endpoint is None:
                await self._open()
        except NotInstalled:
            if scope["type"] == "http":
                raise
            await receive()  # websocket.connect
            await send({"type": "websocket.close", "code": 1011})
            return
        app: ASGIApp = self._endpoint.http if scope["type"] == "http" else self._endpoint.websocket
        await app(scope, receive, send)

    async def _open(self) -> None:
        async with self._opening:
            if self._endpoint is not None:
                return
            try:
                module = await asyncio.to_thread(_import)
            except ModuleNotFoundError as error:
                if (error.name or "").partition(".")[0] != _EXTRA:
                    raise
                raise NotInstalled("graphql") from None
            self._endpoint = module.Endpoint(self._services)
