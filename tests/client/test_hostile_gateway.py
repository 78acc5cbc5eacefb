"""What a gateway may answer that is none: a client refuses it within bounds, and says so."""

import asyncio
import gzip
import zlib
from collections.abc import Callable

import httpx
import pytest

from gateway.client import GatewayClient, UnexpectedAnswer
from gateway.client import http as client_http

_JSON = {"Content-Type": "application/json"}
_PROBLEM = {"Content-Type": "application/problem+json"}


def _ask(answer: Callable[[], httpx.Response]) -> str:
    """The error of a status question that is answered so."""

    async def work() -> str:
        transport = httpx.MockTransport(lambda request: answer())
        async with GatewayClient("http://gateway", transport=transport) as client:
            with pytest.raises(UnexpectedAnswer) as refused:
                await client.project("demo").status()
            return str(refused.value)

    return asyncio.run(work())


@pytest.mark.parametrize("status", [200, 400])
def test_json_that_is_nested_too_deeply_is_an_unexpected_answer(status: int) -> None:
    headers = _JSON if status == 200 else _PROBLEM
    deep = b'{"changes":' + b"[" * 1_000_000
    nested = b'{"title":"x","status":400,"code":"x","detail":' + b'{"a":' * 1_000_000
    for body in (deep, nested):
        _ask(lambda body=body: httpx.Response(status, headers=headers, content=body))  # type: ignore[misc]


@pytest.mark.parametrize("coding", ["br", "zstd", "deflate", "gzip, gzip", "gzip, br"])
def test_a_coding_that_was_not_asked_for_is_not_decoded(coding: str) -> None:
    class Body(httpx.AsyncByteStream):
        async def __aiter__(self):  # type: ignore[no-untyped-def]
            yield zlib.compress(b"{}")

    answer = httpx.Response(200, headers={**_JSON, "Content-Encoding": coding}, stream=Body())
    assert "it is encoded as" in _ask(lambda: answer)


def test_a_body_that_grows_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_http, "_MOST_BYTES", 2**20)
    bomb = gzip.compress(bytes(2**24))

    class Body(httpx.AsyncByteStream):
        async def __aiter__(self):  # type: ignore[no-untyped-def]
            for start in range(0, len(bomb), 512):
                yield bomb[start : start + 512]
            raise AssertionError("it was read to its end")

    answer = httpx.Response(200, headers={**_JSON, "Content-Encoding": "gzip"}, stream=Body())
    assert "more than 1048576 bytes" in _ask(lambda: answer)
