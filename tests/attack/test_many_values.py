"""Bodies of very many values are refused before they are decoded, which would hold up all other requests."""

import json

import httpx
import msgspec
import pytest

from gateway.wire.json import MOST_VALUES, announced_values, holds_many_values, may_hold_many_values
from gateway.yjs.lib0 import var_uint
from gateway.yjs.messages import MOST_STATES, MalformedMessage, ManyStates, parse_message

_JSON = {"Content-Type": "application/json"}
_PATHS = {f"f{number}": 1 for number in range(MOST_VALUES + 1)}
_BODIES = {
    "files/status": json.dumps({"versions": _PATHS}).encode(),
    "sync": json.dumps({"versions": _PATHS}).encode(),
    "sessions": b'{"title":"t","x":[' + b"[]," * MOST_VALUES + b"[]]}",
    "edits/a.md": b'{"edits":[' + b"{}," * MOST_VALUES + b"{}]}",
}


@pytest.mark.parametrize("path", _BODIES)
def test_a_body_of_very_many_values_is_refused(shared_project: httpx.Client, path: str) -> None:
    answer = shared_project.post(f"/{path}", content=_BODIES[path], headers=_JSON)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_body")
    assert f"more than {MOST_VALUES} values" in answer.json()["detail"]


@pytest.mark.parametrize("asked", [{"versions": _PATHS}, {"paths": [*_PATHS]}, {"updates": dict.fromkeys(_PATHS, b"")}])
def test_a_packed_body_of_very_many_values_is_refused(shared_project: httpx.Client, asked: object) -> None:
    headers = {"Content-Type": "application/msgpack"}
    answer = shared_project.post("/sync", content=msgspec.msgpack.encode(asked), headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_body")
    assert f"more than {MOST_VALUES} values" in answer.json()["detail"]


@pytest.mark.parametrize("count", [3, 15, 16, 65_536])
def test_lists_and_objects_of_msgpack_say_how_many_values_they_hold(count: int) -> None:
    assert announced_values(msgspec.msgpack.encode([1] * count)) == count
    assert announced_values(msgspec.msgpack.encode({str(number): 1 for number in range(count)})) == count
    assert announced_values(msgspec.msgpack.encode("x" * count)) == 0


def test_a_text_full_of_commas_and_brackets_is_one_value(shared_project: httpx.Client) -> None:
    shared_project.put("/files/commas.md", content=b"one", headers={"Content-Type": "text/plain"}).raise_for_status()
    text = ', [{ "quoted" \\' * MOST_VALUES
    edits = {"edits": [{"old": "one", "new": text}]}
    assert may_hold_many_values(json.dumps(edits).encode())
    shared_project.post("/edits/commas.md", json=edits).raise_for_status()
    assert shared_project.get("/files/commas.md?format=text").text == text


def test_values_are_counted_outside_of_texts() -> None:
    for text, many in (
        (json.dumps([0] * (MOST_VALUES - 1)), False),
        (json.dumps([0] * (MOST_VALUES + 1)), True),
        (json.dumps([[]] * MOST_VALUES), True),
        (json.dumps(["a, \\ [" * MOST_VALUES, '"' * MOST_VALUES, "\\"]), False),
        ('["' + "," * 3 * MOST_VALUES, True),  # a text that does not end: it is no JSON in any case
    ):
        assert holds_many_values(text.encode()) is many, text[:20]


def test_an_awareness_message_has_a_bounded_number_of_states() -> None:
    def message(count: int) -> bytes:
        states = var_uint(count) + b"".join(var_uint(number) + b"\1\4null" for number in range(count))
        return b"\1" + var_uint(len(states)) + states

    parsed = parse_message(message(MOST_STATES))
    assert isinstance(parsed, ManyStates)
    assert sum(len(part.states) for part in parsed.parts()) == MOST_STATES
    with pytest.raises(MalformedMessage, match="more than"):
        parse_message(message(MOST_STATES + 1))
