"""What all dialects of agents' output have in common: a line goes in, changes of blocks come out; pure."""

from typing import Any, Protocol, TypeAlias

from msgspec import Struct

from storage import BlockType, TurnStatus

Line: TypeAlias = dict[str, Any]
"""One JSON object that the agent printed."""
Memory: TypeAlias = dict[str, Any]
"""What a dialect keeps between two lines: JSON. It is stored with the turn."""

ERROR_LENGTH = 10_000
"""The most characters of a turn's error."""
MOST_USED = 255
"""How many uses of tools that have not ended a dialect remembers."""


class Put(Struct, frozen=True):
    """A block. With a key it takes the place of the block that was put or grown under that key."""

    type: BlockType
    content: Any
    key: str | None = None
    open: bool = False
    """Whether more may come under the key."""


class Grow(Struct, frozen=True):
    """Text for the end of the block of this key; the first makes the block."""

    type: BlockType
    key: str
    text: str


class Close(Struct, frozen=True):
    """No open block grows any more."""


Change: TypeAlias = Put | Grow | Close


class Outcome(Struct, frozen=True):
    """What a result says of the run."""

    status: TurnStatus = "completed"
    error: str | None = None


class Reading(Struct, frozen=True):
    """What one line makes."""

    changes: list[Change] = []
    outcome: Outcome | None = None
    """Of a result of the run's own; None for any other line."""
    works: bool = False
    """Whether the line shows that the model works: after a result, that the run goes on."""


class Dialect(Protocol):
    """How one kind of agent tells what it does."""

    name: str

    def knows(self, line: Line) -> bool:
        """Whether the line is of this dialect and of no other."""

    def read(self, line: Line, memory: Memory) -> Reading | None:
        """What a line makes; None for a line that the dialect does not know. Changes `memory`."""


def failed(*told: Any) -> Outcome:
    """A failure, with the first of the reasons that is a text."""
    message = next((text for text in told if isinstance(text, str) and text), "failed")
    return Outcome("failed", message[:ERROR_LENGTH])


def tool_use(id: str, name: Any, given: Any, **more: Any) -> Put:
    """The block of a tool's use. A dialect without names of tools says what kind of tool it was."""
    content = {"id": id, "name": name if isinstance(name, str) else "tool", "input": {} if given is None else given}
    return Put("tool_use", content | {key: value for key, value in more.items() if value is not None})


def tool_result(id: str, content: Any, is_error: bool, **more: Any) -> Put:
    """The block of a tool's result."""
    return Put("tool_result", {"tool_use_id": id, "content": content, "is_error": is_error} | more)


def message_of(value: Any) -> Any:
    """The text of an error, which is a text or an object with a `message`."""
    return value.get("message") if isinstance(value, dict) else value
