"""Yjs updates as bytes: check, gap, merge in groups, diff, build. Pure; pycrdt and our reader do the work."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import pycrdt

from gateway import structs
from gateway.structs import MalformedUpdate, Reader, check_update, may_nest_deeply, read_delete_set, read_state_vector

T = TypeVar("T")

Document = pycrdt.Doc[Any]

EMPTY_UPDATE = b"\x00\x00"
"""No structs, no deletes."""

_READ_AT_MOST = 64 * 1024

_GROUP = 32
"""Merging many updates in one call is quadratic; in groups of 32, and the groups again, it is nearly linear."""


class InvalidUpdate(ValueError):
    """The bytes are not an update (v1) that a document can load; the message says why."""


def run_yrs(work: Callable[[], T]) -> T:
    """Call into pycrdt, with whatever it raises over bad input, panics included, as `InvalidUpdate`."""
    try:
        return work()
    except (ValueError, RuntimeError) as error:
        raise InvalidUpdate(str(error)) from error
    except BaseException as error:
        if type(error).__name__ == "PanicException":  # pyo3's; it derives from BaseException and cannot be imported
            raise InvalidUpdate("no document can integrate it") from error
        raise


def require_shallow(update: bytes) -> None:
    """Raises InvalidUpdate where values are nested too deeply for yrs: it must not come to see them."""
    if may_nest_deeply(update):
        _read_through(update)


def check_format(update: bytes) -> None:
    """Raises InvalidUpdate unless `update` is an update, encoding version 1, to its last byte.

    yrs reads a v2 update as an empty one and ignores what follows the end; then the merged length differs.
    """
    require_shallow(update)
    try:
        length = len(run_yrs(lambda: pycrdt.merge_updates(EMPTY_UPDATE, update)))
    except InvalidUpdate as error:
        raise _undecodable(error) from None
    if length != len(update):
        _read_through(update)


def _read_through(update: bytes) -> None:
    try:
        check_update(update)
    except MalformedUpdate as error:
        raise _undecodable(error) from None


def _undecodable(reason: Exception) -> InvalidUpdate:
    return InvalidUpdate(f"it cannot be decoded: {reason}")


def leaves_gap(update: bytes, state_vector: bytes) -> bool:
    """Whether a document that `update` was applied to, and has `state_vector` now, lacks something that it builds on.

    What the document still lacks of the update is what it could not integrate. Deletes do not show there: their ranges
    must lie within the state vector.
    """
    lacking = pycrdt.get_update(update, state_vector)
    if lacking == EMPTY_UPDATE:
        return False
    reader = Reader(lacking)
    if reader.unsigned() > 0:
        return True
    clocks = read_state_vector(state_vector)
    return any(end > clocks.get(client, 0) for client, _, end in read_delete_set(reader))


def lacks_predecessors(update: bytes, state_vector: bytes) -> bool:
    """Whether a document with `state_vector` could not integrate all of `update`: told before it is applied.

    Only of updates that are read quickly; of larger ones nothing is known before.
    """
    if len(update) > _READ_AT_MOST:
        return False
    try:
        return structs.lacks_predecessors(update, read_state_vector(state_vector))
    except MalformedUpdate:
        return False  # yrs will say what is wrong


def merge(updates: Sequence[bytes]) -> bytes:
    """One update that holds what all of `updates`, given in the order they were made, hold."""
    level: Sequence[bytes] = updates or [EMPTY_UPDATE]
    while len(level) > 1:
        level = merge_groups(level)
    return level[0]


def merge_groups(updates: Sequence[bytes]) -> list[bytes]:
    """Every 32 neighbours merged into one."""
    groups = (updates[start : start + _GROUP] for start in range(0, len(updates), _GROUP))
    return [group[0] if len(group) == 1 else pycrdt.merge_updates(*group) for group in groups]


def build_document(updates: Sequence[bytes], client_id: int | None = None) -> Document:
    """A document of stored updates.

    Raises:
        InvalidUpdate: one does not load.
    """
    document: Document = pycrdt.Doc(client_id=client_id)
    for update in updates:
        run_yrs(lambda update=update: document.apply_update(update))  # type: ignore[misc]
    return document


def build_update(updates: Sequence[bytes]) -> bytes:
    """The whole document that stored updates make, as one update."""
    return build_document(updates).get_update()


def diff_update(update: bytes, state_vector: bytes) -> bytes:
    """What a replica with `state_vector` lacks of a whole document."""
    return run_yrs(lambda: pycrdt.get_update(update, state_vector))


class SnapshotFault(Exception):
    """A snapshot does not hold what the updates hold that it was made of."""


def prove_snapshot(updates: Sequence[bytes]) -> bytes:
    """The whole document that updates make, after a proof that it makes the same document by itself.

    Raises:
        SnapshotFault: it does not; nothing may be built on it.
    """
    document = build_document(updates)
    snapshot = document.get_update()
    if not same_content(document, updates, snapshot):
        raise SnapshotFault("the snapshot and the updates do not hold the same")
    return snapshot


def same_content(document: Document, updates: Iterable[bytes], snapshot: bytes) -> bool:
    """Whether a snapshot makes the document that `updates` made: neither has anything for the other."""
    copy = build_document([snapshot])
    news: list[bytes] = []
    subscriptions = [(doc, doc.observe(lambda event: news.append(event.update))) for doc in (copy, document)]
    for update in updates:
        copy.apply_update(update)
    document.apply_update(snapshot)
    for doc, subscription in subscriptions:
        doc.unobserve(subscription)
    return not news and not leaves_gap(snapshot, copy.get_state())
