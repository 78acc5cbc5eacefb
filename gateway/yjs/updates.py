"""Operations on Yjs updates as bytes: check, find gaps, merge, diff, build. Pure; based on pycrdt and our reader."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import pycrdt

from gateway.yjs.halves import Halves
from gateway.yjs.lib0 import MalformedUpdate, Reader, var_uint
from gateway.yjs.scan import SKIP, Scan, scan
from gateway.yjs.state_vectors import read_delete_set, read_state_vector
from gateway.yjs.surrogates import name_pairs, pairs_parted_within, part_pairs, read_row, second_halves, updates_of

T = TypeVar("T")

Document = pycrdt.Doc[Any]

EMPTY_UPDATE = b"\x00\x00"
"""No structs, no deletes."""

_GROUP = 32
"""Merging many updates in one call takes quadratic time; merging recursively in groups of 32 is nearly linear."""


class InvalidUpdate(ValueError):
    """The bytes are not an update (version 1) that a document can load; the message says why."""


def run_yrs(work: Callable[..., T], *arguments: Any) -> T:
    """Call into pycrdt, and raise `InvalidUpdate` for every error that bad input causes, panics included."""
    try:
        return work(*arguments)
    except (ValueError, RuntimeError) as error:
        raise InvalidUpdate(str(error)) from error
    except BaseException as error:
        if type(error).__name__ == "PanicException":  # pyo3's; it derives from BaseException and cannot be imported
            raise InvalidUpdate("no document can integrate it") from error
        raise


def read_update(update: bytes, most: int | None = None) -> Scan:
    """Scan a client's update, before anything else is done with it.

    Args:
        most: the most work allowed (see `scan`).

    Raises:
        InvalidUpdate: the bytes, to the last one, are not an update of encoding version 1.
        scan.TooMuch
    """
    try:
        return scan(update, most)
    except MalformedUpdate as error:
        raise InvalidUpdate(f"it cannot be decoded: {error}") from None


def leaves_gap(update: bytes, state_vector: bytes) -> bool:
    """Return whether a document is missing dependencies of `update`, which was applied to it.

    `state_vector` is that of the document now. Whatever part of the update the document still lacks could not be
    integrated. Deletes do not show up this way; instead, their ranges must lie within the state vector.
    """
    lacking = pycrdt.get_update(update, state_vector)
    if lacking == EMPTY_UPDATE:
        return False
    reader = Reader(lacking)
    if reader.unsigned() > 0:
        return True
    clocks = read_state_vector(state_vector)
    return any(end > clocks.get(client, 0) for client, _, end in read_delete_set(reader))


def adds_to(update: bytes, whole: bytes) -> bool:
    """Return whether a client's update holds anything that the document `whole` does not.

    Raises:
        InvalidUpdate
    """
    brought, present = read_update(update), read_update(whole)
    clocks: dict[int, int] = {}
    for struct in present.structs:
        clocks[struct.client] = max(clocks.get(struct.client, 0), struct.clock + struct.length)
    if any(
        struct.kind != SKIP and struct.clock + struct.length > clocks.get(struct.client, 0)
        for struct in brought.structs
    ):
        return True
    deleted: dict[int, list[tuple[int, int]]] = {}
    for client, start, end in sorted(present.deletes):
        ranges = deleted.setdefault(client, [])
        if ranges and start <= ranges[-1][1]:
            ranges[-1] = (ranges[-1][0], max(ranges[-1][1], end))
        else:
            ranges.append((start, end))
    return any(
        start < end and not any(first <= start and end <= last for first, last in deleted.get(client, ()))
        for client, start, end in brought.deletes
    )


def merge(updates: Sequence[bytes]) -> bytes:
    """Merge `updates`, given in the order they were made, into one update."""
    level: Sequence[bytes] = updates or [EMPTY_UPDATE]
    while len(level) > 1:
        level = merge_groups(level)
    return level[0]


def merge_rows(rows: Sequence[bytes]) -> bytes:
    """Merge consecutive rows of a log into one row."""
    parted = set().union(*(read_row(row)[1] for row in rows))
    merged = merge(updates_of(rows))
    within = pairs_parted_within(merged)
    return name_pairs(part_pairs(merged, within), parted | within)


def merge_groups(updates: Sequence[bytes]) -> list[bytes]:
    """Merge each group of 32 consecutive updates into one."""
    groups = (updates[start : start + _GROUP] for start in range(0, len(updates), _GROUP))
    return [group[0] if len(group) == 1 else pycrdt.merge_updates(*group) for group in groups]


def build_document(updates: Sequence[bytes], client_id: int | None = None) -> Document:
    """Build a document from stored updates.

    Raises:
        InvalidUpdate: an update does not load.
    """
    document: Document = pycrdt.Doc(client_id=client_id)
    if updates:
        run_yrs(_apply_all, document, updates)
    return document


def _apply_all(document: Document, updates: Sequence[bytes]) -> None:
    with document.transaction():  # one for all: it takes as long as a short update
        for update in updates:
            document.apply_update(update)


def build_update(rows: Sequence[bytes]) -> bytes:
    """Return the whole document built from stored rows, as one update."""
    return build_document(updates_of(rows)).get_update()


def apply_row(document: Document, row: bytes) -> Document:
    """Apply the next row of a log; return the document, which may be a new object.

    Raises:
        InvalidUpdate
    """
    update, parted = read_row(row)
    if parted:
        document = build_document([part_pairs(document.get_update(), parted)])
    run_yrs(document.apply_update, update)
    return document


def diff_update(update: bytes, state_vector: bytes) -> bytes:
    """Return the part of a whole document that a replica with `state_vector` is missing."""
    whole_pairs = keep_pairs_whole(state_vector, second_halves([update]))
    return run_yrs(pycrdt.get_update, update, whole_pairs)


def keep_pairs_whole(state_vector: bytes, halves: Halves) -> bytes:
    """Lower the clocks that fall between the halves of a surrogate pair, since yrs cannot begin a diff there."""
    if not halves:
        return state_vector
    try:
        clocks = read_state_vector(state_vector)
    except MalformedUpdate as error:
        raise InvalidUpdate(str(error)) from None
    parted = [place for place in clocks.items() if place in halves]
    if not parted:
        return state_vector
    clocks.update((client, clock - 1) for client, clock in parted)
    return var_uint(len(clocks)) + b"".join(var_uint(client) + var_uint(clock) for client, clock in clocks.items())


class SnapshotFault(Exception):
    """A snapshot does not hold the same content as the updates that it was made from."""


def prove_snapshot(rows: Sequence[bytes]) -> bytes:
    """Return a snapshot of the document built from stored rows, after a check that it restores the same document.

    Raises:
        SnapshotFault: the snapshot does not, and must not be used.
    """
    updates = updates_of(rows)
    document = build_document(updates)
    snapshot = document.get_update()
    if not same_content(document, updates, snapshot):
        raise SnapshotFault("the snapshot and the updates do not hold the same")
    return snapshot


def same_content(document: Document, updates: Iterable[bytes], snapshot: bytes) -> bool:
    """Return whether a snapshot and `updates` build the same document: neither adds anything to the other."""
    copy = build_document([snapshot])
    news: list[bytes] = []
    subscriptions = [(doc, doc.observe(lambda event: news.append(event.update))) for doc in (copy, document)]
    for update in updates:
        copy.apply_update(update)
    document.apply_update(snapshot)
    for doc, subscription in subscriptions:
        doc.unobserve(subscription)
    return not news and not leaves_gap(snapshot, copy.get_state())
