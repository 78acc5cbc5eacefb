"""Tools call the API within the process: with the body as it is, and with an answer in the parts that were sent."""

import asyncio
from typing import Any

import httpx
import pytest
from starlette.types import Message, Receive, Scope, Send

from gateway.client import GatewayClient
from gateway.mcp.in_process import InProcess


def test_a_body_is_one_message_and_is_not_copied_and_parts_of_an_answer_stay_apart() -> None:
    body = b"x" * 2**20
    parts = [bytes([number]) * 2**16 for number in range(64)]
    received: list[Message] = []
    scopes: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scopes.append(scope)
        received.append(await receive())
        await send({"type": "http.response.start", "status": 201, "headers": [(b"x-a", b"b")]})
        for part in parts:
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body"})
        received.append(await receive())

    async def work() -> None:
        async with httpx.AsyncClient(transport=InProcess(app), base_url="http://gateway") as client:
            request = client.build_request("PUT", "/a%20b/c?d=%20e", content=body, headers={"X-Author": "ann"})
            answer = await client.send(request, stream=True)
            assert (answer.status_code, answer.headers["x-a"]) == (201, "b")
            found = [part async for part in answer.aiter_raw()]
            assert all(one is other for one, other in zip(found, parts, strict=True))

    asyncio.run(work())
    whole, left = received
    assert whole["body"] is body
    assert whole["more_body"] is False
    assert left == {"type": "http.disconnect"}
    (scope,) = scopes
    assert (scope["method"], scope["path"], scope["raw_path"]) == ("PUT", "/a b/c", b"/a%20b/c")
    assert scope["query_string"] == b"d=%20e"
    assert (b"x-author", b"ann") in scope["headers"]


def test_a_failure_of_the_application_is_raised() -> None:
    async def app(*_: Any) -> None:
        raise RuntimeError("no answer")

    async def work() -> None:
        with pytest.raises(RuntimeError, match="no answer"):
            await GatewayClient("http://gateway", transport=InProcess(app)).healthz()

    asyncio.run(work())
