"""Requests of tools to an ASGI application in the same event loop: nothing long is copied in one step."""

import asyncio
from collections.abc import AsyncIterator

import httpx
from starlette.types import ASGIApp, Message, Scope

from gateway.pace import next_slice, with_turns


class InProcess(httpx.AsyncBaseTransport):
    """Sends each request to an ASGI application, with its body as one message. The answer has the parts that the
    application sent.

    `httpx.ASGITransport` joins the parts, and sends the body as one that goes on.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        body: bytes | None = await request.aread()
        head: Message = {}
        parts: list[bytes] = []
        complete = asyncio.Event()

        async def receive() -> Message:
            nonlocal body
            if body is None:
                await complete.wait()
                return {"type": "http.disconnect"}
            whole, body = body, None
            return {"type": "http.request", "body": whole, "more_body": False}

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                head.update(message)
                return
            if message.get("body"):
                parts.append(message["body"])
            if not message.get("more_body", False):
                complete.set()

        await next_slice()  # many answers take no turn of the loop, and what a tool does beside them adds up
        await self._app(_scope_of(request), receive, send)
        await next_slice()
        return httpx.Response(head["status"], headers=head["headers"], stream=_Parts(parts))


class _Parts(httpx.AsyncByteStream):
    """The parts of an answer, of which each is given over once."""

    def __init__(self, parts: list[bytes]) -> None:
        parts.reverse()
        self._parts = parts

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for _ in with_turns(range(len(self._parts))):
            yield self._parts.pop()


def _scope_of(request: httpx.Request) -> Scope:
    url = request.url
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": request.method,
        "headers": [(name.lower(), value) for name, value in request.headers.raw],
        "scheme": url.scheme,
        "path": url.path,
        "raw_path": url.raw_path.partition(b"?")[0],
        "query_string": url.query,
        "server": (url.host, url.port),
        "client": ("127.0.0.1", 0),
        "root_path": "",
    }
