"""The common base of the dialects of agents' output: a line goes in, changes of blocks come out; pure."""

from collections.abc import Iterable
from typing import Any, Protocol, TypeAlias

from msgspec import Struct

from storage import BlockType, TurnStatus

Line: TypeAlias = dict[str, Any]
"""One JSON object that the agent printed."""
Memory: TypeAlias = dict[str, Any]
"""The state that a dialect keeps between lines, as JSON; it is stored with the turn."""

ERROR_LENGTH = 10_000
"""The maximum length of a turn's error, in characters."""
MOST_USED = 255
"""How many unfinished tool uses a dialect remembers."""


class Put(Struct, frozen=True, array_like=True, tag_field="change", tag="put"):
    """A block. With a key it replaces the block that was put or grown under that key."""

    type: BlockType
    content: Any
    """A value of JSON; `bytes`: the value is encoded."""
    key: str | None = None
    open: bool = False
    """Whether more content may follow under the key."""


class Grow(Struct, frozen=True, array_like=True, tag_field="change", tag="grow"):
    """Text to append to the block with this key; the first piece creates the block."""

    type: BlockType
    key: str
    text: Any
    """A `str`; `bytes`: what stands between the quotes of the encoded text."""


class Close(Struct, frozen=True, array_like=True, tag_field="change", tag="close"):
    """The end of all open blocks, which then no longer grow."""


Change: TypeAlias = Put | Grow | Close


class Outcome(Struct, frozen=True, array_like=True):
    """The outcome of a run according to a result."""

    status: TurnStatus = "completed"
    error: str | None = None


class Reading(Struct, frozen=True):
    """The effect of one line."""

    changes: Iterable[Change] = []
    """They are made as they are iterated over, once: a line may have very many."""
    outcome: Outcome | None = None
    """The outcome if the line is the run's own result; None for any other line."""
    works: bool = False
    """Whether the line shows that the model is working; after a result, this means that the run goes on."""


class Dialect(Protocol):
    """The output format of one kind of agent."""

    name: str

    def knows(self, line: Line) -> bool:
        """Whether the line belongs to this dialect and to no other."""

    def read(self, line: Line, memory: Memory) -> Reading | None:
        """Interpret a line; None if the dialect does not know the line. Changes `memory`."""


def failed(*told: Any) -> Outcome:
    """Return a failure with the first of the given reasons that is a non-empty string."""
    message = next((text for text in told if isinstance(text, str) and text), "failed")
    return Outcome("failed", message[:ERROR_LENGTH])


def tool_use(id: str, name: Any, given: Any, **more: Any) -> Put:
    """Return the block of a tool use. A dialect without tool names passes the kind of the tool."""
    content = {"id": id, "name": name if isinstance(name, str) else "tool", "input": {} if given is None else given}
    return Put("tool_use", content | {key: value for key, value in more.items() if value is not None})


def tool_result(id: str, content: Any, is_error: bool, **more: Any) -> Put:
    """Return the block of a tool result."""
    return Put("tool_result", {"tool_use_id": id, "content": content, "is_error": is_error} | more)


def message_of(value: Any) -> Any:
    """Return the message of an error, which is a string or an object with a `message`."""
    return value.get("message") if isinstance(value, dict) else value
