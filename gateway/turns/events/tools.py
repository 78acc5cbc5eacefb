"""Tool calls and their results in the contents of blocks."""

from typing import TypeVar

import msgspec
from msgspec import Raw, Struct

from storage import StoredBlock

T = TypeVar("T")


class ToolUse(Struct, frozen=True):
    """The call of a tool."""

    id: str
    name: str
    input: Raw = Raw(b"null")


class ToolResult(Struct, frozen=True):
    """The result of a call."""

    tool_use_id: str
    content: Raw = Raw(b"null")
    is_error: bool | None = None


class _TextPart(Struct, frozen=True, tag_field="type", tag="text"):
    text: str


def tool_use(block: StoredBlock) -> ToolUse | None:
    """Return the call that a block holds; None if it holds none that is well-formed."""
    return _decoded(block, "tool_use", ToolUse)


def tool_result(block: StoredBlock) -> ToolResult | None:
    """Return the result that a block holds; None if it holds none that is well-formed."""
    return _decoded(block, "tool_result", ToolResult)


def text_of_result(result: ToolResult) -> str:
    """Return the content of a result as a text: the content itself, the texts of its parts, or its JSON."""
    try:
        content = msgspec.json.decode(result.content, type=str | list[_TextPart])
    except msgspec.DecodeError:
        return bytes(result.content).decode()
    return content if isinstance(content, str) else "\n".join(part.text for part in content)


def _decoded(block: StoredBlock, type: str, shape: type[T]) -> T | None:
    if block.type != type:
        return None
    try:
        return msgspec.json.decode(block.content, type=shape)
    except msgspec.DecodeError:
        return None
