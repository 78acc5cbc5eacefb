"""The open documents within a memory budget. Each admits updates to one file; heavy work goes to a worker process."""

import asyncio
import functools
import hashlib
import secrets
from collections.abc import Iterator, Sequence

from gateway.files.open_document import SNAPSHOT_TAIL, OpenDocument, ProjectDocuments, build_in_turns
from gateway.files.quotas import Quotas
from gateway.files.sent_updates import SentUpdates
from gateway.pace import next_slice, with_turns
from gateway.wire.problems import DocumentTooLarge
from gateway.workers.pool import LIGHT_UNITS, client_of_request, in_worker
from gateway.yjs import elsewhere
from gateway.yjs.footprint import STRUCT, of_rows
from gateway.yjs.heavy_edits import open_stored
from gateway.yjs.nesting import DEEPEST, most_types
from gateway.yjs.scan import TooMuch
from gateway.yjs.snapshots import SnapshotDamaged, decompress, is_compressed, update_size
from gateway.yjs.surrogates import second_halves, updates_of
from gateway.yjs.updates import EMPTY_UPDATE, build_document
from storage import (
    AppendDone,
    AppendUpdate,
    Author,
    Commit,
    Committed,
    DataDamaged,
    ErasedProject,
    Incarnation,
    Snapshot,
    Storage,
    StorageError,
    StoredDocument,
    Version,
    new_incarnation,
)

_LIGHT_BYTES = 32 * 1024
"""A stored document of at most this many bytes is built in one step."""
_LIGHT_DECOMPRESSED = 128 * 1024
"""A snapshot of at most this many bytes is decompressed in the event loop: in 0.3 ms."""
_LARGE_SHARE = 8
"""A document is large if it takes more than one part in this many of the memory."""
_SHARE_HERE = 4
"""The structs of a document in the gateway's process take no more than one part in this many of the memory: a document
of more is in a worker process."""
_NO_STRUCTS = EMPTY_UPDATE[:1]


class DocumentsExhausted(Exception):
    """Documents with writes in flight fill the memory budget for open documents."""


class Documents:
    """The open documents of all files. `due` names the files of which maintenance should take a snapshot."""

    def __init__(
        self, storage: Storage, *, memory_limit: int, size_limit: int = 32 * 2**20, quotas: Quotas | None = None
    ) -> None:
        self._storage = storage
        self.quotas = Quotas(storage, files=0, bytes_=0) if quotas is None else quotas
        self._size_limit = size_limit
        self._memory_limit = memory_limit
        self._large_from = memory_limit // _LARGE_SHARE
        self._most_structs = min(elsewhere.MOST_STRUCTS, memory_limit // _SHARE_HERE // STRUCT)
        self._open: dict[tuple[str, str], OpenDocument] = {}
        """Least recently used first. Those of erased projects are not usable, and are closed one after another."""
        self._of_project: dict[str, ProjectDocuments] = {}
        """The usable ones, by project and path."""
        self._erased_count = 0
        """How many of the open documents are of erased projects."""
        self._opening: dict[tuple[str, str], asyncio.Task[OpenDocument]] = {}
        self._outdated: set[tuple[str, str]] = set()
        """The files that changed while their document was being opened."""
        self._in_flight: dict[tuple[str, str], OpenDocument] = {}
        """Closed documents that still have updates in flight."""
        self._memory = 0
        self.sent = SentUpdates(memory_limit, lambda: self._memory)
        self._freeing: set[asyncio.Task[None]] = set()
        self._large: dict[tuple[str, str], None] = {}
        """The open documents that are, or were, large; least recently used first."""
        self._run = secrets.token_bytes(16)
        """Random for each run of the gateway, as the database may be a copy with the same incarnation names."""
        storage.listen(self._committed, self._missed)
        self.due: dict[tuple[str, str], Version | None] = {}
        """The files that are due for a snapshot, with the version to take it at; None: the newest."""
        self.due_event = asyncio.Event()

    @property
    def count(self) -> int:
        return len(self._open) - self._erased_count

    @property
    def memory(self) -> int:
        """The estimated memory of all open documents, in bytes."""
        return self._memory

    def peek(self, project: str, path: str) -> OpenDocument | None:
        """Return the file's document if it is open and its whole content is durable."""
        document = self._open.get((project, path))
        if document is None or not document.usable or document.pending or document.changing:
            return None
        return document

    def opened(self, project: str, path: str) -> OpenDocument | None:
        """Return the file's document if it is open, as `open` does."""
        key = (project, path)
        document = self._open.pop(key, None)
        if document is None:
            return None
        self._open[key] = document  # most recently used last
        if self._large and key in self._large:
            del self._large[key]
            self._large[key] = None
        return None if document.siblings.erased else document

    async def open(self, project: str, path: str) -> OpenDocument:
        """Return the file's document, opening it if necessary; an empty document if the file does not exist.

        Raises:
            DocumentsExhausted
        """
        key = (project, path)
        document = self.opened(project, path)
        if document is not None:
            return document
        opening = self._opening.get(key)
        if opening is None or opening.done():  # a finished task may hold a document that was discarded since
            opening = asyncio.create_task(self._load(project, path))
            self._opening[key] = opening
            opening.add_done_callback(lambda done: self._opened(key, done))
        return await asyncio.shield(opening)

    def _opened(self, key: tuple[str, str], done: asyncio.Task[OpenDocument]) -> None:
        if self._opening.get(key) is done:
            del self._opening[key]

    async def _load(self, project: str, path: str) -> OpenDocument:
        key = (project, path)
        client_of_request.set(None)  # for this task only: other requests wait for the document, too
        while True:
            if (erased := self._open.get(key)) is not None:
                self._close(key, erased)
            if (former := self._in_flight.get(key)) is not None:
                await former.drain()
                continue
            self._outdated.discard(key)
            await self._follow(project)
            try:
                document = await self._read(project, path)
            except BaseException:
                self._unfollow(project)
                raise
            if key not in self._outdated and key not in self._in_flight:
                break
            self._unfollow(project)
        try:
            self._make_room(key, document.memory)
        except DocumentsExhausted:
            self._unfollow(project)
            raise
        self._open[key] = document
        document.siblings = self._of_project.setdefault(project, document.siblings)
        document.siblings[path] = document
        self._memory += document.memory
        self.sent.make_room()
        self._note_due(document)
        return document

    async def _follow(self, project: str) -> None:
        """Subscribe to what other gateways store in the project of an open document."""
        if self._storage.shared:
            await self._storage.follow(project)

    def _unfollow(self, project: str) -> None:
        if self._storage.shared:
            self._storage.unfollow(project)

    async def _rows(self, project: str, path: str) -> tuple[Version, Sequence[bytes]] | None:
        """Return what is stored of a file, and its version."""
        stored = await self._storage.read_document(project, path)
        return None if stored is None else (stored.version, await stored_rows(stored))

    async def _read(self, project: str, path: str) -> OpenDocument:
        read_rows = functools.partial(self._rows, project, path)
        stored = await self._storage.read_document(project, path)
        if stored is None:
            head = await self._storage.file_head(project, path)
            if head is not None and not head.deleted:  # the file was created between the two reads
                return await self._read(project, path)
            incarnation = new_incarnation()
            empty = build_document([], self._client(incarnation))
            most = self._most_structs
            return OpenDocument(project, path, head, incarnation, empty, read_rows=read_rows, most_structs=most)
        head, rows = stored.head, await stored_rows(stored)
        size, client = sum(map(len, rows)), self._client(head.incarnation)
        parts = updates_of(rows) if size <= _LIGHT_BYTES else ()
        footprint = _footprint(parts)
        if parts and footprint is not None:
            built, halves = build_document(parts, client), second_halves(parts)
            levels = DEEPEST - sum(map(most_types, parts))
            document = OpenDocument(
                project,
                path,
                head,
                head.incarnation,
                built,
                size,
                halves,
                levels,
                read_rows=read_rows,
                footprint=footprint,
                most_structs=self._most_structs,
            )
        else:
            work = functools.partial(open_stored, most_structs=self._most_structs)
            opened = await in_worker(work, rows, units=LIGHT_UNITS)
            built = await build_in_turns(opened.slices, client)
            document = OpenDocument(
                project,
                path,
                head,
                head.incarnation,
                built,
                opened.size,
                opened.halves,
                opened.levels_left,
                opened.roots,
                read_rows,
                opened.footprint,
                opened.extra,
                opened.types,
                opened.elsewhere,
                self._most_structs,
            )
        if stored.snapshot is not None:
            document.snapshot_log_size = stored.snapshot.log_size
            document.snapshot_size = len(rows[0])
        return document

    def _client(self, incarnation: Incarnation) -> int:
        """Return the Yjs client ID that the gateway uses for its own edits of this incarnation of a file.

        If a client ID uses a clock twice, replicas diverge for ever. So the ID does not depend on names such as the
        path, which stay the same when a database is rolled back and in a copy of a file on another gateway. There is
        one ID per incarnation and run of the gateway: with one per `PUT` the state vector would grow without bound.
        """
        digest = hashlib.blake2b(incarnation.encode(), digest_size=4, key=self._run).digest()
        return int.from_bytes(digest) or 1

    def _make_room(self, key: tuple[str, str], memory: int) -> None:
        """Close documents, least recently used first, until `memory` more bytes fit.

        Large and other documents have half of the memory each, and evict only their own kind. A large document is
        opened even if it exceeds its half on its own, once all other large documents are closed.
        """
        large = memory > self._large_from
        closing, fits = self._to_close(memory, large=large)
        if not fits:
            raise DocumentsExhausted
        for other, document in closing:
            self._close(other, document)
        if large:
            self._large[key] = None

    def _make_room_after_growth(self) -> None:
        """Close idle documents where others have grown over the budget.

        Documents with writes in flight stay, and so does the large document that was used last: it may exceed the
        budget on its own, and would be built again for each update if the writes to other documents closed it.
        """
        if self.sent.size:
            self.sent.make_room()
        if self._memory > self._memory_limit // 2:
            for large in (True, False):
                for key, document in self._to_close(0, large=large)[0]:
                    self._close(key, document)

    def _to_close(self, memory: int, *, large: bool) -> tuple[list[tuple[tuple[str, str], OpenDocument]], bool]:
        """Return the documents to close for `memory` more bytes, and whether these fit then or no others are left.

        For no more bytes, the document that was used last is not closed.
        """
        taken = sum(self._open[each].memory for each in self._large)
        half = self._memory_limit // 2
        budget, taken = (half, taken) if large else (self._memory_limit - min(taken, half), self._memory - taken)
        closing = list[tuple[tuple[str, str], OpenDocument]]()
        if taken + memory <= budget:
            return closing, True
        last = next(reversed(self._large if large else self._open), None)
        for other in self._large if large else self._open:
            if taken + memory <= budget or (other == last and not memory):
                break
            document = self._open[other]
            if (large or other not in self._large) and not document.engaged:
                closing.append((other, document))
                taken -= document.memory
        return closing, not taken or taken + memory <= budget

    def _weigh(self, document: OpenDocument) -> None:
        """Count what an open document takes now."""
        if document.closed or document.siblings.erased:  # `usable` would be a call, with each write
            return
        self._memory += document.weigh()
        if document.memory > self._large_from:
            self._large.setdefault((document.project, document.path))

    def _require_small(self, edits: Sequence[tuple[OpenDocument, bytes]]) -> None:
        """Raise DocumentTooLarge if an update takes a document over the size limit. An update that only deletes is
        always allowed."""
        for document, update in edits:
            if not self.fits(document, update) and update[:1] != _NO_STRUCTS:
                raise DocumentTooLarge(document.path, self._size_limit)

    def fits(self, document: OpenDocument, update: bytes) -> bool:
        """Whether a document has room for an update without being measured."""
        return document.size + len(update) <= self._size_limit

    async def measure(self, edits: Sequence[tuple[OpenDocument, bytes]]) -> None:
        """Find out the exact sizes of documents that seem too large, before the updates they took in are queued.

        Raises:
            Any error of a worker process. The documents have then been discarded, as they are ahead of the log.
        """
        try:
            for document, update in edits:
                if self.fits(document, update) or document.measured or update[:1] == _NO_STRUCTS:
                    continue
                await document.measure(update)
                self._weigh(document)
        except BaseException:
            for document, _ in edits:
                self.discard(document)
            raise

    def queue_update(self, document: OpenDocument, update: bytes, author: Author, done: AppendDone) -> None:
        """Queue the update that `document` has just emitted as its next version.

        Args:
            done: called once the update is durable or has failed. The document has been discarded if it failed, as it
                is ahead of the log.

        Raises:
            DocumentTooLarge, StorageError: immediately; the document has been discarded.
        """
        head = document.head
        try:
            if document.size + len(update) > self._size_limit:
                self._require_small([(document, update)])
            if self.quotas.limited and (update[:1] != _NO_STRUCTS or head is None or head.deleted):
                self.quotas.require(document.project, [(document.path, len(update))])
            version, line, incarnation = document.version, document.line, document.incarnation
            change = AppendUpdate(document.path, version, update, author.name, line, incarnation, author.credential)
            settled = functools.partial(self._settled, (document,), done)
            self._storage.append_and_call(document.project, (change,), settled)
        except BaseException:
            self.discard(document)
            raise
        document.queued(update)

    def queue_updates(self, edits: Sequence[tuple[OpenDocument, bytes]], author: Author, done: AppendDone) -> None:
        """Queue updates of several documents of one project, to be stored atomically, as `queue_update` does."""
        try:
            self._require_small(edits)
            added = [
                (document.path, len(row))
                for document, row in edits
                if row[:1] != _NO_STRUCTS or document.head is None or document.head.deleted
            ]
            self.quotas.require(edits[0][0].project, added)
            changes = tuple(
                AppendUpdate(
                    document.path,
                    document.version,
                    update,
                    author.name,
                    document.line,
                    document.incarnation,
                    author.credential,
                )
                for document, update in edits
            )
            settled = functools.partial(self._settled, [document for document, _ in edits], done)
            self._storage.append_and_call(edits[0][0].project, changes, settled)
        except BaseException:
            for document, _ in edits:
                self.discard(document)
            raise
        for document, update in edits:
            document.queued(update)
            document.changing = False

    def _settled(
        self, documents: Sequence[OpenDocument], done: AppendDone, result: tuple[Committed, ...] | StorageError
    ) -> None:
        """Note that the oldest queued update of each document has become durable or has failed, and call `done`."""
        for place, document in enumerate(documents):
            if isinstance(result, StorageError):
                document.settled(None)
                self.discard(document)
            else:
                document.settled(result[place].head)
                if document.snapshot_due:
                    self._note_due(document)
                self._weigh(document)  # not when it was queued: a commit does not wait for that
            if self._in_flight and not document.pending:
                key = (document.project, document.path)
                if self._in_flight.get(key) is document:
                    del self._in_flight[key]
        self._make_room_after_growth()
        done(result)

    def _note_due(self, document: OpenDocument) -> None:
        if document.usable and document.snapshot_due:
            self.due[document.project, document.path] = None
            self.due_event.set()

    def note_replay(self, stored: StoredDocument, project: str, path: str, size: int) -> None:
        """Request a snapshot at an old version if reading that version replayed too much of the log."""
        if sum(map(len, stored.updates)) >= max(SNAPSHOT_TAIL, size) and (project, path) not in self.due:
            self.due[project, path] = stored.version
            self.due_event.set()

    def note_snapshot(self, project: str, path: str, log_size: int, size: int) -> None:
        """Note that a snapshot of `size` bytes was stored when the log had `log_size` bytes."""
        document = self._open.get((project, path))
        if document is not None:
            document.snapshot_log_size, document.snapshot_size = log_size, size

    def discard(self, document: OpenDocument) -> None:
        """Close a document that differs, or may differ, from the log. The next use rebuilds it."""
        key = (document.project, document.path)
        if self._open.get(key) is document:
            self._close(key, document)

    async def drain(self, project: str, path: str) -> None:
        """Wait until all writes to a file that are in progress or queued are committed or have failed."""
        document = self._open.get((project, path)) or self._in_flight.get((project, path))
        if document is not None:
            async with document.turn:
                pass
            await document.drain()

    def _committed(self, batch: tuple[Commit, ...]) -> None:
        """Update or close the documents of files that changed elsewhere, by a deletion or by another gateway."""
        for committed in batch:
            if isinstance(committed, ErasedProject):
                self._erased(committed.project.name)
            if not isinstance(committed, Committed):
                continue
            key = (committed.project.name, committed.head.path)
            if self.sent.size:
                self.sent.advance(*key, committed.head, committed.update)
            document = self._open.get(key)
            if document is not None and committed.head.version > document.version and document.usable:
                self._take_over(key, document, committed)
            elif key in self._opening:
                self._outdated.add(key)

    def _erased(self, project: str) -> None:
        """Let nobody use the documents of a project any more, and close them one after another."""
        erased = self._of_project.pop(project, None) or ProjectDocuments()
        erased.erased = True
        self._erased_count += len(erased)
        freeing = asyncio.create_task(self._free_in_turns(project, erased, self.sent.forget_project(project)))
        self._freeing.add(freeing)
        freeing.add_done_callback(self._freeing.discard)
        self._outdated.update(key for key in self._opening if key[0] == project)
        for key in [key for key in self.due if key[0] == project]:
            del self.due[key]

    def _take_over(self, key: tuple[str, str], document: OpenDocument, committed: Committed) -> None:
        """Apply what another gateway stored if it is the document's next update, else close the document."""
        if committed.update is None or not document.take_over(committed.update, committed.head):
            self._close(key, document)
            return
        self._weigh(document)

    def _missed(self, batch: tuple[Commit, ...]) -> None:
        """Close the documents of a batch of commits that was received only in part."""
        for committed in batch:
            if isinstance(committed, Committed):
                key = (committed.project.name, committed.head.path)
                self.sent.forget(*key)
                if (document := self._open.get(key)) is not None:
                    self._close(key, document)
                if key in self._opening:
                    self._outdated.add(key)

    def release(self, project: str, path: str) -> None:
        """Close a file's document if it is idle, as no writes to it are expected soon."""
        document = self._open.get((project, path))
        if document is not None and not document.engaged:
            self.discard(document)

    def close(self) -> None:
        """Close every document."""
        for key, document in list(self._open.items()):
            self._close(key, document)

    def _close(self, key: tuple[str, str], document: OpenDocument) -> None:
        self._remove(key, document)
        document.close()

    def _remove(self, key: tuple[str, str], document: OpenDocument) -> None:
        """Let nobody use a document any more."""
        del self._open[key]
        siblings = document.siblings
        if siblings.erased:
            self._erased_count -= 1
        else:
            del siblings[key[1]]
            if not siblings:
                del self._of_project[key[0]]
        self._unfollow(key[0])
        self._large.pop(key, None)
        self._memory -= document.memory
        if document.pending:
            self._in_flight[key] = document

    async def _free_in_turns(self, project: str, documents: dict[str, OpenDocument], sent: Iterator[None]) -> None:
        async for _ in with_turns(sent):
            pass
        while documents:
            path, document = documents.popitem()
            if self._open.get((project, path)) is document:  # it was not closed to make room
                self._close((project, path), document)
            await next_slice()


def _footprint(parts: Sequence[bytes]) -> int | None:
    """Return the memory that the document of some updates takes beyond its bytes; None if one step is too few."""
    try:
        return of_rows(parts, LIGHT_UNITS)
    except TooMuch:
        return None


async def stored_rows(stored: StoredDocument) -> list[bytes]:
    """Return the log rows that make up a stored document, oldest first, beginning with its snapshot if there is one.

    Raises:
        DataDamaged: the snapshot cannot be decompressed.
    """
    if stored.snapshot is None:
        return list(stored.updates)
    return [await _update_in(stored.snapshot, stored.head.path), *stored.updates]


async def _update_in(snapshot: Snapshot, path: str) -> bytes:
    """Return the update in a snapshot. A large one is decompressed in a thread, which needs no GIL for it."""
    body = snapshot.body
    if not is_compressed(body):
        return body
    try:
        if update_size(body) <= _LIGHT_DECOMPRESSED:
            return decompress(body)
        return await asyncio.to_thread(decompress, body)
    except SnapshotDamaged as error:
        raise DataDamaged(path, str(error), snapshot.version) from None
