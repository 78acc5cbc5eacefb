"""Sources of subscriptions: positions in the change feed, in a file and in a turn.

A source reads what its selection names, and yields nothing if none of that has changed. `fork` makes a second source
at the same position, for a client that continues on its own from there.
"""

import copy
from typing import Any, ClassVar, Generic, Protocol, Self, TypeVar

import msgspec

from gateway.access.grants import View
from gateway.graphql.services import Services
from gateway.watch.filter import ChangeFilter
from gateway.watch.project import WatchedProject
from gateway.wire.changes import FeedAnswer, FeedEntry, FileFeedEntry
from storage import FINISHED, FileHead, StoredTurn, TurnHead, TurnStatus

T = TypeVar("T", covariant=True)

_PAGE = 500
_PAGE_OF_DOCUMENTS = 20
"""How many changes one event holds if each comes with its document."""
_REMEMBERED = 10_000
"""For how many files and turns of a project the values last sent are remembered."""


class Source(Protocol[T]):
    """A position, and the events after it.

    `state` compares two sources of the same question that are at their end: equal ones continue alike.
    """

    watched: WatchedProject
    filter: ChangeFilter
    compares: bool
    """Whether an event is sent only if its answer differs from the previous one."""
    finished: bool
    """Whether no event will follow any more."""

    @property
    def project(self) -> str: ...

    @property
    def state(self) -> object: ...

    @property
    def level(self) -> bool:
        """Whether the source has yielded exactly what is known of the project so far."""

    async def next(self) -> T | None:
        """Return the next event; None if there is nothing new."""

    def catch_up_with(self, other: Any) -> None:
        """Take the position of another source that has yielded the same."""

    def fork(self) -> Self: ...


class FeedEvent(msgspec.Struct, frozen=True):
    """A stretch of the change feed, with the versions of its files that were sent before."""

    answer: FeedAnswer
    told: dict[str, int]


class FeedSource(Generic[T]):
    """The change feed after a cursor.

    Args:
        file_fields: the fields selected of a changed file; empty: files are left out.
        turn_fields: the fields selected of a changed turn.
    """

    compares = False
    finished = False

    def __init__(
        self,
        services: Services,
        project: str,
        watched: WatchedProject,
        filter_: ChangeFilter,
        since: str | None,
        file_fields: frozenset[str],
        turn_fields: frozenset[str],
    ) -> None:
        self._services = services
        self.project = project
        self.watched = watched
        self.filter = filter_
        self._since = since
        self._ready = False
        self._statuses: dict[tuple[str, str], TurnStatus] = {}
        self._versions: dict[str, int] = {}
        self._reads = bool(file_fields & {"text", "update"})
        self._follows_status_only = (
            bool(turn_fields) and turn_fields <= {"sessionId", "turnId", "status"} and ("status" in turn_fields)
        )

    @property
    def state(self) -> object:
        return None

    @property
    def level(self) -> bool:
        return self._since == self.watched.cursor

    async def next(self) -> FeedEvent | None:
        while True:
            limit = _PAGE_OF_DOCUMENTS if self._reads else _PAGE
            answer = await self._services.feed.read(self.project, self.filter, self._since, limit)
            is_first, self._ready = not self._ready, True
            self._since = answer.cursor
            if answer.reset:
                self._statuses.clear()
                self._versions.clear()
            told = dict(self._versions) if self._reads else {}
            changes = [entry for entry in answer.changes if self._moved(entry)]
            # The first answer is sent even without changes: it tells the client the cursor to continue from.
            if changes or answer.reset or is_first:
                return FeedEvent(msgspec.structs.replace(answer, changes=changes), told)
            if not answer.more:
                return None

    def _moved(self, entry: FeedEntry) -> bool:
        """Whether a selected field of an entry has changed, apart from those that identify it."""
        if isinstance(entry, FileFeedEntry):
            if self._reads:
                _remember(self._versions, entry.path, entry.version)
            return True
        if not self._follows_status_only:
            return True
        key = (entry.session_id, entry.turn_id)
        before = self._statuses.get(key)
        _remember(self._statuses, key, entry.status)
        return before != entry.status

    def catch_up_with(self, other: Any) -> None:
        self._since = other._since

    def fork(self) -> Self:
        forked = copy.copy(self)
        forked._statuses, forked._versions = dict(self._statuses), dict(self._versions)
        return forked


def _remember(known: dict[Any, Any], key: object, value: object) -> None:
    if key not in known and len(known) >= _REMEMBERED:
        del known[next(iter(known))]
    known[key] = value


class FileEvent(msgspec.Struct, frozen=True):
    """The newest state of a file, and the version that was sent before; None: none."""

    head: FileHead
    told: int | None


class FileSource(Generic[T]):
    """The versions of one file after the version that the client has (None: none).

    Args:
        fields: the fields selected of the file.
    """

    finished = False

    _OF_HEADS: ClassVar = {
        "path": "path",
        "version": "version",
        "incarnation": "incarnation",
        "lastModified": "last_modified",
        "size": "size",
        "deleted": "deleted",
    }

    def __init__(
        self,
        services: Services,
        project: str,
        watched: WatchedProject,
        path: str,
        from_version: int | None,
        fields: frozenset[str],
    ) -> None:
        self._services = services
        self.project = project
        self.watched = watched
        self.filter = ChangeFilter(turns=False, paths=frozenset([path]))
        self._path = path
        self._version = from_version
        self._is_first = True
        self._heads = sorted(self._OF_HEADS[name] for name in fields & self._OF_HEADS.keys())
        self.compares = bool(fields - self._OF_HEADS.keys())
        self._told: tuple[object, ...] | None = None

    @property
    def state(self) -> object:
        return (self._told, self._version if self.compares else None)

    @property
    def level(self) -> bool:
        return True

    async def next(self) -> FileEvent | None:
        head = await self._services.hub.file(self.watched, self.project, self._path)
        if head is None:
            return None  # the source waits until the file is created
        is_first, self._is_first = self._is_first, False
        told, version = tuple(getattr(head, name) for name in self._heads), self._version
        if is_first and version is not None and head.version <= version:
            self._told = told
            return None
        if head.version == version and not is_first:
            return None
        moved, self._told, self._version = told != self._told, told, head.version
        return FileEvent(head, version) if moved or self.compares else None

    def catch_up_with(self, other: Any) -> None:
        self._told, self._version = other._told, other._version

    def fork(self) -> Self:
        return copy.copy(self)


class TurnEvent(msgspec.Struct, frozen=True):
    """The newest state of a turn, with its new blocks if blocks are selected."""

    head: TurnHead
    stored: StoredTurn | None


class TurnSource(Generic[T]):
    """The progress of a turn after its first `after_block` blocks, until the turn has ended.

    Args:
        fields: the fields selected of the turn.
    """

    compares = False

    _OF_HEADS: ClassVar = {
        "id": "turn_id",
        "sessionId": "session_id",
        "status": "status",
        "blockCount": "block_count",
        "error": "error",
        "createdAt": "created_at",
        "startedAt": "started_at",
        "completedAt": "completed_at",
        "lastUpdated": "last_updated",
    }

    def __init__(
        self,
        services: Services,
        project: str,
        watched: WatchedProject,
        session: str,
        turn: str,
        after_block: int,
        fields: frozenset[str],
    ) -> None:
        self._services = services
        self.project = project
        self.watched = watched
        self.filter = ChangeFilter(files=False, turn=(session, turn))
        self._turn = (session, turn)
        self._position = after_block
        self._sequence = 0
        self._heads = sorted(self._OF_HEADS[name] for name in fields & self._OF_HEADS.keys())
        self._blocks = "blocks" in fields
        self._told: tuple[object, ...] | None = None
        self.finished = False

    @property
    def state(self) -> object:
        return (self._told, self._position if self._blocks else None)

    @property
    def level(self) -> bool:
        return True

    async def next(self) -> TurnEvent | None:
        head = await self._services.turns.head(self.project, *self._turn)
        if head.sequence <= self._sequence:
            return None
        stored = None
        if self._blocks and (head.block_count > self._position or head.grown):
            stored = await self._services.turns.read(
                self.project, *self._turn, self._position, self._services.answer_bytes
            )
            head = stored.head
            if stored.blocks:
                self._position = stored.blocks[-1].index + 1
        told = tuple(getattr(head, name) for name in self._heads)
        moved, self._told = told != self._told, told
        is_whole = not self._blocks or self._position >= head.block_count
        self._sequence = head.sequence if is_whole else 0
        self.finished = head.status in FINISHED and is_whole
        new_blocks = stored is not None and bool(stored.blocks)
        return TurnEvent(head, stored) if moved or new_blocks else None

    def catch_up_with(self, other: Any) -> None:
        self._told, self._position = other._told, other._position

    def fork(self) -> Self:
        return copy.copy(self)


def filter_of(
    view: View,
    *,
    files: bool,
    turns: bool,
    prefix: str,
    paths: frozenset[str] | None,
) -> ChangeFilter:
    """Return the filter for the selected changes, without those that do not exist for the caller."""
    return ChangeFilter(files=files, turns=turns, prefix=prefix, paths=paths).seen_by(view)
