"""A store for applications on pycrdt-websocket and pycrdt-store that keeps their documents as files of a project.

A room of pycrdt-websocket starts a task for each update that it stores, and cancels the remaining tasks when it closes.
Therefore this store does not depend on those tasks: it observes the document, and its own task sends the queued updates
in order. A cancelled store drains its queue before it ends. It needs the extra `ystore`.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from logging import Logger, getLogger
from typing import Any

import pycrdt
from anyio import TASK_STATUS_IGNORED, CancelScope
from anyio.abc import TaskStatus
from pycrdt.store import BaseYStore, YDocNotFound

from gateway.client.errors import FileDeleted, FileNotFound, GatewayError, MissingPredecessors, ProjectNotFound
from gateway.client.policy import PollSettings, is_retried, retry_delay_ms
from gateway.client.project import Project

__all__ = ["GatewayYStore"]

_NOTHING = b"\0\0"
"""An update that adds nothing."""
_SETTINGS = PollSettings(retry_delays_ms=(100, 200, 400, 1_000, 2_000, 4_000))


class GatewayYStore(BaseYStore):
    """Keeps the document `path` as the file of that path in a project.

    `write` returns when the update is durable at the gateway. The document passed to `apply_updates` is observed: its
    edits from then on are stored even if `write` is never called or is cancelled. While the gateway cannot be reached,
    updates are kept and resent.

    Args:
        project: the project of the file; may be a class attribute instead, where a framework creates the stores.
        metadata_callback: accepted but unused: the gateway records the time and the author of each version.
        patience_s: how many seconds a stopping store keeps trying to send the queued updates.

    Raises:
        ValueError: no project was given.
    """

    project: Project | None = None

    def __init__(
        self,
        path: str,
        metadata_callback: Callable[[], Awaitable[bytes] | bytes] | None = None,
        log: Logger | None = None,
        *,
        project: Project | None = None,
        patience_s: float = 30,
    ) -> None:
        self.path = path
        self.metadata_callback = metadata_callback
        self.log = log or getLogger(__name__)
        self.project = project or type(self).project
        if self.project is None:
            raise ValueError("the store needs a project: GatewayYStore(path, project=client.project(name))")
        self._patience_s = patience_s
        self._incarnation: str | None = None
        self._queue: list[bytes] = []
        self._known: set[bytes] = set()
        """Updates of the observed document that are queued or in flight."""
        self._sending: asyncio.Task[None] | None = None
        self._fault: GatewayError | None = None
        """Why the queued updates cannot be stored."""
        self._observed: tuple[pycrdt.Doc[Any], pycrdt.Subscription] | None = None

    async def read(self) -> AsyncIterator[tuple[bytes, bytes, float]]:
        """Yield the whole document as one update, with empty metadata and the time of reading.

        Raises:
            YDocNotFound: the file does not exist.
            GatewayError
        """
        assert self.project is not None
        try:
            content = await self.project.read_update(self.path)
        except (FileNotFound, FileDeleted, ProjectNotFound):
            raise YDocNotFound from None
        self._incarnation = content.incarnation
        assert content.update is not None
        yield content.update, b"", time.time()

    async def apply_updates(self, ydoc: "pycrdt.Doc[Any]") -> None:
        """Apply the stored content to a document, and store the document's edits from then on.

        Raises:
            YDocNotFound: the file does not exist yet; edits are stored nevertheless, and create it.
            GatewayError
        """
        try:
            await super().apply_updates(ydoc)
        finally:
            self._forget_document()
            self._observed = ydoc, ydoc.observe(lambda event: self._edited(event.update))

    async def write(self, data: bytes) -> None:
        """Store an update; returns when it is durable.

        Raises:
            GatewayError: the update cannot be stored. Outages are waited out.
        """
        if self._observed is None or (data not in self._known and self._adds(data)):
            self._enqueue(data)
        await self.flush()

    async def flush(self) -> None:
        """Wait until all writes and edits so far are durable.

        Raises:
            GatewayError: they cannot be stored.
        """
        if self._sending is not None:
            await asyncio.shield(self._sending)
        if self._fault is not None:
            raise self._fault

    async def start(
        self, *, task_status: TaskStatus[None] = TASK_STATUS_IGNORED, from_context_manager: bool = False
    ) -> None:
        """Start the store. When cancelled, it ends once everything is stored or `patience_s` has passed."""
        if from_context_manager:
            await super().start(task_status=task_status, from_context_manager=True)
            return
        try:
            await super().start(task_status=task_status)
        finally:
            await self._finish()

    async def stop(self) -> None:
        """Store the remaining updates, and stop."""
        await self._finish()
        await super().stop()

    async def _finish(self) -> None:
        with CancelScope(shield=True):
            try:
                async with asyncio.timeout(self._patience_s):
                    await self.flush()
            except (GatewayError, TimeoutError) as fault:
                self.log.error("%d updates of %s could not be stored: %s", len(self._queue), self.path, fault)
        self._forget_document()

    def _forget_document(self) -> None:
        if self._observed is not None:
            document, subscription = self._observed
            document.unobserve(subscription)
            self._observed = None

    def _edited(self, update: bytes) -> None:
        self._known.add(update)
        self._enqueue(update)

    def _adds(self, update: bytes) -> bool:
        """Whether the observed document may lack an update; updates it has were queued when they arrived. (An update
        with deletions is sent again; the gateway stores it once.)"""
        assert self._observed is not None
        return pycrdt.get_update(update, self._observed[0].get_state()) != _NOTHING

    def _enqueue(self, update: bytes) -> None:
        self._queue.append(update)
        if self._sending is None or self._sending.done():
            self._fault = None
            self._sending = asyncio.get_running_loop().create_task(self._send())

    async def _send(self) -> None:
        """Send the queued updates, merged into one update per request, until the queue is empty."""
        attempts = 0
        while self._queue:
            batch = list(self._queue)
            try:
                await self._append(batch[0] if len(batch) == 1 else pycrdt.merge_updates(*batch))
            except GatewayError as fault:
                if not is_retried(fault.status):
                    self._fault = fault
                    return
                attempts += 1
                delay_ms = retry_delay_ms(_SETTINGS, attempts, random.random(), fault.retry_after_s)
                await asyncio.sleep(max(delay_ms / 1000, fault.backoff_s or 0))
                continue
            attempts = 0
            del self._queue[: len(batch)]
            self._known.difference_update(batch)

    async def _append(self, update: bytes) -> None:
        assert self.project is not None
        try:
            written = await self.project.append_update(self.path, update, incarnation=self._incarnation)
        except MissingPredecessors:
            if self._observed is None:
                raise
            written = await self.project.append_update(
                self.path, self._observed[0].get_update(), incarnation=self._incarnation
            )
        self._incarnation = written.incarnation
