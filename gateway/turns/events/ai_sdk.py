"""The UI message stream protocol of the AI SDK (npm `ai`), version 1: a turn is one message of the assistant.

The id of the message is the turn's, so that a client that has a part of it replaces the message by the replay.
"""

from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

from msgspec import Raw

from gateway.turns.events.base import Ending, TurnEvents, event, event_with_value, pieces
from gateway.turns.events.tools import ToolResult, text_of_result, tool_result, tool_use
from storage import BlockType, StoredBlock, TurnHead

_PART = {"text": "text", "thinking": "reasoning"}
_DONE = b"data: [DONE]\n\n"


class AiSdkEvents(TurnEvents):
    """Chunks of a UI message stream."""

    headers: ClassVar[list[tuple[bytes, bytes]]] = [(b"x-vercel-ai-ui-message-stream", b"v1")]

    def __init__(self, session_id: str, turn_id: str) -> None:
        super().__init__(session_id, turn_id)
        self._tools: set[str] = set()
        """The tool calls that were sent: a result without its call breaks the client."""

    def begin(self, head: TurnHead) -> bytes:
        return event({"type": "start", "messageId": self.turn_id}) + event({"type": "start-step"})

    def value(self, block: StoredBlock, *, growing: bool, stable: int) -> Iterator[bytes]:
        use, result = tool_use(block), tool_result(block)
        if use is not None:
            self._tools.add(use.id)
            call = {"type": "tool-input-available", "toolCallId": use.id, "toolName": use.name, "input": use.input}
            yield from event_with_value({**call, **_OF_AGENT}, "input")
        elif result is not None and result.tool_use_id in self._tools:
            yield from _output(result)
        else:
            id = f"{self.turn_id}.{block.index}"
            yield from event_with_value({"type": f"data-{block.type}", "id": id, "data": Raw(block.content)}, "data")

    def text_begins(self, block: StoredBlock, part: str, text: str, stable: int) -> Iterator[bytes]:
        yield event({"type": f"{_PART[block.type]}-start", "id": part})
        yield from self.text_grows(block, part, text, stable)

    def text_grows(self, block: StoredBlock, part: str, text: str, stable: int) -> Iterator[bytes]:
        for piece in pieces(text):
            yield event({"type": f"{_PART[block.type]}-delta", "id": part, "delta": piece})

    def text_ends(self, type: BlockType, part: str) -> Iterator[bytes]:
        yield event({"type": f"{_PART[type]}-end", "id": part})

    def ended(self, head: TurnHead) -> Iterable[bytes]:
        yield event({"type": "finish-step"})
        if head.status == "completed":
            yield event({"type": "finish", "finishReason": "stop"})
        elif head.status == "cancelled":
            yield event({"type": "abort", "reason": head.error or "cancelled"})
        else:
            yield event({"type": "error", "errorText": head.error or "the turn has failed"})
        yield _DONE

    def broken(self, reason: Ending) -> bytes:
        if reason == "restart":
            return b""
        return event({"type": "error", "errorText": f"the credential is no longer valid: {reason}"}) + _DONE


_OF_AGENT: dict[str, Any] = {"providerExecuted": True, "dynamic": True}
"""The agent has executed the tool, which the page need not know."""


def _output(result: ToolResult) -> Iterator[bytes]:
    told = {"toolCallId": result.tool_use_id, **_OF_AGENT}
    if result.is_error:
        yield event({"type": "tool-output-error", "errorText": text_of_result(result), **told})
    else:
        yield from event_with_value({"type": "tool-output-available", "output": result.content, **told}, "output")
