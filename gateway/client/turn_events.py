"""The events of one turn, followed to its end over as many connections as that takes."""

import asyncio
import contextlib
import random
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from typing import Any, TypeVar

import msgspec

from gateway.client.answers import Sender
from gateway.client.errors import GatewayError, NoAnswer, UnexpectedAnswer
from gateway.client.feed import SILENCE_S, lines_of, next_line
from gateway.client.policy import PollSettings, is_retried, retry_delay_ms
from gateway.wire.turns import Block, BlockDelta, TurnProgress

T = TypeVar("T")

TurnEvent = Block | BlockDelta | TurnProgress


async def follow_turn(sender: Sender, path: str, after_block: int, settings: PollSettings) -> AsyncIterator[TurnEvent]:
    """Yield what happens in a turn, until it has ended, retrying after failures with the back-off of the policy.

    Raises:
        GatewayError: an error that retrying cannot fix.
    """
    follower, attempts = _Follower(after_block), 0
    while True:
        try:
            async with contextlib.aclosing(_events(sender, path, follower)) as events:
                async for event in events:
                    attempts = 0
                    yield event
                    if follower.ended:
                        return
        except GatewayError as error:
            if not is_retried(error.status):
                raise
            attempts += 1
            delay = retry_delay_ms(settings, attempts, random.random(), error.retry_after_s) / 1000
            await asyncio.sleep(max(delay, error.backoff_s or 0))


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
            progress = _decoded(data, TurnProgress)
            self.ended = progress.status not in ("pending", "running")
            if progress.status != self._status:
                self._status = progress.status
                yield progress
        elif kind == "delta":
            delta = _decoded(data, BlockDelta)
            if isinstance(self._known.get(delta.index), str):
                self._known[delta.index] += delta.delta
            yield delta
        elif kind == "block":
            yield from self._block(_decoded(data, Block))
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


async def _events(sender: Sender, path: str, follower: _Follower) -> AsyncGenerator[TurnEvent, None]:
    """Yield the events of one connection.

    Raises:
        GatewayError
    """
    headers: dict[str, str | None] = {"Accept": "text/event-stream", "Last-Event-ID": follower.cursor}
    try:
        async with asyncio.timeout(SILENCE_S):
            response = await sender.open(path, headers=headers, params={})
    except TimeoutError:
        raise NoAnswer("the event stream did not begin") from None
    retry_ms, kind, cursor, data = 0.0, "", None, list[str]()
    try:
        if not response.headers.get("content-type", "").startswith("text/event-stream"):
            raise UnexpectedAnswer(response.status_code, "it is no event stream")
        async with contextlib.aclosing(lines_of(response)) as lines:
            while (line := await next_line(lines, SILENCE_S)) is not None:
                name, _, value = line.partition(":")
                value = value.removeprefix(" ")
                if name == "retry":
                    retry_ms = float(value)
                elif name == "id":
                    cursor = value
                elif name == "event":
                    kind = value
                elif name == "data":
                    data.append(value)
                elif not line:
                    for event in follower.take(kind, "\n".join(data), cursor):
                        yield event
                    kind, cursor, data = "", None, []
    finally:
        await response.aclose()
    ended = NoAnswer("the event stream has ended")
    ended.retry_after_s = retry_ms / 1000
    raise ended


def _decoded(data: str, shape: type[T]) -> T:
    try:
        return msgspec.json.decode(data, type=shape)
    except msgspec.DecodeError as error:
        raise UnexpectedAnswer(200, str(error)) from error
