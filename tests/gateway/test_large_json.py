"""A long JSON body is examined and decoded in several turns of the event loop, in which other requests are answered."""

import asyncio
from typing import Any

import msgspec
import pytest
from starlette.requests import Request

from gateway.http.requests import read_json, require_few_values
from gateway.wire.json import MOST_VALUES, _with_marks, encode_long_texts
from gateway.wire.problems import InvalidBody

_MIB = 2**20


async def _turns_during(work: Any) -> int:
    """Return how many turns the event loop takes until some work is done."""
    turns, task = 0, asyncio.ensure_future(work)
    while not task.done():
        await asyncio.sleep(0)
        turns += 1
    await task
    return turns


def _request(body: bytes) -> Request:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body}

    return Request({"type": "http", "method": "POST", "headers": []}, receive)


@pytest.mark.parametrize("mib", [1, 4, 15])
def test_each_mebibyte_of_a_body_has_a_turn(mib: int) -> None:
    body = b'["' + b"\\u0061" * (mib * _MIB // 6) + b'"]'
    assert asyncio.run(_turns_during(read_json(_request(body), 16 * _MIB, list[str]))) > mib


@pytest.mark.parametrize("text", ['\n"\\\x00\x1f\x7f/a' * 50_000, "é\n🎉" * 100_000, "short\n"])
def test_a_long_text_of_escapes_is_encoded_as_it_is_and_not_by_the_slower_encoder(text: str) -> None:
    value = {"text": text, "list": [text, 1, None, {"more": text}]}
    assert msgspec.json.decode(encode_long_texts(value)) == value
    slower: list[bytes] = []
    _with_marks(value, "mark", slower)
    assert len(slower) == (3 if len(text) > 2**18 and text.isascii() else 0)


def test_a_short_body_is_read_in_one_turn() -> None:
    assert asyncio.run(_turns_during(read_json(_request(b'["text"]'), 16 * _MIB, list[str]))) == 1


def test_values_are_counted_across_the_pieces_of_a_body() -> None:
    few = b"[" + b"1," * (MOST_VALUES // 2) + b" " * 2 * _MIB
    asyncio.run(require_few_values(few + b"1," * (MOST_VALUES // 2 - 2) + b"1]"))
    with pytest.raises(InvalidBody, match="more than"):
        asyncio.run(require_few_values(few + b"1," * (MOST_VALUES // 2) + b"1]"))
