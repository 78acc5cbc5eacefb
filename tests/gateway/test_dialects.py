"""Streams as other agents print them, and the blocks and the end that they make."""

import json
from typing import Any

import pytest

from gateway.turns.agent_output import AgentOutput
from gateway.turns.dialects import Outcome
from storage import OutputPosition
from tests.support.agent_stream import run_here


def update(session_update: str, **more: Any) -> dict[str, Any]:
    params = {"sessionId": "s", "update": {"sessionUpdate": session_update, **more}}
    return {"jsonrpc": "2.0", "method": "session/update", "params": params}


def said(text: str) -> dict[str, Any]:
    return {"content": {"type": "text", "text": text}}


COMMAND = {"id": "item_1", "type": "command_execution", "command": "ls", "aggregated_output": "", "exit_code": None}
CODEX = [
    {"type": "thread.started", "thread_id": "0199"},
    {"type": "turn.started"},
    {"type": "item.completed", "item": {"id": "item_0", "type": "reasoning", "text": "Hm"}},
    {"type": "item.started", "item": {**COMMAND, "status": "in_progress"}},
    {"type": "item.completed", "item": {**COMMAND, "aggregated_output": "a\n", "exit_code": 2, "status": "failed"}},
    {"type": "item.completed", "item": {"id": "item_2", "type": "agent_message", "text": "Done"}},
]
CODEX_TYPES = ["system", "system", "thinking", "tool_use", "tool_result", "text", "result"]
ACP = [
    update("agent_thought_chunk", **said("H")),
    update("agent_thought_chunk", **said("m")),
    update("tool_call", toolCallId="c1", title="Read a.md", kind="read", status="pending", rawInput={"path": "a.md"}),
    update("tool_call_update", toolCallId="c1", status="completed", content=[{"type": "content", **said("text")}]),
    update("agent_message_chunk", **said("Do")),
    update("agent_message_chunk", **said("ne")),
]
ACP_TYPES = ["thinking", "tool_use", "tool_result", "text", "result"]
GEMINI = [
    {"type": "init", "session_id": "s", "model": "gemini-2.5-pro"},
    {"type": "message", "role": "user", "content": "List"},
    {"type": "tool_use", "tool_name": "list_directory", "tool_id": "t1", "parameters": {"path": "."}},
    {"type": "tool_result", "tool_id": "t1", "status": "success", "output": "a.md"},
    {"type": "message", "role": "assistant", "content": "Do", "delta": True},
    {"type": "message", "role": "assistant", "content": "ne", "delta": True},
]
GEMINI_TYPES = ["system", "text", "tool_use", "tool_result", "text", "result"]


@pytest.mark.parametrize(
    ("lines", "end", "types", "outcome"),
    [
        (CODEX, {"type": "turn.completed", "usage": {"input_tokens": 1}}, CODEX_TYPES, Outcome()),
        (CODEX, {"type": "turn.failed", "error": {"message": "x"}}, CODEX_TYPES, Outcome("failed", "x")),
        (ACP, {"jsonrpc": "2.0", "id": 2, "result": {"stopReason": "end_turn"}}, ACP_TYPES, Outcome()),
        (
            ACP,
            {"jsonrpc": "2.0", "id": 2, "result": {"stopReason": "refusal"}},
            ACP_TYPES,
            Outcome("failed", "refusal"),
        ),
        (ACP, {"jsonrpc": "2.0", "id": 2, "error": {"code": 1, "message": "x"}}, ACP_TYPES, Outcome("failed", "x")),
        (GEMINI, {"type": "result", "status": "success", "stats": {}}, GEMINI_TYPES, Outcome()),
        (
            GEMINI,
            {"type": "result", "status": "error", "error": {"type": "E", "message": "x"}},
            GEMINI_TYPES,
            Outcome("failed", "x"),
        ),
    ],
)
def test_an_agent_is_known_by_its_first_line_and_its_stream_becomes_blocks(
    lines: list[dict[str, Any]], end: dict[str, Any], types: list[str], outcome: Outcome
) -> None:
    output = AgentOutput(OutputPosition(0), line_limit=10_000)
    run_here(output.feed(b"".join(json.dumps(each).encode() + b"\n" for each in [*lines, end])))
    blocks = [(block.type, json.loads(block.content)) for block in output.to_store(0)[0]]
    assert [kind for kind, _ in blocks] == types
    assert blocks[-2] == ("text", "Done")
    assert output.outcome == outcome
    used = next(content for kind, content in blocks if kind == "tool_use")
    assert next(content for kind, content in blocks if kind == "tool_result")["tool_use_id"] == used["id"]
