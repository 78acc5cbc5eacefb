"""The audit: what waits is stored together, soon, and its job ends when it is told to."""

import asyncio
from collections.abc import Iterable

import pytest

from gateway.access.access import Access
from gateway.access.audit import Audit
from gateway.access.grants import parse_grant
from gateway.trusted_clock import TrustedClock
from storage import AuditEntry, Milliseconds, StorageUnavailable


class _Values:
    async def keep(self, name: str, value: str) -> str:
        return value

    async def keep_newest(self, name: str, value: str) -> None: ...


_TRUSTED = TrustedClock(_Values())
_ANN = Access("ann", parse_grant({}), credential="1")


class _Records:
    def __init__(self) -> None:
        self.stored: list[AuditEntry] = []
        self.writes = 0
        self.broken = False
        self.written = asyncio.Event()

    async def note_audit(self, entries: Iterable[AuditEntry]) -> None:
        if self.broken:
            raise StorageUnavailable("the disk is away")
        self.stored += entries
        self.writes += 1
        self.written.set()

    async def forget_audit(self, before: Milliseconds) -> int:
        return 0


def test_many_entries_are_stored_together() -> None:
    async def work() -> None:
        records = _Records()
        audit = Audit(records, 0, _TRUSTED)
        job = asyncio.create_task(audit.keep())
        for number in range(1000):
            audit.note("write", _ANN, path=str(number))
        await records.written.wait()
        job.cancel()
        assert (len(records.stored), records.writes) == (1000, 1)
        assert [entry.path for entry in records.stored] == [str(number) for number in range(1000)]

    asyncio.run(asyncio.wait_for(work(), 60))


def test_what_cannot_be_stored_waits_on() -> None:
    async def work() -> None:
        records = _Records()
        audit = Audit(records, 0, _TRUSTED)
        records.broken = True
        audit.note("write", _ANN, path="1")
        with pytest.raises(StorageUnavailable):
            await audit.flush()
        audit.note("write", _ANN, path="2")
        records.broken = False
        await audit.flush()
        assert [entry.path for entry in records.stored] == ["1", "2"]

    asyncio.run(asyncio.wait_for(work(), 60))


def test_the_job_ends_also_where_something_is_noted_as_it_is_told_to() -> None:
    async def work() -> None:
        audit = Audit(_Records(), 0, _TRUSTED)
        job = asyncio.create_task(audit.keep())
        await asyncio.sleep(0)
        audit.note("write", _ANN)
        await asyncio.sleep(0)  # the job is about to wake
        job.cancel()
        done, _ = await asyncio.wait([job], timeout=60)
        assert done

    asyncio.run(asyncio.wait_for(work(), 60))


def test_refusals_have_a_bound() -> None:
    async def work() -> None:
        records = _Records()
        audit = Audit(records, 0, _TRUSTED)
        for _ in range(10_000):
            audit.note_refusal(None, "demo", "no")
        await audit.flush()
        assert len(records.stored) + audit.lost == 10_000
        assert len(records.stored) <= 100

    asyncio.run(asyncio.wait_for(work(), 60))
