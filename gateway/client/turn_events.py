"""The events of one turn, followed to its end over as many connections as that takes."""

import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import msgspec

from gateway.client.answers import Sender
from gateway.client.errors import GatewayError
from gateway.client.policy import PollSettings
from gateway.client.server_events import SILENCE_S, decoded_data, events_of, pause_after
from gateway.wire.turns import Block, BlockDelta, TurnProgress

TurnEvent = Block | BlockDelta | TurnProgress


async def follow_turn(sender: Sender, path: str, after_block: int, settings: PollSettings) -> AsyncIterator[TurnEvent]:
    """Yield what happens in a turn, until it has ended, retrying after failures with the back-off of the policy.

    Raises:
        GatewayError: an error that retrying cannot fix.
    """
    follower, attempts = _Follower(after_block), 0
    while True:
        try:
            async with contextlib.aclosing(events_of(sender, path, follower.cursor, {}, lambda: SILENCE_S)) as events:
                async for sent in events:
                    for event in follower.take(*sent):
                        attempts = 0
                        yield event
                        if follower.ended:
                            return
        except GatewayError as error:
            attempts += 1
            await pause_after(error, attempts, settings)


class _Follower:
    """What a client has of a turn. The gateway may send again what was growing when a connection broke."""

    def __init__(self, after_block: int) -> None:
        self.cursor = str(after_block)
        self.ended = False
        self._status = ""
        self._known: dict[int, Any] = {}
        """The contents of the blocks that may be sent again, by index."""

    def take(self, kind: str, data: str, cursor: str | None) -> Iterator[TurnEvent]:
        """Yield what is new in an event."""
        if kind == "reset":
            self._known.clear()
        elif kind == "status":
            progress: TurnProgress = decoded_data(data, TurnProgress)
            self.ended = progress.status not in ("pending", "running")
            if progress.status != self._status:
                self._status = progress.status
                yield progress
        elif kind == "delta":
            delta: BlockDelta = decoded_data(data, BlockDelta)
            if isinstance(self._known.get(delta.index), str):
                self._known[delta.index] += delta.delta
            yield delta
        elif kind == "block":
            yield from self._block(decoded_data(data, Block))
        if cursor is not None:
            self.cursor = cursor
            stable = int(cursor.partition(".")[0])
            for index in [index for index in self._known if index < stable]:
                del self._known[index]

    def _block(self, block: Block) -> Iterator[TurnEvent]:
        content = msgspec.json.decode(block.content)
        known = self._known.get(block.index)
        is_known = block.index in self._known
        self._known[block.index] = content
        if is_known and isinstance(known, str) and isinstance(content, str) and content.startswith(known):
            if content != known:
                yield BlockDelta(block.index, content[len(known) :])
        elif not is_known or known != content:
            yield block
