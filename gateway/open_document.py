"""One open document: admits updates to a file, ahead of the log by what is queued to be written."""

import asyncio
from collections.abc import Sequence

import pycrdt

from gateway.nesting import DEEPEST, NestedTooDeeply, count_types, depth, most_types
from gateway.restore import restoring_update
from gateway.roots import require_text
from gateway.stored_form import to_wire
from gateway.structs import MalformedUpdate, Place
from gateway.surrogates import parts_pair, second_halves
from gateway.texts import apply_edits, most_edits, smallest_edits
from gateway.updates import (
    Document,
    InvalidUpdate,
    check_format,
    lacks_predecessors,
    leaves_gap,
    require_shallow,
    run_yrs,
)
from storage import Committed, FileHead, Incarnation, Line, Version

_MEMORY_PER_BYTE = 10
"""An open document takes 5 to 14 times its encoded size."""
_MEMORY_PER_DOCUMENT = 4096

_SNAPSHOT_TAIL = 32 * 1024
"""A snapshot is due when the updates after the last one hold this many bytes and half of its own. So the snapshots of a
file take at most three times the bytes of its log (four with those of old versions that are read), and a cold open
replays at most half of a document more: to replay some bytes of log takes about as long as to load as many of it."""


def is_snapshot_due(tail: int, snapshot_size: int) -> bool:
    """Whether so many bytes of log after a snapshot of so many bytes are enough for the next one."""
    return tail >= max(_SNAPSHOT_TAIL, snapshot_size // 2)


class Gap(Exception):
    """The update builds on something that the document does not have."""


class OpenDocument:
    """One file in memory, ahead of the log by what is queued to be written.

    Every method that is not a coroutine is one step: what it decides holds until the caller awaits something.
    """

    def __init__(
        self,
        project: str,
        path: str,
        head: FileHead | None,
        incarnation: Incarnation,
        document: Document,
        parts: Sequence[bytes],
        halves: set[Place],
    ) -> None:
        self.project = project
        self.path = path
        self.head = head
        """The newest durable state."""
        self.incarnation = incarnation
        """The life of the file; where there is no file, the one that begins with the first update."""
        self.version = Version(0) if head is None else head.version
        """The version that the next update builds on: ahead of `head` while updates are queued."""
        self.snapshot_log_size = 0
        self.snapshot_size = 0
        self.size = sum(map(len, parts))
        """Bytes of the encoded document, about."""
        self.usable = True
        self.line = Line()
        """What is queued of this opening of the file: each update builds on the one before it."""
        self._document = document
        self._halves = halves
        """Where in its texts the second half of a surrogate pair is, or was."""
        self._levels_left = DEEPEST - sum(map(most_types, parts))
        """So many shared types may be added before it must be looked at how deeply they are nested."""
        self._pending: asyncio.Future[tuple[Committed, ...]] | None = None
        self._queued = 0
        self._emitted: list[bytes] = []
        self._subscription = document.observe(self._keep)

    def _keep(self, event: pycrdt.TransactionEvent) -> None:
        self._emitted.append(event.update)

    @property
    def pending(self) -> bool:
        """Whether updates of it are queued, not yet durable."""
        return self._queued > 0

    @property
    def memory(self) -> int:
        """Bytes of memory that the document takes, as estimated."""
        return _MEMORY_PER_DOCUMENT + _MEMORY_PER_BYTE * self.size

    @property
    def snapshot_due(self) -> bool:
        if self.head is None or self.head.deleted:
            return False
        return is_snapshot_due(self.head.size - self.snapshot_log_size, self.snapshot_size)

    def admit(self, update: bytes) -> bytes | None:
        """Apply a client's update; returns what it adds, in canonical form, or None where it adds nothing.

        After an error the document must be discarded: it may hold a part of the update.

        Raises:
            InvalidUpdate, Gap
        """
        require_shallow(update)
        self._emitted.clear()
        try:
            self._require_whole_pairs(update)
            types = self._require_flat(update)
            self._apply(update)
            if types > self._levels_left:
                self._levels_left = DEEPEST - depth(self._document.get_update())
            else:
                self._levels_left -= types
        except (MalformedUpdate, NestedTooDeeply) as error:
            check_format(update)
            raise InvalidUpdate(str(error)) from None
        if self._emitted != [update]:
            check_format(update)
            if leaves_gap(update, self._document.get_state()):
                raise Gap
        return self._take_emitted()

    def _apply(self, update: bytes) -> None:
        """Apply an update. Where the document then emits the same bytes, they were an update, and it lacks nothing that
        they build on: it emits only what it has taken in."""
        try:
            run_yrs(lambda: self._document.apply_update(update))
        except InvalidUpdate:
            check_format(update)
            raise

    def _require_whole_pairs(self, update: bytes) -> None:
        if parts_pair(update, self._halves) or parts_pair(update, second_halves([update])):
            raise InvalidUpdate("it parts a surrogate pair: one half of a character would be left")

    def _require_flat(self, update: bytes) -> int:
        """Require that shared types are not nested too deeply in an update itself; returns how many there are."""
        types = count_types(update)
        if types > DEEPEST:
            depth(update)
        return types

    def lacks_predecessors(self, update: bytes) -> bool:
        """Whether an update is known to build on something that the document does not have."""
        return lacks_predecessors(update, self._document.get_state())

    def edit_text(self, root: str, text: str) -> bytes | None:
        """Make the text of a root `text` by the smallest edit; returns the update, None where nothing changes.

        Raises:
            RootIsNotText: the document is as it was.
        """
        self._emitted.clear()
        require_text(self._document, root, absent=True)
        target = self._document.get(root, type=pycrdt.Text)
        present = str(target)
        edits = smallest_edits(present, text, most_edits(present, self.size))
        with self._document.transaction():
            apply_edits(target, edits)
        return self._take_emitted()

    def restore(self, old: bytes) -> bytes | None:
        """Make the content what it is in the whole document `old`; returns the update, None where nothing changes.

        Raises:
            roots.NestedTooDeeply: the document is as it was.
        """
        update = restoring_update(to_wire(self._document.get_update()), old, self._document.client_id)
        return None if update is None else self.admit(update)

    def _take_emitted(self) -> bytes | None:
        if not self._emitted:
            return None
        (update,) = self._emitted
        self._emitted.clear()
        self._halves |= second_halves([update])
        return update

    def state_vector(self) -> bytes:
        return self._document.get_state()

    def encode(self, state_vector: bytes | None = None) -> bytes:
        """The whole document as an update, or what a replica with `state_vector` lacks."""
        return run_yrs(lambda: self._document.get_update(state_vector))

    def queued(self, future: asyncio.Future[tuple[Committed, ...]], update: bytes) -> None:
        """Note that `update` was queued as the next version."""
        self.version = Version(self.version + 1)
        self.size += len(update)
        self._queued += 1
        self._pending = future

    def decided(self, head: FileHead | None) -> None:
        """Note that the oldest queued update is durable, as `head`, or failed."""
        self._queued -= 1
        self.head = head or self.head

    async def settle(self) -> None:
        """Wait until nothing that is queued now is undecided. Does not raise for a write that failed."""
        if self._pending is not None:
            await asyncio.wait([self._pending])

    def close(self) -> None:
        self.usable = False
        self._document.unobserve(self._subscription)
