"""Requests that create something are done once, also where the first answer is lost; errors say what is certain."""

import asyncio
import uuid

import httpx
import pytest

from gateway.client.answers import tag_of
from gateway.client.errors import StorageUnavailable
from gateway.client.http import GatewayClient
from gateway.wire.problems import Unavailable
from tests.support.server import GatewayProcess


class _LostAnswers(httpx.AsyncHTTPTransport):
    """The gateway does each request; every other answer never comes."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        answer = await super().handle_async_request(request)
        await answer.aread()
        self.sent += 1
        if self.sent % 2:
            raise httpx.ReadError("the connection was cut")
        return answer


def test_what_is_created_is_created_once_where_an_answer_is_lost(shared_gateway: GatewayProcess) -> None:
    async def main() -> None:
        transport, name = _LostAnswers(), f"once-{uuid.uuid4().hex[:12]}"
        async with GatewayClient(shared_gateway.url, transport=transport) as client:
            project = client.project(name)
            session = await project.create_session("work")
            turn = await project.create_turn(session.id, "do it")
            first = await project.append_blocks(session.id, turn.id, [("text", "one"), ("text", "two")])
            second = await project.append_blocks(session.id, turn.id, [("text", "one"), ("text", "two")])
        assert transport.sent == 8
        async with GatewayClient(shared_gateway.url) as client:
            project = client.project(name)
            assert (await project.list_sessions()).sessions == [session]
            assert [found.id for found in (await project.list_turns(session.id)).turns] == [turn.id]
            assert (await project.read_turn(session.id, turn.id)).value.block_count == 4  # type: ignore[union-attr]
            assert (first.first_index, second.first_index) == (0, 2)

    asyncio.run(main())


@pytest.mark.parametrize("certain", [True, False])
def test_an_error_says_whether_nothing_was_stored(certain: bool) -> None:
    problem = Unavailable("no", certain=certain)

    def answer(request: httpx.Request) -> httpx.Response:
        headers = {"Content-Type": "application/problem+json", **problem.headers}
        return httpx.Response(503, content=problem.body(), headers=headers)

    async def main() -> None:
        async with GatewayClient("http://gateway", transport=httpx.MockTransport(answer)) as client:
            with pytest.raises(StorageUnavailable) as failed:
                await client.project("p").put_text("a", "x")
        assert failed.value.certain is certain
        assert failed.value.retry_after_s == 5

    asyncio.run(main())


@pytest.mark.parametrize("spelled", ['"ab.12.t"', 'W/"ab.12.t"', '"ab.12.t-gzip"', 'W/"ab.12.t--gzip"', '"ab.12.t;br"'])
def test_a_tag_is_the_gateways_own_whatever_a_proxy_made_of_it(spelled: str) -> None:
    assert tag_of(httpx.Response(200, headers={"ETag": spelled})) == "ab.12.t"
