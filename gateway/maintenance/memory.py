"""Memory that is free goes back to the system: the C library would keep it for the next time that as much is needed."""

import asyncio
import ctypes
import os
import sys
from collections.abc import Callable
from pathlib import Path

from gateway.maintenance.jobs import Job

_LOOK_EVERY_S = 1.0
_WORTH_TRIMMING = 64 * 2**20
"""So many bytes must have been added since the last time: a trim walks through all that is free."""
_MAPPED_FROM = 2**20
"""A buffer of so many bytes gets pages of its own, which go back at once when it is free."""
_M_MMAP_THRESHOLD = -3
_STATM = Path("/proc/self/statm")


def map_large_buffers() -> None:
    """Give every large buffer pages of its own, for the rest of this process. glibc raises its threshold up to 32 MB
    once such a buffer was freed, and keeps what lies between two smaller ones that are in use."""
    if (mallopt := _of_c_library("mallopt")) is not None:
        mallopt(_M_MMAP_THRESHOLD, _MAPPED_FROM)


def resident() -> int:
    """Bytes of memory that this process has; 0 where the system does not tell."""
    try:
        return int(_STATM.read_bytes().split()[1]) * os.sysconf("SC_PAGESIZE")
    except OSError:
        return 0


class FreeMemory:
    """Gives free memory back after the process has grown, as soon as it grows no more."""

    def __init__(self, measure: Callable[[], int] = resident, trim: Callable[[], object] | None = None) -> None:
        self._measure = measure
        self._trim = _trim if trim is None else trim
        self._settled = self._before = measure()
        self.job = Job("memory")

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            self.look()

    def look(self) -> None:
        """Give back what is free, if it is time to."""
        now = self._measure()
        if self._settled + _WORTH_TRIMMING <= now <= self._before:
            self._trim()
            self._settled = now = self._measure()
        self._settled = min(self._settled, now)
        self._before = now


def _trim() -> None:
    if (malloc_trim := _of_c_library("malloc_trim")) is not None:
        malloc_trim(0)


def _of_c_library(name: str) -> "Callable[..., int] | None":
    """A function of glibc; None with another C library."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
