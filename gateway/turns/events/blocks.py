"""The gateway's own format: the blocks of a turn as its other answers have them, and what is added to them.

The id of an event is a cursor: how many blocks the client has that can no longer grow. A client that resumes is sent
the blocks after it whole, and replaces those that it has.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar

import msgspec

from gateway.turns.events.base import PLACE, Ending, TurnEvents, in_parts
from gateway.wire.turns import Block, BlockDelta, TurnProgress
from gateway.wire.values import rfc3339
from storage import FINISHED, StoredBlock, TurnHead

_CURSOR = re.compile(r"([0-9]{1,15})(?:\.end)?\Z", re.ASCII)


def position_of(cursor: str, head: TurnHead) -> int | None:
    """Return how many blocks a client with this cursor has; None if it is not a cursor of this turn."""
    match = _CURSOR.match(cursor)
    return int(match[1]) if match is not None and int(match[1]) <= head.block_count else None


def end_cursor(head: TurnHead) -> str:
    """Return the cursor of a client that has all of a finished turn."""
    return f"{head.block_count}.end"


class BlockEvents(TurnEvents):
    """Events `status`, `block`, `delta`; `reset` where the client's cursor is not one of this turn."""

    ends_early: ClassVar[bool] = True

    def __init__(self, session_id: str, turn_id: str, *, reset: bool = False) -> None:
        super().__init__(session_id, turn_id)
        self._reset = reset
        self._status = ""
        self._cursor = 0

    def _events(self, blocks: Sequence[StoredBlock], first: int, stable: int) -> Iterator[bytes]:
        yield from super()._events(blocks, first, stable)
        if stable > self._cursor:
            self._cursor = stable
            yield b"id: %d\n\n" % stable

    def begin(self, head: TurnHead) -> bytes:
        reset = b"event: reset\ndata: {}\n\n" if self._reset else b""
        return reset if head.status in FINISHED else reset + self.changed(head)

    def changed(self, head: TurnHead) -> bytes:
        if head.status == self._status:
            return b""
        self._status = head.status
        return b"event: status\ndata: %b\n\n" % _progress(head)

    def value(self, block: StoredBlock, *, growing: bool, stable: int) -> Iterator[bytes]:
        shown = Block(
            f"{self.turn_id}.{block.index}",
            block.index,
            block.type,
            PLACE,
            rfc3339(block.created_at),
        )
        yield from in_parts(self._event("block", shown, block, stable), msgspec.Raw(block.content))

    def text_begins(self, block: StoredBlock, part: str, text: str, stable: int) -> Iterator[bytes]:
        yield from self.value(block, growing=False, stable=stable)

    def text_grows(self, block: StoredBlock, part: str, text: str, stable: int) -> Iterator[bytes]:
        if text:
            yield self._event("delta", BlockDelta(block.index, text), block, stable)

    def _event(self, name: str, data: Any, block: StoredBlock, stable: int) -> bytes:
        self._cursor = min(block.index + 1, stable)
        return b"id: %d\nevent: %b\ndata: %b\n\n" % (self._cursor, name.encode(), msgspec.json.encode(data))

    def ended(self, head: TurnHead) -> Iterable[bytes]:
        yield b"id: %b\nevent: status\ndata: %b\n\n" % (end_cursor(head).encode(), _progress(head))

    def broken(self, reason: Ending) -> bytes:
        return b"" if reason == "restart" else b'event: expired\ndata: {"reason":"%b"}\n\n' % reason.encode()


def _progress(head: TurnHead) -> bytes:
    return msgspec.json.encode(TurnProgress(head.status, head.block_count, head.error, rfc3339(head.last_updated)))
