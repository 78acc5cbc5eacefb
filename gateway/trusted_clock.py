"""The time by which it is decided what is old enough to be deleted for good: the system clock, unless that has leapt.

A clock that is wrong for an hour, after a start without a battery or by a mistake of an operator, would otherwise end
what is young. The clock may be set back at any time. If it leaps forward by more than a day, time goes on from where it
was until the gateway has run for a day with the new time.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Protocol

import msgspec
import structlog
from msgspec import Struct

from storage import DataDamaged, wall_clock

_log = structlog.get_logger("gateway.clock")

_NAME = "clock"
_HOUR_MS = 3600 * 1000
LEAP_MS = 24 * _HOUR_MS
"""By how much the clock may be ahead of the expected time."""
DOUBT_MS = 24 * _HOUR_MS
"""How long a gateway must run with a clock that has leapt before it takes the new time."""
_NOTED_MS = 60 * 1000
"""How far the time moves before it is stored."""
_KEEP_S = 3600.0


class KeptValues(Protocol):
    """Storage of single values."""

    async def keep(self, name: str, value: str) -> str: ...

    async def keep_newest(self, name: str, value: str) -> None: ...


class TrustedTime(Struct, frozen=True):
    """What is stored. Both are in milliseconds."""

    time: int
    """Since 1970: the time when it was last stored."""
    doubted: int = 0
    """How long gateways have run with a clock that has leapt."""


def advance(known: TrustedTime, wall: int, elapsed: int) -> TrustedTime:
    """Return the time now.

    Args:
        wall: what the system clock says, in milliseconds since 1970.
        elapsed: for how long the process has run since then, in milliseconds.
    """
    expected, doubted = known.time + elapsed, known.doubted + elapsed
    if wall <= expected + LEAP_MS or doubted >= DOUBT_MS:
        return TrustedTime(wall)
    return TrustedTime(expected, doubted)


class TrustedClock:
    """The time that gateways on one database have gone by.

    Args:
        clock: milliseconds since 1970.
        monotonic: seconds.
    """

    def __init__(
        self,
        values: KeptValues,
        clock: Callable[[], int] = wall_clock,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._values = values
        self._clock = clock
        self._monotonic = monotonic
        self._looked: float | None = None
        self._reading = asyncio.Lock()
        self._doubts = False
        self.was_set_back = False
        """Whether the clock was behind the stored time at the first look."""

    async def now(self) -> int:
        """Return the time in milliseconds since 1970.

        Raises:
            StorageError
        """
        async with self._reading:
            wall, monotonic = self._clock(), self._monotonic()
            known = await self._known(wall)
            if self._looked is None:
                self._looked = monotonic
                self.was_set_back = wall < known.time
            new = advance(known, wall, int((monotonic - self._looked) * 1000))
            if abs(new.time - known.time) >= _NOTED_MS or new.doubted - known.doubted >= _NOTED_MS:
                await self._values.keep_newest(_NAME, msgspec.json.encode(new).decode())
                self._looked = monotonic
            doubts = new.time != wall
            if doubts and not self._doubts:
                _log.warning(
                    "the clock is far ahead of the last time at which a gateway ran: for a day, nothing is deleted that"
                    " is old only by this clock",
                    days=round((wall - new.time) / (24 * _HOUR_MS), 1),
                )
            self._doubts = doubts
            return new.time

    async def _known(self, wall: int) -> TrustedTime:
        new = TrustedTime(wall)
        try:
            kept = await self._values.keep(_NAME, msgspec.json.encode(new).decode())
            return msgspec.json.decode(kept, type=TrustedTime)
        except (DataDamaged, msgspec.DecodeError) as error:
            _log.error("the time is noted anew", reason=str(error))
            await self._values.keep_newest(_NAME, msgspec.json.encode(new).decode())
            return new

    async def run(self) -> None:
        """Note the time now and then, until cancelled."""
        try:
            while True:
                await self.now()
                await asyncio.sleep(_KEEP_S)
        finally:
            with contextlib.suppress(Exception):  # the next start knows an earlier time
                await self.now()
