"""Messages of y-websocket's protocol are read as they are written, whatever their length is."""

import asyncio
import itertools
from typing import Any

import pytest

from gateway.pace import copied
from gateway.yjs.hocuspocus import addressed, parse, split_frame
from gateway.yjs.lib0 import var_uint
from gateway.yjs.messages import (
    MOST_STATES,
    STATES_BYTES,
    STATES_TOGETHER,
    AwarenessMessage,
    AwarenessState,
    LongUpdate,
    MalformedMessage,
    MalformedStateVector,
    ManyStates,
    SyncMessage,
    awareness_message,
    awareness_messages,
    parse_message,
    sync_step_1,
    sync_step_2,
    sync_update,
)


@pytest.mark.parametrize("size", [0, 1, 2, 124, 125, 126, 127, 128, 129, 16_383, 16_384])
def test_a_sync_message_of_any_length_is_what_was_written(size: int) -> None:
    body = bytes(size)
    assert parse_message(sync_update(body)) == SyncMessage("update", body)
    assert parse_message(sync_step_2(body)) == SyncMessage("step_2", body)
    for behind in (b"\0", b"\0" * 128):
        assert parse_message(sync_update(body) + behind) == SyncMessage("update", body)
    if size:
        with pytest.raises(MalformedMessage):
            parse_message(sync_update(body)[:-1])


def test_lengths_of_several_bytes_are_read_even_where_one_would_do() -> None:
    assert parse_message(b"\0\2\x82\0ab") == SyncMessage("update", b"ab")
    assert parse_message(b"\0\2\x80" + b"\1" + bytes(128)) == SyncMessage("update", bytes(128))
    assert parse_message(b"\0\0\1\0") == parse_message(sync_step_1(b"\0")) == SyncMessage("step_1", b"\0")


class Bytes(bytes):
    """Bytes that are not copied."""

    def __getitem__(self, key: Any) -> Any:
        assert not isinstance(key, slice) or key.stop == 2  # the kind of the message
        return super().__getitem__(key)


def test_a_state_vector_that_names_too_many_clients_is_refused_before_it_is_copied() -> None:
    entries = 300_000
    vector = var_uint(entries) + b"\0\0" * entries
    with pytest.raises(MalformedStateVector):
        parse_message(Bytes(b"\0\0" + var_uint(len(vector)) + vector))
    with pytest.raises(MalformedMessage):  # it ends too early, and does not name many
        parse_message(b"\0\0" + var_uint(100_000) + b"\1\5\1")


def _states(count: int, state: str = "{}") -> tuple[AwarenessState, ...]:
    return tuple(AwarenessState(2**31 + number, number % 300, state) for number in range(count))


def test_too_many_awareness_states_are_refused_before_they_are_copied() -> None:
    assert isinstance(parse_message(awareness_message(_states(MOST_STATES))), ManyStates)
    for length in (2, 200):
        with pytest.raises(MalformedMessage):
            parse_message(awareness_message(_states(MOST_STATES + 1, "x" * length)))
    with pytest.raises(MalformedMessage):
        parse_message(Bytes(awareness_message(_states(MOST_STATES + 1, "x" * 200))))
    with pytest.raises(MalformedMessage):
        parse_message(Bytes(awareness_message(_states(30, "x" * 2**18))))


@pytest.mark.parametrize("step", ["step_2", "update"])
def test_a_long_update_is_a_view_of_its_message(step: str) -> None:
    encode = sync_step_2 if step == "step_2" else sync_update
    body = bytes(range(256)) * 4095
    assert parse_message(encode(body)) == SyncMessage(step, body)  # type: ignore[arg-type]
    body += bytes(256)
    message = encode(body)
    name = addressed("a.md")
    for said in (parse_message(memoryview(message)), parse(split_frame(name + message)[1])):
        assert isinstance(said, LongUpdate)
        assert said.step == step
        assert said.body == body
    assert asyncio.run(copied(said.body)) == body
    with pytest.raises(MalformedMessage):
        parse_message(message[:-1])


def test_a_long_reply_of_hocuspocus_is_an_update() -> None:
    body = bytes(2**20 + 1)
    frame = addressed("a.md") + b"\4" + sync_step_2(body)[1:]
    name, message = split_frame(frame)
    said = parse(message)
    assert name == "a.md"
    assert isinstance(said, LongUpdate)
    assert said.body == body


@pytest.mark.parametrize("count", [0, 1, STATES_TOGETHER])
def test_few_awareness_states_are_read_at_once(count: int) -> None:
    states = _states(count, '{"name":"Zoë 𝄞"}')
    assert parse_message(awareness_message(states)) == AwarenessMessage(states)


def test_many_awareness_states_are_read_in_parts() -> None:
    states = _states(3 * STATES_TOGETHER + 1)
    said = parse_message(awareness_message(states))
    assert isinstance(said, ManyStates)
    parts = [part.states for part in said.parts()]
    assert [len(part) for part in parts] == [STATES_TOGETHER] * 3 + [1]
    assert tuple(itertools.chain(*parts)) == states


def _read(message: bytes) -> list[AwarenessMessage]:
    said = parse_message(message)
    return list(said.parts()) if isinstance(said, ManyStates) else [said]  # type: ignore[list-item]


@pytest.mark.parametrize("count", [1, STATES_TOGETHER + 1])
@pytest.mark.parametrize("end", [-1, -3])
def test_awareness_states_that_end_too_early_are_malformed(count: int, end: int) -> None:
    states = awareness_message(_states(count))
    body = states[states.index(var_uint(count), 2) :][:end]
    with pytest.raises(MalformedMessage):
        _read(b"\1" + var_uint(len(body)) + body)
    with pytest.raises(MalformedMessage):
        parse_message(b"\1\0")


def test_awareness_that_is_not_text_is_malformed() -> None:
    with pytest.raises(MalformedMessage):
        parse_message(b"\1\5\1\1\1\1\xff")


def test_states_are_written_in_messages_of_few_states_and_few_bytes() -> None:
    def written(states: tuple[AwarenessState, ...]) -> list[int]:
        said = [parse_message(message) for message in awareness_messages(states)]
        parts = [each.states for each in said if isinstance(each, AwarenessMessage)]
        assert tuple(itertools.chain(*parts)) == states
        return [len(part) for part in parts]

    assert written(()) == []
    assert written(_states(STATES_TOGETHER)) == [STATES_TOGETHER]
    assert written(_states(2 * STATES_TOGETHER + 5)) == [STATES_TOGETHER, STATES_TOGETHER, 5]
    assert written(_states(5, "x" * (STATES_BYTES // 2))) == [2, 2, 1]
    assert written(_states(2, "x" * 2 * STATES_BYTES)) == [1, 1]
