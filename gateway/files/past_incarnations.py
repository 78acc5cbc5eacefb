"""Detection of updates and replicas that belong to a past incarnation of a file. Merged into the present incarnation,
they would duplicate the content that both have.

HTTP clients name the incarnation that they mean (`X-Incarnation`). Stock Yjs providers cannot, but their content has
the Yjs clients and clocks of its incarnation, and the log still has the last clocks of every incarnation.
"""

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from gateway.files.documents import stored_rows
from gateway.files.open_document import OpenDocument
from gateway.workers.pool import LIGHT_UNITS, in_worker
from gateway.yjs.lib0 import MalformedUpdate, Reader
from gateway.yjs.scan import scan
from gateway.yjs.state_vectors import read_state_vector
from gateway.yjs.surrogates import updates_of
from gateway.yjs.updates import build_document
from storage import FileHead, Storage

_LIVES = 16
"""The number of incarnations before the present one that are considered."""
_CLIENTS = 200_000
"""The most Yjs clients of past incarnations whose clocks are kept in memory."""
_MOST_READ = 100_000
"""Larger state vectors (by number of clients) are not checked, since reading one blocks the event loop."""


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
        try:
            ranges = await in_worker(_clocks_of_update, [update], units=LIGHT_UNITS)
        except MalformedUpdate:
            return False  # admitting the update will report the error
        return await self._meet(document, ranges)

    async def hold_any_of_vector(self, document: OpenDocument, state_vector: bytes) -> bool:
        """Return whether a replica with this state vector has past structs that the present incarnation lacks."""
        if not has_past(document.head) or Reader(state_vector).unsigned() > _MOST_READ:
            return False
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
        return any(
            max(each.start, present.get(each.client, 0)) < min(each.end, (past or {}).get(each.client, 0))
            for each in news
        )

    def _find(self, document: OpenDocument, head: FileHead) -> Mapping[int, int] | None:
        key = (document.project, document.path)
        state, clocks = self._known.get(key, ("", {}))
        if state != _state(head):
            return None
        self._known.move_to_end(key)
        return clocks

    async def _read(self, project: str, path: str, head: FileHead) -> Mapping[int, int]:
        clocks: dict[int, int] = {}
        for version in await self._storage.past_incarnations(project, path, limit=_LIVES):
            stored = await self._storage.read_document(project, path, at_version=version)
            if stored is None:  # squashed
                continue
            state_vector = await in_worker(_state_vector, await stored_rows(stored), units=LIGHT_UNITS)
            for client, clock in read_state_vector(state_vector).items():
                clocks[client] = max(clock, clocks.get(client, 0))
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


def _clocks_of_update(parts: Sequence[bytes]) -> list[Clocks]:
    (update,) = parts
    scanned = scan(update)
    return [Clocks(*each) for each in (*scanned.runs, *scanned.deletes)]


def _state_vector(parts: Sequence[bytes]) -> bytes:
    return build_document(updates_of(parts)).get_state()
