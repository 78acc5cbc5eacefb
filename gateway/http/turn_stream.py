"""The events of one turn as an event stream, from a position to the turn's end."""

import asyncio
from typing import Protocol

import structlog
from starlette.types import Send

from gateway.access.access import Access
from gateway.http.event_stream import STREAM_HEADERS, retry_line, stream_part
from gateway.http.waits import OpenTurnStream
from gateway.pace import with_turns
from gateway.turns.events import TurnEvents
from gateway.turns.store import Turns
from gateway.watch.filter import ChangeFilter
from gateway.watch.hub import Hub
from gateway.watch.project import Waiter
from gateway.wire.problems import Problem
from storage import FINISHED, StoredTurn, TurnHead

_log = structlog.get_logger("gateway.http")

_PAGE_BYTES = 256 * 2**10
"""How much content is read at once; a longer block is read alone."""
_WRITTEN_TOGETHER = 64 * 2**10
"""How many bytes of events are written at once; a longer event is written alone."""

_Place = tuple[str, str, str, int, int]


class TurnStreams:
    """All open streams of turns.

    Args:
        heartbeat: the number of silent seconds after which a comment is sent.
    """

    def __init__(self, hub: Hub, turns: Turns, heartbeat: float) -> None:
        self.hub = hub
        self.turns = turns
        self.heartbeat = heartbeat
        self._reads: dict[_Place, asyncio.Task[StoredTurn]] = {}

    async def read(self, project: str, head: TurnHead, position: int) -> StoredTurn:
        """Read a page of blocks after the first `position`. Streams at the same place share one read."""
        place = (project, head.session_id, head.turn_id, position, head.sequence)
        reading = self._reads.get(place)
        if reading is None:
            read = self.turns.read(project, head.session_id, head.turn_id, position, _PAGE_BYTES)
            reading = self._reads[place] = asyncio.create_task(read)
            reading.add_done_callback(lambda _: self._reads.pop(place, None))
            reading.add_done_callback(lambda read: read.cancelled() or read.exception())  # also if nobody waits for it
        return await asyncio.shield(reading)


class Holder(Protocol):
    """The task of the request; cancelled to close the connection in the middle of the response."""

    def cancel(self) -> bool:
        """Cancel the task."""


class TurnStream:
    """One open stream. It sends at the client's pace, and reads the next blocks when those before were taken."""

    question_bytes = 0
    """A stream keeps no request body."""

    def __init__(
        self, streams: TurnStreams, opened: OpenTurnStream, access: Access, send: Send, holder: Holder
    ) -> None:
        self._streams = streams
        self._access = access
        self._send = send
        self._holder = holder
        self.project = opened.project
        self._project_name = opened.project_name
        self._events: TurnEvents = opened.events
        self._position = opened.position
        self._sequence = 0
        self._filter = ChangeFilter(files=False, turn=(opened.events.session_id, opened.events.turn_id))
        self._begun = self._ended = False
        access.watch(self._expire)
        self._pump: asyncio.Task[None] = asyncio.create_task(self._run())

    async def _run(self) -> None:
        try:
            await self._follow()
        except Problem:  # the turn does not exist any more
            await self._end_early()
        except OSError:
            _log.debug("a client left while it was sent a turn", project=self._project_name)
        except Exception as error:
            _log.error("turn stream ended", project=self._project_name, exc_info=error)
            await self._end_early()

    async def _follow(self) -> None:
        """Send what there is, then wait for more, until the turn has ended."""
        waiters = self._streams.hub.waiters
        heartbeat = False
        while True:
            if self.project.forgotten:
                project = await self._streams.hub.require(self._project_name)
                waiters.change_place(self.project, project)
                self.project = project
            as_of = self.project.head
            head = await self._streams.turns.head(self._project_name, self._events.session_id, self._events.turn_id)
            if not self._begun:
                await self._begin(head)
            if head.sequence > self._sequence:
                heartbeat = False
                head = await self._send_blocks(head)
            if head.status in FINISHED:
                await self._finish(self._events.end(head))
                return
            if waiters.draining:
                await self._end_early()
                return
            if self.project.head is as_of and not self.project.forgotten:
                if heartbeat:
                    await self._write(self._events.heartbeat())
                await self._change()
                heartbeat = True

    async def _begin(self, head: TurnHead) -> None:
        self._begun = True
        headers = [*STREAM_HEADERS, *self._events.headers]
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        await self._write((retry_line() if self._events.ends_early else b"") + self._events.begin(head))

    async def _send_blocks(self, head: TurnHead) -> TurnHead:
        """Send the blocks that the client lacks, up to the newest; return the turn as of the last read."""
        asked_again = False
        while True:
            stored = await self._streams.read(self._project_name, head, self._position)
            head, blocks = stored.head, stored.blocks
            first = blocks[0].index if blocks else self._position
            if blocks:
                self._position = max(self._position, blocks[-1].index + 1)
            begun = b"" if head.status in FINISHED else self._events.changed(head)
            together, size = [begun], 0
            async for event in with_turns(self._events.blocks(head, blocks, self._position)):
                together.append(event)
                size += len(event)
                if size >= _WRITTEN_TOGETHER:
                    await self._write(b"".join(together))
                    together, size = [], 0
            await self._write(b"".join(together))
            whole = self._position >= head.block_count
            # Which of several blocks may still grow is known from what a reader after them is sent again.
            if whole and (asked_again or not head.grown or first >= self._position - 1 or head.status in FINISHED):
                break
            asked_again = whole
        self._sequence = head.sequence
        return head

    async def _change(self) -> None:
        """Wait for a change of the turn, or until it is time for a sign of life."""
        changed = asyncio.get_running_loop().create_future()

        def wake() -> None:
            if not changed.done():
                changed.set_result(None)

        waiters = self._streams.hub.waiters
        waiter: Waiter = waiters.add(self.project, self._filter, self._streams.heartbeat, wake)
        try:
            await changed
        finally:
            waiters.forget(waiter)

    async def _write(self, events: bytes) -> None:
        if events:
            await self._send(stream_part(events))

    async def _finish(self, events: bytes) -> None:
        self._ended = True
        await self._send({"type": "http.response.body", "body": events, "more_body": False})

    async def _end_early(self) -> None:
        """End the stream before the turn has ended, so that the client asks again."""
        if self._begun and self._events.ends_early:
            await self._finish(retry_line() + self._events.broken("restart"))
        else:
            self._holder.cancel()

    def _expire(self) -> None:
        if not self._ended:
            self._ended = True
            self._pump = asyncio.create_task(self._send_expired(self._pump))

    async def _send_expired(self, pump: asyncio.Task[None]) -> None:
        """Tell the client that its credential is no longer valid, and end the stream."""
        pump.cancel()
        await asyncio.wait([pump])
        if not self._begun:
            await self._send({"type": "http.response.start", "status": 200, "headers": STREAM_HEADERS})
        await self._finish(self._events.broken(self._access.ended or "expired"))

    async def end(self) -> None:
        """Release the stream after it has ended or the client has disconnected."""
        self._ended = True
        self._access.unwatch(self._expire)
        self._pump.cancel()
        await asyncio.wait([self._pump])
