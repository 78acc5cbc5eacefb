"""The poller that follows a turn of a coding agent to its end."""

from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Struct

from gateway.client.errors import UnexpectedAnswer
from gateway.client.polling.manager import PollingManager
from gateway.client.polling.poller import Poller, call
from gateway.client.polling.project_stream import Transport, turn_topic
from gateway.client.polling.subscription import Polled
from gateway.client.project import Project
from gateway.wire.turns import Block, Turn

_FINISHED = ("completed", "failed", "cancelled")


class TurnFailed(Exception):
    """A turn ended as `failed`: its agent failed, or its lease expired. `turn` is the turn with all its blocks."""

    def __init__(self, turn: Turn) -> None:
        super().__init__(turn.error or "the turn failed")
        self.turn = turn


class TurnPoller(Poller):
    """Calls back with the news of a turn: each block once, in order, as it is written. A block that grows is delivered
    again, with the same index and more content.

    Pollers of one manager that follow the same turn share their requests.

    Args:
        on_update: called with the turn and its new and grown blocks, plain or async.
        on_complete: called once with the turn and all its blocks, when it is completed, failed or cancelled.
        on_error: called with the exception of every failed attempt; if the turn failed, also with `TurnFailed`, before
            `on_complete`.
        interval: seconds between polls; default 2 (`PollSettings.turn_interval_ms`).
    """

    def __init__(
        self,
        polling: PollingManager,
        project: Project,
        session: str,
        turn: str,
        *,
        on_update: Callable[[Turn], object],
        on_complete: Callable[[Turn], object] | None = None,
        on_error: Callable[[Exception], object] | None = None,
        interval: float | None = None,
        transport: Transport = "auto",
    ) -> None:
        self._on_update = on_update
        self._on_complete = on_complete
        self._on_error = on_error
        self._seen = 0
        self._revision = 0
        self._given: Turn | None = None
        super().__init__(
            polling,
            project,
            f"turn {project.url} {session} {turn}",
            _TurnSource(project, session, turn).poll,
            interval=polling.settings.turn_interval_ms / 1000 if interval is None else interval,
            topics=[turn_topic(session, turn)],
            transport=transport,
            on_result=self._give,
            on_error=on_error,
            on_stop=self._end,
        )

    async def _give(self, reading: "_Reading") -> None:
        if self._given is not None and reading.turn == self._given:
            return
        grown = [
            reading.blocks[index]
            for index, revision in sorted(reading.revisions.items())
            if index < self._seen and revision > self._revision
        ]
        new = grown + reading.blocks[self._seen : reading.count]
        self._seen, self._revision = reading.count, reading.revision
        self._given = reading.turn
        try:
            await call(self._on_update, msgspec.structs.replace(reading.turn, blocks=new))
        finally:
            if reading.turn.status in _FINISHED:
                await self._tell_end(msgspec.structs.replace(reading.turn, blocks=list(reading.blocks)))

    async def _tell_end(self, turn: Turn) -> None:
        try:
            if turn.status == "failed" and self._on_error is not None:
                await call(self._on_error, TurnFailed(turn))
        finally:
            if self._on_complete is not None:
                await call(self._on_complete, turn)

    def _end(self, reason: str) -> None:
        if reason == "completed":
            self._leave_stream()


class _Reading(Struct, frozen=True):
    """A snapshot of a turn. `blocks` is shared and grows later; its first `count` blocks belong to the snapshot."""

    turn: Turn
    blocks: list[Block]
    count: int
    revision: int
    """The serial number of the reading."""
    revisions: dict[int, int]
    """The last reading in which each grown block grew, by block index."""


class _TurnSource:
    """Reads a turn incrementally, and keeps the blocks for later subscribers."""

    def __init__(self, project: Project, session: str, turn: str) -> None:
        self._project = project
        self._name = (session, turn)
        self._blocks: list[Block] = []
        self._revision = 0
        self._revisions: dict[int, int] = {}
        self._active = False

    async def poll(self, tag: str | None) -> Polled:
        answer = await self._project.read_turn(*self._name, after_block=len(self._blocks), tag=tag)
        turn: Any = answer.value
        if turn is None:
            return Polled(changed=False, backoff_s=answer.backoff_s, active=self._active)
        if turn.block_count < len(self._blocks):
            raise UnexpectedAnswer(409, "the turn has lost blocks: the gateway was restored")
        self._revision += 1
        self._take(turn.blocks)
        while turn.more is True:
            answer = await self._project.read_turn(*self._name, after_block=len(self._blocks))
            turn = answer.value
            self._take(turn.blocks)
        reading = _Reading(
            msgspec.structs.replace(turn, blocks=[]),
            self._blocks,
            len(self._blocks),
            self._revision,
            self._revisions,
        )
        self._active = turn.status not in _FINISHED
        return Polled(
            reading, terminal=not self._active, cursor=answer.tag, backoff_s=answer.backoff_s, active=self._active
        )

    def _take(self, blocks: list[Block]) -> None:
        """Keep new blocks, and replace blocks that were sent again because they grew."""
        for block in blocks:
            if block.index >= len(self._blocks):
                self._blocks.append(block)
            elif block != self._blocks[block.index]:
                self._blocks[block.index] = block
                self._revisions[block.index] = self._revision
