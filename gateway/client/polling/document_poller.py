"""The poller that reports which files of a project change."""

import itertools
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from msgspec import Struct

from gateway.client.polling.manager import PollingManager
from gateway.client.polling.poller import Poller, call
from gateway.client.polling.project_stream import EVERY_FILE, Transport, file_topic
from gateway.client.polling.subscription import Polled
from gateway.client.project import Project
from gateway.wire.changes import ChangeType, FeedAnswer, FileFeedEntry

_STARTS = itertools.count()
"""Numbers the pollers that start at the present: each starts at a different point, so they share no requests."""
_FILTERED_BY_GATEWAY = 20
"""The most paths that a request names; for more, all changes of the project are read and filtered by the client."""


class DocumentChange(Struct, frozen=True):
    """The newest state of a file that changed."""

    path: str
    last_modified: datetime
    version: int
    change_type: ChangeType


class DocumentPoller(Poller):
    """Calls back with the changes of a project's files: once per answer with news, each change once, in feed order.

    Several changes of a file between two answers count as one change. Pollers of one manager that follow the same files
    from the same point share their requests.

    Args:
        paths: the files to follow; by default all files of the project.
        on_changes: called with a list of DocumentChange, plain or async.
        on_error: called with the exception of every failed attempt.
        since: a cursor, to get only later changes.
        initial: whether, without `since`, every existing file is first reported as created.
        interval: seconds between polls; default 3 (`PollSettings.document_interval_ms`).
    """

    def __init__(
        self,
        polling: PollingManager,
        project: Project,
        paths: Sequence[str] | None = None,
        *,
        on_changes: Callable[[list[DocumentChange]], object],
        on_error: Callable[[Exception], object] | None = None,
        since: str | None = None,
        initial: bool = True,
        interval: float | None = None,
        transport: Transport = "auto",
    ) -> None:
        self._on_changes = on_changes
        self._from_nothing = since is None and initial
        from_now = since is None and not initial
        self._seen = 0
        chosen = None if paths is None else frozenset(paths)
        super().__init__(
            polling,
            project,
            f"documents {project.url} {None if chosen is None else sorted(chosen)} {since}"
            + (f" from now {next(_STARTS)}" if from_now else ""),
            _FilesSource(project, chosen, from_now=from_now).poll,
            interval=polling.settings.document_interval_ms / 1000 if interval is None else interval,
            topics=[EVERY_FILE] if chosen is None else [file_topic(path) for path in chosen],
            transport=transport,
            on_result=self._give,
            on_error=on_error,
            cursor=since,
        )

    async def _give(self, files: "_Files") -> None:
        """Call back with the changes that were not delivered yet."""
        first, news = self._from_nothing and self._seen == 0, files.after(self._seen)
        self._seen = files.serial
        if first:
            news = [_created(change) for change in news if change.change_type != "deleted"]
        if news:
            await call(self._on_changes, news)


class _Files:
    """The newest change of every file, numbered in the order of arrival."""

    def __init__(self) -> None:
        self.serial = 0
        self._changes: dict[str, tuple[int, DocumentChange]] = {}

    def after(self, serial: int) -> list[DocumentChange]:
        """Return the changes after a serial number."""
        news = []
        for number, change in reversed(self._changes.values()):
            if number <= serial:
                break
            news.append(change)
        return news[::-1]

    def take(self, changes: Sequence[DocumentChange], *, reset: bool) -> None:
        """Record new changes; after a reset, `changes` lists all existing files."""
        if reset:
            listed = {change.path for change in changes}
            gone = [change for path, (_, change) in self._changes.items() if path not in listed]
            for change in gone:
                if change.change_type != "deleted":
                    self._note(DocumentChange(change.path, datetime.now(UTC), change.version, "deleted"))
        for change in changes:
            known = self._changes.get(change.path)
            if reset or known is None or known[1].version < change.version:
                self._note(change)

    def _note(self, change: DocumentChange) -> None:
        self.serial += 1
        self._changes.pop(change.path, None)
        self._changes[change.path] = (self.serial, change)


class _FilesSource:
    """Reads the feed from a cursor to its current end."""

    def __init__(self, project: Project, paths: frozenset[str] | None, *, from_now: bool) -> None:
        self._from_now = from_now
        self._project = project
        self._paths = paths
        self._named = sorted(paths) if paths is not None and len(paths) <= _FILTERED_BY_GATEWAY else []
        self._files = _Files()

    async def poll(self, cursor: str | None) -> Polled:
        if cursor is None and self._from_now:
            listing = await self._project.list_files(limit=1)
            assert listing.value is not None
            return Polled(self._files, changed=False, cursor=listing.value.cursor, backoff_s=listing.backoff_s)
        answer = await self._project.changes(cursor, kinds=["file"], paths=self._named, tag=cursor)
        if answer.value is None:
            return Polled(self._files, changed=False, backoff_s=answer.backoff_s)
        page, serial = answer.value, self._files.serial
        entries, reset = self._of_interest(page), page.reset is True
        while page.more:
            following = (await self._project.changes(page.cursor, kinds=["file"], paths=self._named)).value
            assert following is not None
            page = following
            if page.reset is True:
                entries, reset = [], True
            entries += self._of_interest(page)
        self._files.take([_change(entry) for entry in entries], reset=reset)
        return Polled(self._files, changed=self._files.serial > serial, cursor=page.cursor, backoff_s=answer.backoff_s)

    def _of_interest(self, page: FeedAnswer) -> list[FileFeedEntry]:
        files = [entry for entry in page.changes if isinstance(entry, FileFeedEntry)]
        return files if self._paths is None else [entry for entry in files if entry.path in self._paths]


def _change(entry: FileFeedEntry) -> DocumentChange:
    return DocumentChange(entry.path, datetime.fromisoformat(entry.last_modified), entry.version, entry.change_type)


def _created(change: DocumentChange) -> DocumentChange:
    return DocumentChange(change.path, change.last_modified, change.version, "created")
