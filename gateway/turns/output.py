"""Receiving an agent's output: one request's piece, stored as it arrives."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Protocol

from msgspec import Struct
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway.pace import join_parts, next_slice
from gateway.turns.agent_lines import LineRead, read_line
from gateway.turns.agent_output import AgentOutput, Steps
from gateway.turns.dialects import DialectName
from gateway.turns.lifecycle import Output, end_output, renew, take_output
from gateway.wire.problems import OutputConflict, Overloaded, TooComplex, TurnFinished, after_a_write
from gateway.workers.pool import run_in_worker
from storage import FINISHED, OutputPosition, TurnHead, UpdateTurn


class UnfinishedLines(Collector):
    """What is held in memory of the unfinished lines of all output that is coming in."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.bytes = 0

    def replace(self, before: int, now: int) -> None:
        """Count a line that has grown or ended.

        Raises:
            Overloaded: all lines together are too large.
        """
        if now > before and self.bytes + now - before > self._limit:
            raise Overloaded("too much output without line breaks is coming in; try again in a moment", certain=False)
        self.bytes += now - before

    def collect(self) -> Iterator[Metric]:
        """Yield the metric."""
        yield GaugeMetricFamily(
            "gateway_unfinished_line_bytes", "Bytes of unfinished lines of output that is coming in.", value=self.bytes
        )


class OutputOptions(Struct, frozen=True, gc=False):
    """The sender's options for a piece of output."""

    dialect: DialectName = "auto"
    final: bool | None = None
    """Whether the output ends with this piece; None if the sender did not specify it."""


class TurnWriter(Protocol):
    """The interface through which turns are written; implemented by `Turns`."""

    @property
    def lease(self) -> float:
        """How many seconds a running turn may be silent."""

    @property
    def unfinished_lines(self) -> UnfinishedLines:
        """What is held of all lines."""

    async def write(
        self, project: str, session_id: str, turn_id: str, change_of: Callable[[TurnHead], UpdateTurn]
    ) -> TurnHead:
        """Write the change that `change_of` derives from the newest state of a turn."""


class OutputRequest:
    """One request's piece of an agent's output: call `feed` as it arrives, then `end`, or `keep` if it was cut off;
    and `release` in any case.

    The fed output becomes durable up to the end of its last line, whether or not `end` is called. Blocks that merely
    grow are stored a few times per second, everything else immediately.
    """

    def __init__(
        self, turns: TurnWriter, project: str, head: TurnHead, reader: AgentOutput, stored: int, final: bool | None
    ) -> None:
        self._turns = turns
        self._project = project
        self._head = head
        self._reader = reader
        self._stored = stored
        """How many of the next bytes are already stored."""
        self._final = final
        """Whether the run's output ends with this piece; None if the sender did not specify it."""
        self._empty = True
        silent = time.time() - head.last_updated / 1000
        self._written_at = time.monotonic() - max(silent, 0)
        self._lock = asyncio.Lock()
        self._later: asyncio.Task[None] | None = None
        """The task that stores grown blocks when they are due."""
        self._has_written = False
        self._held = 0
        """How many bytes of an unfinished line are counted."""

    def release(self) -> None:
        """Forget the unfinished line, which is stored or was cut off."""
        self._turns.unfinished_lines.replace(self._held, 0)
        self._held = 0

    def _count_line(self) -> None:
        """Raise Overloaded if too much of all lines is held."""
        held = self._reader.line_bytes
        self._turns.unfinished_lines.replace(self._held, held)
        self._held = held

    async def feed(self, chunk: bytes) -> None:
        """Read the next bytes.

        Raises:
            TurnFinished: the turn has ended, and this is new output.
            OutputConflict: another request has stored output in the meantime.
            Overloaded: too much of the unfinished lines of all output is held.
        """
        self._empty = self._empty and not chunk
        new = chunk[self._stored :]
        self._stored -= len(chunk) - len(new)
        if self._head.status in FINISHED:
            if new.strip():
                raise TurnFinished(self._head.status)
            return
        if self._later is not None and self._later.done():
            await self._later  # raises the error that kept it from storing
        async with self._lock:
            await self._do(self._reader.feed(new))
            self._count_line()
            silent = time.monotonic() - self._written_at > self._turns.lease / 4
            if self._reader.advanced and (self._reader.urgent or silent):
                await self._store()
            elif silent:  # a long line renews the lease, too
                await self._write(lambda head: renew(head, settling=False))
        if self._reader.advanced and (self._later is None or self._later.done()):
            self._later = asyncio.create_task(self._store_later())

    async def keep(self) -> None:
        """Store the rest after the request was cut off."""
        await self._stop_later()
        if self._head.status not in FINISHED and self._reader.advanced:
            await self._store()

    async def end(self) -> TurnHead:
        """Finish a complete piece, storing the beginning of an unfinished line. An empty piece renews the lease.

        Raises:
            TurnFinished, OutputConflict
        """
        await self._stop_later()
        if self._head.status in FINISHED:
            if self._empty:
                raise TurnFinished(self._head.status)
            return self._head
        await self._do(self._reader.pause(final=self._final is True))
        if self._final:
            await self._store(ends=True)
        elif self._reader.end > self._head.output_offset:
            if self._reader.only_grows:
                await asyncio.sleep(self._written_at + self._reader.pace - time.monotonic())
            await self._store(paused=True, settling=self._final is None and self._reader.settles)
        elif self._empty:
            await self._write(lambda head: renew(head, settling=self._final is None))
        elif self._final is None and self._reader.settles and not self._head.settling:
            await self._store(paused=True, settling=True)
        return self._head

    async def _store_later(self) -> None:
        await asyncio.sleep(self._written_at + self._reader.pace - time.monotonic())
        async with self._lock:
            if self._reader.advanced:
                await self._store()

    async def _stop_later(self) -> None:
        """Cancel the delayed store, and raise any error that it had."""
        if self._later is None:
            return
        async with self._lock:  # never in the middle of a write
            self._later.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._later

    async def _store(self, *, paused: bool = False, settling: bool = False, ends: bool = False) -> None:
        """Store the output that the reader has read."""
        before, reader = self._head, self._reader
        state = await join_parts(reader.state_parts(before.block_count, paused=paused))
        position = OutputPosition(reader.end if paused else reader.offset, state)
        added = 0

        def change_of(head: TurnHead) -> UpdateTurn:
            nonlocal added
            if head.output_offset != before.output_offset:
                raise OutputConflict(head.output_offset)
            blocks, grown = reader.to_store(head.block_count)
            added = len(blocks)
            place = position
            if head.block_count != before.block_count:  # another client has added blocks
                place = reader.position(head.block_count, paused=paused)
            output = Output(place, blocks, grown, reader.outcome)
            if ends:
                return end_output(head, output, needs_result=not reader.is_text)
            return take_output(head, output, settling=settling)

        await self._write(change_of)
        reader.stored(self._head.block_count - added)

    async def _write(self, change_of: Callable[[TurnHead], UpdateTurn]) -> None:
        head = self._head
        with after_a_write() if self._has_written else contextlib.nullcontext():
            self._head = await self._turns.write(self._project, head.session_id, head.turn_id, change_of)
        self._has_written = True
        self._written_at = time.monotonic()

    async def _do(self, steps: Steps) -> None:
        """Run the steps, read long lines in a worker process, and let other tasks run in between."""
        answer = None
        while True:
            try:
                line = steps.send(answer)
            except StopIteration:
                return
            answer = None
            if line is None:
                if self._reader.is_full:
                    await self._store()
                await next_slice()
            else:
                try:
                    answer = await run_in_worker(read_line, line)
                except TooComplex as problem:
                    answer = LineRead(fault=problem.detail)
