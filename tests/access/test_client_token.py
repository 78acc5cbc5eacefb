"""The Python client with a token that is asked for: before it ends, and where it was refused."""

import asyncio
import time
from typing import Any

import httpx
import pycrdt
import pytest

from gateway.client import GatewayClient
from gateway.client.errors import NoAnswer, Unauthenticated
from gateway.client.token import BearerToken, expiry_of
from tests.access.conftest import bearer
from tests.support.server import GatewayProcess


def test_a_token_is_asked_for_once_by_many_and_again_before_it_ends() -> None:
    async def work() -> None:
        now, asked = time.time(), []
        sent: list[str] = []

        async def token() -> str:
            asked.append(bearer(seconds=600 + len(asked), projects={}))
            await asyncio.sleep(0)
            return asked[-1]

        def answer(request: httpx.Request) -> httpx.Response:
            sent.append(request.headers["Authorization"].removeprefix("Bearer "))
            return httpx.Response(200)

        source = BearerToken(token, lambda: now)
        async with httpx.AsyncClient(transport=httpx.MockTransport(answer), auth=source) as client:
            await asyncio.gather(*(client.get("http://gateway/") for _ in range(10)))
            assert (len(asked), set(sent)) == (1, {asked[0]})
            now += 575
            await asyncio.gather(*(client.get("http://gateway/") for _ in range(10)))
            assert (len(asked), sent[-1]) == (2, asked[1])

    asyncio.run(work())


def test_a_request_that_is_refused_is_sent_once_more_with_another_token(guarded: GatewayProcess, name: str) -> None:
    async def work() -> None:
        tokens = ["ygw_wrong", bearer(projects={name: "write"})]
        async with GatewayClient(guarded.url, token=lambda: tokens.pop(0)) as client:
            await client.project(name).put_text("a.md", "text")
            assert (await client.project(name).read_text("a.md")).value == "text"
        assert tokens == []
        always_wrong: Any = iter(["ygw_a", "ygw_b", "ygw_c"])
        async with GatewayClient(guarded.url, token=lambda: next(always_wrong)) as client:
            with pytest.raises(Unauthenticated):
                await client.project(name).list_files()
        assert list(always_wrong) == ["ygw_c"]

    asyncio.run(work())


def test_a_token_that_cannot_be_had_is_as_a_gateway_that_cannot(guarded: GatewayProcess, name: str) -> None:
    async def work() -> None:
        def token() -> str:
            raise OSError("the backend is down")

        async with GatewayClient(guarded.url, token=token) as client:
            with pytest.raises(NoAnswer, match="the backend is down"):
                await client.project(name).list_files()

    asyncio.run(work())


@pytest.mark.parametrize("transport", ["events", "wait"])
def test_the_feed_goes_on_over_the_end_of_tokens(guarded: GatewayProcess, name: str, transport: Any) -> None:
    async def work() -> None:
        asked, last, seconds = 0, 0.0, 1.0

        def token() -> str:
            nonlocal asked, last, seconds
            asked += 1
            if transport == "events" and time.monotonic() - last < seconds / 2:
                seconds *= 3  # the last one ended before it came to the gateway
            last = time.monotonic()
            return bearer(seconds=seconds, projects={name: "read"})

        root = GatewayClient(guarded.url, token=bearer("root", admin=True))
        async with root, GatewayClient(guarded.url, token=token) as client:
            await root.project(name).put_text("0.md", "x")
            written, heard = 1, 0
            async for answer in client.project(name).follow(transport=transport):
                heard += len(answer.changes)
                assert heard == written
                if asked >= 3:
                    break
                await asyncio.sleep(0.2)  # the pace of the writer
                await root.project(name).put_text(f"{written}.md", "x")
                written += 1
            assert asked >= 3

    asyncio.run(asyncio.wait_for(work(), 120))


@pytest.mark.parametrize("token", ["", "ygw_a_b", "a.b.c", "a..c", "a.e30.c", "a.bnVsbA.c"])
def test_a_token_that_does_not_say_when_it_ends_does_not_end(token: str) -> None:
    assert expiry_of(token) == float("inf")


def test_a_room_is_entered_with_the_clients_token(guarded: GatewayProcess, name: str) -> None:
    async def work() -> None:
        async with GatewayClient(guarded.url, token=lambda: bearer(projects={name: "write"})) as client:
            await client.project(name).put_text("a.md", "text")
            doc: pycrdt.Doc[Any] = pycrdt.Doc()
            async with client.project(name).room("a.md") as room, pycrdt.Provider(doc, room) as provider:
                async with asyncio.timeout(60):
                    await provider.synced.wait()
            assert str(doc.get("content", type=pycrdt.Text)) == "text"
        async with GatewayClient(guarded.url, token="ygw_wrong") as client, client.project(name).room("a.md") as room:
            with pytest.raises(NoAnswer, match="4401"):
                await room.recv()

    asyncio.run(work())
