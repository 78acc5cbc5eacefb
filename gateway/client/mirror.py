"""The mirror of a file: a live Yjs document that receives remote changes and sends local edits."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import pycrdt
from msgspec import Struct

from gateway.client.answers import FileContent, WithETag
from gateway.client.errors import (
    FileDeleted,
    FileNotFound,
    GatewayError,
    MissingPredecessors,
    ProjectNotFound,
    UnexpectedAnswer,
    VersionAhead,
    WriteContention,
)
from gateway.client.pending import PendingEdits
from gateway.client.policy import after_refused_write, gives_up, is_retried, retry_delay_ms
from gateway.client.polling.manager import PollingManager
from gateway.client.polling.poller import Poller, call
from gateway.client.polling.project_stream import Transport, file_topic
from gateway.client.polling.subscription import Polled
from gateway.client.project import Project
from gateway.client.shared_awareness import SharedAwareness
from gateway.wire.files import Receipt
from gateway.yjs.halves import Halves
from gateway.yjs.lib0 import MalformedUpdate
from gateway.yjs.scan import Place, scan
from gateway.yjs.surrogates import cuts, part_pairs, second_halves

ResetReason = Literal["deleted", "recreated", "restored", "parted"]


class MirrorReset(Struct, frozen=True):
    """Tells that a mirror has replaced its document by a new one."""

    reason: ResetReason
    """The file was deleted; the file was deleted and created again; the gateway was restored from a backup; an edit
    split a surrogate pair, which yrs cannot do in place: the new document has the same content."""
    dropped: "pycrdt.Doc[Any]"
    """The old document. Its edits are no longer sent; if the reason is "parted", they are still sent until `on_reset`
    has returned."""
    unsent: int
    """How many edits of the old document the gateway never received and never will."""


class DocumentMirror(Poller):
    """A file as a pycrdt document, `doc`, to edit and observe. The file need not exist: the first edit creates it.

    Remote changes arrive as increments. Local edits are sent in batches, kept until they are acknowledged, and resent
    after a failure, so that both sides are equal again after any outage. Leaving the `async with` sends the remaining
    edits; if the gateway cannot be reached, a `pending` file keeps them.

    Args:
        pending: a file that keeps unacknowledged edits, so that a crash loses none: pass the same file to the next
            mirror of the same document. None keeps them in memory.
        on_change: called with the mirror after remote changes were applied, plain or async.
        on_reset: called with a MirrorReset when `doc` was replaced. Edit and observe the new document from then on.
        on_error: called with the exception of every failed attempt to read or to send.
        interval: seconds between polls; default 3 (`PollSettings.document_interval_ms`).
        batch: how many seconds local edits are collected before they are sent.

    Raises:
        ValueError, BlockingIOError: because of `pending`, as PendingEdits does.
    """

    def __init__(
        self,
        polling: PollingManager,
        project: Project,
        path: str,
        *,
        pending: Path | None = None,
        on_change: Callable[["DocumentMirror"], object] | None = None,
        on_reset: Callable[[MirrorReset], object] | None = None,
        on_error: Callable[[Exception], object] | None = None,
        interval: float | None = None,
        transport: Transport = "auto",
        batch: float = 0.05,
    ) -> None:
        self.path = path
        self.version = 0
        """The newest version of the file that `doc` contains completely; 0 if none."""
        self._project = project
        self._on_change, self._on_reset, self._on_error = on_change, on_reset, on_error
        self._batch = batch
        self._tag: str | None = None
        self._pulled = self._applying = self._heard = False
        self._pushing: asyncio.Task[None] | None = None
        self._refusal: GatewayError | None = None
        self._integrated = b""
        """The part of the last applied update that the document integrated."""
        self._now = asyncio.Event()
        """Set when the batch should be sent without waiting for further edits."""
        self._lives = 0
        """How many incarnations of the file have ended; the pending edits of each were dropped."""
        self._replaced: list[tuple[pycrdt.Doc[Any], pycrdt.Subscription]] = []
        """Replaced documents that the application may still edit, since `on_reset` has not returned yet."""
        self._awareness: pycrdt.Awareness | None = None
        self._shared: SharedAwareness | None = None
        seconds = polling.settings.document_interval_ms / 1000 if interval is None else interval
        self._presence_interval = seconds if transport == "poll" else None
        self._edits = PendingEdits(pending, project.url, path)
        self._open_document()
        self._build(self._edits.updates)
        self._heard = False
        super().__init__(
            polling,
            project,
            f"mirror {project.url} {path} {id(self)}",
            self._pull,
            interval=polling.settings.document_interval_ms / 1000 if interval is None else interval,
            topics=[file_topic(path)],
            transport=transport,
            on_result=self._tell_change,
            on_error=on_error,
        )
        if self._edits.updates:
            self._start_push()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None and self._edits.durable:
                with contextlib.suppress(GatewayError):  # the file keeps the edits for the next mirror
                    while self._edits.updates:
                        await self._send()
            elif kind is None:
                await self.flush()
        finally:
            self.close()

    @property
    def unsent(self) -> int:
        """How many edits the gateway has not acknowledged."""
        return len(self._edits.updates)

    @property
    def incarnation(self) -> str | None:
        """The incarnation of the file that `doc` mirrors; None if the file did not exist yet."""
        return self._edits.incarnation

    @property
    def awareness(self) -> pycrdt.Awareness:
        """The presence in the file, shared with all its clients. Its requests begin with the first access.

        `Awareness.start` is not running: the client renews its own state, and removes others when the gateway does.
        """
        if self._awareness is None:
            self._awareness = pycrdt.Awareness(self.doc)
            self._shared = SharedAwareness(
                self._polling, self._project, self.path, self._awareness, self._presence_interval
            )
        return self._awareness

    async def synced(self) -> None:
        """Wait until the gateway has all of `doc`, and `doc` has everything that the gateway had after that.

        Raises:
            GatewayError
        """
        await self.flush()
        if (await self._pull(None)).changed:
            self._polling.tell(self._subscription, self._on_change, self)

    async def flush(self) -> None:
        """Send the unsent edits now, and wait for the acknowledgement.

        Raises:
            GatewayError: the gateway refused the edits, or the policy's retries are exhausted. The edits stay unsent.
        """
        while self._edits.updates:
            self._start_push()
            self._now.set()
            assert self._pushing is not None
            await asyncio.wait({self._pushing})
            if self._refusal is not None and self._edits.updates:
                raise self._refusal

    def close(self) -> None:
        """Stop following the file; unsent edits stay in the `pending` file."""
        if not self._subscription.active:
            return
        super().close()
        if self._shared is not None:
            self._shared.close()
        if self._pushing is not None:
            self._pushing.cancel()
        self.doc.unobserve(self._observation)
        self._let_go_of_replaced()
        self._edits.close()

    # The document

    def _open_document(self) -> None:
        self.doc: pycrdt.Doc[Any] = pycrdt.Doc()
        self._observation = self.doc.observe(self._note_edit)
        self._halves = Halves()
        """The places of second halves of surrogate pairs in the texts of `doc`, now or earlier."""
        self._damaged = False
        """Whether a local edit split a surrogate pair: `doc` then lacks text that the gateway has."""

    def _note_edit(self, event: Any) -> None:
        if self._applying:
            self._heard = True
            self._integrated = event.update
        else:
            self._keep(event.update)

    def _keep(self, edit: bytes) -> None:
        self._edits.add(edit)
        with contextlib.suppress(MalformedUpdate):  # the gateway will report it
            self._damaged = self._damaged or bool(self._parted_by(edit))
            self._halves.update(second_halves([edit]))
        self._start_push()

    def _parted_by(self, update: bytes) -> set[Place]:
        """The surrogate pairs of `doc` that an update splits; yrs loses text there (`gateway.yjs.surrogates`)."""
        return {place for place in cuts(scan(update)) if place in self._halves} if self._halves else set()

    def _build(self, updates: Sequence[bytes]) -> None:
        """Apply the updates of a whole document to the empty `doc`; surrogate pairs that any of them splits become
        what Yjs makes of them.

        Raises:
            UnexpectedAnswer
        """
        with _readable():
            halves = second_halves(updates)
            parted: set[Place] = set()
            if halves:
                parted = {place for update in updates for place in cuts(scan(update)) if place in halves}
            for update in updates:
                self._apply(part_pairs(update, parted))
        halves.remove(parted)
        self._halves = halves

    def _build_anew(self, whole: Sequence[bytes]) -> None:
        """Replace `doc` by a new document, built from the gateway's content and the unacknowledged edits."""
        replaced = self.doc
        replaced.unobserve(self._observation)
        self._replaced.append((replaced, replaced.observe(self._carry_over)))
        self._open_document()
        self._damaged = True
        self._build([*whole, *self._edits.updates])
        self._damaged = False
        self._polling.tell(self._subscription, self._hand_over, MirrorReset("parted", replaced, 0))

    def _carry_over(self, event: Any) -> None:
        """Carry an edit of a replaced document over to `doc`: the application does not know of the replacement yet."""
        self._keep(event.update)
        self._apply(event.update)

    async def _hand_over(self, told: MirrorReset) -> None:
        try:
            if self._on_reset is not None:
                await call(self._on_reset, told)
        finally:
            self._let_go_of_replaced(told.dropped)

    def _let_go_of_replaced(self, only: "pycrdt.Doc[Any] | None" = None) -> None:
        for each in list(self._replaced):
            doc, carrying = each
            if only is None or doc is only:
                doc.unobserve(carrying)
                self._replaced.remove(each)

    def _apply(self, update: bytes) -> None:
        self._applying, self._integrated = True, b"\x00\x00"
        try:
            self.doc.apply_update(update)
        except Exception as fault:  # pycrdt has no exception class of its own for updates that yrs cannot read
            raise UnexpectedAnswer(200, f"it is no Yjs update: {fault}") from fault
        finally:
            self._applying = False

    def _start_over(self, reason: ResetReason) -> None:
        """Drop the document, whose incarnation has ended. Unsent edits would bring back deleted content."""
        told = MirrorReset(reason, self.doc, self.unsent)
        self.doc.unobserve(self._observation)
        self._let_go_of_replaced()
        self._lives += 1
        self._edits.drop()
        self.version, self._tag = 0, None
        self._open_document()
        self._polling.tell(self._subscription, self._on_reset, told)

    # Remote changes

    async def _pull(self, _: str | None) -> Polled:
        try:
            content = await self._read()
        except (FileNotFound, ProjectNotFound):  # nobody has written the file yet
            content = None
        except FileDeleted:
            content = None
            if self.incarnation is not None:
                self._start_over("deleted")
        if content is not None and not self._take(content):
            content = await self._project.read_update(self.path)
            self._take(content)
        if content is None and self._damaged:
            self._build_anew([])
        self._pulled = True
        if self._edits.updates:
            self._start_push()
        changed, self._heard = self._heard, False
        return Polled(self, changed=changed, backoff_s=None if content is None else content.backoff_s)

    async def _read(self) -> FileContent:
        if self.version == 0 or self._damaged:
            return await self._project.read_update(self.path)
        try:
            return await self._project.read_update(self.path, from_version=self.version, tag=self._tag)
        except VersionAhead:
            self._start_over("restored")
            return await self._project.read_update(self.path)

    def _take(self, content: FileContent) -> bool:
        """Apply the received content. Returns False if the whole document is needed instead."""
        if content.update is None:
            return True
        if self.incarnation is not None and content.incarnation != self.incarnation:
            self._start_over("recreated")
        if content.from_version > self.version:
            return False
        with _readable():
            parts = self._damaged or bool(self._parted_by(content.update))
            halves = second_halves([content.update])
        if parts:
            if content.from_version > 0:
                return False
            self._build_anew([content.update])
            self.version = 0  # an edit acknowledged in the meantime arrives with the next increment
        else:
            self._apply(content.update)
            self._halves.update(halves)
            if _holds_more(self._integrated, content.update):
                self._edits.add(self._integrated)  # the update unblocked structs that others had sent it
        self._edits.live(content.incarnation)
        if content.version >= self.version:
            self.version, self._tag = content.version, content.tag
        return True

    async def _tell_change(self, mirror: "DocumentMirror") -> None:
        if self.version and self._on_change is not None:
            await call(self._on_change, mirror)

    # Local edits

    def _start_push(self) -> None:
        if self._pushing is None or self._pushing.done():
            self._refusal = None
            self._now.clear()
            self._pushing = self._polling.spawn(self._push())

    async def _push(self) -> None:
        """Send edits until none is left or the policy gives up; the next edit or answer then starts a new attempt."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._batch):
                await self._now.wait()
        settings, attempts = self._polling.settings, 0
        while self._edits.updates:
            try:
                await self._send()
                attempts = 0
            except GatewayError as error:
                self._polling.tell(self._subscription, self._on_error, error)
                retried = is_retried(error.status) or isinstance(error, WriteContention)
                if not retried or gives_up(settings, attempts):
                    self._refusal = error
                    return
                attempts += 1
                delay = retry_delay_ms(settings, attempts, self._polling.random(), error.retry_after_s) / 1000
                await asyncio.sleep(max(delay, error.backoff_s or 0))

    async def _send(self) -> None:
        """Send one batch. If the document was dropped in the meantime, no edit of the new one is acknowledged."""
        if not self._pulled or self._damaged:
            await self._pull(None)
        await asyncio.to_thread(self._edits.sync)
        life, batch = self._lives, self._edits.batch()
        if not batch:
            return
        update = batch[0] if len(batch) == 1 else pycrdt.merge_updates(*batch)
        try:
            answer = await self._append(update)
        except FileDeleted:
            if self._lives == life:
                self._start_over("deleted")
            self._polling.signal(self._key)
            return
        if self._lives == life:
            self._edits.acknowledge(len(batch))
            if answer is not None:
                self._note_receipt(answer)

    async def _append(self, update: bytes) -> WithETag[Receipt] | None:
        """Append an update to the file; if the gateway lacks its predecessors, send the full difference once.

        If predecessors are missing even then, the document itself lacks them, and the gateway has all that it can
        have. Returns None in that case.
        """
        try:
            answer = await self._project.append_update(self.path, update, incarnation=self.incarnation)
            lacking = answer.value.known_state
            if lacking is None:
                return answer
        except MissingPredecessors as error:
            if after_refused_write(error.code, difference_sent=False) == "report":
                raise
            lacking = error.state_vector
        try:
            difference = self.doc.get_update(lacking)
            return await self._project.append_update(self.path, difference, incarnation=self.incarnation)
        except MissingPredecessors:
            return None

    def _note_receipt(self, answer: WithETag[Receipt]) -> None:
        """Advance the version if nobody else wrote in between: the document then contains all of the new version."""
        self._polling.note_write(self._key)
        if self.incarnation is None:
            self._edits.live(answer.incarnation)
        receipt = answer.value
        if answer.incarnation == self.incarnation and receipt.changed and receipt.version == self.version + 1:
            self.version, self._tag = receipt.version, answer.tag
        elif receipt.version != self.version:
            self._polling.signal(self._key)


@contextlib.contextmanager
def _readable() -> Iterator[None]:
    """Raise a malformed update in a response as UnexpectedAnswer."""
    try:
        yield
    except MalformedUpdate as fault:
        raise UnexpectedAnswer(200, f"it is no Yjs update: {fault}") from fault


def _holds_more(update: bytes, other: bytes) -> bool:
    """Whether an update contains anything that the other one does not."""
    return len(pycrdt.merge_updates(other, update)) > len(pycrdt.merge_updates(other, b"\x00\x00"))
