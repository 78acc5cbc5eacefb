"""Reading a file: the whole document, increments, missing structs, past versions, text."""

import functools
from collections.abc import Callable, Sequence
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from gateway.files.documents import Documents, stored_rows
from gateway.pace import next_slice, with_turns
from gateway.richtext.documents import RootIsNotRichText, read_html, read_markdown
from gateway.watch.hub import Hub
from gateway.wire.headers import file_headers
from gateway.wire.json import json_bytes
from gateway.wire.problems import (
    FileDeleted,
    FileNotFound,
    InvalidStateVector,
    NestedTooDeeply,
    NotAText,
    VersionAhead,
    VersionNotFound,
    WriteContention,
)
from gateway.wire.tags import EntityTags
from gateway.workers.pool import LIGHT_UNITS, in_worker, run_in_worker
from gateway.yjs import roots
from gateway.yjs.lib0 import MalformedUpdate, Reader
from gateway.yjs.roots import RootIsNotText, read_roots, read_text
from gateway.yjs.scan import MARK
from gateway.yjs.state_vectors import MOST_IN_STEP
from gateway.yjs.stored_form import to_wire
from gateway.yjs.surrogates import updates_of
from gateway.yjs.updates import InvalidUpdate, build_update, diff_update, merge, merge_groups
from storage import FileHead, Increment, Storage, StoredDocument, Version

_INCREMENT_BYTES = 128 * 1024
"""An increment of at most this many bytes is served without comparing it with the size of the whole document."""
_SEARCHED_AT_ONCE = 2**20
"""How many bytes of an update are searched in one step: in 0.5 ms."""
_CLIENTS = 100_000
"""How many more clients a state vector may name than the document has."""


class Content(Struct, frozen=True, gc=False):
    """A file as an update in the stored form, at a version."""

    update: bytes
    incarnation: str
    version: int
    last_modified: int
    builds_on: int = 0
    """The version that `update` builds on; 0: it is the whole document."""


class FileReader:
    """Reads the files of all projects.

    Every method raises the problems (`gateway.wire.problems`) that are sent to the client, and StorageError.
    """

    def __init__(self, storage: Storage, documents: Documents, hub: Hub) -> None:
        self._storage = storage
        self._documents = documents
        self._hub = hub

    async def heads(self, project: str, paths: list[str]) -> dict[str, FileHead]:
        """Return the newest heads of those of `paths` that ever existed."""
        watched = await self._hub.project(project)
        return {} if watched is None else await self._hub.files(watched, project, paths)

    async def head(self, project: str, path: str, at_least: int = 0, tags: EntityTags | None = None) -> FileHead:
        """Return the newest head of a file that exists.

        Args:
            at_least: a version that the client has. The client may have read it from another gateway, or here before
                this gateway was notified of it.
            tags: the entity tags that the client has of the file.
        """
        watched = await self._hub.require(project)
        head = await self._hub.file(watched, project, path)
        if tags is not None and head is not None:
            at_least = max(at_least, tags.newest(head.incarnation))
            if tags.others(head.incarnation):
                at_least = max(at_least, head.version + 1)
        if head is not None and head.version < at_least:
            await self._storage.catch_up(project)
            head = await self._storage.file_head(project, path)
        return await self._require_live(project, path, head)

    async def read_whole(self, project: str, path: str) -> Content:
        """Return the whole document."""
        await self._own_step(project, path)
        head = await self.head(project, path)
        document = self._documents.peek(project, path)
        if document is not None and document.head == head and document.encodes_in_step:
            return _content(head, document.encode())
        stored = await self._storage.read_document(project, path)
        if stored is None:  # deleted in between
            await self._require_live(project, path, await self._storage.file_head(project, path))
            raise WriteContention(path)
        return await self._build(stored)

    async def _own_step(self, project: str, path: str) -> None:
        """Wait for a slice in which the open document of a file may be encoded, if that takes more than a moment."""
        document = self._documents.peek(project, path)
        if document is not None and document.encodes_in_own_step:
            await next_slice()

    async def read_newest(self, project: str, path: str, head: FileHead) -> tuple[Content, bytes]:
        """Return the whole document, and its update in the form that is sent to clients.

        Args:
            head: the newest known state of the file.
        """
        sent = self._documents.sent
        kept = sent.get(project, path, head)
        if kept is not None:
            return _content(head, kept.update), kept.update
        content = await self.read_whole(project, path)
        update = await self.wire_update(content)
        if (content.incarnation, content.version) == (head.incarnation, head.version):
            sent.keep(project, path, head, update)
        return content, update

    async def read_at(self, project: str, path: str, version: int) -> Content:
        """Return the whole document at a version of any incarnation of the file, also of a past one."""
        return await self.build_past(project, path, await self.stored_at(project, path, version))

    async def stored_at(self, project: str, path: str, version: int) -> StoredDocument:
        """Return the stored rows that build the document at a version, for `build_past`."""
        stored = await self._storage.read_document(project, path, at_version=version)
        if stored is not None:
            return stored
        head = await self._storage.file_head(project, path)
        if head is None:
            head = await self._require_live(project, path, head)
        if await self._storage.read_version(project, path, version) is not None:
            raise FileDeleted(path, file_headers(head))
        oldest = await self._storage.base_version(project, path)
        raise VersionNotFound(f"{path!r} has the versions {oldest} to {head.version}, not {version}")

    async def build_past(self, project: str, path: str, stored: StoredDocument) -> Content:
        """Build the document at a past version from its stored rows."""
        content = await self._build(stored)
        if stored.version < stored.head.version:
            self._documents.note_replay(stored, project, path, len(content.update))
        return content

    async def read_since(self, project: str, path: str, version: int) -> Content:
        """Return the increments after `version` as one update; the whole document if they are not available or it is
        smaller. The update has the form that is sent to clients."""
        head = await self.head(project, path, version)
        if version > head.version:
            raise VersionAhead(path, version, head.version)
        sent = self._documents.sent
        kept = sent.get(project, path, head, version) if version else None
        if kept is not None:
            return _content(head, kept.update, version)
        increment = await self._increment(project, path, head, version)
        if increment is not None:
            content = _content(increment.head, await _merge_in_turns(updates_of(increment.updates)), version)
        else:
            whole = await self.read_whole(project, path)
            increment = await self._storage.read_increment(project, path, version, most_bytes=len(whole.update))
            if increment is None:
                return await self._sendable(whole)
            content = _content(increment.head, await in_worker(merge, updates_of(increment.updates)), version)
        content = await self._sendable(content)
        if 0 < version < head.version and (content.incarnation, content.version) == (head.incarnation, head.version):
            sent.keep(project, path, head, content.update, version, increment.updates)
        return content

    async def _increment(self, project: str, path: str, head: FileHead, version: int) -> Increment | None:
        """Return the updates after a version: from memory if they are there, else from the log, unless they are
        large."""
        rows = self._documents.sent.rows_since(project, path, head, version)
        if rows is not None:
            return Increment(head, Version(version), tuple(rows))
        return await self._storage.read_increment(project, path, version, most_bytes=_INCREMENT_BYTES, known=head)

    async def _sendable(self, content: Content) -> Content:
        """Return a content whose update has the form that is sent to clients."""
        update = await self.wire_update(content)
        return content if update is content.update else replace(content, update=update)

    async def read_increment(self, project: str, path: str, version: int, most_bytes: int) -> Content | None:
        """Return the increments after `version` of the current incarnation; None if they are not available or exceed
        `most_bytes`."""
        increment = await self._storage.read_increment(project, path, version, most_bytes=most_bytes)
        if increment is None or increment.head.deleted or not increment.updates:
            return None
        return _content(increment.head, await _merge_in_turns(updates_of(increment.updates)), version)

    async def read_lacking(self, project: str, path: str, state_vector: bytes) -> Content:
        """Return exactly what a replica with `state_vector` is missing."""
        await self._own_step(project, path)
        head = await self.head(project, path)
        document = self._documents.peek(project, path)
        try:
            few = Reader(state_vector).unsigned() <= MOST_IN_STEP
            if few and document is not None and document.head == head and document.encodes_soon(state_vector):
                _require_few(state_vector, document.state_vector)
                return _content(head, document.encode(state_vector))
            whole = await self.read_whole(project, path)
            _require_few(state_vector, lambda: whole.update)
            diff = functools.partial(_diff, state_vector=state_vector)
            if few:
                update = await in_worker(diff, [whole.update], units=LIGHT_UNITS)
            else:
                update = await run_in_worker(diff, [whole.update])
        except (InvalidUpdate, MalformedUpdate) as error:
            raise InvalidStateVector(str(error)) from None
        return Content(update, whole.incarnation, whole.version, whole.last_modified)

    async def wire_update(self, content: Content) -> bytes:
        """Return the update of a content in the form that is sent to clients."""
        if not await _holds_stand_ins(content.update):
            return content.update
        return await in_worker(_to_wire, [content.update], units=LIGHT_UNITS)

    async def text_of(self, content: Content, root: str) -> bytes:
        """Return the text of a root of a whole document in UTF-8. A long text is encoded by a worker process, as it
        comes from there without a copy only as bytes."""
        try:
            return await in_worker(functools.partial(_read_text, root=root), [content.update], units=LIGHT_UNITS)
        except RootIsNotText as error:
            raise NotAText(str(error), error.roots) from None

    async def json_text_of(self, content: Content, root: str) -> bytes:
        """Return the text of a root of a whole document as JSON: to encode a long text takes longer than to read it."""
        work = functools.partial(_read_text_as_json, root=root)
        try:
            return await in_worker(work, [content.update], units=LIGHT_UNITS)
        except RootIsNotText as error:
            raise NotAText(str(error), error.roots) from None

    async def rich_text_of(self, content: Content, form: Literal["markdown", "html"], root: str | None) -> bytes:
        """Return the rich text of a whole document as Markdown or HTML in UTF-8; without `root` that of the only such
        root."""
        read = read_markdown if form == "markdown" else read_html
        try:
            return await run_in_worker(_read_rich_text, read, content.update, root)
        except RootIsNotRichText as error:
            raise NotAText(str(error), error.roots) from None
        except roots.NestedTooDeeply as error:
            raise NestedTooDeeply(str(error)) from None

    async def json_of(self, content: Content) -> bytes:
        """Return all roots of a whole document as JSON, which a worker process writes: very many values would be slow
        even to receive."""
        try:
            return await in_worker(_read_json, [content.update], units=LIGHT_UNITS)
        except roots.NestedTooDeeply as error:
            raise NestedTooDeeply(str(error)) from None

    async def _build(self, stored: StoredDocument) -> Content:
        rows = await stored_rows(stored)
        if stored.snapshot is not None and len(rows) == 1:
            update = rows[0]
        else:
            update = await in_worker(build_update, rows, units=LIGHT_UNITS)
        return Content(update, stored.incarnation, stored.version, stored.last_modified)

    async def _epoch(self, project: str) -> str:
        head = (await self._hub.require(project)).head
        assert head is not None
        return head.epoch

    async def _require_live(self, project: str, path: str, head: FileHead | None) -> FileHead:
        if head is None:
            await self._hub.require(project)
            raise FileNotFound(path)
        if head.deleted:
            raise FileDeleted(path, file_headers(head))
        return head


async def _holds_stand_ins(update: bytes) -> bool:
    """Return whether an update may differ from the form that is sent to clients; a long one is searched in slices."""
    if len(update) <= _SEARCHED_AT_ONCE:
        return MARK in update
    async for start in with_turns(range(0, len(update), _SEARCHED_AT_ONCE), 1):
        if update.find(MARK, start, start + _SEARCHED_AT_ONCE + len(MARK) - 1) >= 0:
            return True
    return False


def _require_few(state_vector: bytes, known: Callable[[], bytes]) -> None:
    """Raise InvalidStateVector if a state vector names many more clients than the document has.

    Args:
        known: returns the document or its state vector: both begin with the number of its clients.
    """
    named = Reader(state_vector).unsigned()
    if named > _CLIENTS and named > (most := _CLIENTS + Reader(known()).unsigned()):
        raise InvalidStateVector(f"it names {named} clients; {most} are the most here")


def _content(head: FileHead, update: bytes, builds_on: int = 0) -> Content:
    return Content(update, head.incarnation, head.version, head.last_modified, builds_on)


def _read_text(parts: Sequence[bytes], root: str) -> bytes:
    return read_text(parts, root).encode()


def _read_text_as_json(parts: Sequence[bytes], root: str) -> bytes:
    return json_bytes(read_text(parts, root))


def _read_rich_text(read: Callable[[bytes, str | None], str], update: bytes, root: str | None) -> bytes:
    return read(to_wire(update), root).encode()


def _read_json(parts: Sequence[bytes]) -> bytes:
    (update,) = parts
    return json_bytes(read_roots(to_wire(update)))


def _to_wire(parts: Sequence[bytes]) -> bytes:
    (update,) = parts
    return to_wire(update)


def _diff(parts: Sequence[bytes], state_vector: bytes) -> bytes:
    (update,) = parts
    return diff_update(update, state_vector)


async def _merge_in_turns(updates: Sequence[bytes]) -> bytes:
    """Merge updates as `merge` does, yielding to the event loop between groups of 1,024."""
    level = list(updates)
    while len(level) > 1024:
        level = [group for start in range(0, len(level), 1024) for group in merge_groups(level[start : start + 1024])]
        await next_slice()
    return merge(level)
