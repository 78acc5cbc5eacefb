"""THE way to read and write a file. PATCH, PUT and every other door come through here."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from msgspec import Struct

from gateway.conditional import Preconditions, file_headers
from gateway.documents import Documents, DocumentsExhausted, Gap, OpenDocument, in_worker, stored_parts
from gateway.hub import Hub, WatchedProject
from gateway.problems import (
    FileDeleted,
    FileExists,
    FileNotFound,
    InvalidStateVector,
    InvalidUpdateBody,
    MissingPredecessors,
    NotAText,
    Overloaded,
    Problem,
    ProjectNotFound,
    VersionAhead,
    VersionNotFound,
    WriteContention,
)
from gateway.roots import RootIsNotText, read_roots, read_text
from gateway.updates import EMPTY_UPDATE, InvalidUpdate, build_update, check_format, diff_update, merge, merge_groups
from storage import (
    AppendUpdate,
    Change,
    Committed,
    DeleteFile,
    FileHead,
    Storage,
    StoredDocument,
    Version,
    VersionConflict,
)

_ATTEMPTS = 32
"""How often a write is tried anew when another one came first."""

_INCREMENT_BYTES = 128 * 1024
"""An increment of at most this many bytes is served without a look at how large the whole document is."""


class Written(Struct, frozen=True, gc=False):
    """What a write came to: the file's state after it."""

    head: FileHead
    epoch: str
    changed: bool
    created: bool = False


class _Refusal(Exception):
    """One of several updates is not taken."""

    def __init__(self, index: int, reason: InvalidUpdate | Gap) -> None:
        super().__init__(str(reason))
        self.index = index
        self.reason = reason


class Content(Struct, frozen=True, gc=False):
    """A file as an update, at a version."""

    update: bytes
    incarnation: str
    version: int
    last_modified: int
    builds_on: int = 0
    """The version that `update` builds on; 0: it is the whole document."""


class Files:
    """Reads and writes the files of all projects.

    Every method raises the problems (`gateway.problems`) that a client is to be told, and StorageError.
    """

    def __init__(self, storage: Storage, documents: Documents, hub: Hub) -> None:
        self._storage = storage
        self._documents = documents
        self._hub = hub

    # Writing

    async def append(
        self, project: str, path: str, update: bytes, preconditions: Preconditions, author: str | None = None
    ) -> Written:
        """Merge a client's update into a file, creating it if need be."""
        try:
            check_format(update)
        except InvalidUpdate as error:
            raise InvalidUpdateBody(f"it cannot be decoded: {error}") from None

        def admit(document: OpenDocument) -> bytes | None:
            try:
                return document.admit(update)
            except InvalidUpdate as error:
                self._documents.discard(document)
                raise InvalidUpdateBody(str(error)) from None
            except Gap:
                self._documents.discard(document)
                raise

        try:
            return await self._write(project, path, admit, preconditions, author)
        except Gap as gap:
            raise await self._refuse(project, path, gap) from None

    async def append_together(
        self, project: str, path: str, updates: Sequence[bytes], preconditions: Preconditions
    ) -> dict[int, Problem]:
        """Merge many updates into a file as one version; returns those that are refused, by their place."""
        refused: dict[int, Problem] = {}
        for index, update in enumerate(updates):
            try:
                check_format(update)
            except InvalidUpdate as error:
                refused[index] = InvalidUpdateBody(f"it cannot be decoded: {error}")

        def admit(document: OpenDocument) -> bytes | None:
            added = []
            for index, update in enumerate(updates):
                if index not in refused:
                    try:
                        added.append(document.admit(update))
                    except (InvalidUpdate, Gap) as error:
                        self._documents.discard(document)
                        raise _Refusal(index, error) from None
            news = [update for update in added if update is not None]
            return merge(news) if news else None

        while len(refused) < len(updates):
            try:
                await self._write(project, path, admit, preconditions, None)
                break
            except _Refusal as refusal:
                refused[refusal.index] = await self._refuse(project, path, refusal.reason)
        return refused

    async def _refuse(self, project: str, path: str, reason: Exception) -> Problem:
        if isinstance(reason, Gap):
            return MissingPredecessors((await self._open(project, path)).state_vector())
        return InvalidUpdateBody(str(reason))

    async def state_vector(self, project: str, path: str) -> bytes:
        """What the gateway has of a file, as a Yjs state vector; that of an empty document where there is no file."""
        return (await self._open(project, path)).state_vector()

    async def put_text(
        self, project: str, path: str, text: str, root: str, preconditions: Preconditions, author: str | None = None
    ) -> Written:
        """Make the text of a root `text` by the smallest edit of what is there now, creating the file if need be."""

        def edit(document: OpenDocument) -> bytes | None:
            try:
                return document.edit_text(root, text)
            except RootIsNotText as error:
                raise NotAText(str(error)) from None

        return await self._write(project, path, edit, preconditions, author)

    async def _write(
        self,
        project: str,
        path: str,
        edit: Callable[[OpenDocument], bytes | None],
        preconditions: Preconditions,
        author: str | None,
    ) -> Written:
        """Let `edit` change the file's document, and store the update that comes of it."""
        for _ in range(_ATTEMPTS):
            document = await self._open(project, path)
            if preconditions and document.pending:
                await document.settle()  # a tag names a durable state
            if not document.usable:
                continue
            preconditions.check(path, document.head)
            try:
                update = edit(document)
            except (Gap, _Refusal):
                await document.settle()  # the state vector of the answer must be durable
                raise
            if update is None:
                await document.settle()  # what it repeats must be durable before it is acknowledged
                if not document.usable or document.pending:
                    continue
                if document.head is not None and not document.head.deleted:
                    return Written(document.head, await self._epoch(project), changed=False)
                update = EMPTY_UPDATE
            try:
                (committed,) = await self._documents.queue_update(document, update, author)
            except VersionConflict:
                continue
            return _written(committed)
        raise WriteContention(path)

    async def delete(
        self, project: str, path: str, preconditions: Preconditions, author: str | None = None
    ) -> FileHead:
        """Put a tombstone on a file; returns its head."""
        for _ in range(_ATTEMPTS):
            await self._documents.settle(project, path)
            head = await self._storage.file_head(project, path)
            preconditions.check(path, head)
            head = await self._require_live(project, path, head)
            try:
                (committed,) = await self._storage.append(project, (DeleteFile(path, head.version, author),))
            except VersionConflict:
                continue
            return committed.head
        raise WriteContention(path)

    async def move(self, project: str, source: str, target: str, author: str | None = None) -> Written:
        """Delete `source` and create `target` with its content, as one."""
        for _ in range(_ATTEMPTS):
            await self._documents.settle(project, source)
            await self._documents.settle(project, target)
            content = await self.read_whole(project, source)
            present = await self._storage.file_head(project, target)
            if present is not None and not present.deleted:
                raise FileExists(target)
            version = Version(0) if present is None else present.version
            changes: tuple[Change, ...] = (
                DeleteFile(source, Version(content.version), author),
                AppendUpdate(target, version, content.update, author),
            )
            try:
                _, created = await self._storage.append(project, changes)
            except VersionConflict:
                continue
            return _written(created)
        raise WriteContention(source)

    async def _open(self, project: str, path: str) -> OpenDocument:
        try:
            return await self._documents.open(project, path)
        except DocumentsExhausted:
            raise Overloaded("too many documents are being written; try again in a moment") from None

    # Reading

    async def watched(self, project: str) -> WatchedProject:
        """The project where it stands now."""
        watched = await self._hub.project(project)
        if watched is None:
            raise ProjectNotFound(project)
        return watched

    async def head(self, project: str, path: str) -> FileHead:
        """The newest state of a file that exists."""
        watched = await self.watched(project)
        return await self._require_live(project, path, await self._hub.file(watched, project, path))

    async def read_whole(self, project: str, path: str) -> Content:
        """The whole document."""
        head = await self.head(project, path)
        document = self._documents.peek(project, path)
        if document is not None and document.head == head:
            return _content(head, document.encode())
        stored = await self._storage.read_document(project, path)
        if stored is None:  # deleted in between
            await self._require_live(project, path, await self._storage.file_head(project, path))
            raise WriteContention(path)
        return await self._build(stored)

    async def read_at(self, project: str, path: str, version: int) -> Content:
        """The whole document as it was at a version of any of its lives."""
        head = await self.head(project, path)
        stored = await self._storage.read_document(project, path, at_version=version)
        if stored is not None:
            return await self._build(stored)
        tombstone = await self._storage.read_version(project, path, version)
        if tombstone is not None:
            raise FileDeleted(path, file_headers(head))
        raise VersionNotFound(f"{path!r} has the versions 1 to {head.version}, not {version}")

    async def read_since(self, project: str, path: str, version: int) -> Content:
        """What the versions after `version` added; the whole document where that is not to be had or is smaller."""
        head = await self.head(project, path)
        if version > head.version:
            raise VersionAhead(path, version, head.version)
        increment = await self._storage.read_increment(project, path, version, most_bytes=_INCREMENT_BYTES)
        if increment is not None:
            return _content(increment.head, await _merge_in_turns(increment.updates), version)
        whole = await self.read_whole(project, path)
        increment = await self._storage.read_increment(project, path, version, most_bytes=len(whole.update))
        if increment is None:
            return whole
        return _content(increment.head, await in_worker(merge, increment.updates), version)

    async def read_lacking(self, project: str, path: str, state_vector: bytes) -> Content:
        """Exactly what a replica with `state_vector` lacks."""
        head = await self.head(project, path)
        document = self._documents.peek(project, path)
        try:
            if document is not None and document.head == head:
                return _content(head, document.encode(state_vector))
            whole = await self.read_whole(project, path)
            update = await in_worker(_diff, (whole.update, state_vector))
        except InvalidUpdate as error:
            raise InvalidStateVector(str(error)) from None
        return Content(update, whole.incarnation, whole.version, whole.last_modified)

    async def text_of(self, content: Content, root: str) -> str:
        """The text of a root of a whole document."""
        try:
            return read_text(content.update, root)
        except RootIsNotText as error:
            raise NotAText(str(error)) from None

    async def roots_of(self, content: Content) -> dict[str, Any]:
        """All roots of a whole document, as plain values for JSON."""
        return read_roots(content.update)

    async def _build(self, stored: StoredDocument) -> Content:
        parts = stored_parts(stored)
        update = parts[0] if stored.snapshot and len(parts) == 1 else await in_worker(build_update, parts)
        return Content(update, stored.incarnation, stored.version, stored.last_modified)

    async def _epoch(self, project: str) -> str:
        watched = await self._hub.project(project)
        if watched is None or watched.head is None:
            raise ProjectNotFound(project)
        return watched.head.epoch

    async def _require_live(self, project: str, path: str, head: FileHead | None) -> FileHead:
        if head is None:
            if await self._hub.project(project) is None:
                raise ProjectNotFound(project)
            raise FileNotFound(path)
        if head.deleted:
            raise FileDeleted(path, file_headers(head))
        return head


def _written(committed: Committed) -> Written:
    head = committed.head
    return Written(head, committed.project.epoch, changed=True, created=head.version == head.born_version)


def _content(head: FileHead, update: bytes, builds_on: int = 0) -> Content:
    return Content(update, head.incarnation, head.version, head.last_modified, builds_on)


def _diff(parts: Sequence[bytes]) -> bytes:
    update, state_vector = parts
    return diff_update(update, state_vector)


async def _merge_in_turns(updates: Sequence[bytes]) -> bytes:
    """`merge`, with a turn for everybody else between the groups."""
    level = list(updates)
    while len(level) > 1024:
        level = [group for start in range(0, len(level), 1024) for group in merge_groups(level[start : start + 1024])]
        await asyncio.sleep(0)
    return merge(level)
