"""Follows a turn of a coding agent to its end."""

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
    """A turn ended as `failed`: its agent, or its lease. `turn` is the turn with all its blocks."""

    def __init__(self, turn: Turn) -> None:
        super().__init__(turn.error or "the turn failed")
        self.turn = turn


class TurnPoller(Poller):
    """Calls back with what is new in a turn: its blocks come as they are written, in order, each once. A block that
    grows comes again, with the same index and more content.

    Those who follow one turn with one manager share its requests.

    Args:
        on_update: gets the turn with its new blocks and those that have grown, plain or async.
        on_complete: gets the turn with all its blocks, once, when it is completed, failed or cancelled.
        on_error: gets the exception of every failed attempt, and `TurnFailed`, before `on_complete`, where the turn
            failed.
        interval: seconds between polls; 2 unless said (`PollSettings.turn_interval_ms`).
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
    """A turn as it was at one time. `blocks` changes afterwards; the first `count` are the turn's."""

    turn: Turn
    blocks: list[Block]
    count: int
    revision: int
    """Counts the readings."""
    revisions: dict[int, int]
    """By the index of each block that has grown: in which reading last."""


class _TurnSource:
    """Reads a turn piece by piece, and keeps the blocks for whoever comes later."""

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
        """Keep what is new. A block that is told again may have grown."""
        for block in blocks:
            if block.index >= len(self._blocks):
                self._blocks.append(block)
            elif block != self._blocks[block.index]:
                self._blocks[block.index] = block
                self._revisions[block.index] = self._revision
