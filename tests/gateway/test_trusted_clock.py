"""The time by which is decided what is deleted for good, where the system clock leaps."""

import asyncio
import sqlite3
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pycrdt
import pytest

from gateway.access.access import OPEN
from gateway.access.audit import Audit
from gateway.maintenance.retention import Retainer, Squashed
from gateway.settings import RetentionPolicy
from gateway.trusted_clock import DOUBT_MS, LEAP_MS, TrustedClock, TrustedTime, advance
from storage import AlreadyDone, AppendUpdate, CreateSession, Once, Version
from storage.sqlite import SQLiteStorage

_DAY_MS = 24 * 3600 * 1000
_YEAR_MS = 365 * _DAY_MS
_T = 1_800_000_000_000
_HOUR_S = 3600.0


def _letter(number: int) -> bytes:
    """An update of one client that adds a letter."""
    document: pycrdt.Doc[Any] = pycrdt.Doc(client_id=number + 1)
    document["content"] = pycrdt.Text("x")
    return document.get_update()


class _Clocks:
    """A system clock and a monotonic one, which a test moves."""

    def __init__(self) -> None:
        self.wall = _T
        self.monotonic = 100.0

    def run(self, seconds: float) -> None:
        self.wall += int(seconds * 1000)
        self.monotonic += seconds

    def trusted(self, storage: SQLiteStorage) -> TrustedClock:
        return TrustedClock(storage, lambda: self.wall, lambda: self.monotonic)


def _with_storage(folder: Path, work: Callable[[SQLiteStorage, _Clocks], Awaitable[None]]) -> None:
    async def main() -> None:
        clocks = _Clocks()
        storage = await SQLiteStorage.open(folder / "gateway.db", clock=lambda: clocks.wall)
        try:
            await work(storage, clocks)
        finally:
            await storage.close()

    asyncio.run(main())


def test_time_follows_the_clock_and_a_leap_only_after_a_day() -> None:
    assert advance(TrustedTime(_T), _T + 5, 5) == TrustedTime(_T + 5)
    assert advance(TrustedTime(_T), _T + LEAP_MS, 0) == TrustedTime(_T + LEAP_MS)
    assert advance(TrustedTime(_T), _T - _YEAR_MS, 5) == TrustedTime(_T - _YEAR_MS)
    doubted = advance(TrustedTime(_T), _T + _YEAR_MS, 5)
    assert doubted == TrustedTime(_T + 5, 5)
    assert advance(doubted, _T + 10, 5) == TrustedTime(_T + 10)
    assert advance(TrustedTime(_T, DOUBT_MS - 5), _T + _YEAR_MS, 5) == TrustedTime(_T + _YEAR_MS)


def test_a_leap_counts_once_the_gateway_has_run_with_it_for_a_day_also_across_starts(tmp_path: Path) -> None:
    async def work(storage: SQLiteStorage, clocks: _Clocks) -> None:
        trusted = clocks.trusted(storage)
        assert await trusted.now() == _T
        clocks.wall += _YEAR_MS
        ran = 0
        for hour in range(23):
            if hour % 5 == 0:
                trusted = clocks.trusted(storage)  # a start
                await trusted.now()
                assert not trusted.was_set_back
            clocks.run(_HOUR_S)
            ran += int(_HOUR_S * 1000)
            assert await trusted.now() == _T + ran
        clocks.run(_HOUR_S)
        assert await trusted.now() == clocks.wall
        clocks.wall -= _YEAR_MS
        assert await trusted.now() == clocks.wall
        clocks.wall -= _DAY_MS
        trusted = clocks.trusted(storage)
        assert await trusted.now() == clocks.wall
        assert trusted.was_set_back

    _with_storage(tmp_path, work)


def test_a_stored_time_that_is_damaged_is_noted_anew(tmp_path: Path) -> None:
    async def work(storage: SQLiteStorage, clocks: _Clocks) -> None:
        assert await clocks.trusted(storage).now() == _T
        with sqlite3.connect(tmp_path / "gateway.db") as connection:
            connection.execute("UPDATE kept SET value = replace(value, '18', '19')")
        connection.close()
        clocks.wall += _YEAR_MS
        assert await clocks.trusted(storage).now() == clocks.wall
        clocks.wall += _YEAR_MS
        assert await clocks.trusted(storage).now() == _T + _YEAR_MS

    _with_storage(tmp_path, work)


def test_a_clock_that_leaps_forward_deletes_no_history_and_no_audit(tmp_path: Path) -> None:
    async def work(storage: SQLiteStorage, clocks: _Clocks) -> None:
        clocks.wall = time.time_ns() // 1_000_000  # entries of the audit are noted by the clock of the system
        trusted = clocks.trusted(storage)
        await trusted.now()
        retainer = Retainer(storage, RetentionPolicy(days=30, tombstone_days=30))
        audit = Audit(storage, 30, trusted)
        audit.note("write", OPEN)
        for number in range(3):
            await storage.append("demo", (AppendUpdate("a.md", Version(number), _letter(number)),))
        clocks.wall += _YEAR_MS
        await storage.append("demo", (AppendUpdate("a.md", Version(3), _letter(3)),))
        assert await retainer.squash_all(now=await trusted.now()) == Squashed()
        await audit.flush()
        await audit._forget()
        assert len(await storage.audit(limit=10)) == 1
        for _ in range(25):
            clocks.run(_HOUR_S)
            await trusted.now()
        assert (await retainer.squash_all(now=await trusted.now())).versions == 3

    _with_storage(tmp_path, work)


def test_a_key_is_known_where_the_clock_leaps(tmp_path: Path) -> None:
    async def work(storage: SQLiteStorage, clocks: _Clocks) -> None:
        clocks.wall = time.time_ns() // 1_000_000
        once = Once("key", b"digest")
        await storage.create_session("demo", CreateSession("one", None, once))
        for leap in (_YEAR_MS, -_DAY_MS - _YEAR_MS):
            clocks.wall += leap
            assert await storage.done("demo", "key") is not None
            with pytest.raises(AlreadyDone):
                await storage.create_session("demo", CreateSession("two", None, once))

    _with_storage(tmp_path, work)
