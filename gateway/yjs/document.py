"""A live document that admits updates: finds what an update adds, and which row the log must store. Pure.

yrs only sees what it can integrate at once. The row of the log is what yrs emits, not what a client sent.
"""

from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from typing import NamedTuple

import pycrdt

from gateway.yjs import footprint
from gateway.yjs.elsewhere import MOST_STRUCTS, PER_CLIENT, PER_ROOT
from gateway.yjs.halves import Halves
from gateway.yjs.lib0 import Reader
from gateway.yjs.nesting import DEEPEST, NestedTooDeeply, depth
from gateway.yjs.preparation import (
    Prepared,
    Received,
    light_keystroke,
    prepare,
    prepare_together,
    prepared_keystroke,
    require_few_clients,
    require_few_roots,
    require_taken_in,
)
from gateway.yjs.put_text import edit_text
from gateway.yjs.reconcile import restoring_update
from gateway.yjs.revisions import Revision
from gateway.yjs.runs import PackedRuns, Run, least_clients, note_ends
from gateway.yjs.scan import TooMuch, scan
from gateway.yjs.slices import MOST_WHOLE
from gateway.yjs.state_vectors import MOST_IN_STEP, check_state_vector, read_state_vector
from gateway.yjs.stored_form import to_wire
from gateway.yjs.surrogates import name_pairs, part_pairs, second_halves
from gateway.yjs.transactions import apply_update, observe
from gateway.yjs.type_sizes import MOST_HELD, NO_TYPES, PER_KEY, TypeSizes
from gateway.yjs.updates import Document, InvalidUpdate, build_document, build_update, keep_pairs_whole, run_yrs


class Gap(Exception):
    """The whole update depends on something that the document does not have."""


class Admitted(NamedTuple):
    """The outcome of a client's update."""

    row: bytes | None
    """The row of the log that holds what the update adds; None if it adds nothing."""
    incomplete: bool = False
    """Whether a part of the update was left out because it depends on something that the document does not have."""


class LiveDocument:
    """A document in memory, and what must be known about it before it takes in an update. Every method is one step.

    Args:
        elsewhere: the state vector of a document that is too large for this process; `document` is empty then.
        most_structs: the most that this process holds of the document.
    """

    def __init__(
        self,
        document: Document,
        halves: Halves | None = None,
        levels: int = DEEPEST,
        roots: AbstractSet[bytes] = frozenset(),
        memory: int = 0,
        extra: int = 0,
        elsewhere: bytes | None = None,
        most_structs: int | None = None,
    ) -> None:
        self._document = document
        self._most_structs = MOST_STRUCTS if most_structs is None else most_structs
        self.spoiled = False
        """Whether the document may hold a part of an update that was refused."""
        self._elsewhere: bytes | None = None
        """The state vector of a document that is too large for this process; None: the document is here."""
        self._clocks: dict[int, int] = {}
        """The state vector of the document; empty if it is elsewhere and has very many clients."""
        self._clients = 0
        """How many clients a document elsewhere has."""
        if elsewhere is None:
            self._clocks = read_state_vector(document.get_state())
        else:
            self._note_elsewhere(elsewhere)
        self.halves = Halves() if halves is None else halves
        """The places in the document's texts where the second half of a surrogate pair is, or was."""
        self.levels_left = levels
        """The number of shared types that may be added before the nesting depth must be checked again."""
        self._roots = set(roots)
        """The names of the document's roots; those of a small document that was stored are not known."""
        self._footprint = memory
        self._extra = extra
        """See `elsewhere.extra_weight`."""
        self.most_structs = memory // footprint.STRUCT
        """An upper bound on the number of structs in the document."""
        self.types = NO_TYPES
        """The sizes of the shared types, as they were last counted."""
        self._counted = 0
        """The value of `most_structs` then."""
        self._emitted: list[bytes] = []
        self._subscription: pycrdt.Subscription | None = observe(document, self._keep)
        """None once the document is closed."""

    def _note_elsewhere(self, state_vector: bytes, runs: Sequence[Run] | None = None) -> None:
        """Note that the document is elsewhere.

        Args:
            state_vector: of the document.
            runs: those of the update that it has taken in since the last state vector; None: this is the first one, or
                the update adds only a part of its runs.
        """
        self._elsewhere, self._clients = state_vector, Reader(state_vector).unsigned()
        self._most_structs = 0  # no update is taken in here
        if self._clients > MOST_IN_STEP:
            self._clocks = {}
        elif runs is not None and self._clocks:
            note_ends(runs, self._clocks)
        else:
            self._clocks = read_state_vector(state_vector)

    @property
    def _knows_clocks(self) -> bool:
        """Whether `_clocks` is the state vector: that of very many clients takes too long to read."""
        return self._elsewhere is None or self._clients <= MOST_IN_STEP

    def _keep(self, event: pycrdt.TransactionEvent) -> None:
        self._emitted.append(event.update)

    def close(self) -> None:
        if self._subscription is not None:
            self._subscription.drop()
            self._subscription = None

    def prepare(self, update: bytes, *, stored: bool = False, most: int) -> Prepared:
        """Examine a client's update and find the part that the document can take in.

        Args:
            stored: whether the update is already in the stored form.
            most: the maximum work, as `scan` counts it.

        Raises:
            InvalidUpdate
            TooMuch: the update is too large to examine in one step.
        """
        if not self._knows_clocks:
            raise TooMuch
        return prepare(
            update, self._clocks, self.halves, stored=stored, most=most, present=self.most_structs, types=self.types
        )

    def prepare_together(self, received: Received, *, most: int) -> Prepared:
        """Prepare several updates as one.

        Raises:
            InvalidUpdate, TooMuch
        """
        if not self._knows_clocks:
            raise TooMuch
        return prepare_together(
            received, self._clocks, self.halves, most=most, present=self.most_structs, types=self.types
        )

    def take_in(self, prepared: Prepared, *, walk: bool) -> Admitted:
        """Apply a prepared update in one step.

        Args:
            walk: whether the method may walk through all structs of the document if necessary.

        After InvalidUpdate the document must be discarded if it is `spoiled`.

        Raises:
            InvalidUpdate, Gap
            TooMuch: the update is too much work for one step. The document is unchanged.
        """
        if len(prepared.slices) > 1 or prepared.held > MOST_HELD or not self.knows_types or self.outgrows(prepared):
            raise TooMuch
        self.require_bounds(prepared)
        if not walk and (prepared.parted or prepared.types > self.levels_left):
            raise TooMuch
        former = self._document
        if prepared.parted:
            self.replace(build_document([part_pairs(former.get_update(), prepared.parted)], former.client_id))
        row = self.apply(prepared.update)
        if prepared.types > self.levels_left:
            self.spoiled = True
            self.levels_left = levels_left([self._document.get_update()])
            self.spoiled = False
        else:
            self.levels_left -= prepared.types
        return self.taken_in(prepared, prepared.update if row == prepared.update else row, former)

    def take_in_keystroke(self, update: bytes) -> bytes | None:
        """Take in an update that is a keystroke, as `prepare` and `take_in` do in twice the time; return the row.

        It adds no root, no client and no shared type, so no bound is checked. None: it is no keystroke, or it adds
        nothing; `prepare` must decide. After InvalidUpdate the document must be discarded if it is `spoiled`.

        Raises:
            InvalidUpdate
        """
        if self.types.total > MOST_HELD or not self.knows_types or self.most_structs >= self._most_structs:
            return None  # it may delete a large type, or the document may be elsewhere
        keystroke = light_keystroke(update, self._clocks, self.halves, self.most_structs)
        if keystroke is None:
            return None
        row = self.apply(update)
        if row != update:
            return self.taken_in(prepared_keystroke(update, keystroke), row, self._document).row
        for client, _, end in keystroke.runs:
            self._clocks[client] = end
        self._footprint += footprint.of_keystroke(keystroke.structs)
        self.most_structs = self._footprint // footprint.STRUCT
        return update

    @property
    def knows_types(self) -> bool:
        """Whether `types` are of use: no shared type can have grown by much since they were counted.

        A document without shared types within its roots, as one plain text, is never counted.
        """
        return self.levels_left == DEEPEST or self.most_structs - self._counted <= MOST_HELD // PER_KEY

    @property
    def counts_soon(self) -> bool:
        """Whether shared types and structs should be counted: before the types are no longer known, and before the
        document seems to be too large for this process, since `most_structs` counts those that yrs has joined."""
        grown = self.most_structs - self._counted
        if self._elsewhere is not None or grown <= min(self._most_structs // 8, MOST_HELD // PER_KEY // 2):
            return False
        seems_large = self._weight > self._most_structs // 2 and grown > self._most_structs // 8
        return seems_large or (grown > MOST_HELD // PER_KEY // 2 and self.levels_left != DEEPEST)

    def note_types(self, types: TypeSizes) -> None:
        """Note the sizes of the shared types of the document as it is now."""
        self.types, self._counted = types, self.most_structs

    def beginning_count(self) -> Callable[[TypeSizes, int, int], None]:
        """Return what to call when the document has been counted as it is now, unless the document is another one by
        then; the arguments are as of `heavy_edits.Counted`."""
        counted, memory, weighed = self._counted, self._footprint, self._extra

        def note(types: TypeSizes, real: int, extra: int) -> None:
            self._extra -= max(0, weighed - extra)
            joined = max(0, memory - real)
            self._footprint -= joined
            self.most_structs = self._footprint // footprint.STRUCT
            if self._counted == counted:
                self.types, self._counted = types, (memory - joined) // footprint.STRUCT
            else:  # a write has counted the types meanwhile
                self._counted = max(0, self._counted - joined // footprint.STRUCT)

        return note

    @property
    def is_elsewhere(self) -> bool:
        """Whether the document is too large for this process, and in a worker process."""
        return self._elsewhere is not None

    def outgrows(self, prepared: Prepared) -> bool:
        """Whether an update must be taken in elsewhere, as this process holds no document that has become so large."""
        if self._elsewhere is not None or prepared.whole > MOST_WHOLE:
            return True
        new = PER_CLIENT * len(prepared.runs) + PER_ROOT * len(prepared.roots)
        weight = self._weight + prepared.footprint // footprint.STRUCT + prepared.extra
        surely = PER_CLIENT * max(0, least_clients(prepared.runs) - self.clients)
        if weight + new > self._most_structs >= weight + surely:
            new = PER_CLIENT * sum(client not in self._clocks for client, _, _ in prepared.runs)
            new += PER_ROOT * len(prepared.roots - self._roots)
        return weight + new > self._most_structs

    @property
    def _weight(self) -> int:
        """How long it takes to free the document, in structs."""
        return self.most_structs + self._extra + PER_ROOT * len(self._roots) + PER_CLIENT * self.clients

    def note_rebuilt(self, levels_left: int, memory: int, extra: int, types: TypeSizes) -> None:
        """Note what a document holds that has just been built anew, and was taken in; the arguments are as of
        `heavy_edits.Opened`."""
        self.levels_left, self._footprint, self._extra = levels_left, memory, extra
        self.most_structs = memory // footprint.STRUCT
        self.note_types(types)

    def require_bounds(self, prepared: Prepared) -> None:
        """Raise InvalidUpdate if the document would have too many roots or clients after an update."""
        if not prepared.roots <= self._roots:
            require_few_roots(len(self._roots | prepared.roots))
        if not isinstance(prepared.runs, PackedRuns) and self._knows_clocks:  # else its clients were counted elsewhere
            require_few_clients(prepared.runs, self._clocks, self.client_id)

    def lacks(self, state_vector: bytes) -> int:
        """Return how many clocks a replica with a state vector lags behind; all of them if it names very many clients.

        The document must be here.

        Raises:
            MalformedUpdate
        """
        total = sum(self._clocks.values())
        if check_state_vector(state_vector) > MOST_IN_STEP:
            return total
        known = read_state_vector(state_vector)
        return total - sum(min(clock, self._clocks.get(client, 0)) for client, clock in known.items())

    @property
    def footprint(self) -> int:
        """The memory that the document takes here beyond its bytes; an estimate, on the high side."""
        held = self._footprint if self._elsewhere is None else len(self._elsewhere)
        return held + footprint.CLIENT * len(self._clocks) + footprint.ROOT * len(self._roots)

    @property
    def clients(self) -> int:
        """The number of clients that have written to the document."""
        return len(self._clocks) if self._elsewhere is None else self._clients

    def apply(self, update: bytes) -> bytes | None:
        """Apply a part of an update; return what the document emits."""
        self._emitted.clear()
        try:
            run_yrs(apply_update, self._document, update)
        except InvalidUpdate:
            self.spoiled = True
            raise
        return self._take_emitted()

    def taken_in(
        self, prepared: Prepared, row: bytes | None, former: Document, elsewhere: bytes | None = None
    ) -> Admitted:
        """Record what the document holds after an update; return the outcome with the row of the log.

        Args:
            elsewhere: the new state vector if the update was taken in elsewhere, where the document is from now on, and
                where it was checked that the document holds the update.
        """
        if elsewhere is None:
            self._note_taken_in(prepared, row)
        if row is None:
            if prepared.parted and elsewhere is None:  # no row names these pairs, so the log has them unsplit
                self.replace(former)
            if prepared.incomplete:
                raise Gap
            return Admitted(None)
        if elsewhere is not None:
            if not self.is_elsewhere:
                self.replace(build_document([], self.client_id))
                self.types = NO_TYPES
            self._note_elsewhere(elsewhere, prepared.runs if row is prepared.update else None)
        self._roots |= prepared.roots
        self._footprint += prepared.footprint
        self._extra += prepared.extra
        self.most_structs = self._footprint // footprint.STRUCT
        if prepared.parted:
            self.halves.remove(prepared.parted)
        if prepared.halves:
            self.halves.update(prepared.halves)
        return Admitted(name_pairs(row, prepared.parted), prepared.incomplete)

    def _note_taken_in(self, prepared: Prepared, row: bytes | None) -> None:
        """Note the clocks of the document here after an update.

        Raises:
            InvalidUpdate
        """
        if row is prepared.update:
            note_ends(prepared.runs, self._clocks)
            return
        self._clocks = read_state_vector(self._document.get_state())
        try:
            require_taken_in(prepared.runs, prepared.needs, self._clocks)
        except InvalidUpdate:
            self.spoiled = True
            raise

    def replace(self, document: Document) -> None:
        """Go on with another document; it emits nothing if this one was closed meanwhile, and nobody uses it then."""
        if self._subscription is not None:
            self._subscription.drop()
            self._subscription = observe(document, self._keep)
        self._document = document

    def edit_text(
        self, root: str, revision: Revision, *, make: bool, encoded_size: int, most_steps: int
    ) -> bytes | None:
        """Revise the text of a root; return the update, or None if nothing changes.

        Args:
            See `put_text.edit_text`.

        Raises:
            RootIsNotText, EditNotApplicable, InvalidUpdate: the document is unchanged.
            TooMuch: the revision is too much work for one step. The document is unchanged.
        """
        if (name := root.encode()) not in self._roots:
            require_few_roots(len(self._roots) + 1)
        self._emitted.clear()
        edit_text(self._document, root, revision, make=make, encoded_size=encoded_size, most_steps=most_steps)
        row = self._take_emitted()
        if row is not None:
            self._roots.add(name)
            self._footprint += footprint.of_rows([row])
            self.halves.update(second_halves([row]))
            for client, _, end in scan(row).runs:  # the whole state vector may have very many clients
                self._clocks[client] = end
        return row

    def restoring_update(self, old: bytes) -> bytes | None:
        """Return the update that restores the content of the whole document `old`, which is in the stored form.

        Returns None if nothing changes.

        Raises:
            roots.NestedTooDeeply
        """
        return restoring_update(to_wire(self._document.get_update()), to_wire(old), self._document.client_id)

    def _take_emitted(self) -> bytes | None:
        if not self._emitted:
            return None
        (update,) = self._emitted
        self._emitted.clear()
        return update

    @property
    def document(self) -> Document:
        return self._document

    @property
    def client_id(self) -> int:
        """The Yjs client id that the gateway uses for its own edits of the document."""
        return self._document.client_id

    def state_vector(self) -> bytes:
        return self._document.get_state() if self._elsewhere is None else self._elsewhere

    def encode(self, state_vector: bytes | None = None) -> bytes:
        """Encode the whole document, which is not elsewhere, or only what a replica with `state_vector` is missing."""
        assert not self.is_elsewhere
        if state_vector is not None:
            state_vector = keep_pairs_whole(state_vector, self.halves)
        return run_yrs(self._document.get_update, state_vector)


def levels_left(updates: Sequence[bytes]) -> int:
    """Return how many more levels shared types may be nested in the document that the updates make.

    Raises:
        InvalidUpdate: the shared types are nested too deeply.
    """
    try:
        return DEEPEST - depth(scan(updates[0] if len(updates) == 1 else build_update(updates)))
    except NestedTooDeeply as error:
        raise InvalidUpdate(str(error)) from None
