"""A large batch of blocks is read in a worker process, and means the same there."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec

from gateway.app import create_app
from gateway.settings import Settings
from gateway.turns.given_blocks import blocks_of, given_blocks, given_slices
from gateway.workers import pool
from gateway.workers.pool import Lane


@asynccontextmanager
async def _turn(folder: Path) -> AsyncIterator[tuple[httpx.AsyncClient, str]]:
    """A client, and a turn for it."""
    app = create_app(Settings(database=f"sqlite:///{folder / 'gateway.db'}"))
    async with app.running():
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            sessions = "/api/projects/p/sessions"
            session = (await client.post(sessions, json={})).json()["id"]
            turn = (await client.post(f"{sessions}/{session}/turns", json={"prompt": ""})).json()["id"]
            yield client, f"{sessions}/{session}/turns/{turn}"


def _jobs() -> int:
    workers = pool._current.get()
    assert workers is not None
    jobs: int = workers.metrics[Lane.DOCUMENTS].jobs
    return jobs


def test_a_large_batch_is_read_by_a_worker(tmp_path: Path) -> None:
    async def work() -> None:
        async with _turn(tmp_path) as (client, turn):
            half = {"type": "text", "content": "half a pair"}
            blocks: list[dict[str, Any]] = [{"type": "text", "content": [[]] * 100_000}, half]
            small, large = {"blocks": [half]}, {"blocks": blocks, "first_index": 1}
            headers = {"Content-Type": "application/json"}
            written = await client.post(f"{turn}/blocks", json=small)
            assert (written.status_code, _jobs()) == (200, 0)
            written = await client.post(f"{turn}/blocks", json=large)
            assert (written.status_code, _jobs()) == (200, 1)
            again = await client.post(f"{turn}/blocks", json=large)
            assert again.json() == written.json()
            told = (await client.get(turn, params={"after_block": 1})).json()["blocks"]
            assert [block["content"] for block in told] == [block["content"] for block in blocks]
            jobs = _jobs()
            for wrong in (b"[" * 200_000, b'{"blocks":[]}' + b" " * 200_000, b"\xff" * 200_000):
                refused = await client.post(f"{turn}/blocks", content=wrong, headers=headers)
                assert (refused.status_code, refused.json()["code"]) == (400, "invalid_body")
            assert _jobs() == jobs + 3

    asyncio.run(work())


def test_the_blocks_of_a_large_batch_come_from_the_worker_in_slices() -> None:
    contents = [*range(5_000), "x" * 200_000, "y" * 200_000, "z" * 600_000, "end"]
    body = msgspec.json.encode({"blocks": [{"type": "text", "content": each} for each in contents], "first_index": 3})
    first_index, slices = given_slices(body)
    decoded = [blocks_of(each) for each in slices]
    assert (first_index, tuple(block for each in decoded for block in each)) == given_blocks(body)
    assert [len(each) for each in decoded] == [2048, 2048, 905, 1, 1, 1]


def test_a_long_content_is_a_slice_of_its_own_and_is_not_encoded_again() -> None:
    long = "x" * 1_000_000
    blocks = [{"type": "text", "content": each} for each in ("a", long, "b", "c", long)]
    body = msgspec.json.encode({"blocks": blocks})
    _, slices = given_slices(body)
    assert [isinstance(each, bytes) for each in slices] == [True, False, True, False]
    assert tuple(block for each in slices for block in blocks_of(each)) == given_blocks(body)[1]
