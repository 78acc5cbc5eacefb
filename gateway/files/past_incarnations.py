"""What a client brings of an incarnation of a file that has ended. Merged into the present one, it would double what
both hold.

HTTP clients name the incarnation that they mean (`X-Incarnation`). Stock providers have no word for it: but what they
hold has the Yjs clients and clocks of its incarnation, and the log still tells the last ones of every incarnation.
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
"""So many incarnations before the present one are known, the newest."""
_CLIENTS = 200_000
"""Of how many Yjs clients of past incarnations the clocks are kept in memory."""
_MOST_READ = 100_000
"""The state vector of a replica is read for this if it names at most so many clients: it takes a moment of the loop."""


class Clocks(NamedTuple):
    """A range of what one Yjs client wrote."""

    client: int
    start: int
    end: int


def has_past(head: FileHead | None) -> bool:
    """Whether a file has had an incarnation before the one that it has, or that it may begin."""
    return head is not None and (head.deleted or head.born_version > 1)


class PastIncarnations:
    """Knows the past incarnations of files, as far as somebody has asked for them."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._known: OrderedDict[tuple[str, str], tuple[str, Mapping[int, int]]] = OrderedDict()
        """By file its state that this holds for, and the clock after the last struct of each past client."""
        self._size = 0

    async def hold_any(self, document: OpenDocument, update: bytes) -> bool:
        """Whether an update holds, or deletes, what is of a past incarnation and not of the present one."""
        if not has_past(document.head):
            return False
        try:
            ranges = await in_worker(_clocks_of_update, [update], units=LIGHT_UNITS)
        except MalformedUpdate:
            return False  # who admits it will say what is wrong
        return await self._meet(document, ranges)

    async def hold_any_of_vector(self, document: OpenDocument, state_vector: bytes) -> bool:
        """The same of a replica with a state vector."""
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
            state_vector = await in_worker(_state_vector, stored_rows(stored))
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
    """What the past incarnations of a file stay the same for."""
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
