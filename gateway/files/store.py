"""The only read and write path for files, used by PATCH, PUT and every other entry point."""

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from gateway.files.documents import Documents, DocumentsExhausted, stored_rows
from gateway.files.open_document import OpenDocument, Outdated
from gateway.files.past_incarnations import PastIncarnations
from gateway.files.preconditions import UNCONDITIONAL, Preconditions
from gateway.files.reader import FileReader
from gateway.pace import with_turns
from gateway.richtext import building
from gateway.richtext.documents import RootIsNotRichText
from gateway.richtext.revising import MarkdownTooLong, Target, revise_present, revise_version
from gateway.richtext.schemas import SchemaMismatch
from gateway.watch.hub import Hub
from gateway.wire.files import Receipt
from gateway.wire.headers import file_headers
from gateway.wire.problems import (
    DocumentTooLarge,
    EditNotApplicable,
    FileDeleted,
    FileExists,
    InvalidParameter,
    InvalidUpdateBody,
    MissingPredecessors,
    NestedTooDeeply,
    NotAText,
    Overloaded,
    PreconditionFailed,
    Problem,
    TooComplex,
    UnsupportedSchema,
    VersionAhead,
    VersionNotFound,
    WriteContention,
)
from gateway.wire.values import Cursor, rfc3339
from gateway.workers.pool import LIGHT_UNITS, in_worker, is_heavy, run_in_worker
from gateway.yjs import edit_requests, roots
from gateway.yjs.base_edits import edit_version
from gateway.yjs.document import Admitted, Gap
from gateway.yjs.heavy_edits import prepare_restoration, prepare_text, prepare_update, prepare_updates
from gateway.yjs.preparation import Prepared, Refused
from gateway.yjs.revisions import NewText, Revision
from gateway.yjs.roots import RootIsNotText
from gateway.yjs.scan import TooMuch
from gateway.yjs.updates import EMPTY_UPDATE, InvalidUpdate, merge_rows
from storage import (
    NOBODY,
    AppendDone,
    AppendUpdate,
    Author,
    Change,
    Committed,
    DeleteFile,
    FileHead,
    Storage,
    StoredDocument,
    Version,
    VersionConflict,
    resolving,
)

_ATTEMPTS = 32
"""How often a write is attempted when other writes are committed first."""
_CATCH_UPS = 3
"""How often a write is retried if it builds on changes that another gateway may have stored."""
_LIGHT_BASE = 64 * 1024
"""The most bytes of an older version and its revision together for which the edits are found in one step."""


class Written(Struct, frozen=True, gc=False):
    """The result of a write: the state of the file after it."""

    head: FileHead
    epoch: str
    changed: bool
    created: bool = False
    state_vector: bytes | None = None
    """The gateway's state vector if a part of the update was left out because its predecessors are missing."""
    merged: bool = False
    """Whether the file had changed since the base version of the write."""
    update: bytes | None = None
    """The stored update, as in the log."""

    def receipt(self) -> Receipt:
        """Return the receipt that is sent to the client."""
        head = self.head
        cursor = str(Cursor(self.epoch, head.sequence))
        receipt = Receipt(head.path, head.version, rfc3339(head.last_modified), cursor, self.changed)
        if self.merged:
            return msgspec.structs.replace(receipt, merged=True)
        if self.state_vector is None:
            return receipt
        state_vector = base64.urlsafe_b64encode(self.state_vector).decode().rstrip("=")
        return msgspec.structs.replace(receipt, incomplete=True, state_vector=state_vector)


class WrittenTogether(Struct, frozen=True, gc=False):
    """The result of merging several updates into one file."""

    refused: tuple[int, Problem] | None = None
    """The index of an update that was refused, and the reason. Nothing was written then."""
    lacking: tuple[int, ...] = ()
    """The indexes of the updates of which a part was left out because its predecessors are missing."""
    version: int | None = None
    """The new version; None: no update added anything."""


class _Again(Exception):
    """The edit must be repeated on a reopened document."""


class Files(FileReader):
    """Reads and writes the files of all projects.

    Every method raises the problems (`gateway.wire.problems`) that are sent to the client, and StorageError.
    """

    def __init__(self, storage: Storage, documents: Documents, hub: Hub) -> None:
        super().__init__(storage, documents, hub)
        self._past_incarnations = PastIncarnations(storage)

    async def append(
        self, project: str, path: str, update: bytes, preconditions: Preconditions, author: Author = NOBODY
    ) -> Written:
        """Merge a client's update into a file, creating the file if necessary."""

        state_vector: bytes | None = None

        async def admit(document: OpenDocument) -> bytes | None:
            nonlocal state_vector
            try:
                admitted = await _admit(document, update)
            except InvalidUpdate as error:
                self._discard_spoiled(document)
                raise InvalidUpdateBody(str(error)) from None
            state_vector = document.state_vector() if admitted.incomplete else None
            return admitted.row

        try:
            written = await self._write(project, path, admit, preconditions, author)
        except Gap as gap:
            raise await self._refuse(project, path, gap) from None
        return written if state_vector is None else msgspec.structs.replace(written, state_vector=state_vector)

    def append_at_once(
        self,
        project: str,
        path: str,
        update: bytes,
        author: Author,
        done: AppendDone,
        preconditions: Preconditions = UNCONDITIONAL,
    ) -> bool:
        """Queue a client's update to a file if nothing has to be waited for.

        Returns False if nothing was queued: `append` must decide then. This is so unless the document is open, nobody
        else writes, the preconditions hold and will hold, and the whole update is small, valid and new.

        Args:
            done: called with what was stored. `append` would have the same reason not to store the update.

        Raises:
            Problem, StorageError: `append` would have the same reason not to store the update.
        """
        document = self._documents.opened(project, path)
        if document is None or document.turn.locked() or not self._documents.quotas.knows(project):
            return False
        if preconditions is not UNCONDITIONAL and not _hold(preconditions, document):
            return False
        try:
            row = document.take_in_keystroke(update) if self._documents.fits(document, update) else None
            if row is None:
                prepared = document.prepare(update)
                if prepared.incomplete or not self._documents.fits(document, prepared.update):
                    return False
                row = document.take_in_now(prepared).row
        except (TooMuch, Gap):
            return False  # the document is unchanged
        except InvalidUpdate:
            self._discard_spoiled(document)
            return False
        if row is not None:
            self._documents.queue_update(document, row, author, done)
        return row is not None

    async def append_together(
        self, project: str, path: str, updates: Sequence[bytes], preconditions: Preconditions, author: Author
    ) -> WrittenTogether:
        """Merge several updates into a file as one version, leaving out parts whose predecessors are missing."""
        together = True
        lacking: Sequence[int] = ()

        async def admit(document: OpenDocument) -> bytes | None:
            nonlocal together, lacking
            try:
                if together:
                    (row, incomplete), lacking = await _admit_together(document, updates)
                else:
                    (row, incomplete), lacking = await _admit_in_turn(document, updates)
            except InvalidUpdate as error:
                self._discard_spoiled(document)
                if len(updates) == 1:
                    raise Refused(0, str(error)) from None
                together = False
                raise _Again from None
            except Refused:
                if not together:  # the document holds those before the one that is refused
                    self._documents.discard(document)
                raise
            if incomplete and row is None:
                raise Gap
            return row

        try:
            written = await self._write(project, path, admit, preconditions, author)
        except Refused as refusal:
            return WrittenTogether(refused=(refusal.index, InvalidUpdateBody(refusal.reason)))
        except Gap:
            return WrittenTogether(lacking=tuple(lacking))  # no part of the updates could be applied
        except DocumentTooLarge as problem:
            return WrittenTogether(refused=(max(range(len(updates)), key=lambda index: len(updates[index])), problem))
        return WrittenTogether(lacking=tuple(lacking), version=written.head.version if written.changed else None)

    async def append_all(
        self, project: str, updates: Mapping[str, bytes], author: Author
    ) -> tuple[dict[str, Written], dict[str, Problem]]:
        """Merge an update into each of several files atomically; return the results, or else the refusals."""
        await self._documents.quotas.look(project)
        caught_up = 0
        for _ in range(_ATTEMPTS):
            documents = [await self._open(project, path) for path in updates]
            for document in documents:
                await document.drain()
            async with _turns_of(documents):
                if not all(document.usable and not document.pending for document in documents):
                    continue
                before = {document.path: document.version for document in documents}
                try:
                    refusals, edits = await self._admit_all(documents, updates)
                    await self._documents.measure([] if refusals else edits)
                    if not refusals and not all(document.usable for document, _ in edits):
                        self._discard_all(document for document, _ in edits)
                        continue
                    queued = None
                    if edits and not refusals:
                        queued = asyncio.get_running_loop().create_future()
                        self._documents.queue_updates(edits, author, resolving(queued))
                except (_Again, Outdated):
                    continue
                except DocumentTooLarge as refusal:
                    return {}, {refusal.path: refusal}
            if refusals:
                refusing = [document for document in documents if document.path in refusals]
                caught_up += 1
                if caught_up <= _CATCH_UPS and any(
                    [await self._catches_up(document, before[document.path]) for document in refusing]
                ):
                    continue
                return {}, {path: await self._refuse(project, path, reason) for path, reason in refusals.items()}
            try:
                committed = () if queued is None else await queued
            except VersionConflict:
                continue
            written = {each.head.path: written_by(each) for each in committed}
            epoch = await self._epoch(project)
            unchanged = [document.head for document in documents if document.path not in written and document.head]
            return {**written, **{head.path: Written(head, epoch, changed=False) for head in unchanged}}, {}
        raise WriteContention(", ".join(list(updates)[:3]))

    async def _admit_all(
        self, documents: Sequence[OpenDocument], updates: Mapping[str, bytes]
    ) -> tuple[dict[str, Exception], list[tuple[OpenDocument, bytes]]]:
        """Admit one update in each document; if any is refused, no document keeps its update.

        Raises:
            _Again: a document was closed meanwhile, and no longer emits what it takes in.
        """
        refusals: dict[str, Exception] = {}
        edits: list[tuple[OpenDocument, bytes]] = []
        try:
            async for document in with_turns(documents):
                try:
                    row, incomplete = await _admit(document, updates[document.path])
                    if not document.usable:
                        raise _Again
                    if incomplete:
                        self._documents.discard(document)  # it holds the other part
                        raise Gap
                except (InvalidUpdate, Gap) as error:
                    refusals[document.path] = error.with_traceback(None)  # whose frames would hold `refusals`
                    self._discard_spoiled(document)
                    continue
                if row is not None or document.head is None or document.head.deleted:
                    document.changing = True  # nobody may read what is not queued
                    edits.append((document, row or EMPTY_UPDATE))
        except BaseException:
            self._discard_all(documents)
            raise
        if refusals:
            self._discard_all(document for document, _ in edits)
        return refusals, edits

    def _discard_spoiled(self, document: OpenDocument) -> None:
        """Discard a document if it may hold a part of an update that was refused. Others are not built again for each
        update that somebody has refused."""
        if document.spoiled:
            self._documents.discard(document)

    def _discard_all(self, documents: Iterable[OpenDocument]) -> None:
        for document in documents:
            self._documents.discard(document)

    async def _refuse(self, project: str, path: str, reason: Exception) -> Problem:
        if isinstance(reason, Gap):
            return MissingPredecessors((await self._open(project, path)).state_vector())
        return InvalidUpdateBody(str(reason))

    async def is_past(self, project: str, path: str, update: bytes) -> bool:
        """Return whether an update contains structs of a past incarnation of the file that the present one lacks."""
        return await self._past_incarnations.hold_any(await self._open(project, path), update)

    async def is_replica_of_past(self, project: str, path: str, state_vector: bytes) -> bool:
        """Return whether a replica with this state vector has past structs that the present incarnation lacks."""
        return await self._past_incarnations.hold_any_of_vector(await self._open(project, path), state_vector)

    async def state_vector(self, project: str, path: str) -> bytes:
        """Return the state vector of what is stored of a file, or of an empty document if the file does not exist.

        A client whose content it covers may assume that all of that content is stored.
        """
        for _ in range(_ATTEMPTS):
            document = await self._open(project, path)
            if document.changing:
                async with document.turn:
                    continue
            state_vector = document.state_vector()
            await document.drain()
            if document.usable:
                return state_vector
        raise WriteContention(path)

    async def put_text(
        self,
        project: str,
        path: str,
        text: str | bytes,
        root: str,
        preconditions: Preconditions,
        author: Author = NOBODY,
        *,
        make: bool = True,
    ) -> Written:
        """Set the text of a root to `text` by the smallest edit of the present text, creating the file if necessary.

        Args:
            text: as `NewText` has it.
            make: whether to create the root if it is missing while the document has other roots.
        """

        async def edit(document: OpenDocument) -> bytes | None:
            with _problems_of_texts():
                return await _edit_text(document, root, NewText(text), make=make)

        return await self._write(project, path, edit, preconditions, author)

    async def revise(
        self,
        project: str,
        path: str,
        root: str,
        revision: Revision,
        base_version: int | None,
        preconditions: Preconditions,
        author: Author = NOBODY,
        *,
        make: bool = False,
    ) -> Written:
        """Revise the text of a root of a file. Concurrent writes since the base version are kept.

        Repeating a revision with a base version adds nothing.

        Args:
            base_version: the version that the revision refers to; 0: the file must not exist; None: the present text.
            make: whether to create the root if it is missing while the document has other roots.
        """
        moved = False

        async def edit(document: OpenDocument) -> bytes | None:
            nonlocal moved
            await self._require_base(project, path, document, base_version, make=False)
            moved = bool(base_version) and base_version != document.version
            with _problems_of_texts():
                if not base_version or not moved:
                    return await _edit_text(document, root, revision, make=make)
                base = await self._base(project, path, base_version)
                if base.incarnation != document.incarnation:
                    raise FileDeleted(path, _headers(document.head))
                return await self._merge_edit(document, base, edit_version, (root, revision, make), revision.size)

        written = await self._write(project, path, edit, preconditions, author)
        return msgspec.structs.replace(written, merged=True) if moved else written

    async def revise_rich_text(
        self,
        project: str,
        path: str,
        target: Target,
        revision: Revision,
        base_version: int | None,
        preconditions: Preconditions,
        author: Author = NOBODY,
        *,
        make: bool = False,
    ) -> Written:
        """Revise the Markdown of the rich text of a file. Concurrent writes since the base version are kept.

        Args:
            base_version: as for `revise`.
            make: whether to create the file if it does not exist.
        """
        moved = False

        async def edit(document: OpenDocument) -> bytes | None:
            nonlocal moved
            there = await self._require_base(project, path, document, base_version, make=make)
            moved = there and bool(base_version) and base_version != document.version
            with _problems_of_rich_text():
                if not base_version or not moved:
                    present = (await document.present(), document.client_id)
                    prepared = await run_in_worker(revise_present, *present, document.basis, target, revision)
                    return None if prepared is None else (await _take_in(document, prepared)).row
                base = await self._base(project, path, base_version)
                if base.incarnation != document.incarnation:
                    raise FileDeleted(path, _headers(document.head))
                return await self._merge_edit(document, base, revise_version, (target, revision), None)

        written = await self._write(project, path, edit, preconditions, author)
        return msgspec.structs.replace(written, merged=True) if moved else written

    async def _require_base(
        self, project: str, path: str, document: OpenDocument, base_version: int | None, *, make: bool
    ) -> bool:
        """Require that a file exists, or does not exist, as its base version says; return whether it exists."""
        there = _is_there(document.head) or document.pending
        if base_version == 0:
            if there:
                raise PreconditionFailed(f"{path!r} exists", _headers(document.head))
        elif not there and (base_version or not make):
            await self._require_live(project, path, document.head)
        return there

    async def _base(self, project: str, path: str, version: int) -> StoredDocument:
        """Return the stored rows that build the base version of a revision."""
        try:
            return await self.stored_at(project, path, version)
        except VersionNotFound as problem:
            head = await self._storage.file_head(project, path)
            if head is not None and version > head.version:
                raise VersionAhead(path, version, head.version) from None
            raise PreconditionFailed(f"the base version is not available: {problem.detail}", _headers(head)) from None

    async def _merge_edit(
        self,
        document: OpenDocument,
        base: StoredDocument,
        edit: Callable[..., bytes | None],
        arguments: tuple[Any, ...],
        size: int | None,
    ) -> bytes | None:
        """Edit an older version of a document and merge the edit into the document, whose turn is held.

        Args:
            size: the size of the edit; None: it is heavy in any case.
        """
        await document.drain()  # the request that this one repeats may not be durable yet
        rows = await stored_rows(base)
        following = await self._storage.read_version(document.project, document.path, base.version + 1)
        meant = f"{base.incarnation}\0{base.version}"
        whole = (rows, None if following is None else following.body, meant, *arguments)
        light = size is not None and sum(map(len, rows)) + size <= _LIGHT_BASE and not is_heavy(rows, LIGHT_UNITS)
        update = edit(*whole) if light else await run_in_worker(edit, *whole)
        if update is None:
            return None
        try:
            return (await _admit(document, update)).row
        except Gap:
            raise PreconditionFailed("the base is not a part of the file any more") from None

    async def restore(
        self, project: str, path: str, old: bytes, preconditions: Preconditions, author: Author = NOBODY
    ) -> Written:
        """Restore the content of the whole document `old` in a file, by an ordinary edit."""

        async def edit(document: OpenDocument) -> bytes | None:
            try:
                return await _restore(document, old)
            except roots.NestedTooDeeply as error:
                raise NestedTooDeeply(str(error)) from None

        return await self._write(project, path, edit, preconditions, author)

    async def _write(
        self,
        project: str,
        path: str,
        edit: Callable[[OpenDocument], Awaitable[bytes | None]],
        preconditions: Preconditions,
        author: Author,
    ) -> Written:
        """Let `edit` change the file's document, and store the resulting update.

        `edit` may await: other writes to the file wait for it, so the document does not change meanwhile.
        """
        await self._documents.quotas.look(project)
        caught_up = 0
        for _ in range(_ATTEMPTS):
            document = await self._open(project, path)
            before = document.version
            try:
                while document.usable and document.pending and preconditions.may_still_fail(document.head):
                    preconditions.check(path, document.head)  # fail early: others may write without end
                    await document.drain()  # a tag names a durable state; other waiting writers may have written by now
                queued = await self._edit(document, edit, preconditions, author)
            except _Again:
                continue
            except Outdated:
                self._documents.discard(document)
                continue
            except (Gap, PreconditionFailed, FileDeleted) as refusal:
                if isinstance(refusal, Gap):
                    await document.drain()  # the state vector of the answer must be durable
                caught_up += 1
                if caught_up <= _CATCH_UPS and (
                    not document.usable  # another gateway stored a version in place of a queued one
                    or await self._catches_up(document, before)
                ):
                    continue
                raise
            except Refused:
                await document.drain()
                raise
            if queued is None:
                await document.drain()  # the write that this one repeats must be durable before the acknowledgement
                if document.usable and not document.pending and document.head is not None and _is_there(document.head):
                    return Written(document.head, await self._epoch(project), changed=False)
                continue
            try:
                (committed,) = await queued
            except VersionConflict:
                continue
            return written_by(committed)
        raise WriteContention(path)

    async def _edit(
        self,
        document: OpenDocument,
        edit: Callable[[OpenDocument], Awaitable[bytes | None]],
        preconditions: Preconditions,
        author: Author,
    ) -> asyncio.Future[tuple[Committed, ...]] | None:
        """Edit a document when it is this writer's turn and queue the update; return None if nothing changes."""
        async with document.turn:
            if not document.usable or (document.pending and preconditions.may_still_fail(document.head)):
                raise _Again
            preconditions.check(document.path, document.head)
            try:
                update = await edit(document)
            except BaseException:
                if document.changing:
                    self._documents.discard(document)  # it holds a part of an update
                raise
            if not document.usable:
                raise _Again
            if update is None and not document.pending and not _is_there(document.head):
                update = EMPTY_UPDATE
            if update is None:
                return None
            await self._documents.measure([(document, update)])
            if not document.usable:
                raise _Again
            queued: asyncio.Future[tuple[Committed, ...]] = asyncio.get_running_loop().create_future()
            self._documents.queue_update(document, update, author, resolving(queued))
            return queued

    async def _catches_up(self, document: OpenDocument, before: Version) -> bool:
        """Return whether another gateway has stored changes of a file that its document lacked at version `before`."""
        if not self._storage.shared:
            return False
        if not document.usable:  # the document was discarded: compare the stored head
            head = await self._storage.file_head(document.project, document.path)
            return head is not None and head.version != before
        await self._storage.catch_up(document.project)
        return not document.usable or document.version != before

    async def delete(self, project: str, path: str, preconditions: Preconditions, author: Author = NOBODY) -> FileHead:
        """Delete a file by a tombstone and return the head of the tombstone."""
        for _ in range(_ATTEMPTS):
            await self._documents.drain(project, path)
            head = await self._storage.file_head(project, path)
            preconditions.check(path, head)
            head = await self._require_live(project, path, head)
            try:
                deletion = DeleteFile(path, head.version, author.name, author.credential)
                (committed,) = await self._storage.append(project, (deletion,))
            except VersionConflict:
                continue
            return committed.head
        raise WriteContention(path)

    async def move(self, project: str, source: str, target: str, author: Author = NOBODY) -> Written:
        """Delete `source` and create `target` with its content, atomically."""
        for _ in range(_ATTEMPTS):
            await self._documents.drain(project, source)
            await self._documents.drain(project, target)
            content = await self.read_whole(project, source)
            present = await self._storage.file_head(project, target)
            if present is not None and not present.deleted:
                raise FileExists(target)
            version = Version(0) if present is None else present.version
            changes: tuple[Change, ...] = (
                DeleteFile(source, Version(content.version), author.name, author.credential),
                AppendUpdate(target, version, content.update, author.name, credential=author.credential),
            )
            try:
                _, created = await self._storage.append(project, changes)
            except VersionConflict:
                continue
            return written_by(created)
        raise WriteContention(source)

    async def _open(self, project: str, path: str) -> OpenDocument:
        try:
            return await self._documents.open(project, path)
        except DocumentsExhausted:
            raise Overloaded("too many documents are being written; try again later") from None


def written_by(committed: Committed) -> Written:
    """Return the result of a write from what was stored for it."""
    head = committed.head
    created = head.version == head.born_version
    return Written(head, committed.project.epoch, changed=True, created=created, update=committed.update)


def _hold(preconditions: Preconditions, document: OpenDocument) -> bool:
    """Return whether preconditions hold for a document, and for what it is ahead of the log."""
    if document.pending and preconditions.may_still_fail(document.head):
        return False
    try:
        preconditions.check(document.path, document.head)
    except (FileDeleted, PreconditionFailed):
        return False
    return True


def _headers(head: FileHead | None) -> dict[str, str]:
    return {} if head is None else file_headers(head)


def _is_there(head: FileHead | None) -> bool:
    return head is not None and not head.deleted


@contextlib.asynccontextmanager
async def _turns_of(documents: Iterable[OpenDocument]) -> AsyncIterator[None]:
    """Hold the turns of several documents."""
    held: list[OpenDocument] = []
    try:
        # In a fixed order, to avoid deadlocks.
        async for document in with_turns(sorted(documents, key=lambda each: each.path)):
            await document.turn.acquire()
            held.append(document)
        yield
    finally:
        for document in held:
            document.turn.release()


async def _admit(document: OpenDocument, update: bytes) -> Admitted:
    """Admit an update in a document whose turn is held: in one step, or prepared in a worker process.

    Raises:
        InvalidUpdate, Gap
    """
    try:
        prepared = document.prepare(update)
    except TooMuch:
        prepared = await run_in_worker(prepare_update, update, document.basis, False)
    return await _take_in(document, prepared)


async def _take_in(document: OpenDocument, prepared: Prepared) -> Admitted:
    try:
        return document.take_in_now(prepared)
    except TooMuch:
        return await document.take_in(prepared)


async def _admit_together(document: OpenDocument, updates: Sequence[bytes]) -> tuple[Admitted, Sequence[int]]:
    """Admit several updates as one; return also the indexes of the updates of which a part was left out.

    Raises:
        InvalidUpdate, Refused
    """
    try:
        prepared = await document.prepare_together(updates)
    except TooMuch:
        prepared = await run_in_worker(prepare_updates, updates, document.basis)
    try:
        return await _take_in(document, prepared), prepared.lacking
    except Gap:
        return Admitted(None, incomplete=True), prepared.lacking


@contextlib.contextmanager
def _problems_of_texts() -> Iterator[None]:
    try:
        yield
    except RootIsNotText as error:
        raise NotAText(str(error), error.roots) from None
    except edit_requests.EditNotApplicable as error:
        raise EditNotApplicable(error.index, error.found, str(error)) from None
    except InvalidUpdate as error:  # with the new root, there would be too many
        raise InvalidUpdateBody(str(error)) from None


@contextlib.contextmanager
def _problems_of_rich_text() -> Iterator[None]:
    try:
        with _problems_of_texts():
            yield
    except RootIsNotRichText as error:
        raise NotAText(str(error), error.roots) from None
    except building.UnsupportedSchema as error:
        raise UnsupportedSchema(str(error)) from None
    except SchemaMismatch as error:
        raise InvalidParameter("schema", str(error)) from None
    except MarkdownTooLong as error:
        raise TooComplex(str(error)) from None
    except roots.NestedTooDeeply as error:
        raise NestedTooDeeply(str(error)) from None


async def _edit_text(document: OpenDocument, root: str, revision: Revision, *, make: bool) -> bytes | None:
    try:
        return document.edit_text(root, revision, make=make)
    except TooMuch:
        present = (await document.present(), document.client_id, document.size)
        prepared = await run_in_worker(prepare_text, *present, document.basis, root, revision, make)
        return None if prepared is None else (await _take_in(document, prepared)).row


async def _restore(document: OpenDocument, old: bytes) -> bytes | None:
    try:
        return document.restore(old)
    except TooMuch:
        present = (await document.present(), document.client_id)
        prepared = await run_in_worker(prepare_restoration, *present, document.basis, old)
        return None if prepared is None else (await _take_in(document, prepared)).row


async def _admit_in_turn(document: OpenDocument, updates: Sequence[bytes]) -> tuple[Admitted, Sequence[int]]:
    """Admit updates one by one, to find out which of them is refused.

    An update that builds on a later one is admitted after it. The direction alternates, so that few rounds are needed.

    Raises:
        Refused
    """
    rows: list[bytes] = []
    left = list(enumerate(updates))
    while left:
        lacking: list[tuple[int, bytes]] = []
        written = len(rows)
        for index, update in left:
            try:
                row, lacks = await _admit(document, update)
            except Gap:
                row, lacks = None, True
            except InvalidUpdate as error:
                raise Refused(index, str(error)) from None
            rows += [] if row is None else [row]
            lacking += [(index, update)] if lacks else []
        left = lacking[::-1]
        if len(rows) == written:
            break
    return Admitted(await in_worker(merge_rows, rows) if rows else None, bool(left)), sorted(index for index, _ in left)
