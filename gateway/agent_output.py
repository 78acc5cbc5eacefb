"""What Claude Code prints with `--output-format stream-json --verbose` as blocks of a turn: pure.

It is one JSON object a line; what each becomes stands in docs/turns.md. Nothing is dropped: a line that no block type
fits becomes a `text` block whose content is the line as an object, where prose is a string.
"""

import json
from typing import Any

import msgspec
from msgspec import Struct

from storage import BlockType, NewBlock, OutputPosition

_PARTIAL, _SKIPPING = b"+", b"-"
"""How a stored state begins: with a line that has not ended, or inside of one that is dropped."""

_SHOWN = 2000
"""Characters of a malformed line that its error block shows."""
ERROR_LENGTH = 10_000
"""The most characters of a turn's error."""


class Outcome(Struct, frozen=True):
    """What a `result` line says of its turn."""

    failed: bool
    error: str | None = None


class AgentOutput:
    """Reads a stream of lines, however it is cut into pieces, and at the `result` line stops.

    Args:
        position: where an earlier reader of the stream paused.
        line_limit: the longest line, in bytes; a longer one becomes an error block.
    """

    def __init__(self, position: OutputPosition, *, line_limit: int) -> None:
        rest = position.state[1:] if position.state.startswith(_PARTIAL) else b""
        self._pieces = [rest] if rest else []
        self._size = len(rest)
        self._offset = position.offset - len(rest)
        self._skipping = position.state == _SKIPPING
        self._line_limit = line_limit
        self.outcome: Outcome | None = None
        self.surplus = False
        """Whether something came after the result."""

    @property
    def position(self) -> OutputPosition:
        """The end of the last whole line."""
        return OutputPosition(self._offset, _SKIPPING if self._skipping else b"")

    def feed(self, data: bytes) -> list[NewBlock]:
        """Take the next bytes of the stream; returns the blocks of the lines that end in them."""
        blocks: list[NewBlock] = []
        start = 0
        while self.outcome is None and (end := data.find(b"\n", start)) >= 0:
            blocks += self._end_line(data[start:end], 1)
            start = end + 1
        rest = data[start:]
        if self.outcome is not None:
            self.surplus = self.surplus or bool(rest.strip())
            return blocks
        return blocks + self._keep(rest)

    def pause(self) -> tuple[list[NewBlock], OutputPosition]:
        """What a last line without its line break makes, if it is whole, and where to go on.

        A proper part of a JSON object is never one: what reads as an object is a whole line.
        """
        blocks: list[NewBlock] = []
        if self._pieces and _whole(b"".join(self._pieces)):
            blocks = self._end_line(b"", 0)
        if self._pieces:
            return blocks, OutputPosition(self._offset + self._size, _PARTIAL + b"".join(self._pieces))
        return blocks, self.position

    def _end_line(self, piece: bytes, line_break: int) -> list[NewBlock]:
        """The blocks of the line whose last part is `piece`."""
        size = self._size + len(piece)
        self._offset += size + line_break
        skipped, self._skipping = self._skipping, False
        pieces, self._pieces, self._size = [*self._pieces, piece], [], 0
        if skipped:
            return []
        if size > self._line_limit:
            return [self._too_long()]
        blocks, self.outcome = parse_line(b"".join(pieces))
        return blocks

    def _keep(self, rest: bytes) -> list[NewBlock]:
        """Keep the beginning of a line."""
        if self._skipping:
            self._offset += len(rest)
            return []
        if not rest:
            return []
        self._pieces.append(rest)
        self._size += len(rest)
        if self._size <= self._line_limit:
            return []
        self._offset += self._size
        self._pieces, self._size, self._skipping = [], 0, True
        return [self._too_long()]

    def _too_long(self) -> NewBlock:
        return _block("error", {"message": f"a line of more than {self._line_limit} bytes was dropped", "line": None})


def parse_line(line: bytes) -> tuple[list[NewBlock], Outcome | None]:
    """The blocks of one line, and what it says of the turn if it is its result. An empty line is nothing."""
    line = line.strip()
    if not line:
        return [], None
    try:
        value = _decode(line)
        if not isinstance(value, dict):
            return [_malformed(line, "it is not a JSON object")], None
        if value.get("type") == "result":
            return _result(value)
        return _message_blocks(value), None
    except (ValueError, RecursionError) as error:
        return [_malformed(line, str(error))], None


def _decode(line: bytes) -> Any:
    """A line's JSON. JavaScript writes half a surrogate pair as it stands, where a text was cut: it becomes `?`.

    Raises:
        ValueError, RecursionError
    """
    try:
        return msgspec.json.decode(line)
    except msgspec.DecodeError:
        text = json.dumps(json.loads(line), ensure_ascii=False)
        return msgspec.json.decode(text.encode("utf-8", "replace"))


def _whole(text: bytes) -> bool:
    """Whether the text is a JSON object, or nothing at all."""
    text = text.strip()
    if not text.endswith(b"}"):
        return not text
    try:
        return isinstance(_decode(text), dict)
    except (ValueError, RecursionError):
        return False


def _block(type: BlockType, content: Any) -> NewBlock:
    return NewBlock(type, msgspec.json.encode(content))


def _malformed(line: bytes, fault: str) -> NewBlock:
    message = f"a line of the agent's output could not be read: {fault}"
    return _block("error", {"message": message, "line": line[: 4 * _SHOWN].decode(errors="replace")[:_SHOWN]})


def _result(line: dict[str, Any]) -> tuple[list[NewBlock], Outcome]:
    """The line as it is, with cost and usage, and the end that it makes of the turn."""
    if not line.get("is_error") and line.get("subtype", "success") == "success":
        return [_block("text", line)], Outcome(failed=False)
    errors = line.get("errors")
    told = [line.get("result"), "; ".join(map(str, errors)) if isinstance(errors, list) else None, line.get("error")]
    message = next((text for text in told if isinstance(text, str) and text), str(line.get("subtype") or "failed"))
    return [_block("error", {"message": message, "line": line})], Outcome(failed=True, error=message[:ERROR_LENGTH])


def _message_blocks(line: dict[str, Any]) -> list[NewBlock]:
    """A block for each part of a message; any other line is kept as it is."""
    kind, message = line.get("type"), line.get("message")
    content = message.get("content") if isinstance(message, dict) else None
    if kind == "assistant" and isinstance(content, str):
        content = [{"type": "text", "text": content}]
    if kind not in ("assistant", "user") or not isinstance(content, list):
        return [_block("text", line)]
    parent = line.get("parent_tool_use_id")
    return [_part_block(kind, part, {} if parent is None else {"parent_tool_use_id": parent}) for part in content]


def _part_block(role: str, part: Any, parent: dict[str, Any]) -> NewBlock:
    """One part of a message's content. `parent` names the tool use that a subagent speaks for."""
    match part:
        case {"tool_use_id": str(id)}:
            result = {"tool_use_id": id, "content": part.get("content"), "is_error": bool(part.get("is_error"))}
            return _block("tool_result", {**result, **parent})
        case {"id": str(id), "name": str(name), "input": given}:
            return _block("tool_use", {"id": id, "name": name, "input": given, **parent})
        case {"type": "text", "text": str(text)} if role == "assistant" and not parent:
            return _block("text", text)
        case {"type": "thinking", "thinking": str(text)}:
            return _block("thinking", {"thinking": text, **parent} if parent else text)
        case {"type": "redacted_thinking"}:
            return _block("thinking", {**part, **parent})
    return _block("text", {"type": role, "content": part, **parent})
