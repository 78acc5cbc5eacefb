"""One open document: admits updates to a file, ahead of the log by what is queued to be written."""

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

import pycrdt

from gateway.yjs.admission import complete_part, is_complete
from gateway.yjs.nesting import DEEPEST, NestedTooDeeply, depth, most_types
from gateway.yjs.reconcile import restoring_update
from gateway.yjs.roots import require_text
from gateway.yjs.scan import SKIP, Place, Scan
from gateway.yjs.stored_form import to_stored, to_wire
from gateway.yjs.structs import read_state_vector
from gateway.yjs.surrogates import cuts, halves_of, may_hold_pairs, name_pairs, part_pairs, second_halves
from gateway.yjs.text_edits import apply_edits, most_edits, smallest_edits
from gateway.yjs.updates import Document, InvalidUpdate, build_document, keep_pairs_whole, read_update, run_yrs
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
    """The whole update builds on something that the document does not have."""


class Admitted(NamedTuple):
    """What came of a client's update."""

    row: bytes | None
    """The row of the log that holds what the update adds; None where it adds nothing."""
    incomplete: bool = False
    """Whether a part of the update was left out: it builds on something that the document does not have."""


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
        self._clocks = read_state_vector(document.get_state())
        """The state vector of the document."""
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

    def admit(self, update: bytes, *, stored: bool = False) -> Admitted:
        """Apply a client's update, as far as the document has what the update builds on.

        After an error the document must be discarded: it may hold a part of the update.

        Args:
            stored: the update is in the stored form already.

        Raises:
            InvalidUpdate, Gap
        """
        scanned = read_update(update)
        incomplete = not is_complete(scanned, self._clocks)
        if incomplete:
            update = complete_part(update, scanned, self._clocks)
            scanned = read_update(update)
        if not stored and scanned.odd:
            update = to_stored(update, scanned)
            scanned = read_update(update)
        row = self._apply(update, scanned)
        if incomplete and row is None:
            raise Gap
        return Admitted(row, incomplete)

    def lacks(self, update: bytes) -> bool:
        """Whether an update that was admitted, or is well formed, builds on something that the document lacks."""
        return not is_complete(read_update(update), self._clocks)

    def _apply(self, update: bytes, scanned: Scan) -> bytes | None:
        """Apply an update in the stored form that lacks nothing; returns the row of the log, None if nothing is new."""
        former = self._document
        update, halves, parted = self._part_pairs(update, scanned)
        self._emitted.clear()
        try:
            if scanned.types > DEEPEST:
                depth(scanned)
            run_yrs(lambda: self._document.apply_update(update))
            if scanned.types > self._levels_left:
                self._levels_left = DEEPEST - depth(read_update(self._document.get_update()))
            else:
                self._levels_left -= scanned.types
        except NestedTooDeeply as error:
            raise InvalidUpdate(str(error)) from None
        self._note_clocks(scanned, whole=self._emitted == [update])
        row = self._take_emitted()
        if row is None:
            if parted:  # no row names them: the log has these pairs whole
                self._replace(former)
                self._halves |= parted
            return None
        self._halves |= halves
        return name_pairs(row, parted)

    def _part_pairs(self, update: bytes, scanned: Scan) -> tuple[bytes, set[Place], set[Place]]:
        """Make twice U+FFFD of the pairs that an update parts, in the document and in the update.

        Returns the update, the second halves of the pairs in it, and those of the pairs that were in the document.
        """
        paired = may_hold_pairs(update)
        if not paired and not self._halves:
            return update, set(), set()
        parting = set(cuts(scanned))
        halves: set[Place] = set()
        if paired:
            halves = set(halves_of(update, scanned))
            own = {place for place in halves if place in parting or self._clocks.get(place[0]) == place[1]}
            update = part_pairs(update, own)
            halves -= own
        parted = self._halves & parting
        if parted:
            self._replace(build_document([part_pairs(self._document.get_update(), parted)], self._document.client_id))
            self._halves -= parted
        return update, halves, parted

    def _replace(self, document: Document) -> None:
        self._document.unobserve(self._subscription)
        self._document = document
        self._subscription = document.observe(self._keep)

    def _note_clocks(self, scanned: Scan, *, whole: bool) -> None:
        """Note what the document has now. Where it emitted the whole update, it has taken the whole of it in."""
        if whole:
            for struct in scanned.structs:
                if struct.kind != SKIP:
                    self._clocks[struct.client] = struct.clock + struct.length
            return
        self._clocks = read_state_vector(self._document.get_state())
        if not is_complete(scanned, self._clocks) or any(
            struct.kind != SKIP and struct.clock + struct.length > self._clocks.get(struct.client, 0)
            for struct in scanned.structs
        ):
            raise InvalidUpdate("its structs build on each other in a circle")

    def edit_text(self, root: str, text: str, *, make: bool = True) -> bytes | None:
        """Make the text of a root `text` by the smallest edit; returns the update, None where nothing changes.

        Raises:
            RootIsNotText: the document is as it was.
        """
        self._emitted.clear()
        require_text(self._document, root, absent=make)
        if not text and root not in self._document.keys():  # noqa: SIM118 - not a dict
            return None
        target = self._document.get(root, type=pycrdt.Text)
        present = str(target)
        edits = smallest_edits(present, text, most_edits(present, self.size))
        with self._document.transaction():
            apply_edits(target, edits)
        row = self._take_emitted()
        if row is not None:
            self._halves |= second_halves([row])
            self._clocks = read_state_vector(self._document.get_state())
        return row

    def restore(self, old: bytes) -> bytes | None:
        """Make the content what it is in the whole document `old`, which is in the stored form.

        Returns the row of the log, None where nothing changes.

        Raises:
            roots.NestedTooDeeply: the document is as it was.
        """
        update = restoring_update(to_wire(self._document.get_update()), to_wire(old), self._document.client_id)
        return None if update is None else self.admit(update).row

    def _take_emitted(self) -> bytes | None:
        if not self._emitted:
            return None
        (update,) = self._emitted
        self._emitted.clear()
        return update

    def state_vector(self) -> bytes:
        return self._document.get_state()

    def encode(self, state_vector: bytes | None = None) -> bytes:
        """The whole document as an update, or what a replica with `state_vector` lacks."""
        if state_vector is not None:
            state_vector = keep_pairs_whole(state_vector, self._halves)
        return run_yrs(lambda: self._document.get_update(state_vector))

    def measure(self, update: bytes) -> int:
        """The bytes of the encoded document, which holds `update` already but does not count it yet."""
        size = len(self.encode())
        self.size = max(0, size - len(update))
        return size

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
