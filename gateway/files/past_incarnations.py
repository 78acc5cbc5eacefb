"""Detection of updates and replicas that belong to a past incarnation of a file. Merged into the present incarnation,
they would duplicate the content that both have.

HTTP clients name the incarnation that they mean (`X-Incarnation`). Stock Yjs providers cannot, but their content has
the Yjs clients and clocks of its incarnation, and the log still has the last clocks of every incarnation.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from gateway.files.documents import stored_rows
from gateway.files.open_document import OpenDocument
from gateway.workers.pool import LIGHT_UNITS, in_worker, run_in_worker
from gateway.yjs.lib0 import MalformedUpdate, Reader
from gateway.yjs.scan import scan
from gateway.yjs.state_vectors import MOST_IN_STEP, highest_clocks, read_state_vector
from gateway.yjs.surrogates import updates_of
from gateway.yjs.updates import build_document
from storage import FileHead, Storage

_LIVES = 16
"""The number of incarnations before the present one that are considered."""
_CLIENTS = 200_000
"""The most Yjs clients of past incarnations whose clocks are kept in memory."""
_MOST_READ = 100_000
"""Larger state vectors (by number of clients) are not checked."""
_LIGHT_BYTES = 32 * 1024
"""The most bytes of an update whose ranges come to the event loop one by one."""


class Clocks(NamedTuple):
    """A range of clocks of one Yjs client."""

    client: int
    start: int
    end: int


def has_past(head: FileHead | None) -> bool:
    """Return whether a file had an incarnation before its present one or, if it is deleted, before its next one."""
    return head is not None and (head.deleted or head.born_version > 1)


class PastIncarnations:
    """A bounded cache of the past incarnations of files, filled on demand."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._known: OrderedDict[tuple[str, str], tuple[str, Mapping[int, int]]] = OrderedDict()
        """By file: the state for which the entry is valid, and the clock after the last struct of each past client."""
        self._size = 0

    async def hold_any(self, document: OpenDocument, update: bytes) -> bool:
        """Return whether an update contains or deletes structs of a past incarnation that the present one lacks."""
        if not has_past(document.head):
            return False
        if document.clients > MOST_IN_STEP or len(update) > _LIGHT_BYTES:
            return await self._meet_elsewhere(document, _meet_update, update)
        try:
            ranges = await in_worker(_clocks_of_update, [update], units=LIGHT_UNITS)
        except MalformedUpdate:
            return False  # admitting the update will report the error
        return await self._meet(document, ranges)

    async def hold_any_of_vector(self, document: OpenDocument, state_vector: bytes) -> bool:
        """Return whether a replica with this state vector has past structs that the present incarnation lacks."""
        named = Reader(state_vector).unsigned()
        if not has_past(document.head) or named > _MOST_READ:
            return False
        if max(named, document.clients) > MOST_IN_STEP:
            return await self._meet_elsewhere(document, _meet_vector, state_vector)
        return await self._meet(document, [Clocks(*each) for each in _from_zero(read_state_vector(state_vector))])

    async def _meet(self, document: OpenDocument, ranges: Sequence[Clocks]) -> bool:
        head = document.head
        assert head is not None
        past = self._find(document, head)
        if past is not None:
            ranges = [each for each in ranges if each.client in past]
        if not ranges:
            return False
        present = read_state_vector(document.state_vector())
        news = [each for each in ranges if each.end > present.get(each.client, 0)]
        if past is None and news:
            past = await self._read(document.project, document.path, head)
        return _any_of(news, present, past or {})

    async def _meet_elsewhere(
        self, document: OpenDocument, meet: Callable[[bytes, bytes, Mapping[int, int]], bool], held: bytes
    ) -> bool:
        """Find out in a worker process whether an update or a state vector holds what only the past has: it is long, or
        the document has very many clients."""
        head = document.head
        assert head is not None
        past = self._find(document, head)
        if past is None:
            past = await self._read(document.project, document.path, head)
        return await run_in_worker(meet, held, document.state_vector(), past)

    def _find(self, document: OpenDocument, head: FileHead) -> Mapping[int, int] | None:
        key = (document.project, document.path)
        state, clocks = self._known.get(key, ("", {}))
        if state != _state(head):
            return None
        self._known.move_to_end(key)
        return clocks

    async def _read(self, project: str, path: str, head: FileHead) -> Mapping[int, int]:
        state_vectors: list[bytes] = []
        for version in await self._storage.past_incarnations(project, path, limit=_LIVES):
            stored = await self._storage.read_document(project, path, at_version=version)
            if stored is not None:  # not squashed
                rows = await stored_rows(stored)
                state_vectors.append(await in_worker(_state_vector, rows, units=LIGHT_UNITS))
        if sum(Reader(each).unsigned() for each in state_vectors) <= MOST_IN_STEP:
            clocks = highest_clocks(state_vectors)
        else:
            clocks = await run_in_worker(highest_clocks, state_vectors)
        self._keep((project, path), _state(head), clocks)
        return clocks

    def _keep(self, key: tuple[str, str], state: str, clocks: Mapping[int, int]) -> None:
        _, former = self._known.pop(key, ("", None))
        self._size += _size(clocks) - (0 if former is None else _size(former))
        self._known[key] = (state, clocks)
        while self._size > _CLIENTS:
            _, (_, dropped) = self._known.popitem(last=False)
            self._size -= _size(dropped)


def _state(head: FileHead) -> str:
    """Return a key that changes whenever the set of past incarnations of a file does."""
    return f"{head.incarnation}.{head.deleted}"


def _size(clocks: Mapping[int, int]) -> int:
    return len(clocks) + 1


def _from_zero(clocks: Mapping[int, int]) -> Iterable[tuple[int, int, int]]:
    return ((client, 0, clock) for client, clock in clocks.items())


def _any_of(ranges: Iterable[Clocks], present: Mapping[int, int], past: Mapping[int, int]) -> bool:
    """Return whether ranges hold what is of the past and not of the present, by the state vectors of both."""
    return any(
        max(each.start, present.get(each.client, 0)) < min(each.end, past.get(each.client, 0)) for each in ranges
    )


def _meet_update(update: bytes, present: bytes, past: Mapping[int, int]) -> bool:
    try:
        ranges = _clocks_of_update([update])
    except MalformedUpdate:
        return False  # admitting the update will report the error
    return _any_of(ranges, read_state_vector(present), past)


def _meet_vector(state_vector: bytes, present: bytes, past: Mapping[int, int]) -> bool:
    ranges = (Clocks(*each) for each in _from_zero(read_state_vector(state_vector)))
    return _any_of(ranges, read_state_vector(present), past)


def _clocks_of_update(parts: Sequence[bytes]) -> list[Clocks]:
    (update,) = parts
    scanned = scan(update)
    return [Clocks(*each) for each in (*scanned.runs, *scanned.deletes)]


def _state_vector(parts: Sequence[bytes]) -> bytes:
    return build_document(updates_of(parts)).get_state()
