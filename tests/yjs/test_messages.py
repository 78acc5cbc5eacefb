"""Messages of y-websocket's protocol are read as they are written, whatever their length is."""

from typing import Any

import pytest

from gateway.yjs.lib0 import var_uint
from gateway.yjs.messages import (
    MalformedMessage,
    MalformedStateVector,
    SyncMessage,
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


def test_a_state_vector_that_names_too_many_clients_is_refused_before_it_is_copied() -> None:
    class Bytes(bytes):
        def __getitem__(self, key: Any) -> Any:
            assert not isinstance(key, slice) or key.stop == 2  # the kind of the message
            return super().__getitem__(key)

    entries = 300_000
    vector = var_uint(entries) + b"\0\0" * entries
    with pytest.raises(MalformedStateVector):
        parse_message(Bytes(b"\0\0" + var_uint(len(vector)) + vector))
    with pytest.raises(MalformedMessage):  # it ends too early, and does not name many
        parse_message(b"\0\0" + var_uint(100_000) + b"\1\5\1")
