"""Bounds of prompts and of answers about turns, and how often a block that grows is stored."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from gateway.app import create_app
from gateway.client import GatewayClient, PollingManager, TurnPoller
from gateway.settings import Settings
from gateway.turns.store import MOST_BLOCKS_READ
from gateway.wire.turns import Turn
from storage import Commit, CommittedTurn
from tests.gateway.test_growing_blocks import NDJSON, WORDS, event, new_turn
from tests.support.agent_stream import SUCCESS, line
from tests.support.server import GatewayProcess

LIMIT = 1024


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """A gateway of short prompts and answers."""
    settings = {"GATEWAY_PROMPT_LIMIT": LIMIT, "GATEWAY_TURN_ANSWER_BYTES": LIMIT}
    with GatewayProcess(tmp_path_factory.mktemp("small") / "gateway.db", **settings) as process:
        yield process


@pytest.fixture
def api(small: GatewayProcess) -> Iterator[httpx.Client]:
    with small.client() as client:
        yield client


def pages(api: httpx.Client, path: str, have: int = 0) -> tuple[dict[int, Any], list[httpx.Response]]:
    """The blocks that a reader of `have` blocks gets, who asks until there is no more, and the answers."""
    known: dict[int, Any] = dict.fromkeys(range(have))
    answers = []
    while True:
        answers.append(api.get(path, params={"after_block": len(known)}).raise_for_status())
        before = len(known)
        for block in answers[-1].json()["blocks"]:
            known[block["index"]] = block["content"]
        if "more" not in answers[-1].json():
            return known, answers
        assert len(known) > before  # every answer takes the reader on


def test_a_turn_of_very_many_blocks_comes_in_several_answers(tmp_path: Path) -> None:
    with GatewayProcess(tmp_path / "gateway.db") as gateway, gateway.client() as client:
        session = client.post("/sessions", json={}).json()["id"]
        turn = (
            f"/sessions/{session}/turns/{client.post(f'/sessions/{session}/turns', json={'prompt': 'Go'}).json()['id']}"
        )
        blocks = [{"type": "text", "content": number} for number in range(MOST_BLOCKS_READ + 5)]
        client.post(f"{turn}/blocks", json={"blocks": blocks}).raise_for_status()
        known, answers = pages(client, turn)
        assert [len(answer.json()["blocks"]) for answer in answers] == [MOST_BLOCKS_READ, 5]
        assert list(known.values()) == list(range(MOST_BLOCKS_READ + 5))
        assert [("ETag" in answer.headers) for answer in answers] == [False, True]


def test_a_prompt_is_bounded_in_bytes(api: httpx.Client) -> None:
    session = api.post("/sessions", json={}).json()["id"]
    turns = f"/sessions/{session}/turns"
    assert api.post(turns, json={"prompt": "ü" * (LIMIT // 2)}).status_code == 201
    refused = api.post(turns, json={"prompt": "ü" * (LIMIT // 2) + "!"})
    assert (refused.status_code, refused.json()["code"]) == (413, "prompt_too_large")
    assert len(api.get(turns).json()["turns"]) == 1


def test_a_listed_prompt_says_that_it_is_cut(api: httpx.Client) -> None:
    session = api.post("/sessions", json={}).json()["id"]
    turns = f"/sessions/{session}/turns"
    prompts = ["p" * 1000, "p" * 1001, "short"]
    ids = [api.post(turns, json={"prompt": prompt}).json()["id"] for prompt in prompts]
    listed = {turn["id"]: turn for turn in api.get(turns).json()["turns"]}
    assert [listed[id]["prompt"] for id in ids] == ["p" * 1000, "p" * 1000, "short"]
    assert [listed[id].get("prompt_cut") for id in ids] == [None, True, None]
    whole = api.get(f"{turns}/{ids[1]}").json()
    assert (whole["prompt"], "prompt_cut" in whole) == (prompts[1], False)


def test_a_long_turn_comes_in_several_answers_and_the_last_one_has_the_tag(api: httpx.Client) -> None:
    session, turn = new_turn(api)
    path = f"/sessions/{session}/turns/{turn}"
    contents = [f"{number} " * size for number, size in enumerate([100, 400, 1000, 1, 5000, 5000, 1])]
    blocks = [{"type": "text", "content": content} for content in contents]
    api.post(f"{path}/blocks", json={"blocks": blocks}).raise_for_status()
    for have in range(len(contents) + 1):
        known, answers = pages(api, path, have)
        assert list(known.values())[have:] == contents[have:]
        assert ["ETag" in answer.headers for answer in answers] == [False] * (len(answers) - 1) + [True]
    assert len(pages(api, path)[1]) > 3


def test_a_reader_gets_on_where_a_block_that_grows_fills_the_answer(api: httpx.Client) -> None:
    session, turn = new_turn(api)
    path = f"/sessions/{session}/turns/{turn}"

    def output(data: bytes) -> None:
        api.post(f"{path}/output", content=data, headers=NDJSON, params={"final": "false"}).raise_for_status()

    delta = {"type": "text_delta", "text": "x" * 3 * LIMIT}
    output(event("message_start") + event("content_block_delta", index=0, delta=delta))
    output(b"".join(line({"type": "system", "number": number, "text": "y" * LIMIT}) for number in range(4)))
    output(event("content_block_delta", index=0, delta=delta))
    for have in range(6):
        known, _ = pages(api, path, have)
        assert known[0] == "x" * 6 * LIMIT  # told again
        assert [known[index]["number"] for index in range(max(have, 1), 5)] == list(range(max(have, 1) - 1, 4))


def test_the_poller_reads_on_where_there_is_more(small: GatewayProcess, api: httpx.Client) -> None:
    session, turn = new_turn(api)
    path = f"/sessions/{session}/turns/{turn}"
    contents = [f"{number} " * 300 for number in range(10)]
    blocks = [{"type": "text", "content": content} for content in contents]
    api.post(f"{path}/blocks", json={"blocks": blocks}).raise_for_status()
    api.patch(path, json={"status": "completed"}).raise_for_status()
    ends: list[Turn] = []

    async def work() -> None:
        done = asyncio.Event()
        told: list[Any] = []

        def update(turn: Turn) -> None:
            told.extend(msgspec.json.decode(block.content) for block in turn.blocks)

        def complete(end: Turn) -> None:
            ends.append(end)
            done.set()

        async with GatewayClient(small.url) as client, PollingManager() as polling:
            project = client.project("demo")
            TurnPoller(polling, project, session, turn, on_update=update, on_complete=complete, interval=0.05)
            await done.wait()
        assert told == contents

    asyncio.run(work())
    assert [msgspec.json.decode(block.content) for block in ends[0].blocks] == contents


def test_a_thousand_deltas_are_stored_at_most_ten_times_a_second(tmp_path: Path) -> None:
    """However fast they come: between two changes of a block that grows there is a tenth of a second."""
    heard: list[tuple[float, int]] = []
    moved = asyncio.Event()

    def hear(commits: tuple[Commit, ...]) -> None:
        now = time.monotonic()
        heard.extend((now, each.turn.block_count) for each in commits if isinstance(each, CommittedTurn))
        moved.set()

    async def deltas() -> AsyncIterator[bytes]:
        yield event("message_start")
        for number, word in enumerate(WORDS):
            yield event("content_block_delta", index=0, delta={"type": "text_delta", "text": word})
            await asyncio.sleep(0)
            if number % 200 == 100:  # what came so far is stored before more comes
                moved.clear()
                await moved.wait()

    async def work() -> list[Any]:
        gateway = create_app(Settings(database=f"sqlite:///{tmp_path / 'gateway.db'}"))
        async with gateway.running() as storage:
            transport = httpx.ASGITransport(app=gateway)
            async with httpx.AsyncClient(transport=transport, base_url="http://gateway/api/projects/demo") as api:
                session = (await api.post("/sessions", json={})).json()["id"]
                turns = f"/sessions/{session}/turns"
                path = f"{turns}/{(await api.post(turns, json={'prompt': 'p'})).json()['id']}"
                storage.listen(hear)
                asked = {"final": "false"}
                await api.post(f"{path}/output", content=deltas(), headers=NDJSON, params=asked)
                blocks: list[Any] = (await api.get(path)).json()["blocks"]
                return blocks

    blocks = asyncio.run(work())
    assert [block["content"] for block in blocks] == ["".join(WORDS)]
    assert len(heard) >= 5
    gaps = [later - earlier for (earlier, _), (later, _) in pairwise(heard)]
    assert min(gaps) >= 0.0999


@pytest.mark.parametrize("grace", [0.1, 3600])
def test_a_turn_that_settles_is_not_forgotten_by_a_gateway_that_starts_anew(tmp_path: Path, grace: float) -> None:
    """Its result decides, or what comes after it goes on with the turn; never does it fail by its lease."""
    with GatewayProcess(tmp_path / "gateway.db", GATEWAY_TURN_GRACE=grace) as gateway:
        with gateway.client() as api:
            session, turn = new_turn(api)
            path = f"/sessions/{session}/turns/{turn}"
            receipt = api.post(f"{path}/output", content=line(SUCCESS), headers=NDJSON).json()
            assert (receipt["status"], receipt["result"]) == ("running", "completed")
        gateway.kill()
        gateway.start()
        with gateway.client() as api:
            if grace > 1:
                assert api.get(f"{path}/status").json()["status"] == "running"
                more = event("message_start") + line({"type": "result", "subtype": "error_max_turns", "is_error": True})
                asked = {"offset": receipt["offset"], "final": "true"}
                assert (
                    api.post(f"{path}/output", content=more, headers=NDJSON, params=asked).json()["status"] == "failed"
                )
                assert api.get(path).json()["block_count"] == 2
                return
            headers: dict[str, str] = {}
            while True:
                answer = api.get(f"{path}/status", params={"wait": 50}, headers=headers)
                if answer.status_code == 200 and answer.json()["status"] != "running":
                    break
                headers = {"If-None-Match": answer.headers["ETag"]}
            assert answer.json()["status"] == "completed"
            assert api.get(path).json()["error"] is None
