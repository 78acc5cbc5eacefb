"""A stream as `claude -p --output-format stream-json --verbose` prints it, and what it becomes."""

import json
from typing import Any

from gateway.turns.agent_lines import read_line
from gateway.turns.agent_output import Steps

SESSION = "8f14e45f-ceea-467a-9575-d6e5e4a1b0c2"


def line(value: Any, *, ascii_only: bool = False) -> bytes:
    """One line of the stream."""
    return json.dumps(value, ensure_ascii=ascii_only, separators=(",", ":")).encode() + b"\n"


def assistant(*parts: dict[str, Any], parent: str | None = None) -> dict[str, Any]:
    message = {
        "id": "msg_01", "type": "message", "role": "assistant", "model": "claude-sonnet-4-5", "content": list(parts),
        "stop_reason": None, "usage": {"input_tokens": 4, "output_tokens": 12},
    }  # fmt: skip
    return {"type": "assistant", "message": message, "parent_tool_use_id": parent, "session_id": SESSION, "uuid": "u-1"}


def user(*parts: dict[str, Any], parent: str | None = None) -> dict[str, Any]:
    return {
        "type": "user", "message": {"role": "user", "content": list(parts)}, "parent_tool_use_id": parent,
        "session_id": SESSION,
    }  # fmt: skip


def text(value: str) -> dict[str, Any]:
    return {"type": "text", "text": value}


INIT = {
    "type": "system", "subtype": "init", "cwd": "/workspace/日本語", "session_id": SESSION,
    "tools": ["Task", "Bash", "Read", "Edit"], "mcp_servers": [], "model": "claude-sonnet-4-5",
    "permissionMode": "default", "apiKeySource": "none", "uuid": "u-0",
}  # fmt: skip
SUCCESS = {
    "type": "result", "subtype": "success", "is_error": False, "duration_ms": 8123, "duration_api_ms": 7000,
    "num_turns": 3, "result": "Done ✅", "session_id": SESSION, "total_cost_usd": 0.0421,
    "usage": {"input_tokens": 812, "cache_read_input_tokens": 9000, "output_tokens": 400}, "permission_denials": [],
}  # fmt: skip
FAILURE = {
    "type": "result", "subtype": "error_max_turns", "is_error": True, "duration_ms": 90, "num_turns": 20,
    "session_id": SESSION, "total_cost_usd": 1.2, "usage": {"output_tokens": 9},
}  # fmt: skip
UNKNOWN = {"type": "stream_checkpoint", "at": [1, 2, {"três": "ünïcode 🎈"}]}
LARGE_RESULT = "".join(f"{number}: грядка €{number * number} 👩‍👩‍👧\n" for number in range(20_000))

LINES: list[tuple[bytes, list[tuple[str, Any]]]] = [
    (line(INIT), [("system", INIT)]),
    (
        line(assistant({"type": "thinking", "thinking": "Hm — 考えよう", "signature": "c2ln"})),
        [("thinking", "Hm — 考えよう")],
    ),
    (line(assistant(text("I’ll look at the café 🫖 first."))), [("text", "I’ll look at the café 🫖 first.")]),
    (
        line(assistant({"type": "tool_use", "id": "toolu_1", "name": "Bash", "input": {"command": "cat größe.txt"}})),
        [("tool_use", {"id": "toolu_1", "name": "Bash", "input": {"command": "cat größe.txt"}})],
    ),
    (
        line(user({"tool_use_id": "toolu_1", "type": "tool_result", "content": "tschüß\r\n", "is_error": False})),
        [("tool_result", {"tool_use_id": "toolu_1", "content": "tschüß\r\n", "is_error": False})],
    ),
    (b"\r\n", []),
    (line(UNKNOWN, ascii_only=True).replace(b"\n", b"\r\n"), [("text", UNKNOWN)]),
    (
        line(
            assistant(
                text("Two at once."),
                {"type": "tool_use", "id": "toolu_2", "name": "Read", "input": {}},
                {"type": "redacted_thinking", "data": "b3BhcXVl"},
            )
        ),
        [
            ("text", "Two at once."),
            ("tool_use", {"id": "toolu_2", "name": "Read", "input": {}}),
            ("thinking", {"type": "redacted_thinking", "data": "b3BhcXVl"}),
        ],
    ),
    (
        line(user({"tool_use_id": "toolu_2", "type": "tool_result", "content": [text("été")], "is_error": True})),
        [("tool_result", {"tool_use_id": "toolu_2", "content": [text("été")], "is_error": True})],
    ),
    (
        line(assistant(text("a subagent speaks"), parent="toolu_3")),
        [("text", {"type": "assistant", "content": text("a subagent speaks"), "parent_tool_use_id": "toolu_3"})],
    ),
    (
        line(user({"tool_use_id": "toolu_4", "type": "tool_result", "content": None}, parent="toolu_3")),
        [
            (
                "tool_result",
                {"tool_use_id": "toolu_4", "content": None, "is_error": False, "parent_tool_use_id": "toolu_3"},
            )
        ],
    ),
    (
        line(user(text("[Request interrupted by user]"))),
        [("text", {"type": "user", "content": text("[Request interrupted by user]")})],
    ),
    (line(SUCCESS), [("result", SUCCESS)]),
]  # fmt: skip
"""Every kind of line that is well-formed, and its blocks; the last is the result."""

STREAM = b"".join(part for part, _ in LINES)
BLOCKS = [block for _, blocks in LINES for block in blocks]


def large_stream() -> tuple[bytes, list[tuple[str, Any]]]:
    """The same with a malformed line and a tool result of more than a megabyte before the end."""
    large = {"tool_use_id": "toolu_1", "content": LARGE_RESULT, "is_error": False}
    lines = [
        *LINES[:-1],
        (line(user({"type": "tool_result", **large})), [("tool_result", large)]),
        (b'{"type":"assistant","message":{"content":[\n', [("error", None)]),
        LINES[-1],
    ]
    return b"".join(part for part, _ in lines), [block for _, blocks in lines for block in blocks]


def run_here(steps: Steps) -> None:
    """Do all steps at once, in this process."""
    answer: Any = None
    while True:
        try:
            line = steps.send(answer)
        except StopIteration:
            return
        answer = None if line is None else read_line(line)
