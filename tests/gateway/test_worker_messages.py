"""Messages between the gateway and its workers: large bytes are neither copied nor handled in one step."""

import asyncio
import tracemalloc
from typing import NamedTuple

import pytest

from gateway.workers import pool
from gateway.workers.messages import head_of, parts_of, value_of
from gateway.yjs.revisions import NewText

_LARGE = bytes(range(256)) * 2**12
"""1 MiB."""
_LONG = "é" * 2**19
"""1 MiB when encoded."""


class Found(NamedTuple):
    """As workers answer."""

    whole: bytes
    slices: list[bytes]
    other: tuple[int, str]


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        (True, b"small"),
        (True, _LARGE),
        (True, [_LARGE, b"small", _LARGE[1:]]),
        (True, Found(_LARGE, [_LARGE, _LARGE[:-1]], (1, "a"))),
        (True, ([(Found(b"", [_LARGE], (1, "a")), None)], {"a": _LARGE})),
        [[[[[[[[_LARGE]]]]]]]],
        [b"x"] * 10_000 + [_LARGE],
        (True, _LONG),
        (True, [_LONG, {"text": _LONG[1:]}, "short", _LARGE]),
        (True, NewText("a\ud800\U0001f600" * 2**16)),
    ],
)
def test_a_value_comes_out_as_it_went_in(value: object) -> None:
    parts = parts_of(value)
    assert value_of([bytes(bytearray(part)) for part in parts]) == value
    assert type(value_of(parts)) is type(value)


def test_large_bytes_are_parts_of_their_own_once_and_are_not_copied() -> None:
    value = (True, Found(_LARGE, [_LARGE, _LARGE[:-1]], (1, "a")))
    tracemalloc.start()
    parts = parts_of(value)
    succeeded, found = value_of(parts)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < len(_LARGE) // 4
    assert parts[1] is _LARGE
    assert len(parts) == 3
    assert len(parts[0]) < 1_000
    assert succeeded is True
    assert type(found) is Found
    assert found.whole is found.slices[0] is _LARGE
    assert found.slices[1] is value[1].slices[1]


def test_long_texts_are_parts_of_their_own_once_wherever_they_are() -> None:
    parts = parts_of((NewText(_LONG), [_LONG], {"a": _LONG}))
    assert parts[1:] == [_LONG.encode()]
    assert len(parts[0]) < 1_000
    first, (second,), third = value_of(parts)
    assert first.text is second is third["a"]


def test_a_long_text_is_encoded_in_slices() -> None:
    async def work() -> None:
        request = asyncio.create_task(pool._request((len, (_LONG * 8, "short"))))
        turns = 0
        while not request.done():
            await asyncio.sleep(0)
            turns += 1
        assert value_of(request.result()) == (len, (_LONG * 8, "short"))
        assert turns >= 8

    asyncio.run(work())


def test_large_bytes_are_received_in_pieces() -> None:
    value = (True, [_LARGE * 8, b"small"])
    parts = parts_of(value)
    sent = head_of(parts) + b"".join(parts)

    async def work() -> None:
        answers = asyncio.StreamReader(limit=2**20)
        answers.feed_data(sent)
        received = asyncio.create_task(pool.receive(answers))
        turns = 0
        while not received.done():
            await asyncio.sleep(0)
            turns += 1
        assert value_of(received.result()) == value
        assert turns >= 16

    asyncio.run(work())


@pytest.mark.parametrize("left", [0, 5, 2**20])
def test_a_process_that_dies_within_an_answer_is_noticed(left: int) -> None:
    parts = parts_of((True, _LARGE * 4))
    sent = head_of(parts) + b"".join(parts)

    async def work() -> None:
        answers = asyncio.StreamReader(limit=2**20)
        answers.feed_data(sent[:left])
        answers.feed_eof()
        with pytest.raises(EOFError):
            await pool.receive(answers)

    asyncio.run(work())


def test_of_many_short_parts_few_are_copied_into_the_pickle() -> None:
    """Else the slices of a large update are copied in one step."""
    value = (["short"] * 1000, [bytes([number % 256]) * 32_768 for number in range(300)], "x" * 5000, b"y" * 1023)
    parts = parts_of(value)
    assert len(parts[0]) <= 2**19
    assert value_of(parts) == value
