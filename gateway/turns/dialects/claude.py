"""The dialect of Claude Code: `claude -p --output-format stream-json --verbose [--include-partial-messages]`; pure.

A message arrives part by part in `assistant` lines. With partial messages each part arrives twice: as deltas in
`stream_event` lines, which grow a block, and then complete, which replaces that block. A `result` ends a turn of the
model. Background work may wake the model again, and the run then goes on after the result.
"""

from collections.abc import Iterator
from typing import Any

from gateway.turns.dialects.base import Change, Close, Grow, Line, Memory, Outcome, Put, Reading, failed, message_of

_TYPES = frozenset({"assistant", "user", "system", "stream_event", "rate_limit_event", "control_request"})
_GROWING = {"text_delta": ("text", "text"), "thinking_delta": ("thinking", "thinking")}
"""By delta type: the type of the block, and the member that holds the text."""


class Claude:
    name = "claude"

    def knows(self, line: Line) -> bool:
        if line.get("type") == "result":
            return "status" not in line
        return line.get("type") in _TYPES

    def read(self, line: Line, memory: Memory) -> Reading | None:
        match line:
            case {"type": "result"}:
                return _result(line, memory)
            case {"type": "system"}:
                return Reading([Put("system", line)], works=line.get("subtype") == "task_notification")
            case {"type": "stream_event", "event": {"type": str(kind)} as event}:
                return _event(line, kind, event, memory)
            case {"type": "assistant" | "user" as role, "message": {"content": list(parts)}}:
                return _message(role, parts, line, memory)
            case {"type": "assistant", "message": {"content": str(text)}}:
                return _message("assistant", [{"type": "text", "text": text}], line, memory)
        return None


def _result(line: Line, memory: Memory) -> Reading:
    """Return the unchanged line, which has cost and usage, and the outcome of the run.

    A result without a turn of the model has no outcome: that of a task notification, or an error that follows the
    run's own result.
    """
    subtype = line.get("subtype")
    is_failure = bool(line.get("is_error")) or (isinstance(subtype, str) and subtype.startswith("error"))
    block = Put("result", line)
    origin = line.get("origin")
    of_task = isinstance(origin, dict) and origin.get("kind") == "task-notification"
    if of_task or (is_failure and line.get("num_turns") == 0 and memory.get("result")):
        return Reading([Close(), block])
    memory["result"] = True
    if not is_failure:
        return Reading([Close(), block], Outcome())
    errors = line.get("errors")
    joined = "; ".join(map(str, errors)) if isinstance(errors, list) else None
    return Reading([Close(), block], failed(joined, line.get("result"), message_of(line.get("error")), subtype))


def _message(role: str, parts: list[Any], line: Line, memory: Memory) -> Reading:
    """Return a block for each part of a message. `parent_tool_use_id` names the tool use that started a subagent."""
    parent = line.get("parent_tool_use_id")
    return Reading(_blocks(role, parts, {} if parent is None else {"parent_tool_use_id": parent}, memory), works=True)


def _blocks(role: str, parts: list[Any], above: dict[str, Any], memory: Memory) -> Iterator[Change]:
    for part in parts:
        block = _part(role, part, above)
        if role == "assistant" and not above:
            block = _in_place(block, memory)
        yield block


def _in_place(block: Put, memory: Memory) -> Put:
    """Put the complete block under the key of the oldest grown block of its type, which it replaces."""
    for place, (key, kind) in enumerate(memory.get("open", ())):
        if kind == block.type:
            del memory["open"][place]
            return Put(block.type, block.content, key)
    return block


def _part(role: str, part: Any, parent: dict[str, Any]) -> Put:
    """Return the block of one part of a message's content."""
    match part:
        case {"tool_use_id": str(id)}:
            result = {"tool_use_id": id, "content": part.get("content"), "is_error": bool(part.get("is_error"))}
            return Put("tool_result", {**result, **parent})
        case {"id": str(id), "name": str(name), "input": given}:
            return Put("tool_use", {"id": id, "name": name, "input": given, **parent})
        case {"type": "text", "text": str(text)} if role == "assistant" and not parent:
            return Put("text", text)
        case {"type": "thinking", "thinking": str(text)}:
            return Put("thinking", {"thinking": text, **parent} if parent else text)
        case {"type": "redacted_thinking"}:
            return Put("thinking", {**part, **parent})
    return Put("text", {"type": role, "content": part, **parent})


def _event(line: Line, kind: str, event: dict[str, Any], memory: Memory) -> Reading | None:
    """Interpret an event of the model's stream. Tool uses and subagents' messages come from complete lines only."""
    if line.get("parent_tool_use_id") is not None:
        return Reading()
    match kind, event:
        case "message_start", _:
            memory["message"] = memory.get("message", 0) + 1
            memory["open"] = []
            return Reading([Close()], works=True)
        case "content_block_delta", {"delta": {"type": str(delta_type)} as delta}:
            block_type, member = _GROWING.get(delta_type, ("", ""))
            text = delta.get(member)
            if block_type not in ("text", "thinking") or not isinstance(text, str):
                return Reading(works=True)
            key = f"{memory.get('message', 0)}.{event.get('index')}"
            opened = memory.setdefault("open", [])
            if [key, block_type] not in opened:
                opened.append([key, block_type])
            return Reading([Grow(block_type, key, text)], works=True)  # type: ignore[arg-type]
        case (("content_block_start" | "content_block_stop" | "message_delta" | "message_stop" | "ping"), _):
            return Reading()
    return None
