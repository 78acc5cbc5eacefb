"""The events of the Agent-User Interaction Protocol (AG-UI, npm `@ag-ui/client`): a turn is one run.

A text is sent as it grows. Everything else is sent once, when its block can no longer grow.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from msgspec import Raw

from gateway.turns.events.base import Ending, TurnEvents, event, event_with_value, pieces
from gateway.turns.events.tools import text_of_result, tool_result, tool_use
from storage import BlockType, StoredBlock, TurnHead

_LARGEST_EVENT = 9 * 2**20
"""The client refuses events of more than 10 MiB."""


class AgUiEvents(TurnEvents):
    """Events of one AG-UI run.

    Args:
        thread_id, run_id: what the client calls the session and the turn.
    """

    def __init__(
        self, session_id: str, turn_id: str, *, thread_id: str | None = None, run_id: str | None = None
    ) -> None:
        super().__init__(session_id, turn_id)
        self._run = {"threadId": thread_id or session_id, "runId": run_id or turn_id}
        self._tools: set[str] = set()
        """The tool calls that were sent."""
        self._growing: dict[int, StoredBlock] = {}
        """Blocks that are sent when they can no longer grow."""

    def begin(self, head: TurnHead) -> bytes:
        return event({"type": "RUN_STARTED", **self._run})

    def _close(self, stable: int) -> Iterator[bytes]:
        for index in sorted({*self._sent, *self._growing}):
            if index < stable and index in self._growing:
                yield from self._whole(self._growing.pop(index))
        yield from super()._close(stable)

    def value(self, block: StoredBlock, *, growing: bool, stable: int) -> Iterator[bytes]:
        if growing:
            self._growing[block.index] = block
        else:
            self._growing.pop(block.index, None)
            yield from self._whole(block)

    def _whole(self, block: StoredBlock) -> Iterator[bytes]:
        use, result = tool_use(block), tool_result(block)
        id = f"{self.turn_id}.{block.index}"
        if use is not None and use.id not in self._tools:
            self._tools.add(use.id)
            yield event({"type": "TOOL_CALL_START", "toolCallId": use.id, "toolCallName": use.name})
            for piece in pieces(bytes(use.input).decode()):
                yield event({"type": "TOOL_CALL_ARGS", "toolCallId": use.id, "delta": piece})
            yield event({"type": "TOOL_CALL_END", "toolCallId": use.id})
        elif result is not None and result.tool_use_id in self._tools:
            content = text_of_result(result)
            told: dict[str, Any] = {"messageId": id, "toolCallId": result.tool_use_id, "content": content}
            encoded = event({"type": "TOOL_CALL_RESULT", **told, "role": "tool"})
            yield encoded if len(encoded) <= _LARGEST_EVENT else _too_large(block)
        elif len(block.content) <= _LARGEST_EVENT:
            yield from event_with_value({"type": "CUSTOM", "name": block.type, "value": Raw(block.content)}, "value")
        else:
            yield _too_large(block)

    def text_begins(self, block: StoredBlock, part: str, text: str, stable: int) -> Iterator[bytes]:
        if block.type == "text":
            yield event({"type": "TEXT_MESSAGE_START", "messageId": part, "role": "assistant"})
        else:
            yield event({"type": "REASONING_START", "messageId": part})
            yield event({"type": "REASONING_MESSAGE_START", "messageId": part, "role": "reasoning"})
        yield from self.text_grows(block, part, text, stable)

    def text_grows(self, block: StoredBlock, part: str, text: str, stable: int) -> Iterator[bytes]:
        name = "TEXT_MESSAGE_CONTENT" if block.type == "text" else "REASONING_MESSAGE_CONTENT"
        for piece in pieces(text):
            yield event({"type": name, "messageId": part, "delta": piece})

    def text_ends(self, type: BlockType, part: str) -> Iterator[bytes]:
        if type == "text":
            yield event({"type": "TEXT_MESSAGE_END", "messageId": part})
        else:
            yield event({"type": "REASONING_MESSAGE_END", "messageId": part})
            yield event({"type": "REASONING_END", "messageId": part})

    def ended(self, head: TurnHead) -> Iterable[bytes]:
        if head.status == "failed":
            yield event({"type": "RUN_ERROR", "message": head.error or "the turn has failed", "code": "failed"})
        else:
            outcome = {"outcome": {"type": "cancelled"}} if head.status == "cancelled" else {}
            yield event({"type": "RUN_FINISHED", **self._run, **outcome})

    def broken(self, reason: Ending) -> bytes:
        if reason == "restart":
            return b""
        return event({"type": "RUN_ERROR", "message": f"the credential is no longer valid: {reason}", "code": reason})


def _too_large(block: StoredBlock) -> bytes:
    return event({"type": "CUSTOM", "name": "block_too_large", "value": {"index": block.index, "type": block.type}})
