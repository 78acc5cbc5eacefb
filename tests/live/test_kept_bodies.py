"""What a waiting request keeps of its body, and what one answer may hold."""

import asyncio
import gc
import http.client
import json
import socket
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.app import create_app
from gateway.http.long_poll import _PendingRequest
from gateway.settings import Settings
from tests.live.clients import figure, put, wait_for_figure
from tests.support.server import PATIENCE_S, GatewayProcess


@pytest.fixture
def bounded(tmp_path: Path) -> Any:
    with GatewayProcess(tmp_path / "a.db", GATEWAY_WAITING_BYTES=300, GATEWAY_SYNC_BYTES=1000) as gateway:
        yield gateway


def _ask_and_wait(gateway: GatewayProcess, body: bytes) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", gateway.port), PATIENCE_S)
    head = (
        "POST /api/projects/p/files/status HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    connection.sendall(head.encode() + body)
    return connection


def test_a_request_that_waits_keeps_its_question_and_not_its_body(bounded: GatewayProcess) -> None:
    with bounded.client("p") as client:
        cursor = put(client, "a.md", "a")["cursor"]
        blanks = b" " * 1_000_000
        question = json.dumps({"since": cursor, "wait": 60}).encode()
        waiting = [_ask_and_wait(bounded, question[:-1] + blanks + b"}") for _ in range(3)]
        wait_for_figure(bounded, "gateway_waiters", 3)
        assert 0 < figure(bounded, "gateway_waiting_bytes") < 300
        put(client, "b.md", "b")
        for connection in waiting:  # and it is answered by what was kept
            with connection:
                answer = http.client.HTTPResponse(connection)
                answer.begin()
                assert [change["path"] for change in json.load(answer)["changes"]] == ["b.md"]
    wait_for_figure(bounded, "gateway_waiting_bytes", 0)


def test_what_all_who_wait_keep_has_a_bound(bounded: GatewayProcess) -> None:
    with bounded.client("p") as client:
        cursor = put(client, "a.md", "a")["cursor"]
        large = {"since": cursor, "paths": [f"{number}.md" for number in range(100)], "wait": 60}
        answer = client.post("files/status", json=large)
        assert (answer.status_code, answer.json()["code"]) == (503, "overloaded")
        assert client.post("files/status", json={**large, "wait": 0}).status_code == 200
        assert figure(bounded, "gateway_waiting_bytes") == 0


def test_an_answer_to_a_sync_has_a_bound_whatever_is_asked_for(bounded: GatewayProcess) -> None:
    with bounded.client("p") as client:
        for number in range(5):
            put(client, f"{number}.md", f"{number}" * 600)
        found: list[str] = []
        question: dict[str, Any] = {"max_bytes": 10**12}
        while True:
            answer = client.post("sync", json=question).raise_for_status().json()
            found += [change["path"] for change in answer["changes"]]
            assert sum(len(change["update"]) for change in answer["changes"]) < 1000 * 4 / 3 + 10
            if not answer["more"]:
                break
            question["since"] = answer["cursor"]
        assert found == [f"{number}.md" for number in range(5)]


def test_nothing_is_left_of_a_request_that_waited_once_its_client_has_left(tmp_path: Path) -> None:
    """Without the garbage collector: what points in a circle stays, with all that it holds, until a full collection."""

    async def main() -> int:
        app = create_app(Settings(database=f"sqlite:///{tmp_path / 'a.db'}"))
        async with (
            app.running(),
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as c,
        ):
            headers = {"Content-Type": "text/plain"}
            receipt = await c.put("/api/projects/p/files/a.md", content=b"a", headers=headers)
            body = json.dumps({"since": receipt.json()["cursor"], "wait": 60}).encode()
            gc.collect()
            gc.disable()
            try:
                for _ in range(10):
                    await _ask_and_leave(app, body)
                return sum(isinstance(each, _PendingRequest) for each in gc.get_objects())
            finally:
                gc.enable()

    assert asyncio.run(main()) == 0


async def _ask_and_leave(app: Any, body: bytes) -> None:
    """One request, whose client leaves as soon as the request waits."""
    messages = [{"type": "http.request", "body": body}, {"type": "http.disconnect"}]

    async def receive() -> Any:
        return messages.pop(0)

    async def send(message: Any) -> None:
        raise AssertionError(message)

    headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
    path = "/api/projects/p/files/status"
    await app(
        {"type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "query_string": b"",
         "headers": headers, "http_version": "1.1", "scheme": "http", "client": ("127.0.0.1", 1),
         "server": ("127.0.0.1", 80)},
        receive, send,
    )  # fmt: skip
