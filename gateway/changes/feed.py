"""The change feed: the changes of a project after a cursor, in order, at most one entry per file or turn."""

import msgspec
from msgspec import UNSET, Struct

from gateway.changes.as_text import AsText
from gateway.changes.cursors import Position, change_type_since, position_of
from gateway.changes.increments import Increments
from gateway.files.history import Versions
from gateway.files.reader import FileReader
from gateway.pace import next_slice, with_turns
from gateway.watch.filter import ChangeFilter
from gateway.watch.hub import Hub
from gateway.watch.project import WatchedProject
from gateway.wire.changes import FeedAnswer, FeedEntry, FileFeedEntry, TurnFeedEntry
from gateway.wire.problems import ProjectNotFound
from gateway.wire.values import rfc3339
from storage import FileHead, ProjectHead, Storage, TurnHead
from storage.shared_reads import SharedReads

_EVENTS_TOGETHER = 500
_SCANS = 16
"""How many pages of changes one request scans for those that its filter selects."""
_REMEMBERED_SCANS = 2 * _SCANS


class _Page(Struct, frozen=True):
    """A page of the feed: entries with their sequences, and how far the log was scanned."""

    entries: list[tuple[int, FeedEntry]]
    asked: Position
    began: ProjectHead
    """The head of the project when the read of the page began."""
    sequence: int
    more: bool

    @property
    def reset(self) -> bool:
        return self.asked.reset

    @property
    def cursor(self) -> str:
        return self.cursor_at(self.sequence)

    def cursor_at(self, sequence: int) -> str:
        """Return the cursor of a client that has received the entries up to `sequence`."""
        return self.asked.cursor(self.began, sequence, more=self.more or sequence < self.sequence)


Scans = dict[tuple[str, int, int, ProjectHead], tuple[ProjectHead, list[FileHead | TurnHead]]]
"""What pages of the log were found to hold: by project, sequence, limit and the head of the project."""


class Batch(Struct, frozen=True, gc=False):
    """The changes that a reader is sent together."""

    changes: list[FeedEntry]
    cursor: str
    sequence: int
    """The sequence up to which the log was scanned."""
    more: bool
    since: Position


class Feed:
    """Reads the change feed of all projects."""

    def __init__(self, storage: Storage, hub: Hub, versions: Versions, files: FileReader) -> None:
        self._storage = storage
        self._hub = hub
        self._versions = versions
        self._increments = Increments(storage, files)
        self._reads = SharedReads()

    async def project(self, name: str) -> WatchedProject:
        """Return the up-to-date project.

        Raises:
            ProjectNotFound
        """
        return await self._hub.require(name)

    async def read(self, project: str, filter_: ChangeFilter, since: str | None, limit: int) -> FeedAnswer:
        """Return the changes after a cursor: each file or turn once, in its newest state, oldest change first.

        Raises:
            InvalidCursor, ProjectNotFound
        """

        async def read() -> FeedAnswer:
            page = await self._page(project, filter_, since, limit)
            return _answer(page, await self._told(project, filter_, page))

        # Updates are read and merged file by file, of which a crowd that is woken together must not make many copies.
        return await (self._reads.read((project, filter_, since, limit), read) if filter_.updates else read())

    async def read_text(
        self, project: str, filter_: ChangeFilter, since: str | None, limit: int, *, most_bytes: int, root: str
    ) -> FeedAnswer:
        """Return the changes after a cursor with diffs of the text of a root, of at most `most_bytes` in total.

        Raises:
            InvalidCursor, ProjectNotFound
        """

        async def read() -> FeedAnswer:
            page = await self._page(project, filter_, since, limit)
            as_text = AsText(self._storage, self._versions, most_bytes, root)
            return _answer(page, await as_text.of(project, [entry for _, entry in page.entries], page.asked))

        return await self._reads.read((project, filter_, since, limit, most_bytes, root), read)

    async def events(self, project: str, filter_: ChangeFilter, since: str | None) -> tuple[bytes, str, bool]:
        """Return the feed after a cursor as server-sent events, the cursor after them, and whether more are available.

        All clients that follow the feed from the same cursor with the same filter are sent the same bytes.

        Raises:
            InvalidCursor, ProjectNotFound
        """
        watched = await self._hub.require(project)
        if since == watched.cursor:
            return b"", since, False
        remembered = known_events(watched, filter_, since)
        if remembered is not None:
            return remembered, watched.cursor, False
        page = await self._page(project, filter_, since, _EVENTS_TOGETHER)
        told = await self._told(project, filter_, page)
        events = b"".join(
            b"id: %b\nevent: change\ndata: %b\n\n" % (page.cursor_at(sequence).encode(), msgspec.json.encode(entry))
            for (sequence, _), entry in zip(page.entries, told, strict=True)
        )
        if page.reset:
            events = b"event: reset\ndata: {}\n\n" + events
        if not page.more:
            watched.answers.keep_events(filter_, since, events, page.cursor)
        return events, page.cursor, page.more

    async def batch(
        self, project: str, filter_: ChangeFilter, since: str, limit: int, until: int | None, scans: Scans
    ) -> "Batch":
        """Return the changes after a cursor, up to the sequence `until` if given, to be sent to a reader.

        Args:
            scans: the pages that were scanned for other readers; those scanned now are added, up to a bound.

        Raises:
            InvalidCursor, ProjectNotFound
        """
        page = await self._page(project, filter_, since, limit, until, scans)
        return Batch([entry for _, entry in page.entries], page.cursor, page.sequence, page.more, page.asked)

    async def _told(self, project: str, filter_: ChangeFilter, page: _Page) -> list[FeedEntry]:
        """Return the entries of a page as the client wants them."""
        entries = [entry for _, entry in page.entries]
        return await self._increments.of(project, entries, page.asked) if filter_.updates else entries

    async def _page(
        self,
        project: str,
        filter_: ChangeFilter,
        since: str | None,
        limit: int,
        until: int | None = None,
        scans: Scans | None = None,
    ) -> _Page:
        watched = await self._hub.require(project)
        assert watched.head is not None
        asked = await position_of(self._storage, project, since, watched.head)
        position = asked.sequence
        if position == watched.head.sequence and self._hub.fresh and not watched.forgotten:
            return _Page([], asked, watched.head, position, more=False)
        after = position or 0
        first: ProjectHead | None = None
        entries: dict[object, tuple[int, FeedEntry]] = {}
        for number in range(_SCANS):
            scan = (project, after, limit, watched.head)
            answer = None if scans is None else scans.get(scan)
            if answer is None:
                if number:  # of the first one there is most often no other
                    await next_slice()
                answer = await self._storage.changes_since(project, after, limit=limit)
                if answer is None:
                    raise ProjectNotFound(project)
                if scans is not None:
                    scans[scan] = answer
                    if len(scans) > _REMEMBERED_SCANS:
                        del scans[next(iter(scans))]
            now, heads = answer
            first = first or now
            async for head in with_turns(heads):
                if until is not None and head.sequence > until:
                    return _Page(list(entries.values()), asked, first, until, more=False)
                if len(entries) == limit:
                    return _Page(list(entries.values()), asked, first, after, more=True)
                after = head.sequence
                if filter_.matches(head) and (position is not None or not _is_tombstone(head)):
                    entries.pop(_thing(head), None)  # changed again between two scans: keep only the newest state
                    entries[_thing(head)] = (after, await self._entry(project, head, position or 0))
            if len(heads) < limit:
                return _Page(list(entries.values()), asked, first, now.sequence, more=False)
        return _Page(list(entries.values()), asked, first or watched.head, after, more=True)

    async def _entry(self, project: str, head: FileHead | TurnHead, since: int) -> FeedEntry:
        if isinstance(head, TurnHead):
            time = rfc3339(head.last_updated)
            return TurnFeedEntry(head.session_id, head.turn_id, head.status, head.block_count, time)
        change_type = await change_type_since(self._storage, project, head, since)
        return FileFeedEntry(head.path, rfc3339(head.last_modified), head.version, change_type)


def _answer(page: _Page, changes: list[FeedEntry]) -> FeedAnswer:
    return FeedAnswer(changes, page.cursor, page.more, reset=True if page.reset else UNSET)


def known_events(project: WatchedProject, filter_: ChangeFilter, since: str | None) -> bytes | None:
    """Return the events after a cursor up to the present one, if they are cached for an earlier client."""
    return project.answers.events(filter_, since)


def _thing(head: FileHead | TurnHead) -> tuple[str, ...]:
    """Return the key of a file or a turn within its project."""
    return (head.session_id, head.turn_id) if isinstance(head, TurnHead) else (head.path,)


def _is_tombstone(head: FileHead | TurnHead) -> bool:
    return isinstance(head, FileHead) and head.deleted
