"""Open documents within a byte budget: each admits updates to one file. Heavy work goes to a worker process."""

import asyncio
import functools
import hashlib
from collections.abc import Callable, Sequence
from typing import TypeVar

import pycrdt
from anyio import to_process

from gateway.restore import restore_content
from gateway.roots import require_text
from gateway.structs import MalformedUpdate, Place
from gateway.surrogates import may_hold_pairs, parts_pair, second_halves
from gateway.texts import apply_edits, smallest_edits
from gateway.updates import (
    Document,
    InvalidUpdate,
    build_document,
    build_update,
    lacks_predecessors,
    leaves_gap,
    run_yrs,
)
from storage import AppendUpdate, Commit, Committed, FileHead, Storage, StoredDocument, Version

T = TypeVar("T")

_HEAVY_BYTES = 2**20
"""pycrdt holds the GIL through every call: building a document of more than this would be felt by everybody."""

_MEMORY_PER_BYTE = 10
"""An open document takes 5 to 14 times its encoded size."""
_MEMORY_PER_DOCUMENT = 4096

_SNAPSHOT_TAIL = 32 * 1024
"""A snapshot is due when the updates after the last one hold this many bytes and half of its own. So all snapshots of a
file take at most three times the bytes of its log, and a cold open replays at most half of a document more."""


class Gap(Exception):
    """The update builds on something that the document does not have."""


class DocumentsExhausted(Exception):
    """Open documents that wait for the disk take all the memory that documents may take."""


class OpenDocument:
    """One file in memory, ahead of the log by what is queued to be written.

    Every method that is not a coroutine is one step: what it decides holds until the caller awaits something.
    """

    def __init__(
        self, project: str, path: str, head: FileHead | None, document: Document, size: int, halves: set[Place]
    ) -> None:
        self.project = project
        self.path = path
        self.head = head
        """The newest durable state."""
        self.version = Version(0) if head is None else head.version
        """The version that the next update builds on: ahead of `head` while updates are queued."""
        self.snapshot_log_size = 0
        self.snapshot_size = 0
        self.size = size
        """Bytes of the encoded document, about."""
        self.usable = True
        self._document = document
        self._halves = halves
        """Where in its texts the second half of a surrogate pair is, or was."""
        self._pending: asyncio.Future[tuple[Committed, ...]] | None = None
        self._queued = 0
        self._emitted: list[bytes] = []
        self._subscription = document.observe(self._keep)

    def _keep(self, event: pycrdt.TransactionEvent) -> None:
        self._emitted.append(event.update)

    @property
    def pending(self) -> bool:
        """Whether updates of it are queued, not yet durable."""
        return self._queued > 0

    @property
    def memory(self) -> int:
        """Bytes of memory that the document takes, as estimated."""
        return _MEMORY_PER_DOCUMENT + _MEMORY_PER_BYTE * self.size

    @property
    def snapshot_due(self) -> bool:
        if self.head is None or self.head.deleted:
            return False
        return self.head.size - self.snapshot_log_size >= max(_SNAPSHOT_TAIL, self.snapshot_size // 2)

    def admit(self, update: bytes) -> bytes | None:
        """Apply a client's update; returns what it adds, in canonical form, or None where it adds nothing.

        After an error the document must be discarded: it may hold a part of the update.

        Raises:
            InvalidUpdate, Gap
        """
        self._emitted.clear()
        self._require_whole_pairs(update)
        run_yrs(lambda: self._document.apply_update(update))
        if leaves_gap(update, self._document.get_state()):
            raise Gap
        return self._take_emitted()

    def _require_whole_pairs(self, update: bytes) -> None:
        try:
            parted = parts_pair(update, self._halves) or parts_pair(update, second_halves([update]))
        except MalformedUpdate as error:
            raise InvalidUpdate(str(error)) from None
        if parted:
            raise InvalidUpdate("it parts a surrogate pair: one half of a character would be left")

    def lacks_predecessors(self, update: bytes) -> bool:
        """Whether an update is known to build on something that the document does not have."""
        return lacks_predecessors(update, self._document.get_state())

    def edit_text(self, root: str, text: str) -> bytes | None:
        """Make the text of a root `text` by the smallest edit; returns the update, None where nothing changes.

        Raises:
            RootIsNotText: the document is as it was.
        """
        self._emitted.clear()
        target = self._document.get(root, type=pycrdt.Text)
        present = str(target)
        if not present:
            require_text(self._document.get_update(), root)
        edits = smallest_edits(present, text)
        with self._document.transaction():
            apply_edits(target, edits)
        return self._take_emitted()

    def restore(self, old: bytes) -> bytes | None:
        """Make the content what it is in the whole document `old`; returns the update, None where nothing changes."""
        self._emitted.clear()
        with self._document.transaction():
            restore_content(self._document, old)
        return self._take_emitted()

    def _take_emitted(self) -> bytes | None:
        if not self._emitted:
            return None
        (update,) = self._emitted
        self._emitted.clear()
        self._halves |= second_halves([update])
        return update

    def state_vector(self) -> bytes:
        return self._document.get_state()

    def encode(self, state_vector: bytes | None = None) -> bytes:
        """The whole document as an update, or what a replica with `state_vector` lacks."""
        return run_yrs(lambda: self._document.get_update(state_vector))

    def queued(self, future: asyncio.Future[tuple[Committed, ...]], update: bytes) -> None:
        """Note that `update` was queued as the next version."""
        self.version = Version(self.version + 1)
        self.size += len(update)
        self._queued += 1
        self._pending = future

    def decided(self, head: FileHead | None) -> None:
        """Note that the oldest queued update is durable, as `head`, or failed."""
        self._queued -= 1
        self.head = head or self.head

    async def settle(self) -> None:
        """Wait until nothing that is queued now is undecided. Does not raise for a write that failed."""
        if self._pending is not None:
            await asyncio.wait([self._pending])

    def close(self) -> None:
        self.usable = False
        self._document.unobserve(self._subscription)


class Documents:
    """The open documents of all files. `due` names the files whose next snapshot is due, for maintenance to take."""

    def __init__(self, storage: Storage, *, memory_limit: int) -> None:
        self._storage = storage
        self._memory_limit = memory_limit
        self._open: dict[tuple[str, str], OpenDocument] = {}
        self._opening: dict[tuple[str, str], asyncio.Task[OpenDocument]] = {}
        self._outdated: set[tuple[str, str]] = set()
        """Files that changed while their document was being opened."""
        self._undecided: dict[tuple[str, str], OpenDocument] = {}
        """Closed documents of which updates are still queued."""
        self._memory = 0
        storage.listen(self._committed)
        self.due: dict[tuple[str, str], None] = {}
        self.due_event = asyncio.Event()

    @property
    def count(self) -> int:
        return len(self._open)

    @property
    def memory(self) -> int:
        """Bytes of memory that open documents take, as estimated."""
        return self._memory

    def peek(self, project: str, path: str) -> OpenDocument | None:
        """The file's document if it is open and holds nothing that is not durable."""
        document = self._open.get((project, path))
        return document if document is not None and not document.pending else None

    async def open(self, project: str, path: str) -> OpenDocument:
        """The file's document, opened if need be; an empty one where there is no file.

        Raises:
            DocumentsExhausted
        """
        key = (project, path)
        document = self._open.get(key)
        if document is not None:
            self._open[key] = self._open.pop(key)  # most recently used last
            return document
        opening = self._opening.get(key)
        if opening is None or opening.done():  # one that is done may hold a document that was discarded since
            opening = asyncio.create_task(self._load(project, path))
            self._opening[key] = opening
            opening.add_done_callback(lambda done: self._opened(key, done))
        return await asyncio.shield(opening)

    def _opened(self, key: tuple[str, str], done: asyncio.Task[OpenDocument]) -> None:
        if self._opening.get(key) is done:
            del self._opening[key]

    async def _load(self, project: str, path: str) -> OpenDocument:
        key = (project, path)
        while True:
            if (former := self._undecided.get(key)) is not None:
                await former.settle()
                continue
            self._outdated.discard(key)
            document = await self._read(project, path)
            if key not in self._outdated and key not in self._undecided:
                break
        self._make_room(document.memory)
        self._open[key] = document
        self._memory += document.memory
        self._note_due(document)
        return document

    async def _read(self, project: str, path: str) -> OpenDocument:
        stored = await self._storage.read_document(project, path)
        if stored is None:
            head = await self._storage.file_head(project, path)
            if head is not None and not head.deleted:  # it came into being between the two reads
                return await self._read(project, path)
            born = 1 if head is None else head.version + 1
            return OpenDocument(project, path, head, build_document([], _client_id(project, path, born)), 0, set())
        parts = stored_parts(stored)
        halves = await in_worker(second_halves, [part for part in parts if may_hold_pairs(part)])
        if sum(map(len, parts)) > _HEAVY_BYTES and len(parts) > 1:
            parts = [await in_worker(build_update, parts)]
        head = stored.head
        client_id = _client_id(project, path, head.born_version)
        document = OpenDocument(project, path, head, build_document(parts, client_id), sum(map(len, parts)), halves)
        if stored.snapshot is not None:
            document.snapshot_log_size = stored.snapshot.log_size
            document.snapshot_size = len(stored.snapshot.body)
        return document

    def _make_room(self, memory: int) -> None:
        """Close documents, least recently used first, until `memory` more fits."""
        excess = self._memory + memory - self._memory_limit
        closing = []
        for key, document in self._open.items():
            if excess <= 0:
                break
            if not document.pending:
                closing.append((key, document))
                excess -= document.memory
        for key, document in closing:
            self._close(key, document)
        if self._open and self._memory + memory > self._memory_limit:
            raise DocumentsExhausted

    def queue_update(
        self, document: OpenDocument, update: bytes, author: str | None
    ) -> asyncio.Future[tuple[Committed, ...]]:
        """Queue what `document` has just emitted as its next version.

        Raises:
            StorageError: at once or by the future. The document has been discarded then: it is ahead of the log.
        """
        return self.queue_updates([(document, update)], author)

    def queue_updates(
        self, edits: Sequence[tuple[OpenDocument, bytes]], author: str | None
    ) -> asyncio.Future[tuple[Committed, ...]]:
        """The same for several documents of one project, to be stored together or not at all."""
        try:
            changes = tuple(AppendUpdate(document.path, document.version, update, author) for document, update in edits)
            future = asyncio.ensure_future(self._storage.append(edits[0][0].project, changes))
        except BaseException:
            for document, _ in edits:
                self.discard(document)
            raise
        for place, (document, update) in enumerate(edits):
            before = document.memory
            document.queued(future, update)
            if document.usable:
                self._memory += document.memory - before
            future.add_done_callback(functools.partial(self._update_done, document, place))
        return future

    def _update_done(self, document: OpenDocument, place: int, future: asyncio.Future[tuple[Committed, ...]]) -> None:
        failed = future.cancelled() or future.exception() is not None
        document.decided(None if failed else future.result()[place].head)
        key = (document.project, document.path)
        if self._undecided.get(key) is document and not document.pending:
            del self._undecided[key]
        if failed:
            self.discard(document)
        else:
            self._note_due(document)

    def _note_due(self, document: OpenDocument) -> None:
        if document.usable and document.snapshot_due:
            self.due[document.project, document.path] = None
            self.due_event.set()

    def note_snapshot(self, project: str, path: str, log_size: int, size: int) -> None:
        """Remember that a snapshot of `size` bytes was stored where the log had `log_size` bytes."""
        document = self._open.get((project, path))
        if document is not None:
            document.snapshot_log_size, document.snapshot_size = log_size, size

    def discard(self, document: OpenDocument) -> None:
        """Close a document that is not, or may not be, what the log says. The next use builds it again."""
        key = (document.project, document.path)
        if self._open.get(key) is document:
            self._close(key, document)

    async def settle(self, project: str, path: str) -> None:
        """Wait until what is queued of a file's document is decided."""
        document = self._open.get((project, path)) or self._undecided.get((project, path))
        if document is not None:
            await document.settle()

    def _committed(self, batch: tuple[Commit, ...]) -> None:
        """A change that did not come through a file's document (a deletion, another server's) makes it outdated."""
        for committed in batch:
            if not isinstance(committed, Committed):
                continue
            key = (committed.project.name, committed.head.path)
            document = self._open.get(key)
            if document is not None and committed.head.version > document.version:
                self._close(key, document)
            elif key in self._opening:
                self._outdated.add(key)

    def release(self, project: str, path: str) -> None:
        """Close a file's document if nothing of it is queued: nobody is expected to write to it soon."""
        document = self._open.get((project, path))
        if document is not None and not document.pending:
            self.discard(document)

    def close(self) -> None:
        """Close every document."""
        for key, document in list(self._open.items()):
            self._close(key, document)

    def _close(self, key: tuple[str, str], document: OpenDocument) -> None:
        del self._open[key]
        self._memory -= document.memory
        if document.pending:
            self._undecided[key] = document
        document.close()


def stored_parts(stored: StoredDocument) -> list[bytes]:
    """The updates that make a stored document, oldest first."""
    return [*([stored.snapshot.body] if stored.snapshot else []), *stored.updates]


async def in_worker(work: Callable[[Sequence[bytes]], T], parts: Sequence[bytes]) -> T:
    """Run a pure function of updates: here if they are small, else in a worker process."""
    if sum(map(len, parts)) <= _HEAVY_BYTES:
        return work(parts)
    return await to_process.run_sync(work, list(parts), cancellable=True)


def _client_id(project: str, path: str, born_version: int) -> int:
    """The Yjs client that the gateway is when it edits this life of a file itself: one a life, or the state vector
    would grow with every PUT."""
    digest = hashlib.blake2b(f"{project}\0{path}\0{born_version}".encode(), digest_size=4).digest()
    return int.from_bytes(digest) or 1
