"""Memory that is free goes back to the system: the C library would keep it for the next time that as much is needed."""

import asyncio
import ctypes
import sys
from collections.abc import Callable
from typing import Any

from gateway.maintenance.jobs import Job

_LOOK_EVERY_S = 1.0
_WORTH_TRIMMING = 64 * 2**20
"""So many bytes must have become free since the last time: a trim walks through all that is free."""
_MAPPED_FROM = 2**20
"""A buffer of so many bytes gets pages of its own, which go back at once when it is free."""
_M_MMAP_THRESHOLD = -3


def map_large_buffers() -> None:
    """Give every large buffer pages of its own, for the rest of this process. glibc raises its threshold up to 32 MB
    once such a buffer was freed, and keeps what lies between two smaller ones that are in use."""
    if (mallopt := _of_c_library("mallopt")) is not None:
        mallopt(_M_MMAP_THRESHOLD, _MAPPED_FROM)


class _Mallinfo2(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    ]


def free_bytes() -> int:
    """Bytes that the C library has and nobody uses, given back or not; 0 where it does not tell."""
    mallinfo2 = _of_c_library("mallinfo2")
    if mallinfo2 is None:
        return 0
    mallinfo2.restype = _Mallinfo2
    return int(mallinfo2().fordblks)


def trim() -> None:
    """Give back what the C library does not need."""
    if (malloc_trim := _of_c_library("malloc_trim")) is not None:
        malloc_trim(0)


class FreeMemory:
    """Gives free memory back, as soon as no more of it becomes free."""

    def __init__(self, measure: Callable[[], int] = free_bytes, trim: Callable[[], None] = trim) -> None:
        self._measure = measure
        self._trim = trim
        self._given_back = self._before = measure()
        self.job = Job("memory")

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            self.look()

    def look(self) -> None:
        """Give back what is free, if it is time to."""
        now = self._measure()
        if self._given_back + _WORTH_TRIMMING <= now <= self._before:
            self._trim()
            self._given_back = now
        self._given_back = min(self._given_back, now)
        self._before = now


def _of_c_library(name: str) -> Any:
    """A function of glibc; None with another C library."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
