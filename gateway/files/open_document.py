"""One open document, which admits updates to a file and is ahead of the log by the updates that are queued."""

import asyncio
import secrets
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from collections.abc import Set as AbstractSet

import structlog

from gateway.pace import next_slice, with_turns
from gateway.wire.problems import Problem
from gateway.workers.kept_documents import take_in_kept, take_in_stored
from gateway.workers.pool import LIGHT_UNITS, Lane, client_of_request, in_worker, run_in_worker
from gateway.yjs.document import Admitted, Gap, LiveDocument
from gateway.yjs.elsewhere import TimeAllowed, Update
from gateway.yjs.footprint import STRUCT
from gateway.yjs.halves import Halves
from gateway.yjs.heavy_edits import (
    Basis,
    count_types,
    counted,
    encoded_size,
    levels_left_after,
    parted_slices,
    take_in_elsewhere,
)
from gateway.yjs.nesting import DEEPEST
from gateway.yjs.preparation import Prepared, Receiving
from gateway.yjs.revisions import Revision
from gateway.yjs.runs import furthest_end
from gateway.yjs.scan import TooMuch
from gateway.yjs.slices import MOST_WHOLE, STEP_WORK, SliceWork
from gateway.yjs.surrogates import names_pairs
from gateway.yjs.type_sizes import MOST_HELD, TypeSizes
from gateway.yjs.updates import Document, InvalidUpdate, build_document, merge, run_yrs
from storage import FileHead, Incarnation, Line, StorageError, Version

_log = structlog.get_logger("gateway.files")

_MEMORY_PER_DOCUMENT = 4096

_LIGHT_WORK = 4096
"""The most work for which an update is admitted in one step: about 5 ms, in a document that is not large."""
_LEAST_WORK = 16
_MOVES = 40_000_000
"""When yrs splits a struct, it moves all later structs of that client: this many moves take about 10 ms."""
_SLICE_MOVES = _MOVES // 4
"""The most moves in one slice of a prepared update."""
_BYTES_PER_STRUCT = 6
_LIGHT_BYTES = 128 * 1024
"""The most bytes of a document and a new text together for which the text is edited in one step."""
_SMALL_BYTES = _BYTES_PER_STRUCT * _MOVES // _LIGHT_WORK - _BYTES_PER_STRUCT
_LIGHT_ENCODED = 16_000
"""The most structs of a document that is encoded in the event loop: about 3 ms, 8 ms if they are XML elements. A
larger one is built elsewhere from its log. A client that has written takes as long as two structs."""
_BRIEFLY_ENCODED = 2_000
"""The most structs of a document that is encoded beside other work in one step."""
_BYTES_LIKE_STRUCT = 64
"""How many bytes of a document are encoded in the time of one struct."""
_LIGHT_LACKING = 50_000
"""How many structs a larger document may have, with the clocks by which a replica lags behind, for the difference to be
encoded in the event loop: about 5 ms. Each clock is one struct at most; for the deletions yrs looks at all structs."""
_RECEIVED_TOGETHER = 64
"""How many updates are examined before others have a turn: a keystroke takes 10 to 20 µs."""
_LIGHT_WALKED = 16 * 1024
"""The most bytes of a document of which all structs are walked in one step."""
_LIGHT_STEPS = 1_000_000
"""How many pieces of a text yrs may walk over in one text edit: about 5 ms."""
_LONG_STEP_S = 0.005
_LIGHT_RESTORED = 8 * 1024
"""The most bytes of the present and the old document together for which a restore is done in one step."""

SNAPSHOT_TAIL = 32 * 1024
"""A snapshot is due when the updates since the last snapshot have this many bytes and two thirds of the bytes of that
snapshot, before compression. So even snapshots that cannot be compressed take at most two and a half times the bytes of
the log (four with the snapshots at old versions that are read), and a cold open replays at most two thirds of a
document more: replaying log takes as long per byte as loading."""


def is_snapshot_due(tail: int, snapshot_size: int) -> bool:
    """Return whether `tail` bytes of log after a snapshot of `snapshot_size` bytes make the next snapshot due."""
    return tail >= max(SNAPSHOT_TAIL, snapshot_size * 2 // 3)


class Outdated(Exception):
    """What is stored of a file is not what its document holds, which must be discarded."""


class ProjectDocuments(dict[str, "OpenDocument"]):
    """The open documents of a project, by path: all become unusable at once, however many they are."""

    erased = False
    """Whether the project was erased."""


class OpenDocument:
    """One file in memory, ahead of the log by the updates that are queued.

    Every method that is not a coroutine is one step: its result stays valid until the caller awaits something.
    """

    def __init__(
        self,
        project: str,
        path: str,
        head: FileHead | None,
        incarnation: Incarnation,
        document: Document,
        size: int = 0,
        halves: Halves | None = None,
        levels: int = DEEPEST,
        roots: AbstractSet[bytes] = frozenset(),
        read_rows: Callable[[], Awaitable[tuple[Version, Sequence[bytes]] | None]] | None = None,
        footprint: int = 0,
        extra: int = 0,
        types: TypeSizes | None = None,
        elsewhere: bytes | None = None,
        most_structs: int | None = None,
    ) -> None:
        self.project = project
        self.path = path
        self.head = head
        """The newest durable state."""
        self.incarnation = incarnation
        """The incarnation of the file; if the file does not exist, the incarnation that the first update will begin."""
        self.version = Version(0) if head is None else head.version
        """The version that the next update builds on: ahead of `head` while updates are queued."""
        self.snapshot_log_size = 0
        self.snapshot_size = 0
        self.size = size
        """The approximate size of the encoded document in bytes."""
        self.siblings = ProjectDocuments()
        """The open documents of the project, this one among them unless it is being opened."""
        self.closed = False
        self.turn = asyncio.Lock()
        """Held during a write: writes are made in the order in which they arrive."""
        self.changing = False
        """Whether the document holds only a part of an update that is still being applied, or what is not queued."""
        self.line = Line()
        """The line of updates queued since the document was opened: each builds on the update before it."""
        self.measured = False
        """Whether `size` is exact."""
        self._read_rows = read_rows
        self._document = LiveDocument(document, halves, levels, roots, footprint, extra, elsewhere, most_structs)
        if types is not None:
            self._document.note_types(types)
        self._queued = self._settled = 0
        """How many updates were ever queued, and how many of these have become durable or have failed."""
        self._drains: deque[tuple[int, asyncio.Future[None]]] = deque()
        """The futures of those who wait until so many updates are settled."""
        self._name = secrets.token_hex(8)
        """Names the document to the worker processes."""
        self._taken_in = 0
        """How many updates the document has taken in elsewhere."""
        self._counting: asyncio.Task[None] | None = None
        """Counts the shared types beside the writes."""
        self.memory = 0
        """The memory that the document takes, in bytes, as `weigh` has estimated it."""
        self.weigh()

    @property
    def pending(self) -> bool:
        """Whether updates of the document are queued and not yet durable."""
        return self._queued != self._settled

    @property
    def engaged(self) -> bool:
        """Whether a write to the document is in progress or its updates are queued."""
        return self._queued != self._settled or self.turn.locked()

    @property
    def clients(self) -> int:
        """The number of clients that have written to the document."""
        return self._document.clients

    @property
    def spoiled(self) -> bool:
        """Whether the document may hold a part of an update that was refused: it must be discarded then."""
        return self.changing or self._document.spoiled

    @property
    def encodes_in_step(self) -> bool:
        """Whether the whole document is encoded in a short time."""
        return self._encoding_work <= _LIGHT_ENCODED and not self._document.is_elsewhere

    @property
    def encodes_in_own_step(self) -> bool:
        """Whether the whole document is encoded in the event loop, but in a step in which little else is done."""
        return _BRIEFLY_ENCODED < self._encoding_work <= _LIGHT_ENCODED and not self._document.is_elsewhere

    @property
    def _encoding_work(self) -> int:
        """How long it takes to encode the whole document, in structs."""
        document = self._document
        return document.most_structs + 2 * document.clients + self.size // _BYTES_LIKE_STRUCT

    def encodes_soon(self, state_vector: bytes) -> bool:
        """Whether what a replica with a state vector is missing is encoded in a short time."""
        if self._document.is_elsewhere:
            return False
        if self.encodes_in_step:
            return True
        structs = self._document.most_structs
        return structs <= _LIGHT_LACKING and structs + self._document.lacks(state_vector) <= _LIGHT_LACKING

    def weigh(self) -> int:
        """Estimate the memory of the document anew, and return by how much it grew."""
        before = self.memory
        encoded = 0 if self._document.is_elsewhere else self.size
        self.memory = _MEMORY_PER_DOCUMENT + encoded + self._document.footprint
        return self.memory - before

    @property
    def snapshot_due(self) -> bool:
        if self.head is None or self.head.deleted:
            return False
        return is_snapshot_due(self.head.size - self.snapshot_log_size, self.snapshot_size)

    @property
    def light_work(self) -> int:
        """The most work, as counted by `scan`, for which an update is admitted in one step."""
        if self.size < _SMALL_BYTES:
            return _LIGHT_WORK
        return max(_LEAST_WORK, min(_LIGHT_WORK, _MOVES // self._most_pieces))

    @property
    def slice_work(self) -> SliceWork:
        """How an update is split that is applied in several steps."""
        return SliceWork(STEP_WORK, self._most_pieces * STEP_WORK // _SLICE_MOVES, self._document.most_structs)

    @property
    def _most_pieces(self) -> int:
        """The approximate upper bound of the number of structs in the document."""
        return 1 + self.size // _BYTES_PER_STRUCT

    @property
    def basis(self) -> Basis:
        """The facts about the document that are needed to prepare an update elsewhere."""
        document = self._document
        return Basis(document.state_vector(), document.halves, self.slice_work, document.types, document.client_id)

    def prepare(self, update: bytes, *, stored: bool = False) -> Prepared:
        """Examine a client's update and find out which part of it the document can apply.

        Args:
            stored: whether the update is already in the stored form.

        Raises:
            InvalidUpdate
            TooMuch: the update is too large to be examined in one step.
        """
        most = _LIGHT_WORK if self.size < _SMALL_BYTES else self.light_work  # without a call for each keystroke
        return self._document.prepare(update, stored=stored, most=most)

    async def prepare_together(self, updates: Sequence[bytes]) -> Prepared:
        """Prepare several updates as one, with turns for others after some of them. No other write may run meanwhile.

        Raises:
            Refused, InvalidUpdate, TooMuch
        """
        receiving = Receiving(self.light_work)
        async for update in with_turns(updates, _RECEIVED_TOGETHER):
            receiving.add(update)
        if len(updates) > _RECEIVED_TOGETHER:
            await next_slice()
        return self._document.prepare_together(receiving.received, most=self.light_work)

    def admit(self, update: bytes, *, stored: bool = False) -> Admitted:
        """Prepare and apply an update in one step.

        Raises:
            As `prepare` and `take_in_now`.
        """
        return self.take_in_now(self.prepare(update, stored=stored))

    def take_in_now(self, prepared: Prepared) -> Admitted:
        """Apply a prepared update in one step.

        After an InvalidUpdate the document must be discarded if it is `spoiled`.

        Raises:
            InvalidUpdate, Gap
            TooMuch: the update is too large for one step. The document is unchanged.
        """
        if self._may_join_long_texts(prepared):
            raise TooMuch
        few = self.size <= _LIGHT_WALKED and self._document.most_structs <= LIGHT_UNITS
        return self._document.take_in(prepared, walk=few)

    def _may_join_long_texts(self, prepared: Prepared) -> bool:
        """Whether a client of an update has written so much that yrs may join a text of over `MOST_WHOLE` bytes."""
        if furthest_end(prepared.runs) <= MOST_WHOLE:
            return False
        return self.size + sum(map(len, prepared.slices)) > MOST_WHOLE

    def take_in_keystroke(self, update: bytes) -> bytes | None:
        """Take in the most frequent kind of update; return the row. None: it is of another kind, or adds nothing.

        After an InvalidUpdate the document must be discarded if it is `spoiled`.

        Raises:
            InvalidUpdate
        """
        return self._document.take_in_keystroke(update)

    def take_over(self, row: bytes, head: FileHead) -> bool:
        """Apply the next row of the file's log, which another gateway stored.

        Returns False if this cannot be done in one step; the document must then be discarded.
        """
        if self.engaged or self.head is None or names_pairs(row):
            return False
        if (head.incarnation, head.version) != (self.incarnation, self.version + 1):
            return False
        try:
            if self.admit(row, stored=True).incomplete:
                return False
        except (InvalidUpdate, Gap, TooMuch):
            return False
        self.head, self.version = head, head.version
        self.size += len(row)
        if self._document.counts_soon:
            self._count_beside()
        return True

    async def take_in(self, prepared: Prepared) -> Admitted:
        """Apply a prepared update in parts and yield to the event loop between them. No other write may run meanwhile.

        The document must be unchanged since the update was prepared. After an error it must be discarded if it is
        `spoiled`.

        Raises:
            InvalidUpdate, Gap
            Outdated: the document must be discarded.
        """
        document = self._document
        document.require_bounds(prepared)
        outgrown = document.outgrows(prepared) or self._may_join_long_texts(prepared)
        if not outgrown and not document.knows_types:
            types, held = await run_in_worker(count_types, await self.present(), prepared.update)
            document.note_types(types)
            prepared = prepared._replace(held=max(prepared.held, held))
        former = document.document
        if prepared.types > document.levels_left:
            left = await run_in_worker(levels_left_after, await self.present(), prepared.slices)
        else:
            left = document.levels_left - prepared.types
        if outgrown:
            return await self._take_in_outgrown(prepared, former, left)
        if prepared.held > MOST_HELD:
            return await self._take_in_elsewhere(prepared, former)
        self.changing = True
        if prepared.parted:
            parted = await run_in_worker(parted_slices, await self.present(), prepared.parted)
            document.replace(await build_in_turns(parted, document.client_id))
        row = await _row_of(prepared, await self._apply_in_turns(prepared))
        self.changing = False
        document.levels_left = left
        return document.taken_in(prepared, row, former)

    async def _take_in_elsewhere(self, prepared: Prepared, former: Document) -> Admitted:
        """Apply a prepared update that deletes large shared types, which yrs does in one step, in a worker process.

        The document is replaced by the one that results.
        """
        document = self._document
        present = await self.present()
        opened, emitted = await run_in_worker(take_in_elsewhere, present, prepared.parted, prepared.slices)
        row = await _row_of(prepared, emitted)
        rebuilt = await build_in_turns(opened.slices, document.client_id)
        document.replace(rebuilt)
        admitted = document.taken_in(prepared, row, former)
        if document.document is rebuilt:
            document.note_rebuilt(opened.levels_left, opened.footprint, opened.extra, opened.types)
        return admitted

    async def _take_in_outgrown(self, prepared: Prepared, former: Document, left: int) -> Admitted:
        """Apply a prepared update to a document that is, or becomes, too large for this process.

        Raises:
            InvalidUpdate, Gap, Outdated
        """
        document = self._document
        structs = document.most_structs + prepared.footprint // STRUCT
        before, after = (f"{self._name}.{step}" for step in (self._taken_in, self._taken_in + 1))
        size = self.size + sum(map(len, prepared.slices))
        update = Update(prepared.slices, prepared.parted, structs, size, after, prepared.runs, prepared.needs)
        taken = await run_in_worker(take_in_kept, before, update, kept=self._name) if document.is_elsewhere else None
        if taken is None:
            taken = await run_in_worker(take_in_stored, await self.present(), update, kept=self._name)
        row = await _row_of(prepared, taken.emitted)
        self._taken_in += 1
        admitted = document.taken_in(prepared, row, former, taken.state_vector)
        document.levels_left = left
        return admitted

    async def _apply_in_turns(self, prepared: Prepared) -> Sequence[bytes | None] | None:
        """Apply an update in slices; return what the document emits for each; None if these are the slices themselves.

        Raises:
            InvalidUpdate: the update takes very long, as its structs compete for places with very many others.
        """
        emitted, as_given = list[bytes | None](), True
        allowed = TimeAllowed(prepared.slices)
        for each in prepared.slices:
            started = time.thread_time()
            emitted.append(self._document.apply(each))
            as_given = as_given and emitted[-1] == each
            spent = time.thread_time() - started
            allowed.spend(spent)
            if spent > _LONG_STEP_S:
                await asyncio.sleep(spent)  # others have as long
            await next_slice()
        return None if as_given else emitted

    def edit_text(self, root: str, revision: Revision, *, make: bool = True) -> bytes | None:
        """Revise the text of a root and return the update, or None if nothing changes.

        Raises:
            RootIsNotText, EditNotApplicable: the document is unchanged.
            TooMuch: the edit is too large for one step. The document is unchanged.
        """
        if self.size + revision.size > _LIGHT_BYTES or self._document.is_elsewhere:
            raise TooMuch
        return self._document.edit_text(root, revision, make=make, encoded_size=self.size, most_steps=_LIGHT_STEPS)

    def restore(self, old: bytes) -> bytes | None:
        """Restore the content of the whole document `old`, which is in the stored form.

        Returns the row for the log, or None if nothing changes.

        Raises:
            roots.NestedTooDeeply: the document is unchanged.
            TooMuch: the restore is too large for one step. The document is unchanged.
        """
        if self.size + len(old) > _LIGHT_RESTORED or self._document.most_structs > LIGHT_UNITS:
            raise TooMuch
        update = self._document.restoring_update(old)
        return None if update is None else self.admit(update).row

    def state_vector(self) -> bytes:
        return self._document.state_vector()

    @property
    def client_id(self) -> int:
        """The Yjs client ID that the gateway uses for its own edits of the document."""
        return self._document.client_id

    def encode(self, state_vector: bytes | None = None) -> bytes:
        """Encode the whole document as an update, or only what a replica with `state_vector` is missing."""
        return self._document.encode(state_vector)

    async def present(self) -> Sequence[bytes]:
        """Return rows that build the whole document, for work elsewhere. The document's turn must be held.

        A large document is not encoded here, which would take long; what is stored of it is read instead. An update
        that was applied and not queued yet may be missing.

        Raises:
            Outdated
        """
        if not self.encodes_in_step and self._read_rows is not None:
            await self.drain()
            stored = await self._read_rows()
            if stored is not None and stored[0] == self.version:
                return stored[1]
        if self._document.is_elsewhere:
            raise Outdated
        return [self.encode()]

    async def measure(self, update: bytes) -> None:
        """Find out the exact size of the document, which contains `update` but does not count it in `size` yet."""
        before, self.changing = self.changing, True  # nobody may read what is not queued
        size = await in_worker(encoded_size, [*await self.present(), update], units=LIGHT_UNITS)
        self.changing = before
        self.size = max(0, size - len(update))
        self.measured = True

    def queued(self, update: bytes) -> None:
        """Note that `update` was queued as the next version."""
        self.version = Version(self.version + 1)
        self.size += len(update)
        self.measured = False
        self._queued += 1
        if self._document.counts_soon:
            self._count_beside()

    def _count_beside(self) -> None:
        """Have the shared types and the structs counted beside the writes, before a write would have to wait for that.

        All that the document has taken in must be queued.
        """
        if self._counting is None and self._read_rows is not None:
            note = self._document.beginning_count()
            self._counting = asyncio.create_task(self._count(self._document.document, self.version, note))
            self._counting.add_done_callback(self._counted)

    def _counted(self, done: asyncio.Task[None]) -> None:
        self._counting = None

    async def _count(self, document: Document, version: Version, note: Callable[[TypeSizes, int, int], None]) -> None:
        client_of_request.set(None)  # for this task only: it is not the request's work
        await self.drain()
        try:
            assert self._read_rows is not None
            stored = await self._read_rows()
            if stored is None or stored[0] < version or self._document.document is not document:
                return
            found = await in_worker(counted, stored[1], lane=Lane.UPKEEP, units=LIGHT_UNITS)
        except (Problem, StorageError) as error:  # a write will count the types
            _log.info("a document was not counted", project=self.project, path=self.path, reason=str(error))
            return
        if self._document.document is document:
            note(*found)

    def settled(self, head: FileHead | None) -> None:
        """Note that the oldest queued update has become durable as `head`, or has failed (None)."""
        self._settled += 1
        self.head = head or self.head
        while self._drains and self._drains[0][0] <= self._settled:
            _, drained = self._drains.popleft()
            if not drained.done():
                drained.set_result(None)

    async def drain(self) -> None:
        """Wait until no update that is queued now is in flight. Does not raise if a write fails."""
        if self.pending:
            drained: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._drains.append((self._queued, drained))
            await drained

    @property
    def usable(self) -> bool:
        """Whether the document is open, and its project was not erased."""
        return not (self.closed or self.siblings.erased)

    def close(self) -> None:
        self.closed = True
        if self._counting is not None:
            self._counting.cancel()
        self._document.close()


async def _row_of(prepared: Prepared, emitted: Sequence[bytes | None] | None) -> bytes | None:
    """Return the row of the log for an update.

    Args:
        emitted: what the document emitted for each of its slices; None: the slices themselves.
    """
    if emitted is None:
        return prepared.update
    rows = [each for each in emitted if each is not None]
    return None if not rows else rows[0] if len(rows) == 1 else await run_in_worker(merge, rows)


async def build_in_turns(slices: Sequence[bytes], client_id: int) -> Document:
    """Build a document from updates, yielding to the event loop between them."""
    document = build_document([], client_id)
    async for each in with_turns(slices, 1):
        run_yrs(document.apply_update, each)
    return document
