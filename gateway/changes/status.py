"""Listing and status: which files exist and which have changed. Answers come from the log, or from memory if nothing
changed."""

from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import replace

from gateway.access.grants import Paths
from gateway.changes.cursors import Position, change_type_since, position_of
from gateway.pace import with_turns
from gateway.watch.hub import Hub
from gateway.watch.project import WatchedProject
from gateway.wire.changes import ChangeType, FileChange, StatusAnswer, StatusQuestion
from gateway.wire.files import DeletedFile, DeletedListing, FileEntry, FileListing
from gateway.wire.problems import InvalidParameter, InvalidPath, ProjectNotFound, TooManyPaths
from gateway.wire.values import path_fault, rfc3339
from storage import FileHead, ProjectHead, Sequence, Storage, Tombstone

T = TypeVar("T")

_Seen = tuple[int, FileChange]
"""A change as the client sees it, after its place in the project's sequence."""


class Comparison(Struct, frozen=True):
    """The changes, oldest first, and the head of the project just before the comparison."""

    head: ProjectHead
    changes: list[_Seen]
    reset: bool


class Changes:
    """Answers questions about many files of a project."""

    def __init__(self, storage: Storage, hub: Hub, *, paths_limit: int) -> None:
        self._storage = storage
        self._hub = hub
        self._paths_limit = paths_limit

    async def list_files(
        self, project: str, prefix: str, after: str, limit: int, visible: Paths | None = None
    ) -> FileListing:
        """Return a page of the files that exist, ordered by path.

        Args:
            visible: the files that the requester can see; None: all.

        Raises:
            ProjectNotFound
        """
        head, files = await _collect(project, self._storage.list_files, _path_of, prefix, after, limit + 1, visible)
        entries = [
            FileEntry(file.path, file.version, rfc3339(file.last_modified), file.size)
            async for file in with_turns(files[:limit])
        ]
        return FileListing(entries, head.cursor, entries[-1].path if len(files) > limit else None)

    async def list_deleted(
        self, project: str, prefix: str, after: str, limit: int, visible: Paths | None = None
    ) -> DeletedListing:
        """Return a page of the deleted files that can be restored, ordered by path.

        Raises:
            ProjectNotFound
        """
        list_tombstones, path_of = self._storage.list_tombstones, _path_of_tombstone
        head, found = await _collect(project, list_tombstones, path_of, prefix, after, limit + 1, visible)
        entries = [
            DeletedFile(each.head.path, each.head.version, rfc3339(each.head.last_modified), each.author)
            async for each in with_turns(found[:limit])
        ]
        return DeletedListing(entries, head.cursor, entries[-1].path if len(found) > limit else None)

    async def status(self, project: str, question: StatusQuestion, visible: Paths | None = None) -> StatusAnswer:
        """Return the changes of many files since the client last asked. Files it cannot see are treated as nonexistent.

        Raises:
            InvalidPath, InvalidCursor, InvalidParameter, TooManyPaths, ProjectNotFound
        """
        found = await self.compare(project, question, visible)
        changes = [change for _, change in found.changes]
        reset: bool | UnsetType = True if found.reset else UNSET
        return StatusAnswer(changes, found.head.cursor, reset)

    async def compare(self, project: str, question: StatusQuestion, visible: Paths | None = None) -> "Comparison":
        """Return the changes as `status` does, with their places in the project's sequence."""
        await self.check(question)
        watched = await self._hub.require(project)
        # The reads below are of this point of the sequence or later, so the next question from here misses nothing.
        now = _head(watched)
        position = await position_of(self._storage, project, question.since, now)
        since, reset = position.sequence, position.reset
        if since is not None and since > now.sequence:  # the client is ahead of what is known here
            now = replace(now, sequence=Sequence(since))
        if since is None:
            changes = await self._all_unlike(
                project, watched, question.paths, {} if reset else question.versions or {}, now, visible
            )
        else:
            changes = await self._changed_since(project, watched, since, question, visible)
            versions = _narrowed(question.versions or {}, question.paths)
            changes += await self._unlike(project, watched, versions, now, visible)
        changes.sort(key=lambda seen: seen[0])
        return Comparison(now, changes, reset)

    async def position(self, project: str, cursor: str | None, now: ProjectHead) -> Position:
        """Return the position of a cursor, as `position_of` does."""
        return await position_of(self._storage, project, cursor, now)

    async def check(self, question: StatusQuestion) -> None:
        """Raise InvalidPath, InvalidParameter or TooManyPaths if the question cannot be answered."""
        for paths in (question.paths or (), question.versions or ()):
            if len(paths) > self._paths_limit:
                raise TooManyPaths(len(paths), self._paths_limit)
            async for path in with_turns(paths):
                fault = path_fault(path)
                if fault is not None:
                    raise InvalidPath(path, fault)
        if question.versions and min(question.versions.values()) < 0:
            raise InvalidParameter("versions", "a version is 0 or more")

    async def _changed_since(
        self,
        project: str,
        watched: WatchedProject,
        since: int,
        question: StatusQuestion,
        visible: Paths | None,
    ) -> list[_Seen]:
        """Return the changed files for which the client did not name a version."""
        behind = _head(watched).sequence - since
        if behind <= 0:
            return []
        if question.paths is not None and len(question.paths) < behind:
            heads: Iterable[FileHead] = (await self._hub.files(watched, project, _distinct(question.paths))).values()
            heads = [head for head in heads if head.sequence > since]
        else:
            answer = await self._storage.files_changed_since(project, since)
            wanted = None if question.paths is None else set(question.paths)
            heads = [head for head in (answer[1] if answer else ()) if wanted is None or head.path in wanted]
        versions = question.versions or {}
        return [
            _seen(head, await change_type_since(self._storage, project, head, since))
            async for head in with_turns(heads)
            if head.path not in versions and (visible is None or head.path in visible)
        ]

    async def _all_unlike(
        self,
        project: str,
        watched: WatchedProject,
        paths: list[str] | None,
        versions: dict[str, int],
        now: ProjectHead,
        visible: Paths | None,
    ) -> list[_Seen]:
        """Return every file whose version differs from the client's; the client has no files that it did not name."""
        if paths is not None:
            asked = {path: versions.get(path, 0) for path in paths}
            return await self._unlike(project, watched, asked, now, visible)
        heads = await self._hub.all_files(watched, project)
        created = [
            _seen(head, "created")
            async for head in with_turns(heads)
            if not head.deleted and head.path not in versions and (visible is None or head.path in visible)
        ]
        return created + await self._unlike(project, watched, versions, now, visible)

    async def _unlike(
        self,
        project: str,
        watched: WatchedProject,
        versions: dict[str, int],
        now: ProjectHead,
        visible: Paths | None,
    ) -> list[_Seen]:
        """Return those of the named files whose version differs from the given one."""
        if not versions:
            return []
        seen = list(versions)
        if visible is not None:
            seen = [path async for path in with_turns(seen) if path in visible]
        heads = await self._hub.files(watched, project, seen)
        ahead = [path for path in seen if versions[path] > _version(heads.get(path))]
        if ahead:  # perhaps durable, but this gateway has not been notified yet
            await self._storage.catch_up(project)
            newer = await self._storage.file_heads(project, ahead)
            heads |= {head.path: head for head in (newer[1] if newer else ())}
        changes = []
        async for path, version in with_turns(versions.items()):
            head = heads.get(path)
            if version != (0 if head is None or (head.deleted and version == 0) else head.version):
                changes.append(await self._seen_from(project, path, head, version, now))
        return changes

    async def _seen_from(self, project: str, path: str, head: FileHead | None, version: int, now: ProjectHead) -> _Seen:
        """Return the change of a file that is not at the client's version."""
        if head is None:
            return 0, FileChange(path, rfc3339(now.last_modified), 0, "deleted", reset=True)
        if version > head.version:
            return _seen(head, "deleted" if head.deleted else "modified", reset=True)
        if head.deleted:
            return _seen(head, "deleted")
        if version >= head.born_version:
            return _seen(head, "modified")
        return _seen(head, "created" if await self._was_absent(project, head, version) else "modified")

    async def _was_absent(self, project: str, head: FileHead, version: int) -> bool:
        """Return whether the file did not exist at `version`, which precedes its present incarnation."""
        if version in (0, head.born_version - 1):
            return True
        update = await self._storage.read_version(project, head.path, version)
        return update is None or update.body is None


async def _collect(
    project: str,
    read: Callable[..., Awaitable[tuple[ProjectHead, list[T]] | None]],
    path_of: Callable[[T], str],
    prefix: str,
    after: str,
    limit: int,
    visible: Paths | None,
) -> tuple[ProjectHead, list[T]]:
    """Return the visible part of a listing of storage, after the head of the project before it was read."""
    places = [(prefix, False)] if visible is None else visible.within(prefix)
    answer = await read(project, prefix=places[0][0] if places else prefix, after=after, limit=limit if places else 1)
    if answer is None:
        raise ProjectNotFound(project)
    head, first = answer
    found: list[T] = []
    for number, (place, single) in enumerate(places):
        if len(found) == limit:
            break
        if number:
            answer = await read(project, prefix=place, after=after, limit=1 if single else limit - len(found))
            first = [] if answer is None else answer[1]
        found += [each for each in first if not single or path_of(each) == place]
    return head, found


def _path_of(head: FileHead) -> str:
    return head.path


def _path_of_tombstone(tombstone: Tombstone) -> str:
    return tombstone.head.path


def _head(watched: WatchedProject) -> ProjectHead:
    assert watched.head is not None
    return watched.head


def _version(head: FileHead | None) -> int:
    return 0 if head is None else head.version


def _narrowed(versions: dict[str, int], paths: list[str] | None) -> dict[str, int]:
    if paths is None:
        return versions
    wanted = set(paths)
    return {path: version for path, version in versions.items() if path in wanted}


def _distinct(paths: list[str]) -> list[str]:
    return list(dict.fromkeys(paths))


def _seen(head: FileHead, change_type: ChangeType, *, reset: bool = False) -> _Seen:
    time = rfc3339(head.last_modified)
    if reset:
        return head.sequence, FileChange(head.path, time, head.version, change_type, reset=True)
    return head.sequence, FileChange(head.path, time, head.version, change_type)
