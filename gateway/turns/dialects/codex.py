"""The dialect of Codex: `codex exec --json`; pure.

A thread has turns, and a turn has items. An item appears as `item.started`, possibly `item.updated`, and
`item.completed`: its action becomes a tool use, its output the tool result.
"""

from typing import Any

from gateway.turns.dialects.base import (
    MOST_USED,
    Change,
    Line,
    Memory,
    Outcome,
    Put,
    Reading,
    failed,
    message_of,
    tool_result,
    tool_use,
)

_INPUTS = {
    "command_execution": ("command",),
    "file_change": ("changes",),
    "mcp_tool_call": ("arguments",),
    "collab_tool_call": ("tool", "prompt", "receiver_thread_ids"),
    "web_search": ("query",),
}
"""By item type, for items that are tool uses: the members that make up the tool's input."""
_PROSE = {"agent_message": "text", "reasoning": "thinking"}


class Codex:
    name = "codex"

    def knows(self, line: Line) -> bool:
        kind = line.get("type")
        if kind == "error":
            return isinstance(line.get("message"), str) and "severity" not in line
        return isinstance(kind, str) and kind.startswith(("thread.", "turn.", "item."))

    def read(self, line: Line, memory: Memory) -> Reading | None:
        match line:
            case {"type": "thread.started" | "turn.started"}:
                return Reading([Put("system", line)], works=line["type"] == "turn.started")
            case {"type": "turn.completed"}:
                return Reading([Put("result", line)], Outcome())
            case {"type": "turn.failed"}:
                return Reading([Put("result", line)], failed(message_of(line.get("error")), line.get("message")))
            case {"type": "error", "message": str(message)}:
                return Reading([Put("error", {"message": message, "line": line})])
            case {"type": "item.started" | "item.updated" | "item.completed", "item": {"id": str(id)} as item}:
                return Reading(_item(line, id, item, memory), works=True)
        return None


def _item(line: Line, id: str, item: dict[str, Any], memory: Memory) -> list[Change]:
    kind, whole = item.get("type"), line["type"] == "item.completed"
    if kind in _PROSE and isinstance(item.get("text"), str):
        if not item["text"] and not whole:
            return []
        return [Put(_PROSE[kind], item["text"], id, open=not whole)]  # type: ignore[arg-type]
    if kind in _INPUTS:
        return _tool(id, item, whole, memory)
    if kind == "error":
        return [Put("error", {"message": message_of(item), "line": line})]
    return [Put("text", item)]


def _tool(id: str, item: dict[str, Any], whole: bool, memory: Memory) -> list[Change]:
    """Return the tool use when an item first appears, and its result, which may grow until it is complete."""
    changes: list[Change] = []
    used = memory.setdefault("used", [])
    if id not in used:
        used[:] = [*used[-MOST_USED:], id]
        changes.append(tool_use(id, _name(item), _given(item)))
    output = _output(item)
    if whole:
        used.remove(id)
        is_error = item.get("status") in ("failed", "declined") or item.get("exit_code") not in (0, None)
        changes.append(Put("tool_result", tool_result(id, output, is_error).content, id))
    elif isinstance(output, str) and output:
        changes.append(Put("tool_result", tool_result(id, output, is_error=False).content, id, open=True))
    return changes


def _name(item: dict[str, Any]) -> Any:
    if item["type"] == "mcp_tool_call":
        return f"{item.get('server')}.{item.get('tool')}"
    return item["type"]


def _given(item: dict[str, Any]) -> Any:
    members = _INPUTS[item["type"]]
    if members == ("arguments",):
        return item.get("arguments")
    return {member: item[member] for member in members if member in item}


def _output(item: dict[str, Any]) -> Any:
    """Return the output of a tool use: its text, or the members that describe the result."""
    if item["type"] == "command_execution":
        return item.get("aggregated_output", "")
    if item["type"] == "mcp_tool_call":
        result, error = item.get("result"), message_of(item.get("error"))
        return error if error is not None else result.get("content", result) if isinstance(result, dict) else result
    told = {"id", "type", "status", *_INPUTS[item["type"]]}
    return {member: value for member, value in item.items() if member not in told} or None
