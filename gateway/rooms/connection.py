"""One WebSocket of a room: its bounded send queue, and the reason why it is closed."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from starlette.types import Send

from gateway.asgi.coroutines import run_at_once
from gateway.asgi.frames import WriteFrame, binary_frame
from gateway.asgi.outlets import PART_BYTES, Outlet
from gateway.pace import next_slice
from gateway.rooms.close_codes import FORBIDDEN, RESTART, TRY_LATER
from gateway.rooms.member import Member
from gateway.yjs.messages import permission_denied
from storage import NOBODY, Author

_SENT_TOGETHER = 256
"""How many messages that wait for a client are sent in one step of the event loop."""
_WORTH_JOINING = 8
"""Fewer messages are sent one after another."""
_CLOSE_S = 5.0
"""Seconds within which a client that does not read must take the close frame."""


class Connection(Member):
    """One client of a room, to which messages are sent in order. The task that opened the connection receives."""

    __slots__ = (
        "_bytes",
        "_closing",
        "_gone",
        "_last",
        "_queue",
        "_reason",
        "_receiver",
        "_send",
        "_sender",
        "_write_frame",
        "sent",
    )

    def __init__(
        self,
        send: Send,
        limit: int,
        *,
        write_frame: WriteFrame | None = None,
        outlet: Outlet | None = None,
        author: Author = NOBODY,
        subject: str | None = None,
        read_only: bool = False,
        note: Callable[[int], None] = lambda version: None,
    ) -> None:
        self._begin(limit)
        self.outlet = outlet
        self.note = note
        self.author = author
        self.subject = subject
        self.read_only = read_only
        self._send = send
        self._write_frame = write_frame
        self._last = b""
        self._receiver = asyncio.current_task()
        self._sender: asyncio.Task[None] | None = None
        """Sends what is queued; None while the queue is empty."""
        self._queue: deque[bytes] = deque()
        self._bytes = 0
        self._closing = 0
        self._reason = ""
        self._gone = False
        self.sent = 0
        """Bytes of messages so far, sent or queued; without those that were written to the outlet."""

    @property
    def closing(self) -> bool:
        return self._closing != 0

    @property
    def close_code(self) -> int:
        """The code with which the gateway closes the connection; 0: it does not."""
        return self._closing

    @property
    def accepts_updates(self) -> bool:
        """Whether updates of this client are still accepted: until it is closed, and while the gateway drains."""
        return self._closing in (0, RESTART)

    def enqueue(self, message: bytes, frame: bytes | None = None) -> None:
        """Send a message, or queue it behind the pending ones. A client whose queue exceeds the limit is closed.

        Args:
            frame: the message as encoded by `binary_frame`, where it goes to many clients.
        """
        if self._closing or self._gone:
            return
        self.sent += len(message)
        if self._sender is None:
            if self._write_frame is not None and self._write_frame(frame or binary_frame(message)):
                return
            rest = run_at_once(self._send({"type": "websocket.send", "bytes": message}))
            if rest is not None:
                self._start_sending(rest)
            return
        if self._queue and self._bytes + len(message) > self._limit:
            self.close(TRY_LATER)
            return
        self._queue.append(message)
        self._bytes += len(message)
        self._start_sending()

    def deliver(self, version: int, message: bytes, frame: bytes) -> None:
        """See `Member.deliver`."""
        if self._synced and self._sender is None and self._write_frame is not None and self._write_frame(frame):
            self.sent += len(message)
            if self.outlet is not None:
                self.outlet.open()  # for the next one
        else:
            super().deliver(version, message, frame)

    def refuse_addition(self, reason: str) -> None:
        """Send the reason and close the connection: stock clients of y-websocket ignore the message alone."""
        self.close(FORBIDDEN, reason, permission_denied(reason))

    def close(self, code: int, reason: str = "", last: bytes = b"") -> None:
        """Send nothing more but `last`, and close the connection. The first code wins."""
        if not self._closing:
            self._closing, self._reason, self._last = code, reason, last
            self._drop()
            self._start_sending()
            asyncio.get_running_loop().call_later(_CLOSE_S, self._give_up)

    def _drop(self) -> None:
        self._queue.clear()
        self._forget_versions()

    def _give_up(self) -> None:
        """End the connection without a close frame, which the client does not take."""
        if self._receiver is not None:
            self._receiver.cancel()

    def _start_sending(self, begun: Awaitable[None] | None = None) -> None:
        if self.outlet is not None:
            self.outlet.close()
        if self._sender is None and not self._gone:
            self._sender = asyncio.create_task(self._send_queued(begun))

    async def _send_queued(self, begun: Awaitable[None] | None) -> None:
        """Finish the message that was begun, and send the queue until it is empty; then close the connection if it is
        closing."""
        try:
            if begun is not None:
                await begun
            while self._queue and not self._closing:
                (first,) = self._take_from_queue(1)
                await self._send({"type": "websocket.send", "bytes": first})
                if len(self._queue) >= _WORTH_JOINING:
                    await next_slice()
                    await self._send_together()
            if self._closing:
                if self._last:
                    await self._send({"type": "websocket.send", "bytes": self._last})
                await self._send({"type": "websocket.close", "code": self._closing, "reason": self._reason})
        except (
            OSError,
            RuntimeError,
        ):  # the client disconnected, or the server closed the connection; the receiver notices as well
            self._gone = True
            self._drop()
        finally:
            self._sender = None

    async def _send_together(self) -> None:
        """Send the first messages of the queue, few enough for one step of the event loop."""
        some = self._take_from_queue(_SENT_TOGETHER)
        if not some:  # the connection was closed meanwhile
            return
        if self._write_frame is None or not self._write_frame(b"".join(map(binary_frame, some))):
            for message in some:
                await self._send({"type": "websocket.send", "bytes": message})

    def _take_from_queue(self, most: int) -> list[bytes]:
        """Take messages from the queue: at least one, of no more bytes together than fit into one write."""
        some: list[bytes] = []
        size = 0
        while self._queue and len(some) < most and (not some or size + len(self._queue[0]) <= PART_BYTES):
            some.append(self._queue.popleft())
            size += len(some[-1])
        self._bytes -= size
        return some

    async def end(self) -> None:
        """Stop sending: the task that receives is about to end."""
        self._receiver = None
        self._gone = True
        if self.outlet is not None:
            self.outlet.end()
        self._ask_nothing_more()
        if self._sender is not None:
            self._sender.cancel()
            await asyncio.wait([self._sender])
