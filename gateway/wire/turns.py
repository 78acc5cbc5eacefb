"""Structs of the requests and answers about sessions and turns."""

from typing import Annotated, Any

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from gateway.wire.values import LARGEST_INTEGER
from storage import BlockType, TurnStatus


class NewSession(Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    title: Annotated[str, Meta(max_length=1000)] | None = None


class Session(Struct, frozen=True, gc=False):
    id: str
    title: str | None
    created_at: str


class SessionListing(Struct, frozen=True, gc=False):
    sessions: list[Session]
    """Newest first."""
    next: str | None
    """The `after` of the next page; null on the last page."""


class NewTurn(Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    prompt: str


class TurnSummary(Struct, frozen=True, gc=False):
    """A turn without its blocks."""

    id: str
    session_id: str
    prompt: str
    status: TurnStatus
    block_count: int
    error: str | None
    created_at: str
    started_at: str | None
    completed_at: str | None
    last_updated: str
    prompt_cut: bool | UnsetType = UNSET
    """True if `prompt` is only the beginning of the prompt, which may happen in lists."""


class TurnListing(Struct, frozen=True, gc=False):
    turns: list[TurnSummary]
    """Newest first."""
    next: str | None
    """The `after` of the next page; null on the last page."""


class Block(Struct, frozen=True, gc=False):
    id: str
    index: int
    """The position within the turn, starting at 0."""
    type: BlockType
    content: Raw
    """Any JSON value."""
    created_at: str


class Turn(Struct, frozen=True, gc=False):
    id: str
    session_id: str
    prompt: str
    status: TurnStatus
    blocks: list[Block]
    """Excludes the first `after_block` blocks, except those that may have grown since they were sent."""
    block_count: int
    error: str | None
    created_at: str
    started_at: str | None
    completed_at: str | None
    last_updated: str
    prompt_cut: bool | UnsetType = UNSET
    """True if `prompt` is only the beginning of the prompt."""
    more: bool | UnsetType = UNSET
    """True if there are too many blocks for one answer: ask again at once for those after the last one here."""


class TurnState(Struct, frozen=True, gc=False):
    """The minimum needed to decide whether to read a turn again."""

    status: TurnStatus
    block_count: int
    last_updated: str


class BlockDelta(Struct, frozen=True, gc=False):
    """What was added to the text of a block."""

    index: int
    delta: str


class TurnProgress(Struct, frozen=True, gc=False):
    """The state of a turn in its event stream."""

    status: TurnStatus
    block_count: int
    error: str | None
    last_updated: str


class RunAgentInput(Struct, frozen=True, gc=False):
    """The part of the request of an AG-UI client that is read; the messages and tools of the client are ignored."""

    threadId: str | None = None  # noqa: N815 (named by the protocol)
    runId: str | None = None  # noqa: N815


class TurnPatch(Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    status: TurnStatus
    error: Annotated[str, Meta(max_length=10_000)] | None = None


class GivenBlock(Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    type: BlockType
    content: Any


class BlockBatch(Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    blocks: Annotated[list[GivenBlock], Meta(min_length=1)]
    first_index: Annotated[int, Meta(ge=0, le=LARGEST_INTEGER)] | None = None
    """The index for the first block of the batch. Makes a retry safe."""


class BlocksReceipt(Struct, frozen=True, gc=False):
    """The turn right after the batch was stored. A retry gets the same answer."""

    first_index: int
    status: TurnStatus
    block_count: int
    last_updated: str


class OutputReceipt(Struct, frozen=True, gc=False):
    """The turn after the output was stored."""

    status: TurnStatus
    block_count: int
    last_updated: str
    offset: int
    """The number of bytes of the stream that are stored. The sender continues from there."""
    lease: float
    """The turn fails unless the next write arrives within this many seconds."""
    result: TurnStatus | UnsetType = UNSET
    """The status that the turn will end with when its output ends, taken from the last result in the output."""
