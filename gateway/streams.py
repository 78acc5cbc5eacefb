"""The change feed as Server-Sent Events (WHATWG HTML §9.2): written by hand, since ten thousand of them may be open."""

import asyncio
import random

import structlog
from starlette.types import Message, Send

from gateway.feed import Feed
from gateway.hub import Hub
from gateway.routes.waits import OpenStream
from gateway.watched_project import Waiter
from storage import ProjectHead

_log = structlog.get_logger("gateway.http")

_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
    (b"vary", b"Accept, Accept-Encoding, Authorization, Origin"),
]


def _retry() -> bytes:
    """After how long the client connects again, in milliseconds: not all at once."""
    return b"retry: %d\n\n" % random.randint(1000, 4000)


async def refuse_stream(send: Send) -> None:
    """A stream that says when to come again, and ends: `EventSource` gives up for good on an error status."""
    await send({"type": "http.response.start", "status": 200, "headers": [*_HEADERS, (b"retry-after", b"4")]})
    await send({"type": "http.response.body", "body": b"retry: %d\n\n" % random.randint(4000, 8000)})


async def describe_stream(send: Send) -> None:
    """What HEAD is told: how a stream would begin."""
    await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
    await send({"type": "http.response.body", "body": b""})


class EventStream:
    """One open stream: a position in the project's sequence, and a place in the hub while there is nothing to send.

    Args:
        heartbeat: after how many silent seconds the cursor comes alone.
    """

    __slots__ = (
        "_ended",
        "_feed",
        "_heartbeat",
        "_hub",
        "_interest",
        "_name",
        "_project",
        "_pump",
        "_ready",
        "_send",
        "_since",
        "_waiter",
    )

    def __init__(self, hub: Hub, feed: Feed, opened: OpenStream, send: Send, heartbeat: float) -> None:
        self._hub = hub
        self._feed = feed
        self._name = opened.project_name
        self._project = opened.project
        self._interest = opened.interest
        self._since: str | None = opened.since
        self._send = send
        self._heartbeat = heartbeat
        self._ready = False
        self._waiter: Waiter | None = None
        self._pump: asyncio.Task[None] | None = None
        self._ended = False

    async def start(self) -> None:
        """Begin the answer, and send what there is."""
        await self._send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        await self._write(_retry())
        self._wake()

    def _wake(self) -> None:
        self._waiter = None
        if not self._ended:
            self._pump = asyncio.create_task(self._send_news())

    async def _send_news(self) -> None:
        """Send what is new, and wait for more. Where that cannot be, the client is told when to come again."""
        try:
            as_of = await self._send_changes()
        except Exception as error:
            _log.error("event stream ended", project=self._name, exc_info=error)
            as_of = None
        if as_of is None:
            await self._send({"type": "http.response.body", "body": _retry(), "more_body": False})
        elif self._project.head is not as_of:  # something came while the last of it was sent
            self._wake()
        else:
            self._waiter = self._hub.park(self._project, self._interest, self._heartbeat, self._wake)

    async def _send_changes(self) -> ProjectHead | None:
        """Send all that is new, the cursor alone where nothing is.

        Returns where the project stood when the last of it was looked for; None: the gateway is about to stop.
        """
        sent = more = False
        as_of, cursor = None, ""
        known = self._ready and not self._project.forgotten and not self._hub.draining
        if known and self._since == self._project.cursor:  # a heartbeat: ten thousand may be due in a second
            await self._write(b"id: %b\n\n" % self._project.cursor.encode())
            return self._project.head
        while more or self._project.head is not as_of:
            if self._hub.draining:
                return None
            as_of = self._project.head
            events, cursor, more = await self._feed.events(self._name, self._interest, self._since)
            self._since = cursor
            if events:
                await self._write(events)
                sent = True
        if not self._ready:
            self._ready = True
            await self._write(b'id: %b\nevent: ready\ndata: {"cursor":"%b"}\n\n' % ((cursor.encode(),) * 2))
        elif not sent:
            await self._write(b"id: %b\n\n" % cursor.encode())
        return as_of

    async def _write(self, body: bytes) -> None:
        message: Message = {"type": "http.response.body", "body": body, "more_body": True}
        await self._send(message)

    async def end(self) -> None:
        """Forget it: the client has left."""
        self._ended = True
        if self._waiter is not None:
            self._hub.forget(self._waiter)
        if self._pump is not None:
            self._pump.cancel()
            await asyncio.wait([self._pump])
