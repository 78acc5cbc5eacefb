"""The protocol over stdin and stdout, for a remote gateway."""

from typing import Any

import anyio
import mcp_types as types
from mcp.server.stdio import stdio_server

from gateway.client import GatewayClient, Project
from gateway.mcp.desk import Desk, Reads
from gateway.mcp.server import cursor_of, follow, initialization, make_server

_PROGRAM = "agent"


async def serve_stdio(url: str, project: str, *, token: str | None, author: str | None) -> None:
    """Serve one client until it closes stdin.

    Raises:
        GatewayError: the gateway cannot be reached, or refuses access.
    """
    async with GatewayClient(url, token=token, author=author or _PROGRAM) as client:
        opened = client.project(project)
        since = await cursor_of(opened)
        session = _Session(opened, author or _PROGRAM)
        server = make_server(
            session.desk, on_subscribe_resource=session.subscribe, on_unsubscribe_resource=session.unsubscribe
        )
        server.add_notification_handler("notifications/initialized", types.NotificationParams, session.begin)
        async with stdio_server() as (reading, writing), anyio.create_task_group() as group:
            group.start_soon(session.tell, since)
            await server.run(reading, writing, initialization(server))
            group.cancel_scope.cancel()


class _Session:
    """One client, and the resources that it subscribed to."""

    def __init__(self, project: Project, author: str) -> None:
        self._desk = Desk(project, Reads(), "", author)
        self._uris: set[str] = set()
        self._connection: Any = None

    async def desk(self, context: Any) -> Desk:
        self._connection = context.session
        return self._desk

    async def begin(self, context: Any, params: Any) -> None:
        """Notify the client from now on."""
        self._connection = context.session

    async def subscribe(self, context: Any, params: types.SubscribeRequestParams) -> types.EmptyResult:
        self._connection = context.session
        self._uris.add(str(params.uri))
        return types.EmptyResult()

    async def unsubscribe(self, context: Any, params: types.UnsubscribeRequestParams) -> types.EmptyResult:
        self._uris.discard(str(params.uri))
        return types.EmptyResult()

    async def tell(self, since: str | None) -> None:
        """Notify the client of changes to the list of files, and to the files that it subscribed to."""
        project = self._desk.project

        async def changed(uri: str, other_list: bool) -> None:
            if self._connection is None:
                return
            if other_list:
                await self._connection.send_resource_list_changed()
            if uri in self._uris:
                await self._connection.send_resource_updated(uri)

        await follow(project, since, changed)
