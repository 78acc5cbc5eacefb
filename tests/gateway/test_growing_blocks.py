"""Blocks that grow: few changes for many deltas, and followers that miss nothing of it."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import msgspec
import pytest

from gateway.client import GatewayClient, PollingManager, TurnPoller
from gateway.wire.turns import Turn
from tests.support.agent_stream import SUCCESS, assistant, line, text
from tests.support.server import GatewayProcess

NDJSON = {"Content-Type": "application/x-ndjson"}
WORDS = [f"wörd {number} " for number in range(1000)]


def event(kind: str, **more: Any) -> bytes:
    return line({"type": "stream_event", "event": {"type": kind, **more}, "parent_tool_use_id": None})


def deltas() -> list[bytes]:
    """A message of thinking, text and the use of a tool, piece by piece, each part followed by its whole."""
    thinking, prose = "".join(WORDS[:300]), "".join(WORDS[300:])
    use = {"type": "tool_use", "id": "t1", "name": "Bash", "input": {"command": "ls"}}
    return [
        event("message_start", message={"id": "m1"}),
        *(event("content_block_delta", index=0, delta={"type": "thinking_delta", "thinking": w}) for w in WORDS[:300]),
        line(assistant({"type": "thinking", "thinking": thinking})),
        *(event("content_block_delta", index=1, delta={"type": "text_delta", "text": w}) for w in WORDS[300:]),
        line(assistant(text(prose))),
        event("content_block_delta", index=2, delta={"type": "input_json_delta", "partial_json": '{"command":'}),
        line(assistant(use)),
    ]


def new_turn(api: httpx.Client) -> tuple[str, str]:
    session = api.post("/sessions", json={}).json()["id"]
    return session, api.post(f"/sessions/{session}/turns", json={"prompt": "p"}).json()["id"]


def test_a_thousand_deltas_are_three_blocks_and_few_changes(shared_project: httpx.Client) -> None:
    api = shared_project
    session, turn = new_turn(api)
    path = f"/sessions/{session}/turns/{turn}"
    before = int(api.get("/changes").json()["cursor"].rpartition(".")[2])
    api.post(f"{path}/output", content=b"".join(deltas()), headers=NDJSON, params={"final": "false"})
    blocks = api.get(path).json()["blocks"]
    assert [block["type"] for block in blocks] == ["thinking", "text", "tool_use"]
    assert [block["content"] for block in blocks[:2]] == ["".join(WORDS[:300]), "".join(WORDS[300:])]
    assert int(api.get("/changes").json()["cursor"].rpartition(".")[2]) - before < 50


@pytest.mark.parametrize("size", [1, 3])
def test_a_follower_has_all_that_grew_with_every_answer(shared_project: httpx.Client, size: int) -> None:
    """Each piece in a request of its own, and after each the reader asks with the number of blocks that it has."""
    api = shared_project
    session, turn = new_turn(api)
    path = f"/sessions/{session}/turns/{turn}"
    lines = [deltas()[0], *deltas()[295:305], *deltas()[998:]]
    known: dict[int, Any] = {}
    for start in range(0, len(lines), size):
        api.post(
            f"{path}/output", content=b"".join(lines[start : start + size]), headers=NDJSON, params={"final": "false"}
        )
        for block in api.get(path, params={"after_block": len(known)}).json()["blocks"]:
            known[block["index"]] = block
        assert list(known.values()) == api.get(path).json()["blocks"]
    assert len(known) == 3


def test_the_poller_tells_growth_and_has_it_all_in_the_end(
    shared_gateway: GatewayProcess, shared_project: httpx.Client
) -> None:
    session, turn = new_turn(shared_project)
    name = str(shared_project.base_url).rstrip("/").rpartition("/")[2]
    whole: list[Any] = []
    known: dict[int, Any] = {}

    async def work() -> None:
        done, grew = asyncio.Event(), asyncio.Event()

        def told(update: Turn) -> None:
            known.update({block.index: msgspec.json.decode(block.content) for block in update.blocks})
            grew.set()

        def complete(end: Turn) -> None:
            whole.extend(msgspec.json.decode(block.content) for block in end.blocks)
            done.set()

        async with GatewayClient(shared_gateway.url) as client, PollingManager() as polling:
            project = client.project(name)
            TurnPoller(polling, project, session, turn, on_update=told, on_complete=complete, interval=0.05)

            async def stream() -> AsyncIterator[bytes]:
                for number, each in enumerate([*deltas(), line(SUCCESS)]):
                    yield each
                    if number in (10, 260, 510, 760):  # it is told before more comes
                        word = WORDS[number - (1 if number < 300 else 2)]
                        while not any(word in content for content in known.values() if isinstance(content, str)):
                            grew.clear()
                            await grew.wait()

            await project.append_output(session, turn, stream(), final=True)
            await done.wait()

    asyncio.run(work())
    assert whole == [known[index] for index in range(4)]
    assert whole[1] == "".join(WORDS[300:])


def test_what_follows_a_line_that_is_read_elsewhere_is_not_lost(shared_project: httpx.Client) -> None:
    """The rest of the body arrives while the line is with a worker process."""
    api = shared_project
    session, turn = new_turn(api)
    path = f"/sessions/{session}/turns/{turn}"
    heavy = line(assistant(*[text("x")] * 60_000))
    small = line(assistant(text("word " * 2_000)))
    long = line(assistant(text("y" * 1_000_000)))

    def pieces() -> Iterator[bytes]:
        yield heavy
        for _ in range(100):
            yield small
        yield long
        yield small

    receipt = api.post(f"{path}/output", content=pieces(), headers=NDJSON).json()
    assert receipt["offset"] == len(heavy) + 101 * len(small) + len(long)
    assert receipt["block_count"] == 103
    blocks = api.get(path).json()["blocks"]
    assert [block["type"] for block in blocks] == ["error", *["text"] * 102]
    assert blocks[101]["content"] == "y" * 1_000_000
