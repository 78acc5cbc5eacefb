"""Lines of an agent's output, however they are cut, become the same blocks."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.agent_output import AgentOutput, parse_line
from storage import NewBlock, OutputPosition
from tests.support.agent_stream import BLOCKS, FAILURE, LINES, STREAM, assistant, large_stream, line, text, user

_LIMIT = 1 << 20


def read(block: NewBlock) -> tuple[str, Any]:
    return block.type, json.loads(block.content)


def take(pieces: list[bytes], *, limit: int = _LIMIT) -> tuple[list[tuple[str, Any]], AgentOutput]:
    """All blocks of a stream that comes in pieces of one request."""
    output = AgentOutput(OutputPosition(0), line_limit=limit)
    blocks = [read(block) for piece in pieces for block in output.feed(piece)]
    return blocks, output


@pytest.mark.parametrize(("given_line", "blocks"), LINES)
def test_each_line_becomes_its_blocks(given_line: bytes, blocks: list[tuple[str, Any]]) -> None:
    assert take([given_line])[0] == blocks


def test_the_stream_cut_at_any_byte_makes_the_same_blocks() -> None:
    for cut in range(len(STREAM) + 1):
        blocks, output = take([STREAM[:cut], STREAM[cut:]])
        assert blocks == BLOCKS, cut
        assert output.outcome is not None
        assert not output.outcome.failed
        assert output.position == OutputPosition(len(STREAM))


def test_the_stream_in_two_requests_cut_at_any_byte_makes_the_same_blocks() -> None:
    for cut in range(len(STREAM) + 1):
        first = AgentOutput(OutputPosition(0), line_limit=_LIMIT)
        blocks = first.feed(STREAM[:cut])
        position = first.position
        if first.outcome is None:
            more, position = first.pause()
            blocks += more
            assert position.offset == cut
            if not first.outcome:
                second = AgentOutput(position, line_limit=_LIMIT)
                blocks += second.feed(STREAM[cut:])
                position = second.position
        assert [read(block) for block in blocks] == BLOCKS, cut
        assert position.offset in (len(STREAM), len(STREAM) - 1)  # the last line is whole without its line break


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_the_stream_in_any_pieces_and_requests_makes_the_same_blocks(data: st.DataObject) -> None:
    stream, expected = large_stream()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    pauses = data.draw(st.sets(st.integers(0, 12)))
    output = AgentOutput(OutputPosition(0), line_limit=1 << 22)
    blocks: list[NewBlock] = []
    for number, (start, end) in enumerate(zip([0, *cuts], [*cuts, len(stream)], strict=True)):
        blocks += output.feed(stream[start:end])
        if number in pauses and output.outcome is None:
            more, position = output.pause()
            blocks += more
            if output.outcome is None:
                output = AgentOutput(position, line_limit=1 << 22)
    found = [read(block) for block in blocks]
    assert [kind for kind, _ in found] == [kind for kind, _ in expected]
    assert [block for block in found if block[0] != "error"] == [block for block in expected if block[0] != "error"]
    assert output.outcome is not None


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
    assert output.outcome is None


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
        assert output.position == OutputPosition(len(stream))


def test_a_line_over_the_limit_is_dropped_across_requests_too() -> None:
    stream = line(assistant(text("x" * 5000))) + line(assistant(text("after")))
    position, blocks = OutputPosition(0), []
    for start in range(0, len(stream), 700):
        output = AgentOutput(position, line_limit=1000)
        blocks += output.feed(stream[start : start + 700])
        more, position = output.pause()
        blocks += more
        assert len(position.state) <= 1001
    assert [read(block)[0] for block in blocks] == ["error", "text"]


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
def test_the_result_says_how_the_turn_ended(result: dict[str, Any], failed: bool, error: str | None) -> None:
    blocks, outcome = parse_line(line({"type": "result", **result}))
    assert outcome is not None
    assert (outcome.failed, outcome.error) == (failed, error)
    assert [block.type for block in blocks] == ["error" if failed else "text"]
    kept = read(blocks[0])[1]
    assert (kept["line"] if failed else kept) == {"type": "result", **result}


def test_nothing_is_read_after_the_result() -> None:
    blocks, output = take([line(FAILURE) + b"\n  \n"])
    assert len(blocks) == 1
    assert not output.surplus
    assert output.feed(line(assistant(text("late")))) == []
    assert output.surplus
    assert output.position == OutputPosition(len(line(FAILURE)))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200), st.integers(1, 50))
def test_no_bytes_make_it_fail_and_it_accounts_for_all_of_them(stream: bytes, size: int) -> None:
    output = AgentOutput(OutputPosition(0), line_limit=64)
    for start in range(0, len(stream), size):
        for block in output.feed(stream[start : start + size]):
            json.loads(block.content)
    if output.outcome is None:
        blocks, position = output.pause()
        assert position.offset == len(stream)
        assert all(json.loads(block.content) is not None for block in blocks)
