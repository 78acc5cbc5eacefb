"""An agent's stream through the command into a real gateway, while others follow it in every way there is."""

import asyncio
import json
import signal
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.gateway.test_turn_run import Guarded
from tests.support.agent_stream import BLOCKS, FAILURE, STREAM, SUCCESS, assistant, large_stream, line, text
from tests.support.pipe import PipeProcess
from tests.support.server import GatewayProcess

FINISHED = ["completed", "failed", "cancelled"]


@pytest.fixture
def name(shared_project: httpx.Client) -> str:
    """The project's name."""
    return str(shared_project.base_url).rstrip("/").rpartition("/")[2]


def blocks_of(api: httpx.Client, turn: str) -> list[tuple[str, Any]]:
    return [(block["type"], block["content"]) for block in api.get(turn).json()["blocks"]]


def wait_for(api: httpx.Client, turn: str, *, blocks: int = 0, status: str | None = None) -> dict[str, Any]:
    """Long-poll until the turn has so many blocks, or a status."""
    headers: dict[str, str] = {}
    while True:
        answer = api.get(f"{turn}/status", params={"wait": 50}, headers=headers)
        if answer.status_code == 200:
            state: dict[str, Any] = answer.json()
            headers = {"If-None-Match": answer.headers["ETag"]}
            if state["block_count"] >= blocks and status in (None, state["status"]):
                return state


async def follow_by_status(client: httpx.AsyncClient, turn: str) -> list[Any]:
    """Conditional polls of the status, and the new blocks when it has changed."""
    blocks: list[Any] = []
    headers: dict[str, str] = {}
    while True:
        answer = await client.get(f"{turn}/status", headers=headers)
        if answer.status_code == 200:
            headers = {"If-None-Match": answer.headers["ETag"]}
            state = answer.json()
            assert state.keys() == {"status", "block_count", "last_updated"}
            if state["block_count"] > len(blocks):
                blocks += (await client.get(turn, params={"after_block": len(blocks)})).json()["blocks"]
            if state["status"] in FINISHED:
                return [*blocks, state["status"]]
        await asyncio.sleep(0)


async def follow_by_wait(client: httpx.AsyncClient, turn: str) -> list[Any]:
    """Long polls of the turn with the number of blocks that are known."""
    blocks: list[Any] = []
    while True:
        turn_now = (await client.get(turn, params={"after_block": len(blocks), "wait": 50})).json()
        blocks += turn_now["blocks"]
        if turn_now["status"] in FINISHED:
            return [*blocks, turn_now["status"]]


async def follow_by_feed(client: httpx.AsyncClient, turn: str) -> list[Any]:
    """The feed by long poll, and the new blocks when it names the turn."""
    blocks: list[Any] = []
    since: dict[str, str] = {}
    while True:
        answer = (await client.get("/changes", params={**since, "wait": 50, "kinds": "turn"})).json()
        since = {"since": answer["cursor"]}
        for change in answer["changes"]:
            assert turn.endswith(change["turn_id"])
            blocks += (await client.get(turn, params={"after_block": len(blocks)})).json()["blocks"]
            if change["status"] in FINISHED:
                return [*blocks, change["status"]]


async def events(client: httpx.AsyncClient) -> AsyncIterator[dict[str, Any]]:
    async with client.stream("GET", "/changes", headers={"Accept": "text/event-stream"}) as response:
        async for row in response.aiter_lines():
            if row.startswith("data: ") and '"kind"' in row:
                yield json.loads(row.removeprefix("data: "))


async def follow_by_events(client: httpx.AsyncClient, turn: str) -> list[Any]:
    """Server-sent events, and the new blocks when one names the turn."""
    blocks: list[Any] = []
    async for change in events(client):
        assert change["block_count"] >= len(blocks)
        blocks += (await client.get(turn, params={"after_block": len(blocks)})).json()["blocks"]
        if change["status"] in FINISHED:
            return [*blocks, change["status"]]
    raise AssertionError("the stream ended before the turn")


def test_all_who_follow_see_every_block_once_in_order_and_the_end(
    shared_gateway: GatewayProcess, shared_project: httpx.Client, name: str
) -> None:
    stream, expected = large_stream()

    async def follow_all(turn: str) -> list[list[Any]]:
        async with httpx.AsyncClient(base_url=str(shared_project.base_url), timeout=70) as client:
            follow = (follow_by_status, follow_by_wait, follow_by_feed, follow_by_events)
            return await asyncio.gather(*(one(client, turn) for one in follow))

    with PipeProcess(shared_gateway.url, name) as pipe:
        turn, _ = pipe.created()

        def write() -> None:
            for start in range(0, len(stream), 997):
                pipe.write(stream[start : start + 997])
            pipe.close()

        passed: list[bytes] = []
        writer = threading.Thread(target=write)
        reader = threading.Thread(target=lambda: passed.append(pipe.read(len(stream))))
        writer.start()
        reader.start()
        seen = asyncio.run(follow_all(turn))
        writer.join()
        reader.join()
        assert pipe.end() == 0
    assert passed == [stream]
    for blocks in seen:
        assert blocks[-1] == "completed"
        assert [block["index"] for block in blocks[:-1]] == list(range(len(expected)))
        assert [block["type"] for block in blocks[:-1]] == [kind for kind, _ in expected]
        contents = [block["content"] for block in blocks[:-1] if block["type"] != "error"]
        assert contents == [content for kind, content in expected if kind != "error"]
    assert seen[0] == seen[1] == seen[2] == seen[3]


@pytest.mark.parametrize(
    ("stream", "code", "status", "error"),
    [
        (STREAM, 0, "completed", None),
        (line(FAILURE), 1, "failed", "error_max_turns"),
        (line(assistant(text("x"))), 1, "failed", "the agent's output ended without a result"),
        (line(assistant(text("x"))) + b'{"type":"assis', 1, "failed", "the agent's output ended without a result"),
        (b"", 1, "failed", "the agent's output ended without a result"),
        (STREAM.rstrip(b"\n"), 0, "completed", None),
    ],
)
def test_the_turn_is_finished_however_the_agent_ends(
    shared_gateway: GatewayProcess,
    shared_project: httpx.Client,
    name: str,
    stream: bytes,
    code: int,
    status: str,
    error: str | None,
) -> None:
    with PipeProcess(shared_gateway.url, name, "--prompt", "Grüße") as pipe:
        pipe.write(stream)
        turn, _ = pipe.created()
        assert pipe.read(len(stream)) == stream
        assert pipe.end() == code
    state = shared_project.get(turn).json()
    assert (state["status"], state["error"], state["prompt"]) == (status, error, "Grüße")


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_cancels_the_turn_after_what_was_read(
    shared_gateway: GatewayProcess, shared_project: httpx.Client, name: str, signum: signal.Signals
) -> None:
    first = line(assistant(text("first")))
    with PipeProcess(shared_gateway.url, name) as pipe:
        turn, _ = pipe.created()
        pipe.write(first + b'{"half":')
        assert pipe.read(len(first)) == first
        pipe.process.send_signal(signum)
        assert pipe.process.wait(120) == 128 + signum
    state = shared_project.get(turn).json()
    assert (state["status"], state["error"]) == ("cancelled", f"ended by {signum.name}")
    assert blocks_of(shared_project, turn) == [("text", "first")]


def test_a_cancelled_turn_ends_the_command_so_that_the_agent_notices(
    shared_gateway: GatewayProcess, shared_project: httpx.Client, name: str
) -> None:
    with PipeProcess(shared_gateway.url, name) as pipe:
        turn, _ = pipe.created()
        wait_for(shared_project, turn, status="running")
        assert shared_project.patch(turn, json={"status": "cancelled"}).status_code == 200
        pipe.write(line(assistant(text("late"))))
        assert pipe.process.wait(120) == 3
        assert "cancelled" in pipe.said()
    assert blocks_of(shared_project, turn) == []


def test_it_goes_on_in_a_turn_that_has_output_already(
    shared_gateway: GatewayProcess, shared_project: httpx.Client, name: str
) -> None:
    session = shared_project.post("/sessions", json={}).json()["id"]
    turn_id = shared_project.post(f"/sessions/{session}/turns", json={"prompt": ""}).json()["id"]
    turn = f"/sessions/{session}/turns/{turn_id}"
    early = line(assistant(text("early")))
    shared_project.post(f"{turn}/output", content=early, headers={"Content-Type": "application/x-ndjson"})
    with PipeProcess(shared_gateway.url, name, "--session", session, "--turn", turn_id) as pipe:
        pipe.write(STREAM)
        assert pipe.end() == 0
    assert blocks_of(shared_project, turn) == [("text", "early"), *BLOCKS]


def test_what_the_gateway_refuses_does_not_stop_the_stream(shared_gateway: GatewayProcess, name: str) -> None:
    with PipeProcess(shared_gateway.url, name, "--session", "unknown") as pipe:
        pipe.write(STREAM)
        assert "refused" in pipe.said()
        assert pipe.read(len(STREAM)) == STREAM
        assert pipe.end() == 2


def test_the_stream_passes_while_the_gateway_is_away_and_arrives_when_it_is_back(tmp_path: Path) -> None:
    stream, expected = large_stream()
    half = len(stream) // 2
    with GatewayProcess(tmp_path / "gateway.db") as gateway:
        gateway.kill()
        with PipeProcess(gateway.url, "demo") as pipe:
            passed: list[bytes] = []
            reader = threading.Thread(target=lambda: passed.append(pipe.read(half)))
            reader.start()
            pipe.write(stream[:half])
            reader.join()
            assert "cannot be reached" in pipe.said()
            gateway.start()
            turn, _ = pipe.created()
            reader = threading.Thread(target=lambda: passed.append(pipe.read(len(stream) - half)))
            reader.start()
            pipe.write(stream[half:])
            assert pipe.end() == 0
            reader.join()
            assert b"".join(passed) == stream
        with gateway.client() as api:
            assert [kind for kind, _ in blocks_of(api, turn)] == [kind for kind, _ in expected]


def test_a_silent_agent_keeps_its_lease_while_the_command_lives(tmp_path: Path) -> None:
    """It is told of a lease of a second, so that it renews it often; the lease itself is long, however slow it is."""
    told = b'"lease":3600.0', b'"lease":1.0'
    with (
        GatewayProcess(tmp_path / "gateway.db", GATEWAY_TURN_LEASE=3600) as gateway,
        gateway.client() as api,
        Guarded(gateway.url, told=told) as proxy,
        PipeProcess(proxy.url, "demo", "--token", "secret") as pipe,
    ):
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        turn, _ = pipe.created()
        seen = set()
        headers: dict[str, str] = {}
        while len(seen) < 12:  # renewed each quarter of a second: three leases
            answer = api.get(f"{turn}/status", params={"wait": 50}, headers=headers)
            headers = {"If-None-Match": answer.headers["ETag"]}
            if answer.status_code == 200:
                assert answer.json()["status"] in ("pending", "running")
                seen.add(answer.json()["last_updated"])
        pipe.write(line(SUCCESS))
        assert pipe.end() == 0
        assert api.get(turn).json()["status"] == "completed"
        proxy.shutdown()
        proxy.gateway.close()


def test_nobody_reading_it_does_not_lose_the_turn(
    shared_gateway: GatewayProcess, shared_project: httpx.Client, name: str
) -> None:
    with PipeProcess(shared_gateway.url, name) as pipe:
        turn, _ = pipe.created()
        assert pipe.process.stdout is not None
        pipe.process.stdout.close()
        pipe.write(STREAM)
        assert pipe.end() == 0
    assert blocks_of(shared_project, turn) == BLOCKS
