"""The audit log: who did what. Entries are buffered briefly and stored in batches; they never delay the actions."""

import asyncio
import time
from collections.abc import Iterable
from typing import Protocol

import structlog

from gateway.access.access import Access
from gateway.trusted_clock import TrustedClock
from storage import AuditEntry, Milliseconds, StorageError, wall_clock

_log = structlog.get_logger("gateway.access")

_TOGETHER_S = 0.25
_MOST_WAITING = 100_000
_REFUSALS_A_SECOND = 20
_SWEEP_S = 3600.0
_DAY_MS = 24 * 3600 * 1000


class AuditRecords(Protocol):
    """Where the audit is kept."""

    async def note_audit(self, entries: Iterable[AuditEntry]) -> None: ...

    async def forget_audit(self, before: Milliseconds) -> int: ...


class Audit:
    """Accepts entries at once and stores them soon after: a crash may lose those of the last quarter of a second.

    Args:
        days: for how long entries are kept; 0: for ever.
        trusted: decides how old they are.
    """

    def __init__(self, records: AuditRecords, days: float, trusted: TrustedClock) -> None:
        self._records = records
        self._trusted = trusted
        self._days = days
        self._waiting: list[AuditEntry] = []
        self._writing = asyncio.Lock()
        self._noted = asyncio.Event()
        self._second, self._refusals = 0, 0
        self.lost = 0
        """Entries dropped while the database was unavailable and the buffer full, and refusals above the rate limit."""

    def note(
        self,
        action: str,
        access: Access | None,
        *,
        project: str | None = None,
        path: str | None = None,
        version: int | None = None,
        detail: str | None = None,
    ) -> None:
        """Note an action."""
        if len(self._waiting) >= _MOST_WAITING:
            self.lost += 1
            return
        now = wall_clock()
        subject, credential = (None, None) if access is None else (access.subject, access.credential)
        self._waiting.append(AuditEntry(now, action, subject, credential, project, path, version, detail))
        self._noted.set()

    def note_refusal(self, access: Access | None, project: str | None, detail: str) -> None:
        """Note a refusal, at a bounded rate, so that strangers cannot flood the database."""
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._refusals = second, 0
        self._refusals += 1
        if self._refusals > _REFUSALS_A_SECOND:
            self.lost += 1
        else:
            self.note("refused", access, project=project, detail=detail)

    async def flush(self) -> None:
        """Store the buffered entries.

        Raises:
            StorageError: the entries stay in the buffer.
        """
        async with self._writing:
            entries, self._waiting = self._waiting, []
            if not entries:
                return
            try:
                await self._records.note_audit(entries)
            except BaseException:
                self._waiting = entries + self._waiting
                raise

    async def keep(self) -> None:
        """Run for ever: store new entries soon after they are noted, and delete old ones."""
        swept = -_SWEEP_S
        while True:
            if self._days and time.monotonic() - swept >= _SWEEP_S:
                await self._forget()
                swept = time.monotonic()
            try:
                async with asyncio.timeout(_SWEEP_S):  # before Python 3.12 wait_for may swallow a cancellation
                    await self._noted.wait()
            except TimeoutError:
                continue
            self._noted.clear()
            await asyncio.sleep(_TOGETHER_S)
            await self.flush()

    async def _forget(self) -> None:
        before = Milliseconds(int(await self._trusted.now() - self._days * _DAY_MS))
        forgotten = 1
        while forgotten:
            forgotten = await self._records.forget_audit(before)

    async def close(self) -> None:
        """Store the remaining entries."""
        try:
            await self.flush()
        except StorageError as error:
            _log.error("the end of the audit is lost", entries=len(self._waiting), reason=str(error))
