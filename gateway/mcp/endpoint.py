"""`/mcp?project=NAME`: the protocol over streamable HTTP, without sessions: every request is independent.

A tool calls the API of this gateway as any client does, but within the process: with the credential of the caller, and
so under its grant and its name, and with entries in the audit.
"""

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Mapping
from typing import Any
from urllib.parse import parse_qs

import anyio
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp_types import CLIENT_INFO_META_KEY
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.access.access import Access
from gateway.access.grants import is_name
from gateway.client import GatewayClient
from gateway.http.json_bodies import examined
from gateway.http.permission import access_of
from gateway.http.requests import read_body
from gateway.mcp.desk import Desk, Reads
from gateway.mcp.in_process import InProcess
from gateway.mcp.long_texts import LIGHT_BYTES, take_out_long_texts
from gateway.mcp.server import make_server
from gateway.pace import next_slice
from gateway.wire.problems import InvalidParameter, InvalidProject, MethodNotAllowed, ShuttingDown
from gateway.wire.values import valid_project_id

MCP_PATH = "/mcp"
_BASE = "http://gateway"
_OPEN_DESK = "gateway.mcp.open_desk"
"""The key in a request's scope for the function that opens the caller's desk, given the name of its program."""
_NAMELESS = "agent"
_LISTEN = "subscriptions/listen"


class McpEndpoint:
    """The ASGI endpoint.

    Args:
        body_limit: bytes of a request.
    """

    def __init__(self, *, body_limit: int) -> None:
        self._api: ASGIApp | None = None
        self._body_limit = body_limit
        self._reads = Reads()
        self._streams: set[anyio.CancelScope] = set()
        self._draining = False
        server = make_server(_desk_of)
        self._manager = StreamableHTTPSessionManager(server, stateless=True, max_request_body_size=body_limit)

    def ask(self, api: ASGIApp) -> None:
        """Set the API that tools call: the gateway's, behind the middleware that finds the credential."""
        self._api = api

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Serve while the context is open."""
        async with self._manager.run():
            yield

    def drain(self) -> None:
        """End every stream: the gateway is about to stop. Calls are short, and are answered."""
        self._draining = True
        for stream in self._streams:
            stream.cancel()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["gateway.route"] = MCP_PATH
        if scope["method"] != "POST":
            raise MethodNotAllowed(scope["method"], ["POST"])
        access = access_of(scope)
        project = _project(scope)
        access.require(project, "read")
        body = await read_body(Request(scope, receive), self._body_limit)
        texts: Mapping[str, bytes] = {}
        if len(body) > LIGHT_BYTES:
            body, texts = await examined(body, take_out_long_texts)
        whole: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
        started = ended = False

        async def receive_again() -> Message:
            return whole.pop() if whole else await receive()

        async def answer(message: Message) -> None:
            nonlocal started, ended
            await send(message)
            started = True
            ended = message["type"] == "http.response.body" and not message.get("more_body", False)

        with anyio.CancelScope() as serving:
            if _header(scope, b"mcp-method") == _LISTEN:  # the package requires the header to equal the message's
                self._streams.add(serving)
            loop = asyncio.get_running_loop()

            def end() -> None:
                loop.call_soon(serving.cancel)

            access.watch(end)
            try:
                if self._draining and serving in self._streams:
                    serving.cancel()
                scope[_OPEN_DESK] = functools.partial(self._open_desk, scope, access, project, texts)
                await self._manager.handle_request(scope, receive_again, answer)
            finally:
                access.unwatch(end)
                self._streams.discard(serving)
        if serving.cancelled_caught and not ended:
            if not started:
                raise ShuttingDown(certain=False)
            await send({"type": "http.response.body", "body": b""})

    def _open_desk(self, scope: Scope, access: Access, project: str, texts: Mapping[str, bytes], program: str) -> Desk:
        """Open the desk of the caller; `program` is the name that its program reports."""
        api = self._api
        assert api is not None
        carried = {name: scope[name] for name in ("gateway.access", "gateway.audit") if name in scope}

        async def ask(inner: Scope, receive: Receive, send: Send) -> None:
            inner.update(carried)
            await api(inner, receive, send)

        named = _header(scope, b"x-author") or (program if access.subject is None else None)
        headers = {"Accept-Encoding": "identity"}
        client = GatewayClient(_BASE, author=named, headers=headers, transport=InProcess(ask))
        author = access.subject or named or program
        return Desk(client.project(project), self._reads, author, author, texts)


def _project(scope: Scope) -> str:
    query: str = scope["query_string"].decode("latin-1")
    names = parse_qs(query, keep_blank_values=True).get("project", [])
    if len(names) != 1:
        raise InvalidParameter("project", f"the URL names one project: {MCP_PATH}?project=NAME")
    if not valid_project_id(names[0]):
        raise InvalidProject
    return names[0]


def _header(scope: Scope, name: bytes) -> str | None:
    headers: list[tuple[bytes, bytes]] = scope["headers"]
    return next((value.decode("latin-1") for found, value in headers if found == name), None)


async def _desk_of(context: Any) -> Desk:
    """Return the desk of a message's sender: the program's name is in the message, or else in the request."""
    scope: Scope = context.request.scope
    told = (context.meta or {}).get(CLIENT_INFO_META_KEY)
    name = told.get("name") if isinstance(told, dict) else None
    if not isinstance(name, str):
        name = (_header(scope, b"user-agent") or "").partition("/")[0]
    desk: Desk = scope[_OPEN_DESK](name if is_name(name) else _NAMELESS)
    await next_slice()  # the package's decoding of the message, and this, take as long as a slice
    return desk
