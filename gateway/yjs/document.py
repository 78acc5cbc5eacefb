"""A document that admits updates: what of an update is new, and what the log is to hold of the update. Pure.

yrs is shown only what it can integrate at once. What yrs emits is the row of the log, not what a client sent.
"""

from collections.abc import Sequence
from typing import NamedTuple

import pycrdt

from gateway.yjs.admission import is_complete
from gateway.yjs.halves import Halves
from gateway.yjs.nesting import DEEPEST, NestedTooDeeply, depth
from gateway.yjs.preparation import Prepared, prepare, prepare_together
from gateway.yjs.put_text import edit_text
from gateway.yjs.reconcile import restoring_update
from gateway.yjs.revisions import Revision
from gateway.yjs.scan import TooMuch, scan
from gateway.yjs.state_vectors import read_state_vector
from gateway.yjs.stored_form import to_wire
from gateway.yjs.surrogates import name_pairs, part_pairs, second_halves
from gateway.yjs.updates import Document, InvalidUpdate, build_document, build_update, keep_pairs_whole, run_yrs


class Gap(Exception):
    """The whole update builds on something that the document does not have."""


class Admitted(NamedTuple):
    """What came of a client's update."""

    row: bytes | None
    """The row of the log that holds what the update adds; None where it adds nothing."""
    incomplete: bool = False
    """Whether a part of the update was left out: it builds on something that the document does not have."""


class LiveDocument:
    """A document in memory, and what is to be known of it before it takes an update in. Every method is one step."""

    def __init__(self, document: Document, halves: Halves | None = None, levels: int = DEEPEST) -> None:
        self._document = document
        self._clocks = read_state_vector(document.get_state())
        """The state vector of the document."""
        self.halves = Halves() if halves is None else halves
        """Where in its texts the second half of a surrogate pair is, or was."""
        self.levels_left = levels
        """So many shared types may be added before it must be looked at how deeply they are nested."""
        self._emitted: list[bytes] = []
        self._subscription = document.observe(self._keep)

    def _keep(self, event: pycrdt.TransactionEvent) -> None:
        self._emitted.append(event.update)

    def close(self) -> None:
        self._document.unobserve(self._subscription)

    def prepare(self, update: bytes, *, stored: bool = False, most: int) -> Prepared:
        """Look at a client's update: what of it the document can take in.

        Args:
            stored: the update is in the stored form already.
            most: how much work that may be, as `scan` counts it.

        Raises:
            InvalidUpdate
            TooMuch: it is too much to be looked at in one step.
        """
        return prepare(update, self._clocks, self.halves, stored=stored, most=most)

    def prepare_together(self, updates: Sequence[bytes], *, most: int) -> Prepared:
        """The same of several updates as one.

        Raises:
            Refused, InvalidUpdate, TooMuch
        """
        return prepare_together(updates, self._clocks, self.halves, most=most)

    def take_in(self, prepared: Prepared, *, walk: bool) -> Admitted:
        """Apply a prepared update in one step.

        Args:
            walk: whether all structs of the document may be walked through, if need be.

        After an InvalidUpdate the document must be discarded: it may hold a part of the update.

        Raises:
            InvalidUpdate, Gap
            TooMuch: it is too much for one step. The document is as it was.
        """
        if len(prepared.slices) > 1:
            raise TooMuch
        if not walk and (prepared.parted or prepared.types > self.levels_left):
            raise TooMuch
        former = self._document
        if prepared.parted:
            self.replace(build_document([part_pairs(former.get_update(), prepared.parted)], former.client_id))
        row = self.apply(prepared.update)
        if prepared.types > self.levels_left:
            self.levels_left = levels_left([self._document.get_update()])
        else:
            self.levels_left -= prepared.types
        return self.taken_in(prepared, prepared.update if row == prepared.update else row, former)

    def apply(self, update: bytes) -> bytes | None:
        """Apply a part of an update; returns what the document emits."""
        self._emitted.clear()
        run_yrs(lambda: self._document.apply_update(update))
        return self._take_emitted()

    def taken_in(self, prepared: Prepared, row: bytes | None, former: Document) -> Admitted:
        """Note what the document has now; returns the row of the log."""
        if row is prepared.update:
            for client, _, end in prepared.runs:
                self._clocks[client] = end
        else:
            self._clocks = read_state_vector(self._document.get_state())
            if not is_complete(prepared.runs, prepared.needs, self._clocks) or any(
                end > self._clocks.get(client, 0) for client, _, end in prepared.runs
            ):
                raise InvalidUpdate("its structs build on each other in a circle")
        if row is None:
            if prepared.parted:  # no row names them: the log has these pairs whole
                self.replace(former)
            if prepared.incomplete:
                raise Gap
            return Admitted(None)
        if prepared.parted:
            self.halves.remove(prepared.parted)
        if prepared.halves:
            self.halves.update(prepared.halves)
        return Admitted(name_pairs(row, prepared.parted), prepared.incomplete)

    def replace(self, document: Document) -> None:
        self._document.unobserve(self._subscription)
        self._document = document
        self._subscription = document.observe(self._keep)

    def edit_text(
        self, root: str, revision: Revision, *, make: bool, encoded_size: int, most_steps: int
    ) -> bytes | None:
        """Revise the text of a root; returns the update, None where nothing changes.

        Args:
            As those of `put_text.edit_text`.

        Raises:
            RootIsNotText, EditNotApplicable: the document is as it was.
            TooMuch: it is too much for one step. The document is as it was.
        """
        self._emitted.clear()
        edit_text(self._document, root, revision, make=make, encoded_size=encoded_size, most_steps=most_steps)
        row = self._take_emitted()
        if row is not None:
            self.halves.update(second_halves([row]))
            self._clocks = read_state_vector(self._document.get_state())
        return row

    def restoring_update(self, old: bytes) -> bytes | None:
        """The update that makes the content what it is in the whole document `old`, which is in the stored form.

        None where nothing changes.

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
        """The Yjs client that the gateway is when it edits the document itself."""
        return self._document.client_id

    def state_vector(self) -> bytes:
        return self._document.get_state()

    def encode(self, state_vector: bytes | None = None) -> bytes:
        """The whole document as an update, or what a replica with `state_vector` lacks."""
        if state_vector is not None:
            state_vector = keep_pairs_whole(state_vector, self.halves)
        return run_yrs(lambda: self._document.get_update(state_vector))


def levels_left(updates: Sequence[bytes]) -> int:
    """How many levels shared types may be nested more in the document that updates make.

    Raises:
        InvalidUpdate: they are nested too deeply.
    """
    try:
        return DEEPEST - depth(scan(updates[0] if len(updates) == 1 else build_update(updates)))
    except NestedTooDeeply as error:
        raise InvalidUpdate(str(error)) from None
