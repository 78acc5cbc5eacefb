"""A long JSON or msgpack body is decoded in a worker process, and its values are received in slices."""

import asyncio
import pickle
import random
from collections.abc import Callable, Coroutine
from hashlib import sha256
from typing import Any

import msgspec
import pytest
from starlette.requests import Request

from gateway.http import json_bodies, requests
from gateway.http.json_bodies import examined, json_of, msgpack_of, read_json
from gateway.wire.changes import SyncRequest
from gateway.wire.files import EditRequest, MoveRequest, RequestedEdit
from gateway.wire.json import MOST_VALUES, _with_marks, encode_long_texts
from gateway.wire.problems import InvalidBody
from gateway.wire.slices import _SLICE_BYTES, _SLICE_CHARACTERS, Sliced, assembled, sliced
from gateway.workers.pool import Lane, worker_processes

_MIB = 2**20
_LONG_TEXT = "a\n\u00e9\U0001f389" * 2**18


async def _jobs_of(work: Callable[[], Coroutine[Any, Any, Any]]) -> tuple[Any, int]:
    """Do some work beside worker processes; return what came of it, and how many jobs these had."""
    async with worker_processes(processes=1, queue=10, seconds=600) as workers:
        return await work(), workers.metrics[Lane.DOCUMENTS].jobs


def _request(body: bytes) -> Request:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body}

    return Request({"type": "http", "method": "POST", "headers": []}, receive)


def _refuse(*_: object) -> None:
    raise AssertionError("decoded here")


_PATHS = {f"{'folder/' * 40}{number}": number for number in range(10_000)}


@pytest.mark.parametrize(
    "value",
    [
        SyncRequest(updates={"a": b"\0" * 2 * _MIB, "b": b"x"}),
        SyncRequest(versions=_PATHS, paths=[*_PATHS], updates=dict.fromkeys(_PATHS, b"\0\0")),
        EditRequest([RequestedEdit(old=f"{number}", new="x" * 20_000) for number in range(100)], root="r"),
        EditRequest([RequestedEdit(old="old", new=_LONG_TEXT)]),
        {"text": _LONG_TEXT, "list": [[number, str(number)] for number in range(10_000)], "more": {"deep": [1, {}]}},
    ],
    ids=["updates", "paths", "edits", "text", "anything"],
)
def test_a_long_body_is_decoded_by_a_worker_process_alone(value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    shape = type(value) if isinstance(value, msgspec.Struct) else dict[str, Any]
    body = msgspec.json.encode(value)
    assert len(body) > json_bodies._LIGHT_BYTES
    monkeypatch.setattr(json_bodies, "decode_json", _refuse)
    found, jobs = asyncio.run(_jobs_of(lambda: read_json(_request(body), 2**26, shape)))
    assert (found, jobs) == (value, 1)
    if isinstance(value, SyncRequest):
        monkeypatch.setattr(json_bodies, "_decode_msgpack", _refuse)
        packed = msgspec.msgpack.encode(value)
        if max(map(len, value.updates.values())) < len(packed) // 2:
            return  # as many values as are refused
        found, jobs = asyncio.run(_jobs_of(lambda: msgpack_of(packed, SyncRequest)))
        assert (found, jobs) == (value, 1)


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        (b'{"from":"' + b"\\u0061" * 2**18 + b'"}', "missing required field"),
        (b'{"from":"' + b"x" * 2**21, "truncated"),
        (b'{"x":' + b"1" * 2**21 + b"}", "unknown field"),
        (b'{"from":' + b"[" * 2**21, "values"),
    ],
)
def test_a_long_body_that_is_wrong_is_refused_as_a_short_one(body: bytes, fault: str) -> None:
    with pytest.raises(InvalidBody, match=fault):
        asyncio.run(_jobs_of(lambda: json_of(body, MoveRequest)))


def test_a_short_body_needs_no_worker_process_and_no_turn_of_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_bodies, "run_in_worker", _refuse)
    paths = msgspec.json.encode({"paths": [f"some/path/of/{number}.md" for number in range(10_000)]})
    for body in (b'{"paths":["text"]}', paths):
        with pytest.raises(StopIteration) as done:
            read_json(_request(body), 16 * _MIB, dict[str, list[str]]).send(None)
        assert done.value.value == msgspec.json.decode(body)


def test_values_are_counted_wherever_a_body_is_examined() -> None:
    few = b"[" + b"1," * (MOST_VALUES - 2) + b" " * 2 * _MIB
    assert asyncio.run(_jobs_of(lambda: examined(few + b"1]", len))) == (len(few) + 2, 1)
    with pytest.raises(InvalidBody, match="more than"):
        asyncio.run(_jobs_of(lambda: examined(few + b"1,1]", len)))
    commas = b'["' + b"," * 2 * _MIB + b'"]'
    assert asyncio.run(_jobs_of(lambda: json_of(commas, list[str])))[0] == ["," * 2 * _MIB]


def _assembled(whole: Sliced) -> Any:
    """Put a value together; each slice has a step of its own."""
    steps = [*assembled(whole)]
    assert len(steps) > len(whole.slices)
    return steps[-1]


def _some(choice: random.Random, depth: int) -> Any:
    if depth == 0 or choice.random() < 0.3:
        return choice.choice([None, True, 1, 1.5, "text", "\u00e9" * 500])
    many = choice.choice([0, 1, 5, 40, 1_100])
    values = [_some(choice, depth - 1 if many < 40 else 0) for _ in range(many)]
    values += ["x" * 300_000, b"\0" * 70_000] if many == 5 else []
    return values if choice.random() < 0.5 else {f"name {number}": value for number, value in enumerate(values)}


@pytest.mark.parametrize("seed", range(12))
def test_any_value_comes_back_from_its_slices_and_each_is_short(seed: int) -> None:
    value = _some(random.Random(seed), 3)
    whole = sliced(value)
    assert _assembled(whole) == value
    for part in whole.slices:
        is_short = len(part.held) <= _SLICE_BYTES
        assert is_short or part.is_text or len(pickle.loads(part.held)) == 1


@pytest.mark.parametrize("text", ["a" * 2**20, "\u00e9\U0001f389" * 2**19, "\ud800" * 2**19])
def test_a_long_text_is_decoded_in_slices_wherever_it_is(text: str) -> None:
    edits = EditRequest([RequestedEdit(old="a", new=text), RequestedEdit(old=text[:-1], new="b")])
    anything = {"variables": {"edits": [{"old": text, "new": "x"}], "text": text, "more": [text, [text]]}}
    for value in (edits, anything):
        whole = sliced(value)
        assert len(whole.emptied) < 1_000
        assert _assembled(whole) == value
        assert all(part.is_text and len(part.held) <= 4 * _SLICE_CHARACTERS for part in whole.slices)


def test_what_is_received_in_one_step_of_a_long_list_is_a_slice() -> None:
    whole = sliced(SyncRequest(versions=_PATHS))
    assert len(whole.emptied) < 1_000
    assert len(whole.slices) >= len(_PATHS) // 1024
    assert all(len(part.held) <= _SLICE_BYTES for part in whole.slices)


@pytest.mark.parametrize("text", ['\n"\\\x00\x1f\x7f/a' * 50_000, "é\n🎉" * 100_000, "short\n"])
def test_a_long_text_of_escapes_is_encoded_as_it_is_and_not_by_the_slower_encoder(text: str) -> None:
    value = {"text": text, "list": [text, 1, None, {"more": text}]}
    assert msgspec.json.decode(encode_long_texts(value)) == value
    slower: list[bytes] = []
    _with_marks(value, "mark", slower)
    assert len(slower) == (3 if len(text) > 2**18 and text.isascii() else 0)


@pytest.mark.parametrize("size", [0, 10, requests._HASHED_AT_ONCE, requests._HASHED_AT_ONCE + 1])
def test_a_long_body_is_hashed_beside_the_event_loop(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    beside: list[int] = []
    to_thread = asyncio.to_thread

    async def noted(work: Any, body: bytes) -> None:
        beside.append(len(body))
        await to_thread(work, body)

    monkeypatch.setattr(asyncio, "to_thread", noted)
    body = b"x" * size
    request = Request({"type": "http", "method": "POST", "path": "/p", "headers": [(b"idempotency-key", b"k")]})
    found = asyncio.run(requests.once(request, body))
    assert found is not None
    assert found.digest == sha256(b"/p\0" + body).digest()
    assert beside == ([size] if size > requests._HASHED_AT_ONCE else [])
