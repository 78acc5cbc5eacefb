"""One client of a room, independent of its protocol: what the room knows of the client and tells it."""

import asyncio
from collections.abc import Callable

from gateway.asgi.outlets import Outlet
from gateway.rooms.close_codes import TRY_LATER
from gateway.yjs.messages import sync_step_1
from storage import Author

CLOSE_S = 0.0001
"""What a task takes that closes a connection, in seconds: many connections are closed in turns."""
_ASK_AGAIN_S = 1.0
_ASK_SELDOM_S = 30.0


class Questions:
    """When to ask a client for missing updates: at once, then at most once a second, then with exponential back-off."""

    __slots__ = ("_interval", "_next", "pending")

    def __init__(self) -> None:
        self._next = 0.0
        self._interval = _ASK_AGAIN_S
        self.pending: asyncio.Task[None] | None = None
        """The task that asks the next question."""

    async def due(self) -> None:
        """Wait until the next question may be asked."""
        loop = asyncio.get_running_loop()
        await asyncio.sleep(max(0.0, self._next - loop.time()))
        self._next = loop.time() + self._interval
        self._interval = min(2 * self._interval, _ASK_SELDOM_S)

    def answered(self) -> None:
        """Note that nothing is missing any more, and reset the back-off."""
        self._interval = _ASK_AGAIN_S


class Member:
    """One client of a room. It is given messages of the y-websocket protocol; a subclass encodes them for its own."""

    __slots__ = (
        "_held",
        "_held_bytes",
        "_limit",
        "_synced",
        "author",
        "note",
        "outlet",
        "questions",
        "read_only",
        "refused",
        "subject",
    )

    author: Author
    """The author of the client's edits, for the history."""
    subject: str | None
    """The subject of the client's credential."""
    read_only: bool
    """Whether the client's additions are refused."""
    note: Callable[[int], None]
    """Called with each version that was made of the client's updates."""
    outlet: Outlet | None
    """Where versions and awareness can be written while nothing else is to be sent; None: they are only delivered."""
    questions: Questions
    refused: bool
    """Whether the client has sent an invalid update: none of its updates is tried any more."""
    _limit: int
    _synced: bool
    _held: list[tuple[int, bytes]] | None
    _held_bytes: int

    def _begin(self, limit: int) -> None:
        self._limit = limit
        self.outlet = None
        self._synced = False
        self._held, self._held_bytes = None, 0
        self.questions = Questions()
        self.refused = False

    # What each protocol does in its own way

    @property
    def closing(self) -> bool:
        raise NotImplementedError

    def enqueue(self, message: bytes, frame: bytes | None = None) -> None:
        """Send a message, or queue it behind the pending ones.

        Args:
            frame: the message as encoded by `binary_frame`, where it goes to many clients.
        """
        raise NotImplementedError

    def close(self, code: int, reason: str = "", last: bytes = b"") -> None:
        """End the client's membership of the room. The first code wins."""
        raise NotImplementedError

    def refuse_addition(self, reason: str) -> None:
        """Refuse an addition: the client is read-only, and has sent something new."""
        raise NotImplementedError

    def received(self, *, is_step_2: bool) -> int:
        """Note an update that the client sent; return the receipt to pass to `stored`."""
        return 0

    def stored(self, receipt: int, *, whole: bool, is_step_2: bool) -> None:
        """Note that an update of the client was stored: whole, or as far as the gateway has what it builds on."""

    def tell_stateless(self, payload: str) -> None:
        """Relay a message that belongs to no document; only Hocuspocus' protocol has such messages."""

    def ask(self, state_vector: bytes) -> None:
        """Ask the client for what the gateway is missing."""
        self.enqueue(sync_step_1(state_vector))

    # The order of versions

    def deliver(self, version: int, message: bytes, frame: bytes) -> None:
        """Send a version, unless the client has yet to be sent the document, which will contain the version."""
        if self._synced:
            self.enqueue(message, frame)
        elif self._held is not None:
            self._held.append((version, message))
            self._held_bytes += len(message)
            if self._held_bytes > self._limit:
                self.close(TRY_LATER)

    def hold(self) -> None:
        """Hold versions back while the document is read for the client; out of order they would leave gaps."""
        if not self._synced:
            self._held, self._held_bytes = [], 0

    def release(self, version: int) -> None:
        """Send the versions held back after `version`, the one the client was sent; from now on send every one."""
        held, self._held = self._held or [], None
        self._synced = True
        for held_version, message in held:
            if held_version > version:
                self.enqueue(message)

    def _forget_versions(self) -> None:
        self._held = None
        self._synced = False

    def _ask_nothing_more(self) -> None:
        if self.questions.pending is not None:
            self.questions.pending.cancel()
