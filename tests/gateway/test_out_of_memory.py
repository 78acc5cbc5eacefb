"""A request for which there is no memory is answered, and may be tried again."""

import asyncio
import json
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from gateway.http.middleware import Boundary
from gateway.http.request_metrics import RequestMetrics


def test_a_request_without_memory_is_503_and_leaves_no_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise MemoryError

    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    scope: dict[str, Any] = {"type": "http", "method": "PUT", "path": "/api/projects/p/files/a.md", "headers": []}
    asyncio.run(Boundary(app, RequestMetrics(), lambda: 0.0)(scope, receive, send))
    start, *parts = sent
    problem = json.loads(b"".join(part["body"] for part in parts))
    assert (start["status"], problem["code"], problem["certain"]) == (503, "overloaded", False)
    assert b"retry-after" in {name.lower() for name, _ in start["headers"]}
    assert "Traceback" not in "".join(capsys.readouterr())
