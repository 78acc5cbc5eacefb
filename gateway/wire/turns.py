"""Shapes of requests and answers about sessions and turns."""

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
    """The `after` of the next page; null on the last."""


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
    """True where `prompt` is only the beginning of the prompt: in lists."""


class TurnListing(Struct, frozen=True, gc=False):
    turns: list[TurnSummary]
    """Newest first."""
    next: str | None
    """The `after` of the next page; null on the last."""


class Block(Struct, frozen=True, gc=False):
    id: str
    index: int
    """Counts from 0 within the turn."""
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
    """Without the first `after_block` of them, but for those that may have grown since they were told."""
    block_count: int
    error: str | None
    created_at: str
    started_at: str | None
    completed_at: str | None
    last_updated: str
    prompt_cut: bool | UnsetType = UNSET
    """True where `prompt` is only the beginning of the prompt."""
    more: bool | UnsetType = UNSET
    """True where the blocks are too many for one answer: ask again at once, after the last of these."""


class TurnState(Struct, frozen=True, gc=False):
    """The least that tells whether to read a turn again."""

    status: TurnStatus
    block_count: int
    last_updated: str


class TurnPatch(Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    status: TurnStatus
    error: Annotated[str, Meta(max_length=10_000)] | None = None


class GivenBlock(Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    type: BlockType
    content: Any


class BlockBatch(Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    blocks: Annotated[list[GivenBlock], Meta(min_length=1)]
    first_index: Annotated[int, Meta(ge=0, le=LARGEST_INTEGER)] | None = None
    """The index that the first of them is to have; makes a retry harmless."""


class BlocksReceipt(Struct, frozen=True, gc=False):
    """The turn just after the batch was stored; a retry is told the same."""

    first_index: int
    status: TurnStatus
    block_count: int
    last_updated: str


class OutputReceipt(Struct, frozen=True, gc=False):
    """The turn after the output was taken."""

    status: TurnStatus
    block_count: int
    last_updated: str
    offset: int
    """How many bytes of the stream are stored: a sender goes on from there."""
    lease: float
    """The turn fails unless the next write comes within so many seconds."""
    result: TurnStatus | UnsetType = UNSET
    """How the turn ends when its output has ended, by the last result in the output."""
