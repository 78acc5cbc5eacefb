"""The dialect of Gemini CLI: `gemini --output-format stream-json`; pure.

A message of the assistant arrives in pieces, each marked with `delta`; any other line ends the message.
"""

from gateway.turns.dialects.base import (
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


class Gemini:
    name = "gemini"

    def knows(self, line: Line) -> bool:
        match line:
            case {"type": "init"} | {"type": "message", "role": str()} | {"type": "error", "severity": str()}:
                return True
            case {"type": "tool_use" | "tool_result", "tool_id": str()} | {"type": "result", "status": str()}:
                return True
        return False

    def read(self, line: Line, memory: Memory) -> Reading | None:
        match line:
            case {"type": "message", "role": "assistant", "content": str(text), "delta": True}:
                return Reading([Grow("text", f"message {memory.setdefault('message', 0)}", text)], works=True)
            case {"type": "message" | "tool_use" | "tool_result" | "init" | "error" | "result"}:
                memory["message"] = memory.get("message", 0) + 1
                reading = _read(line)
                return reading and Reading([Close(), *reading.changes], reading.outcome, reading.works)
        return None


def _read(line: Line) -> Reading | None:
    block: Change
    match line:
        case {"type": "init"}:
            return Reading([Put("system", line)])
        case {"type": "message", "role": "assistant", "content": str(text)}:
            return Reading([Put("text", text)], works=True)
        case {"type": "message", "role": str(role), "content": content}:
            return Reading([Put("text", {"type": role, "content": content})], works=True)
        case {"type": "tool_use", "tool_id": str(id)}:
            return Reading([tool_use(id, line.get("tool_name"), line.get("parameters"))], works=True)
        case {"type": "tool_result", "tool_id": str(id)}:
            is_error = line.get("status") == "error"
            content = line.get("output")
            if is_error and content is None:
                content = message_of(line.get("error"))
            return Reading([tool_result(id, content, is_error)], works=True)
        case {"type": "error", "message": str(message)}:
            block = Put("error", {"message": message, "line": line})
            return Reading([block])
        case {"type": "result"}:
            if line.get("status") == "success":
                return Reading([Put("result", line)], Outcome())
            return Reading([Put("result", line)], failed(message_of(line.get("error")), line.get("status")))
    return None
