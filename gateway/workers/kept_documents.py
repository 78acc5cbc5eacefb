"""Documents that are too large for the gateway's process, in a worker process: it takes in their updates.

A worker keeps the documents that it has built for their next updates, so that only the first one needs the rows of the
log.
"""

import threading
import time
from collections.abc import Callable, Sequence

from gateway.yjs.elsewhere import TakenIn, TimeAllowed, Update, emitted_for
from gateway.yjs.footprint import STRUCT
from gateway.yjs.preparation import require_taken_in
from gateway.yjs.state_vectors import read_state_vector
from gateway.yjs.surrogates import part_pairs, updates_of
from gateway.yjs.updates import Document, build_document, run_yrs

_KEPT_BYTES = 128 * 2**20
"""About the most memory of all documents that a process keeps; the last one is kept whatever its size."""
_KEPT_S = 60.0
"""For how long documents are kept of which no update comes."""


def take_in_kept(state: str, update: Update) -> TakenIn | None:
    """Apply an update to a document that this process keeps under the name of a state; None: it keeps none.

    Raises:
        InvalidUpdate
    """
    document = _kept.take(state)
    return None if document is None else _take_in(document, update)


def take_in_stored(rows: Sequence[bytes], update: Update) -> TakenIn:
    """Apply an update to the document that stored rows build.

    Raises:
        InvalidUpdate
    """
    return _take_in(build_document(updates_of(rows)), update)


def _take_in(document: Document, update: Update) -> TakenIn:
    if update.parted:
        document = build_document([part_pairs(document.get_update(), update.parted)])
    emitted: list[bytes | None] = []
    events: list[bytes] = []
    subscription = document.observe(lambda event: events.append(event.update))
    allowed = TimeAllowed(update.slices, update.structs)
    for each in update.slices:
        events.clear()
        started = time.thread_time()
        run_yrs(document.apply_update, each)
        allowed.spend(time.thread_time() - started)
        emitted.append(events[0] if events else None)
    document.unobserve(subscription)
    state_vector, others = document.get_state(), emitted_for(update.slices, emitted)
    if others is not None:
        require_taken_in(update.runs, update.needs, read_state_vector(state_vector))
    if any(emitted) or not update.parted:  # else the log has these pairs unsplit
        _kept.keep(update.state, document, update.structs * STRUCT + update.size)
    return TakenIn(others, state_vector)


class _Kept:
    """The documents that a process has built last."""

    def __init__(self) -> None:
        self._documents: dict[str, tuple[Document, int]] = {}
        self._timer: threading.Timer | None = None

    def take(self, state: str) -> Document | None:
        """Return a document, which is not kept any more."""
        document, _ = self._documents.pop(state, (None, 0))
        return document

    def keep(self, state: str, document: Document, size: int) -> None:
        """Keep a document, and forget those used least recently that there is no room for."""
        self._documents[state] = document, size
        while sum(each for _, each in self._documents.values()) > _KEPT_BYTES and len(self._documents) > 1:
            del self._documents[next(iter(self._documents))]
        if self._timer is not None:
            self._timer.cancel()
        self._timer = _after(_KEPT_S, self._documents.clear)

    @property
    def states(self) -> list[str]:
        return list(self._documents)


def _after(seconds: float, work: Callable[[], None]) -> threading.Timer:
    timer = threading.Timer(seconds, work)
    timer.daemon = True
    timer.start()
    return timer


_kept = _Kept()
