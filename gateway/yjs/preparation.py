"""Preparation of a client's update before yrs sees the update, in one walk through its structs. Pure.

It only needs the document's state vector and the places of its surrogate pairs, so it can run in any process.
"""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import NamedTuple

from gateway.yjs.admission import complete_part, is_complete
from gateway.yjs.elsewhere import extra_weight
from gateway.yjs.footprint import of_keystroke, of_update
from gateway.yjs.halves import Halves
from gateway.yjs.keystrokes import Keystroke, read_keystroke
from gateway.yjs.nesting import DEEPEST, NestedTooDeeply, depth
from gateway.yjs.scan import Place, Scan, TooMuch
from gateway.yjs.slices import MOST_WHOLE, SliceWork, largest_whole, slices_of
from gateway.yjs.stored_form import to_stored
from gateway.yjs.surrogates import cuts, may_hold_pairs, part_pairs, part_pairs_together, parted_within
from gateway.yjs.type_sizes import MOST_HELD, NO_TYPES, PER_KEY, TypeSizes, type_sizes
from gateway.yjs.updates import InvalidUpdate, merge, read_update, run_yrs
from gateway.yjs.walks import count_walks

_NO_HALVES = Halves()
_NO_PLACES = frozenset[Place]()
_LIGHT_WALKED = 128 * 1024
"""Over how many structs yrs may walk, or how many may be deleted, in one step: about 10 ms."""


MOST_ROOTS = 10_000
"""How many roots a document may have: each takes yrs as long as 20 structs, also when the document is closed."""
MOST_CLIENTS = 100_000
"""How many clients may have written to a document: yrs looks at each of them in every transaction, which takes 40 ms
then. With the default limit on a document's size, a document reaches this number first only if its clients write less
than 335 bytes each.
Those that have written before, and the gateway itself, may write on."""


def require_few_roots(count: int) -> None:
    """Raise InvalidUpdate if a document would have too many roots."""
    if count > MOST_ROOTS:
        raise InvalidUpdate(f"a document has at most {MOST_ROOTS} roots")


def require_few_clients(runs: Sequence[tuple[int, int, int]], clocks: Mapping[int, int], own: int) -> None:
    """Raise InvalidUpdate if a document with the state vector `clocks` would have too many clients after an update.

    Args:
        own: the client of the gateway's own edits, which does not count.
    """
    if len(clocks) + len(runs) > MOST_CLIENTS:
        new = {client for client, _, _ in runs if client not in clocks} - {own}
        if new and len(clocks) + len(new) > MOST_CLIENTS:
            raise InvalidUpdate(
                f"no more than {MOST_CLIENTS} clients may write to a document; those that have, still may"
            )


def require_taken_in(runs: Sequence[tuple[int, int, int]], needs: Mapping[int, int], clocks: Mapping[int, int]) -> None:
    """Raise InvalidUpdate if a document does not hold an update that it has taken in, by its state vector after it."""
    if not is_complete(runs, needs, clocks) or any(end > clocks.get(client, 0) for client, _, end in runs):
        raise InvalidUpdate("its structs build on each other in a circle")


class Prepared(NamedTuple):
    """The part of an update that a document takes in, and how."""

    update: bytes
    """In the stored form, without what depends on something missing, and with the pairs split that it splits itself."""
    slices: Sequence[bytes]
    """The update in parts, to be applied in this order."""
    incomplete: bool
    """Whether a part was left out."""
    runs: Sequence[tuple[int, int, int]]
    needs: Mapping[int, int]
    """As in `Scan`."""
    types: int
    """The number of shared types that the update creates."""
    footprint: int
    """The memory by which a document grows at most, beyond its bytes, roots and clients."""
    extra: int
    """See `elsewhere.extra_weight`."""
    halves: Halves
    """The places of second halves of surrogate pairs in the texts of the update."""
    parted: frozenset[Place]
    """The surrogate pairs of the document that the update splits."""
    roots: AbstractSet[bytes] = frozenset()
    """The names of the roots that the update names."""
    lacking: Sequence[int] = ()
    """If several updates were merged, the indexes of those of which a part was left out."""
    held: int = 0
    """An upper bound on how many structs are deleted together with the shared types that hold them, as far as the
    sizes of these types are known."""
    whole: int = 0
    """The size in bytes of the largest content that yrs handles as a whole, if the update is large enough to matter."""


def prepare(
    update: bytes,
    clocks: Mapping[int, int],
    halves: Halves,
    *,
    stored: bool = False,
    most: int | None = None,
    present: int = 0,
    slice_work: SliceWork | None = None,
    types: TypeSizes = NO_TYPES,
) -> Prepared:
    """Examine an update before a document with these clocks and surrogate pairs takes it in.

    Args:
        stored: whether the update is already in the stored form.
        most: the maximum work (`scan`).
        present: the most structs that the document may have, of which `most` does not tell.
        slice_work: how to split the update (`slices_of`); with None, the whole update is one slice.
        types: the sizes of the document's types.

    Raises:
        InvalidUpdate
        scan.TooMuch
    """
    if slice_work is None and types.total <= MOST_HELD:
        keystroke = light_keystroke(update, clocks, halves, present)
        if keystroke is not None:
            return prepared_keystroke(update, keystroke)
    scanned = read_update(update, most)
    if most is not None and (len(scanned.structs) > 1 or scanned.deletes):
        _require_few_walks(update, scanned, clocks, present)
    incomplete = not is_complete(scanned.runs, scanned.needs, clocks)
    if incomplete:
        update = complete_part(update, scanned, clocks)
        scanned = read_update(update)
    if not stored and scanned.odd:
        update = to_stored(update, scanned)
        scanned = read_update(update)
    require_few_roots(len(scanned.roots))
    if scanned.types > DEEPEST:
        try:
            depth(scanned)
        except NestedTooDeeply as error:
            raise InvalidUpdate(str(error)) from None
    new, parted = _NO_HALVES, _NO_PLACES
    paired = may_hold_pairs(update)
    if paired or halves:
        parting = set(cuts(scanned))
        parted = frozenset(place for place in parting if place in halves)
        if paired:
            new, own = parted_within(update, scanned, parting, clocks)
            if own:
                update = part_pairs(update, own)
                scanned = read_update(update)
    slices = [update] if slice_work is None else slices_of(update, scanned, clocks, slice_work)
    return Prepared(
        update,
        slices,
        incomplete,
        scanned.runs,
        scanned.needs,
        scanned.types,
        of_update(update, scanned, clocks),
        extra_weight(scanned),
        new,
        parted,
        frozenset(scanned.roots),
        held=_held(update, scanned, types),
        whole=largest_whole(scanned) if len(update) > MOST_WHOLE else 0,
    )


def light_keystroke(update: bytes, clocks: Mapping[int, int], halves: Halves, present: int) -> Keystroke | None:
    """Read an update that is a keystroke, which a document with these clocks takes in as it is and in one step.

    None: it is none, or the document has surrogate pairs that it might split, or it might take long.
    """
    keystroke = None if halves else read_keystroke(update, clocks)
    if keystroke is None or keystroke.runs or min(present, *keystroke.needs.values()) < _LIGHT_WALKED:
        return keystroke
    return None


def prepared_keystroke(update: bytes, keystroke: Keystroke) -> Prepared:
    """Return what `prepare` returns of a light keystroke."""
    runs, needs, structs = keystroke
    return Prepared(update, [update], False, runs, needs, 0, of_keystroke(structs), 0, _NO_HALVES, _NO_PLACES)


def _held(update: bytes, scanned: Scan, types: TypeSizes) -> int:
    """Return how many structs are deleted together with types of the document, or of a large update itself."""
    held = types.held(update, scanned)
    if len(scanned.structs) > MOST_HELD // PER_KEY:
        held += type_sizes(update, scanned).held(update, scanned)
        held += PER_KEY * len(scanned.structs) if held else 0  # some may be added to what is deleted
    return held


def _require_few_walks(update: bytes, scanned: Scan, clocks: Mapping[int, int], present: int) -> None:
    """Raise TooMuch if the integration of an update may take long although the update is small."""
    structs = present + len(scanned.structs)
    if sum(min(end - start, structs) for _, start, end in scanned.deletes) > _LIGHT_WALKED:
        raise TooMuch
    if len(scanned.structs) * structs <= _LIGHT_WALKED:
        return
    walks = count_walks(update, scanned, clocks)
    if walks > 1 and walks * structs > _LIGHT_WALKED:
        raise TooMuch


class Refused(Exception):
    """One of several updates is refused: its index among them, and the reason."""

    def __init__(self, index: int, reason: str) -> None:
        super().__init__(index, reason)
        self.index = index
        self.reason = reason


class Received(NamedTuple):
    """Updates from clients, each in the stored form."""

    updates: Sequence[bytes]
    scans: Sequence[Scan]

    def lacking(self, clocks: Mapping[int, int]) -> tuple[int, ...]:
        """Return the indexes of the updates that depend on something that a document with these clocks lacks."""
        return tuple(index for index, each in enumerate(self.scans) if not is_complete(each.runs, each.needs, clocks))


class Receiving:
    """Scans several updates from clients, one after another, and converts them to the stored form.

    Args:
        most: the maximum work of all together, as `scan` counts it.
    """

    def __init__(self, most: int | None = None) -> None:
        self._most = most
        self._stored: list[bytes] = []
        self._scans: list[Scan] = []

    def add(self, update: bytes) -> None:
        """Scan the next update.

        Raises:
            Refused, scan.TooMuch
        """
        try:
            scanned = read_update(update, self._most)
        except InvalidUpdate as error:
            raise Refused(len(self._stored), str(error)) from None
        if self._most is not None:
            self._most -= len(scanned.structs) + len(scanned.deletes) + 1
        if scanned.odd:
            update = to_stored(update, scanned)
            scanned = read_update(update)
        self._stored.append(update)
        self._scans.append(scanned)

    @property
    def received(self) -> Received:
        return Received(self._stored, self._scans)


def receive(updates: Sequence[bytes]) -> Received:
    """Scan several updates from clients in one step.

    Raises:
        Refused
    """
    receiving = Receiving()
    for update in updates:
        receiving.add(update)
    return receiving.received


def prepare_together(
    received: Received,
    clocks: Mapping[int, int],
    halves: Halves,
    *,
    most: int | None = None,
    present: int = 0,
    slice_work: SliceWork | None = None,
    types: TypeSizes = NO_TYPES,
) -> Prepared:
    """Prepare several updates as one.

    Raises:
        InvalidUpdate: the merged update is invalid.
        scan.TooMuch
    """
    together = run_yrs(lambda: merge(part_pairs_together(*received)))
    prepared = prepare(
        together, clocks, halves, stored=True, most=most, present=present, slice_work=slice_work, types=types
    )
    if not prepared.incomplete:
        return prepared
    after = {**clocks}
    for client, _, end in prepared.runs:
        after[client] = max(end, after.get(client, 0))
    return prepared._replace(lacking=received.lacking(after))
