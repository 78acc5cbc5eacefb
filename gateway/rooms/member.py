"""One client of a room, whatever protocol it speaks: what the room knows of it, and what the room tells it."""

import asyncio
from collections.abc import Callable

from gateway.rooms.close_codes import TRY_LATER
from gateway.yjs.messages import sync_step_1

_ASK_AGAIN_S = 1.0
_ASK_SELDOM_S = 30.0


class Questions:
    """When a client is asked for what is missing: at once, then at most once a second, then less and less often."""

    __slots__ = ("_interval", "_next", "pending")

    def __init__(self) -> None:
        self._next = 0.0
        self._interval = _ASK_AGAIN_S
        self.pending: asyncio.Task[None] | None = None
        """Asks the next question."""

    async def due(self) -> None:
        """Wait until the next question may be asked."""
        loop = asyncio.get_running_loop()
        await asyncio.sleep(max(0.0, self._next - loop.time()))
        self._next = loop.time() + self._interval
        self._interval = min(2 * self._interval, _ASK_SELDOM_S)

    def answered(self) -> None:
        """Note that nothing is missing any more."""
        self._interval = _ASK_AGAIN_S


class Member:
    """One client of a room. Its messages are those of the y-websocket protocol; a subclass writes them as its own."""

    __slots__ = (
        "_held",
        "_held_bytes",
        "_limit",
        "_synced",
        "author",
        "note",
        "questions",
        "read_only",
        "refused",
        "subject",
    )

    author: str | None
    """Who types here, for the history."""
    subject: str | None
    """Whose credential it has."""
    read_only: bool
    """Whether what it adds is refused."""
    note: Callable[[int], None]
    """Called with each version that what it sent has made."""
    questions: Questions
    refused: bool
    """Whether it sent what is no update: nothing of it is tried any more."""
    _limit: int
    _synced: bool
    _held: list[tuple[int, bytes]] | None
    _held_bytes: int

    def _begin(self, limit: int) -> None:
        self._limit = limit
        self._synced = False
        self._held, self._held_bytes = None, 0
        self.questions = Questions()
        self.refused = False

    # What each protocol has its own way for

    @property
    def closing(self) -> bool:
        raise NotImplementedError

    def enqueue(self, message: bytes, frame: bytes | None = None) -> None:
        """Send a message: now, or after those that wait.

        Args:
            frame: the message as `binary_frame` has it, where it goes to many.
        """
        raise NotImplementedError

    def close(self, code: int, reason: str = "", last: bytes = b"") -> None:
        """Let it be a client of this room no more. The first code counts."""
        raise NotImplementedError

    def refuse_addition(self, reason: str) -> None:
        """It may read only, and has sent something new."""
        raise NotImplementedError

    def received(self, *, is_step_2: bool) -> int:
        """Note an update that came of it; returns what `stored` is to be told of it."""
        return 0

    def stored(self, receipt: int, *, whole: bool, is_step_2: bool) -> None:
        """Hear that an update of it is stored: wholly, or as far as the gateway had what it builds on."""

    def tell_stateless(self, payload: str) -> None:
        """Relay what is of no document; only Hocuspocus' protocol has such messages."""

    def ask(self, state_vector: bytes) -> None:
        """Ask it for what the gateway lacks."""
        self.enqueue(sync_step_1(state_vector))

    # The order of versions

    def deliver(self, version: int, message: bytes, frame: bytes) -> None:
        """Send a version, unless the client is still to be sent the document: that will hold it."""
        if self._synced:
            self.enqueue(message, frame)
        elif self._held is not None:
            self._held.append((version, message))
            self._held_bytes += len(message)
            if self._held_bytes > self._limit:
                self.close(TRY_LATER)

    def hold(self) -> None:
        """Let versions wait while the document is read for the client: in order, or a replica would have holes."""
        if not self._synced:
            self._held, self._held_bytes = [], 0

    def release(self, version: int) -> None:
        """Send the versions that came after `version`, of which the client was sent the document; from now on all."""
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
