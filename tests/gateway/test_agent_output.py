"""Lines of an agent's output, however they are cut, become the same blocks."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.turns.agent_lines import Effect, LongLine, effects_in, read_line
from gateway.turns.agent_output import AgentOutput
from gateway.turns.dialects import Outcome, Put
from storage import NewBlock, OutputPosition
from tests.support.agent_stream import (
    BLOCKS,
    FAILURE,
    LINES,
    STREAM,
    SUCCESS,
    assistant,
    large_stream,
    line,
    run_here,
    text,
    user,
)

_LIMIT = 1 << 20


class Turn:
    """A turn's blocks, as storage would have them, and the reader of its output."""

    def __init__(self, *, limit: int = _LIMIT, dialect: str | None = None) -> None:
        self.blocks: list[NewBlock] = []
        self.told: list[list[int]] = []
        """By each time that something was stored, the positions of what was."""
        self.result: Outcome | None = None
        self.settles = False
        self._options: dict[str, Any] = {"line_limit": limit, "dialect": dialect}
        self.position = OutputPosition(0)
        self.reader = self._open()

    def _open(self) -> AgentOutput:
        return AgentOutput(self.position, block_count=len(self.blocks), settles=self.settles, **self._options)

    def feed(self, data: bytes) -> "Turn":
        run_here(self.reader.feed(data))
        return self

    def store(self, *, paused: bool = False) -> None:
        count = len(self.blocks)
        blocks, grown = self.reader.to_store(count)
        self.position = self.reader.position(count, paused=paused)
        self.result, self.settles = self.reader.outcome or self.result, self.reader.settles
        self.blocks += blocks
        for block in grown:
            self.blocks[block.index] = msgspec.structs.replace(self.blocks[block.index], content=block.content)
        self.told.append([*(block.index for block in grown), *range(count, len(self.blocks))])
        self.reader.stored(count)

    def next_request(self) -> None:
        """The request ends here, and another one goes on."""
        run_here(self.reader.pause())
        self.store(paused=True)
        self.reader = self._open()

    def end(self) -> "Turn":
        run_here(self.reader.pause(final=True))
        self.store(paused=True)
        return self

    @property
    def read(self) -> list[tuple[str, Any]]:
        return [(block.type, json.loads(block.content)) for block in self.blocks]


def take(pieces: list[bytes], *, limit: int = _LIMIT) -> tuple[list[tuple[str, Any]], Turn]:
    """All blocks of a stream that comes in pieces of one request."""
    turn = Turn(limit=limit)
    for piece in pieces:
        turn.feed(piece)
    turn.store()
    return turn.read, turn


@pytest.mark.parametrize(("given_line", "blocks"), LINES)
def test_each_line_becomes_its_blocks(given_line: bytes, blocks: list[tuple[str, Any]]) -> None:
    assert take([given_line])[0] == blocks


def test_the_stream_cut_at_any_byte_makes_the_same_blocks() -> None:
    for cut in range(len(STREAM) + 1):
        blocks, turn = take([STREAM[:cut], STREAM[cut:]])
        assert blocks == BLOCKS, cut
        assert turn.result == Outcome()
        assert turn.position.offset == len(STREAM)


def test_the_stream_in_two_requests_cut_at_any_byte_makes_the_same_blocks() -> None:
    for cut in range(len(STREAM) + 1):
        turn = Turn().feed(STREAM[:cut])
        turn.next_request()
        assert turn.position.offset == cut
        turn.feed(STREAM[cut:]).end()
        assert turn.read == BLOCKS, cut
        assert turn.position.offset == len(STREAM)
        assert turn.result == Outcome()


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_the_stream_in_any_pieces_and_requests_makes_the_same_blocks(data: st.DataObject) -> None:
    stream, expected = large_stream()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    pauses = data.draw(st.sets(st.integers(0, 12)))
    turn = Turn(limit=1 << 22)
    for number, (start, end) in enumerate(zip([0, *cuts], [*cuts, len(stream)], strict=True)):
        turn.feed(stream[start:end])
        if number in pauses:
            turn.next_request()
    found = turn.end().read
    assert [kind for kind, _ in found] == [kind for kind, _ in expected]
    assert [block for block in found if block[0] != "error"] == [block for block in expected if block[0] != "error"]
    assert turn.result is not None


@pytest.mark.parametrize(
    "malformed",
    [
        b"{", b"nonsense", b"[1]", b"17", b'"text"', b"null", b"\xff\xfe{}", b'{"type":"assistant" "x"}',
        b'{"a":1e400}', b'{"a":NaN}', b"[" * 100_000, b'{"a":' * 100_000, b"\x00",
    ],
)  # fmt: skip
def test_a_malformed_line_becomes_an_error_and_the_rest_goes_on(malformed: bytes) -> None:
    blocks, output = take([line(assistant(text("before"))) + malformed + b"\n" + line(assistant(text("after")))])
    assert [kind for kind, _ in blocks] == ["text", "error", "text"]
    assert "could not be read" in blocks[1][1]["message"]
    assert len(blocks[1][1]["line"]) <= 2000
    assert blocks[2] == ("text", "after")
    assert output.result is None


@pytest.mark.parametrize(
    "odd",
    [
        {}, {"type": None}, {"type": 3}, {"type": "assistant"}, {"type": "assistant", "message": "text"},
        {"type": "user", "message": {"content": "a prompt, replayed"}},
        {"type": "assistant", "message": {"content": 4}},
        {"type": "stream_event", "event": {"type": "content_block_delta"}}, {"type": "control_request"},
    ],
)  # fmt: skip
def test_a_line_that_is_not_known_is_kept_as_it_is(odd: dict[str, Any]) -> None:
    assert take([line(odd)])[0] == [("text", odd)]


@pytest.mark.parametrize("part", [3, None, "x", {}, {"type": "image", "source": {}}, {"type": "text", "text": 5}])
def test_a_part_that_is_not_known_is_kept_as_it_is(part: Any) -> None:
    assert take([line(user(part))])[0] == [("text", {"type": "user", "content": part})]


def test_a_message_whose_content_is_a_string_is_text() -> None:
    assert take([line({"type": "assistant", "message": {"content": "plain"}})])[0] == [("text", "plain")]


def test_half_a_surrogate_pair_does_not_cost_the_line() -> None:
    given_line = (
        b'{"type":"assistant","message":{"content":[{"type":"text","text":"cut \\ud83d and whole \\ud83d\\ude00"}]}}\n'
    )
    assert take([given_line])[0] == [("text", "cut ? and whole 😀")]


def test_a_line_over_the_limit_is_dropped_by_name_and_the_rest_goes_on() -> None:
    long = line(assistant(text("x" * 5000)))
    after = line(assistant(text("after")))
    for size in (1, 100, 999, 1000, 1001, 4096, 1 << 20):
        stream = long + after
        pieces = [stream[start : start + size] for start in range(0, len(stream), size)]
        blocks, output = take(pieces, limit=1000)
        assert [kind for kind, _ in blocks] == ["error", "text"], size
        assert "1000 bytes" in blocks[0][1]["message"]
        assert output.position.offset == len(stream)


def test_a_line_over_the_limit_is_dropped_across_requests_too() -> None:
    stream = line(assistant(text("x" * 5000))) + line(assistant(text("after")))
    turn = Turn(limit=1000)
    for start in range(0, len(stream), 700):
        turn.feed(stream[start : start + 700]).next_request()
        assert len(turn.position.state) <= 1100
    assert [kind for kind, _ in turn.read] == ["error", "text"]


@pytest.mark.parametrize(
    ("result", "failed", "error"),
    [
        ({"subtype": "success", "is_error": False, "result": "fine"}, False, None),
        ({"result": "fine"}, False, None),
        ({"subtype": "success", "is_error": True, "result": "API Error: 529"}, True, "API Error: 529"),
        ({"subtype": "error_max_turns", "is_error": False}, True, "error_max_turns"),
        ({"subtype": "error_during_execution", "is_error": True, "errors": ["a", "b"]}, True, "a; b"),
        ({"is_error": True}, True, "failed"),
        ({"is_error": True, "result": "x" * 20_000}, True, "x" * 10_000),
    ],
)
def test_the_result_says_how_the_run_ended(result: dict[str, Any], failed: bool, error: str | None) -> None:
    blocks, turn = take([line({"type": "result", **result})])
    assert turn.result == Outcome("failed" if failed else "completed", error)
    assert blocks == [("result", {"type": "result", **result})]


DRAINED = {**SUCCESS, "num_turns": 0, "result": "", "origin": {"kind": "task-notification"}}
NOTIFICATION = {"type": "system", "subtype": "task_notification", "task_id": "b1"}
SPURIOUS = {**FAILURE, "num_turns": 0, "errors": ["only prompt commands are supported in streaming mode"]}


@pytest.mark.parametrize(
    ("lines", "result", "settles"),
    [
        ([DRAINED], None, False),
        ([NOTIFICATION, DRAINED, assistant(text("work")), SUCCESS], Outcome(), True),
        ([DRAINED, assistant(text("work")), FAILURE], Outcome("failed", "error_max_turns"), True),
        ([SUCCESS, NOTIFICATION], Outcome(), False),
        ([SUCCESS, NOTIFICATION, assistant(text("ready"))], Outcome(), False),
        ([SUCCESS, {"type": "system", "subtype": "hook_response"}], Outcome(), True),
        ([SUCCESS, {**DRAINED, "is_error": True}], Outcome(), True),
        ([assistant(text("x")), SUCCESS, SPURIOUS], Outcome(), True),
        ([SPURIOUS], Outcome("failed", "only prompt commands are supported in streaming mode"), True),
        ([SUCCESS, assistant(text("more")), FAILURE], Outcome("failed", "error_max_turns"), True),
        ([FAILURE, assistant(text("again")), SUCCESS], Outcome(), True),
        ([{**SUCCESS, "subtype": "completion"}], Outcome(), True),
    ],
)
def test_the_last_result_of_the_runs_own_decides_and_nothing_behind_it_is_dropped(
    lines: list[dict[str, Any]], result: Outcome | None, settles: bool
) -> None:
    for cut in (False, True):
        turn = Turn()
        for each in lines:
            turn.feed(line(each))
            if cut:
                turn.next_request()
        turn.store()
        assert (turn.result, turn.settles) == (result, settles)
        assert len(turn.blocks) == len(lines)


@pytest.mark.parametrize(
    ("stream", "blocks"),
    [
        (line(assistant(text("x"))).strip() + line(assistant(text("y"))), [("text", "x"), ("text", "y")]),
        (line([assistant(text("x")), SUCCESS]), [("text", "x"), ("result", SUCCESS)]),
        (b"\xef\xbb\xbf" + line(assistant(text("x"))), [("text", "x")]),
        (line(assistant(text("x"))).replace(b'"x"', b'"x\xff"'), [("text", "x\ufffd")]),
        (line(assistant(text("a\u2028b\u0085c\0d"))), [("text", "a\u2028b\u0085c\0d")]),
        (line({"type": "odd", "n": 2**70}), [("text", {"type": "odd", "n": 2**70})]),
    ],
)
def test_lines_as_they_really_come_are_read(stream: bytes, blocks: list[tuple[str, Any]]) -> None:
    assert take([stream])[0] == blocks


def test_a_line_of_very_many_values_is_read_elsewhere_and_refused_by_its_number() -> None:
    part = {"type": "text", "text": "x"}
    heavy = line(assistant(*[part] * 300_000))
    output = AgentOutput(OutputPosition(0), line_limit=1 << 24)
    steps = output.feed(line(assistant(text("before"))) + heavy + line(assistant(text("after"))))
    asked = next(steps)
    assert asked is not None
    assert b"".join(asked.pieces) == heavy.rstrip(b"\n")
    with pytest.raises(StopIteration):
        steps.send(read_line(asked))
    blocks = [(block.type, json.loads(block.content)) for block in output.to_store(0)[0]]
    assert [kind for kind, _ in blocks] == ["text", "error", "text"]
    assert "more than 50000 values" in blocks[1][1]["message"]


@pytest.mark.parametrize("content", ["A, [{\n" * 2_000_000, "A\n" * 1_000_000, "é" * 400_000])
def test_a_long_line_is_neither_joined_nor_read_here_and_its_contents_come_encoded(content: str) -> None:
    stream = line(user({"type": "tool_result", "tool_use_id": "t", "content": content, "is_error": False}))
    blocks, _ = take([stream], limit=1 << 24)
    assert blocks[0][1]["content"] == content
    output = AgentOutput(OutputPosition(0), line_limit=1 << 24)
    for start in range(0, len(stream), 100_000):
        steps = [*output.feed(stream[start : start + 100_000])] if start + 100_000 < len(stream) else None
        assert steps in ([], None)
    steps_of_the_end = output.feed(stream[len(stream) // 100_000 * 100_000 :])
    asked = next(steps_of_the_end)
    assert asked is not None
    assert max(map(len, asked.pieces)) <= 200_000
    read = read_line(asked)
    first, *others = read.slices
    assert isinstance(first, Effect)  # it goes through no other encoding
    assert isinstance(first.change, Put)
    assert [effect.change for part in others for effect in effects_in(part)] == [None]
    assert steps_of_the_end.send(read) is None
    assert [*steps_of_the_end] == [None] * (len(read.slices) - 1)
    assert output.to_store(0)[0][0].content is first.change.content


def test_bytes_that_arrive_one_by_one_are_kept_in_pieces_that_are_not_small() -> None:
    output = AgentOutput(OutputPosition(0), line_limit=1 << 24)
    stream = line(assistant(text("x" * 300_000)))
    for start in range(0, len(stream) - 1, 100):
        assert not [*output.feed(stream[start : min(start + 100, len(stream) - 1)])]
    asked = next(output.feed(b"\n"))
    assert asked is not None
    assert len(asked.pieces) <= 6


@pytest.mark.parametrize(
    "stream",
    [
        line(assistant(*[text("x")] * 1_900)),  # of less than 64 KB, read here
        line(assistant(*[text("x")] * 16_000)),
        line([assistant(text("x"))] * 2_000),
        line(assistant(text("x"))).strip() * 2_000 + b"\n",
    ],
)
def test_very_many_blocks_of_one_line_are_made_in_steps(stream: bytes) -> None:
    output = AgentOutput(OutputPosition(0), line_limit=1 << 24)
    steps, made, most = output.feed(stream), 0, 0
    answer: Any = None
    while True:
        try:
            asked = steps.send(answer)
        except StopIteration:
            break
        answer = None if asked is None else read_line(asked)
        now = len(output.to_store(0)[0])
        made, most = now, max(most, now - made)
    assert made >= 1_600
    assert most <= 200
    count = stream.count(b'"text":"x"')
    assert len(output.to_store(0)[0]) == count


def test_what_many_lines_make_is_stored_before_more_is_read() -> None:
    turn = Turn()
    unstored = []
    for step in turn.reader.feed(b'{"a":1}\n' * 5_000):
        assert step is None
        if turn.reader.is_full:
            unstored.append(len(turn.reader.to_store(0)[0]))
            turn.store()
    turn.store()
    assert len(turn.blocks) == 5_000
    assert len(unstored) >= 4
    assert max(unstored) <= 1_200


@pytest.mark.parametrize(
    ("rest", "whole"),
    [(line(assistant(text("x" * 300_000)))[:-1], True), (b'{"a":"' + b"x" * 300_000, False), (b" " * 300, True)],
)
def test_an_unfinished_long_line_is_looked_at_only_if_it_may_be_whole(rest: bytes, whole: bool) -> None:
    turn = Turn().feed(rest)
    steps = turn.reader.pause()
    asked = [step for step in steps if step is not None] if len(rest) < 1_000 or not whole else [next(steps)]
    assert [isinstance(each, LongLine) for each in asked] == [True] * (whole and len(rest) > 1_000)
    turn = Turn().feed(rest)
    turn.next_request()
    assert turn.position.offset == len(rest)
    assert (turn.position.state[-len(rest) :].count(b"x") < 1_000) == whole
    turn.feed(b'"}\n' if not whole else b"\n").store()
    assert len(turn.blocks) == (len(rest) > 1_000)


def test_a_growing_text_is_encoded_once() -> None:
    deltas = ["a\n", "“é”", "\\", '"', "🎈", "\0"] * 3
    events = [
        {"type": "stream_event", "event": {"type": "content_block_delta", "index": 0, "delta": delta}}
        for delta in ({"type": "text_delta", "text": each} for each in deltas)
    ]
    turn = Turn()
    for each in events:
        turn.feed(line(each))
        turn.next_request()
    assert turn.read == [("text", "".join(deltas))]


def test_many_lines_at_once_give_others_their_turn() -> None:
    steps = AgentOutput(OutputPosition(0), line_limit=1000).feed(b"{}\n" * 1000)
    assert [step for step in steps] == [None] * 10  # noqa: C416 - all steps are taken; lines and blocks count


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200), st.integers(1, 50), st.sampled_from([None, "text", "acp"]))
def test_no_bytes_make_it_fail_and_it_accounts_for_all_of_them(stream: bytes, size: int, dialect: str | None) -> None:
    turn = Turn(limit=64, dialect=dialect)
    for start in range(0, len(stream), size):
        turn.feed(stream[start : start + size])
        if start % 3 == 0:
            turn.next_request()
    turn.end()
    assert turn.position.offset == len(stream)
    if dialect == "text":
        assert "".join(content for _, content in turn.read) == stream.decode("utf-8", "replace")
