"""The dialect of the Agent Client Protocol: the agent's JSON-RPC messages to its client, one per line; pure.

`session/update` reports what the agent does; the response to `session/prompt` has the stop reason.
"""

from typing import Any

from gateway.turns.dialects.base import (
    MOST_USED,
    Change,
    Close,
    Grow,
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
from storage import BlockType

_PROSE: dict[str, BlockType] = {"agent_message_chunk": "text", "agent_thought_chunk": "thinking"}
_ENDED = ("completed", "failed")


class Acp:
    name = "acp"

    def knows(self, line: Line) -> bool:
        return line.get("jsonrpc") == "2.0" or line.get("method") == "session/update"

    def read(self, line: Line, memory: Memory) -> Reading | None:
        match line:
            case {"method": "session/update", "params": {"update": {"sessionUpdate": str(kind)} as update}}:
                return _update(kind, update, memory)
            case {"method": str()}:
                return Reading([Put("system", line)], works=True)
            case {"result": {"stopReason": str(reason)}}:
                return Reading([Close(), Put("result", line)], _stopped(reason))
            case {"error": error, "id": _}:
                return Reading([Close(), Put("result", line)], failed(message_of(error)))
            case {"result": _, "id": _}:
                return Reading([Put("system", line)])
        return None


def _stopped(reason: str) -> Outcome:
    """Return the outcome of a stop reason: only the model's own end of turn counts as completed."""
    if reason == "end_turn":
        return Outcome()
    return Outcome("cancelled", reason) if reason == "cancelled" else failed(reason)


def _update(kind: str, update: dict[str, Any], memory: Memory) -> Reading:
    content = update.get("content")
    if kind in _PROSE:
        return Reading(_chunk(kind, content, update, memory), works=True)
    memory.pop("growing", None)
    if kind in ("tool_call", "tool_call_update") and isinstance(update.get("toolCallId"), str):
        return Reading([Close(), *_tool(kind, update["toolCallId"], update, memory)], works=True)
    if kind == "user_message_chunk":
        return Reading([Close(), Put("text", {"type": "user", "content": content})], works=True)
    if kind == "plan":
        return Reading([Close(), Put("text", {"type": "plan", "entries": update.get("entries")})], works=True)
    return Reading([Put("system", update)])


def _chunk(kind: str, content: Any, update: dict[str, Any], memory: Memory) -> list[Change]:
    """Convert a piece of a message. Pieces of the same kind and `messageId` form one message."""
    match content:
        case {"type": "text", "text": str(text)}:
            message = f"{kind} {update.get('messageId')}"
            before = [] if memory.get("growing") in (message, None) else [Close()]
            if memory.get("growing") != message:
                memory["growing"] = message
                memory["message"] = memory.get("message", 0) + 1
            return [*before, Grow(_PROSE[kind], f"message {memory['message']}", text)]
    memory.pop("growing", None)
    return [Close(), Put("text", {"type": "assistant", "content": content})]


def _tool(kind: str, id: str, update: dict[str, Any], memory: Memory) -> list[Change]:
    """Return the tool use when a tool call first appears, and its result when the call has ended."""
    changes: list[Change] = []
    used = memory.setdefault("used", [])
    if id not in used:
        used[:] = [*used[-MOST_USED:], id]
        name = update.get("title") or update.get("kind")
        changes.append(tool_use(id, name, update.get("rawInput"), kind=update.get("kind")))
    elif kind == "tool_call_update" and update.get("rawInput") and update.get("status") not in _ENDED:
        changes.append(Put("text", {"type": kind, "update": update}))
    if update.get("status") in _ENDED:
        used.remove(id)
        changes.append(tool_result(id, _result(update), update["status"] == "failed"))
    return changes


def _result(update: dict[str, Any]) -> Any:
    """Return the result of a tool call: its content or, if it has none, its raw output."""
    content = update.get("content")
    if not isinstance(content, list) or not content:
        return update.get("rawOutput")
    return [
        part["content"] if isinstance(part, dict) and part.get("type") == "content" and "content" in part else part
        for part in content
    ]
