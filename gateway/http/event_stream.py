"""The change feed as Server-Sent Events (WHATWG HTML §9.2). Hand-written, since ten thousand streams may be open."""

import asyncio
import random
from collections.abc import Awaitable, Sequence

import structlog
from starlette.types import Message, Send

from gateway.access.access import Access
from gateway.asgi.answers import chunk, server_of
from gateway.asgi.coroutines import run_at_once
from gateway.asgi.outlets import Outlet, write_to_all
from gateway.changes.feed import Feed
from gateway.http.waits import OpenStream
from gateway.presence.presence import Presence
from gateway.watch.filter import ChangeFilter
from gateway.watch.project import Waiter, WatchedProject
from gateway.watch.waiters import Waiters
from gateway.wire.headers import SAFETY_HEADERS

_log = structlog.get_logger("gateway.http")

STREAM_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
    (b"vary", b"Accept, Accept-Encoding, Authorization, Origin"),
    *((name.lower().encode(), value.encode()) for name, value in SAFETY_HEADERS.items()),
]
_TOLD_TOGETHER = 100
"""The number of streams written to per event-loop iteration. Writing to all at once would block everything else."""


def retry_line() -> bytes:
    """The reconnection delay in milliseconds, with jitter so that clients do not all reconnect at once."""
    return b"retry: %d\n\n" % random.randint(1000, 4000)


def stream_part(body: bytes) -> Message:
    return {"type": "http.response.body", "body": body, "more_body": True}


def _cursor_alone(cursor: str) -> bytes:
    """An event that carries only the cursor to resume from."""
    return b"id: %b\n\n" % cursor.encode()


async def refuse_stream(send: Send) -> None:
    """Send a stream that only tells when to reconnect and ends: `EventSource` never retries after an error status."""
    await send({"type": "http.response.start", "status": 200, "headers": [*STREAM_HEADERS, (b"retry-after", b"4")]})
    await send({"type": "http.response.body", "body": b"retry: %d\n\n" % random.randint(4000, 8000)})


async def describe_stream(send: Send, headers: Sequence[tuple[bytes, bytes]] = ()) -> None:
    """Answer HEAD with the headers that a stream would begin with."""
    await send({"type": "http.response.start", "status": 200, "headers": [*STREAM_HEADERS, *headers]})
    await send({"type": "http.response.body", "body": b""})


class EventStreams:
    """All open event streams.

    Args:
        heartbeat: the number of silent seconds after which the cursor alone is sent.
    """

    def __init__(self, waiters: Waiters, feed: Feed, presence: Presence, heartbeat: float) -> None:
        self.waiters = waiters
        self.feed = feed
        self._presence = presence
        self.heartbeat = heartbeat
        self._groups: dict[tuple[WatchedProject, ChangeFilter], _FanOutGroup] = {}

    def presence_position(self, project: str, filter_: ChangeFilter) -> int:
        """Return the current position of the project's presence; 0 if the filter excludes presence."""
        return self._presence.position_of(project) if filter_.presence else 0

    async def presence_events(self, project: str, filter_: ChangeFilter, since: int) -> tuple[bytes, int]:
        """Return the presence events after a position and the new position; nothing if the filter excludes presence."""
        return await self._presence.events(project, filter_, since) if filter_.presence else (b"", 0)

    def wait(self, group: "_FanOutGroup") -> None:
        """Let an up-to-date group wait for changes, merged into a waiting group with the same filter if possible."""
        key = (group.project, group.filter)
        present = self._groups.get(key)
        if present is None:
            self._groups[key] = group
        elif present.is_open and group.is_up_to_date and present.presence_since == group.presence_since:
            present.add(group)
            return
        group.wait()

    def close(self, group: "_FanOutGroup") -> None:
        """Close a group to new members."""
        key = (group.project, group.filter)
        if self._groups.get(key) is group:
            del self._groups[key]


class EventStream:
    """One open stream: a position in the project's sequence. It catches up on its own, then joins a group."""

    question_bytes = 0
    """A stream keeps no request body."""

    __slots__ = (
        "_access",
        "_begun",
        "_ended",
        "_pump",
        "_ready",
        "_send",
        "_streams",
        "filter",
        "group",
        "outlet",
        "presence_since",
        "project",
        "project_name",
        "since",
    )

    def __init__(self, streams: EventStreams, opened: OpenStream, access: Access, send: Send) -> None:
        self._streams = streams
        self._access = access
        self._send = send
        self.outlet: Outlet | None = None
        """The way past the transport, once the stream has caught up; None: there is none."""
        self._begun = self._ready = False
        self._pump: asyncio.Task[None] | None = None
        self._ended = False
        self.project_name = opened.project_name
        self.project = opened.project
        self.filter = opened.filter
        self.since: str | None = opened.since
        self.presence_since = 0
        self.group: _FanOutGroup | None = None
        access.watch(self._expire)
        self.catch_up()

    def catch_up(self, begun: Awaitable[None] | None = None) -> None:
        """Finish the send in flight, send what came after `since` at the client's pace, then join the streams that
        wait for changes."""
        if not self._ended:
            self._pump = asyncio.create_task(self._catch_up(begun))

    async def _catch_up(self, begun: Awaitable[None] | None) -> None:
        """Catch up; if that is impossible, tell the client when to reconnect."""
        try:
            if begun is not None:
                await begun
            is_up_to_date = await self._send_changes()
        except Exception as error:
            _log.error("event stream ended", project=self.project_name, exc_info=error)
            is_up_to_date = False
        if is_up_to_date:
            self._pump = None
            server = server_of(self._send)
            self.outlet = None if server is None else server.outlet()
            self._streams.wait(_FanOutGroup(self._streams, self))
        else:
            await self._send({"type": "http.response.body", "body": retry_line(), "more_body": False})

    async def _send_changes(self) -> bool:
        """Send all changes, or the cursor alone if there are none.

        Returns:
            False if the gateway is draining.
        """
        if not self._begun:
            self._begun = True
            view = (b"x-view", self._access.identity(self.project_name).encode())
            await self._send({"type": "http.response.start", "status": 200, "headers": [*STREAM_HEADERS, view]})
            await self._write(retry_line())
        sent = more = False
        as_of = None
        while more or not sent or self.project.forgotten or self.project.head is not as_of or self._lacks_presence():
            if self._streams.waiters.draining:
                return False
            if self.project.forgotten:
                await self._follow_anew()
            as_of = self.project.head
            events, cursor, more = await self._streams.feed.events(self.project_name, self.filter, self.since)
            self.since = cursor
            told, self.presence_since = await self._streams.presence_events(
                self.project_name, self.filter, self.presence_since
            )
            events += told
            if not self._ready and not more:
                self._ready = True
                events += b'id: %b\nevent: ready\ndata: {"cursor":"%b"}\n\n' % ((cursor.encode(),) * 2)
            if events or not sent:
                await self._write(events or _cursor_alone(cursor))
                sent = True
        return True

    def _lacks_presence(self) -> bool:
        return self._streams.presence_position(self.project_name, self.filter) > self.presence_since

    async def _follow_anew(self) -> None:
        """Move to the hub's new state of the project, since the hub has forgotten the previous one."""
        project = await self._streams.feed.project(self.project_name)
        self._streams.waiters.change_place(self.project, project)
        self.project = project

    def join(self, group: "_FanOutGroup") -> None:
        self.group = group
        self.filter, self.project_name = group.filter, group.project_name  # equal values: share one object
        group.members[self] = None

    async def _write(self, body: bytes) -> None:
        await self._send(stream_part(body))

    def tell(self, events: bytes, encoded: bytes) -> Awaitable[None] | None:
        """Send events immediately; if the client is too slow, return an awaitable that finishes the send.

        Args:
            encoded: the events as a chunk, which is the same for all streams.
        """
        outlet = self.outlet
        if outlet is not None:
            outlet.open()  # what was buffered for the client may have been sent meanwhile
            if outlet.write(encoded):
                return None
        server = server_of(self._send)
        if server is not None and server.write_chunk(encoded):
            return None
        return run_at_once(self._send(stream_part(events)))

    def _expire(self) -> None:
        """Tell the client that its credential is no longer valid, and end the stream."""
        if self._ended:
            return
        self._ended = True
        if self.group is not None:
            self.group.remove(self)
        self._pump = asyncio.create_task(self._send_expired(self._pump))

    async def _send_expired(self, pump: asyncio.Task[None] | None) -> None:
        if pump is not None:
            pump.cancel()
            await asyncio.wait([pump])
        if not self._begun:
            self._begun = True
            await self._send({"type": "http.response.start", "status": 200, "headers": STREAM_HEADERS})
        reason = b"revoked" if self._access.ended == "revoked" else b"expired"
        event = b'event: expired\ndata: {"reason":"%b"}\n\n' % reason
        await self._send({"type": "http.response.body", "body": event, "more_body": False})

    async def end(self) -> None:
        """Release the stream after the client has disconnected."""
        self._ended = True
        self._access.unwatch(self._expire)
        if self.group is not None:
            self.group.remove(self)
        if self._pump is not None:
            self._pump.cancel()
            await asyncio.wait([self._pump])


class _FanOutGroup:
    """A fan-out group: streams of one project with the same filter and position, which are all sent the same events.

    The group is a single waiter of the hub. A stream whose client is too slow leaves, and catches up on its own.
    """

    __slots__ = (
        "_streams",
        "_task",
        "_waiter",
        "_was_up_to_date",
        "filter",
        "members",
        "presence_since",
        "project",
        "project_name",
        "since",
    )

    def __init__(self, streams: EventStreams, first: EventStream) -> None:
        self._streams = streams
        self._task: asyncio.Task[None] | None = None
        self._waiter: Waiter | None = None
        self._was_up_to_date = False
        self.project = first.project
        self.project_name = first.project_name
        self.filter = first.filter
        self.since = first.since
        self.presence_since = first.presence_since
        self.members: dict[EventStream, None] = {}
        first.join(self)

    @property
    def is_up_to_date(self) -> bool:
        """Whether the group is at the hub's position: neither behind nor ahead (by changes the hub has yet to see)."""
        return self.since == self.project.cursor

    @property
    def is_open(self) -> bool:
        """Whether the group was up to date when it began to wait, and no matching change has happened since."""
        return self._was_up_to_date and self._waiter is not None and self._streams.waiters.waits(self._waiter)

    def wait(self) -> None:
        """Wait for changes."""
        waiters = self._streams.waiters
        self._was_up_to_date = self.is_up_to_date
        self._waiter = waiters.add(self.project, self.filter, self._streams.heartbeat, self._wake)

    def add(self, other: "_FanOutGroup") -> None:
        """Move the members of another, up-to-date group into this one, which is waiting."""
        self.since = other.since
        for stream in other.members:
            stream.join(self)

    def remove(self, stream: EventStream) -> None:
        """Remove a stream from the group."""
        stream.group = None
        self.members.pop(stream, None)
        if not self.members:
            self._streams.close(self)
            if self._waiter is not None:
                self._streams.waiters.forget(self._waiter)

    def _wake(self) -> None:
        self._waiter = None
        self._streams.close(self)
        if self.members:
            self._task = asyncio.create_task(self._tell_all())

    async def _tell_all(self) -> None:
        """Send the changes to all members, or the cursor alone if there are none."""
        project, told, as_of = self.project, False, None
        while not told or project.forgotten or project.head is not as_of or self._lacks_presence():
            as_of = project.head
            if self._streams.waiters.draining or project.forgotten:
                self._close()
                return
            try:
                events, cursor, more = await self._streams.feed.events(self.project_name, self.filter, self.since)
                presence, position = await self._streams.presence_events(
                    self.project_name, self.filter, self.presence_since
                )
                events += presence
                if events or not told:
                    await self._tell(events or _cursor_alone(cursor), cursor, position)
                    told = True
            except Exception:
                _log.exception("event streams are on their own", project=self.project_name)
                self._close()
                return
            self.since, self.presence_since = cursor, position
            if more:
                as_of = None
        if self.members:
            self._streams.wait(self)

    def _lacks_presence(self) -> bool:
        return self._streams.presence_position(self.project_name, self.filter) > self.presence_since

    async def _tell(self, events: bytes, cursor: str, position: int) -> None:
        encoded, members = chunk(events), list(self.members)
        for start in range(0, len(members), _TOLD_TOGETHER):
            if start:
                await asyncio.sleep(0)
            for stream in self._write_to_all(members[start : start + _TOLD_TOGETHER], encoded):
                if (begun := stream.tell(events, encoded)) is not None:
                    self._part_with(stream, cursor, position, begun)

    def _write_to_all(self, streams: Sequence[EventStream], encoded: bytes) -> list[EventStream]:
        """Write a chunk to the streams that are still members; return those to which it cannot be written at once."""
        outlets: dict[Outlet, EventStream] = {}
        others: list[EventStream] = []
        for stream in streams:
            if stream.group is self:
                if stream.outlet is None:
                    others.append(stream)
                else:
                    outlets[stream.outlet] = stream
        return others + write_to_all(outlets, encoded)

    def _part_with(
        self, stream: EventStream, since: str | None, position: int, begun: Awaitable[None] | None = None
    ) -> None:
        """Remove a stream from the group and let it catch up on its own from its position."""
        stream.since, stream.presence_since = since, position
        self.remove(stream)
        stream.catch_up(begun)

    def _close(self) -> None:
        for stream in list(self.members):
            self._part_with(stream, self.since, self.presence_since)
