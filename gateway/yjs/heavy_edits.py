"""Preparation of heavy edits in a worker process: all the work except what yrs itself does on the open document.

The functions are pure: they get the whole document as rows of the log, or only what `Basis` holds, and return an update
in slices that the open document takes in one after another.
"""

import sys
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import pycrdt

from gateway.yjs.document import levels_left
from gateway.yjs.elsewhere import MOST_STRUCTS, PER_CLIENT, PER_ROOT, emitted_for, extra_weight
from gateway.yjs.footprint import STRUCT, of_update
from gateway.yjs.halves import Halves
from gateway.yjs.nesting import DEEPEST, depth
from gateway.yjs.preparation import Prepared, prepare, prepare_together, receive, require_few_clients
from gateway.yjs.put_text import edit_text
from gateway.yjs.reconcile import restoring_update
from gateway.yjs.revisions import Revision
from gateway.yjs.runs import packed, packed_needs
from gateway.yjs.scan import Place, Scan, scan
from gateway.yjs.slices import MOST_WHOLE, STEP_WORK, SliceWork, largest_whole, slices_of
from gateway.yjs.state_vectors import read_state_vector
from gateway.yjs.stored_form import to_wire
from gateway.yjs.surrogates import part_pairs, second_halves, updates_of
from gateway.yjs.type_sizes import MOST_HELD, NO_TYPES, PER_KEY, TypeSizes, type_sizes
from gateway.yjs.updates import build_document, build_update, run_yrs

_WHOLE_DOCUMENT = SliceWork(STEP_WORK, 0, 0)


class Basis(NamedTuple):
    """What must be known about a document to prepare an update for it."""

    state_vector: bytes
    halves: Halves
    slice_work: SliceWork
    types: TypeSizes = NO_TYPES
    client_id: int = 0
    """The Yjs client of the gateway's own edits."""


class Opened(NamedTuple):
    """A stored document in slices, ready to be built."""

    slices: Sequence[bytes]
    size: int
    halves: Halves
    levels_left: int
    """The number of shared types that may be added before the nesting depth must be checked again."""
    roots: frozenset[bytes]
    """The names of the document's roots."""
    footprint: int
    """As `footprint.of_update` has it."""
    extra: int
    """See `elsewhere.extra_weight`."""
    types: TypeSizes
    """The sizes of the shared types, if the document is so large that they matter."""
    elsewhere: bytes | None = None
    """The state vector of a document that is too large for the gateway's process; there are no slices then."""


class Rebuilt(NamedTuple):
    """A document that has taken in an update elsewhere."""

    opened: Opened
    emitted: Sequence[bytes | None] | None
    """See `emitted_for`."""


class Counted(NamedTuple):
    """What a document holds."""

    types: TypeSizes
    footprint: int
    """As `footprint.of_update` has it."""
    extra: int
    """See `elsewhere.extra_weight`."""


def open_stored(rows: Sequence[bytes], most_structs: int = MOST_STRUCTS) -> Opened:
    """Return the slices that build the document of the stored rows.

    Args:
        most_structs: the most that the gateway's process holds in one document.
    """
    parts = list(updates_of(rows))
    halves = second_halves(parts)
    whole, scanned, types = _collected(whole_of(parts))
    left = DEEPEST - (scanned.types if scanned.types < DEEPEST else depth(scanned))
    roots, memory, extra = frozenset(scanned.roots), of_update(whole, scanned), extra_weight(scanned)
    clients = len({client for client, _, _ in scanned.runs})
    too_many = memory // STRUCT + extra + PER_ROOT * len(roots) + PER_CLIENT * clients > most_structs
    if too_many or (len(whole) > MOST_WHOLE and largest_whole(scanned) > MOST_WHOLE):
        return Opened([], len(whole), halves, left, roots, memory, extra, NO_TYPES, pycrdt.get_state(whole))
    slices = slices_of(whole, scanned, {}, _WHOLE_DOCUMENT)
    return Opened(slices, len(whole), halves, left, roots, memory, extra, types)


def _collected(whole: bytes) -> tuple[bytes, Scan, TypeSizes]:
    """Return a whole document without the structs of large types that it deletes, its scan and the sizes of its types.

    What a client sent may hold them still, where nothing else was stored since.
    """
    scanned = scan(whole)
    if len(scanned.structs) <= MOST_HELD // PER_KEY:
        return whole, scanned, NO_TYPES
    types = type_sizes(whole, scanned)
    if scanned.deletes and types.held(whole, scanned) > MOST_HELD:
        whole = build_update([whole])
        scanned = scan(whole)
        types = type_sizes(whole, scanned)
    return whole, scanned, types


def counted(rows: Sequence[bytes]) -> Counted:
    """Return what the document of the rows holds."""
    whole = whole_of(rows)
    scanned = scan(whole)
    return Counted(type_sizes(whole, scanned), of_update(whole, scanned), extra_weight(scanned))


def count_types(rows: Sequence[bytes], update: bytes) -> tuple[TypeSizes, int]:
    """Return the sizes of the types in the document of the rows, and `Prepared.held` for an update by them."""
    types = counted(rows).types
    return types, types.held(update, scan(update))


def take_in_elsewhere(rows: Sequence[bytes], parted: Collection[Place], slices: Sequence[bytes]) -> Rebuilt:
    """Apply the slices of an update to the document of the rows, with the surrogate pairs in `parted` split.

    Raises:
        InvalidUpdate
    """
    whole = whole_of(rows)
    document = build_document([part_pairs(whole, parted) if parted else whole])
    emitted: list[bytes | None] = []
    events: list[bytes] = []
    subscription = document.observe(lambda event: events.append(event.update))
    for each in slices:
        events.clear()
        run_yrs(document.apply_update, each)
        emitted.append(events[0] if events else None)
    document.unobserve(subscription)
    return Rebuilt(open_stored([document.get_update()], sys.maxsize), emitted_for(slices, emitted))


def prepare_update(update: bytes, basis: Basis, stored: bool) -> Prepared:
    """Call `prepare` with slices, and require that the document does not come to have too many clients."""
    clocks = read_state_vector(basis.state_vector)
    prepared = prepare(update, clocks, basis.halves, stored=stored, slice_work=basis.slice_work, types=basis.types)
    return _packed(prepared, clocks, basis.client_id)


def prepare_own(update: bytes, basis: Basis, *, stored: bool) -> Prepared:
    """Call `prepare_update` for an edit of this state of the document: its structs stand where they say."""
    return prepare_update(update, basis._replace(slice_work=basis.slice_work._replace(structs=0)), stored)


def prepare_updates(updates: Sequence[bytes], basis: Basis) -> Prepared:
    """Call `prepare_together` with slices."""
    clocks = read_state_vector(basis.state_vector)
    received = receive(updates)
    prepared = prepare_together(received, clocks, basis.halves, slice_work=basis.slice_work, types=basis.types)
    return _packed(prepared, clocks, basis.client_id)


def _packed(prepared: Prepared, clocks: Mapping[int, int], own: int) -> Prepared:
    require_few_clients(prepared.runs, clocks, own)
    return prepared._replace(runs=packed(prepared.runs), needs=packed_needs(prepared.needs))


def whole_of(rows: Sequence[bytes]) -> bytes:
    """Return the update that holds the whole document."""
    parts = list(updates_of(rows))
    return parts[0] if len(parts) == 1 else build_update(parts)


def encoded_size(rows: Sequence[bytes]) -> int:
    """Return the size of the document as one update."""
    return len(build_update(updates_of(rows)))


def levels_left_after(rows: Sequence[bytes], slices: Sequence[bytes]) -> int:
    """Call `levels_left` for the document that a whole document and an update in slices make."""
    return levels_left([*updates_of(rows), *slices])


def prepare_text(
    present: Sequence[bytes], client_id: int, size: int, basis: Basis, root: str, revision: Revision, make: bool
) -> Prepared | None:
    """Return the edit that revises the text of a root in the whole document `present`; None if nothing changes.

    Raises:
        RootIsNotText, EditNotApplicable
    """
    document = build_document(updates_of(present), client_id)
    emitted: list[bytes] = []
    subscription = document.observe(lambda event: emitted.append(event.update))
    edit_text(document, root, revision, make=make, encoded_size=size)
    document.unobserve(subscription)
    return prepare_own(emitted[0], basis, stored=True) if emitted else None


def prepare_restoration(present: Sequence[bytes], client_id: int, basis: Basis, old: bytes) -> Prepared | None:
    """Return the edit that turns the content of the whole document `present` into `old`; None if nothing changes.

    Raises:
        roots.NestedTooDeeply
    """
    update = restoring_update(to_wire(whole_of(present)), to_wire(old), client_id)
    return None if update is None else prepare_own(update, basis, stored=False)


def parted_slices(present: Sequence[bytes], parted: Collection[Place]) -> Sequence[bytes]:
    """Return the whole document `present` in slices, with the surrogate pairs in `parted` split."""
    update, scanned, _ = _collected(part_pairs(whole_of(present), parted))
    return slices_of(update, scanned, {}, _WHOLE_DOCUMENT)
