"""The C library's heap, which keeps freed memory for the next peak unless it is told otherwise."""

import ctypes
import functools
import sys
from collections.abc import Callable
from typing import Any

_WORTH_TRIMMING = 64 * 2**20
"""Bytes that must have become free since the last trim before the next one: a trim walks over all free memory."""
_MAPPED_FROM = 2**20
"""A buffer of at least this many bytes gets its own pages, which are returned as soon as it is freed."""
_M_MMAP_THRESHOLD = -3


def map_large_buffers() -> None:
    """Give every large buffer its own pages, for the rest of this process. Otherwise glibc raises its threshold to up
    to 32 MB once such a buffer is freed, and keeps the memory between two smaller buffers in use."""
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
    """Return the free bytes that the C library holds, returned to the system or not; 0 if it does not report them."""
    mallinfo2 = _of_c_library("mallinfo2")
    if mallinfo2 is None:
        return 0
    mallinfo2.restype = _Mallinfo2
    return int(mallinfo2().fordblks)


def trim() -> None:
    """Return the C library's free memory to the system."""
    if (malloc_trim := _of_c_library("malloc_trim")) is not None:
        malloc_trim(0)


@functools.cache
def _of_c_library(name: str) -> Any:
    """Return a function of glibc; None with another C library."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None


class Heap:
    """Returns free memory to the system once much of it has become free.

    Args:
        free: the free bytes at first.
        trim: returns them.
    """

    def __init__(self, free: int, trim: Callable[[], None] = trim) -> None:
        self._given_back = free
        self._trim = trim

    def look(self, free: int) -> None:
        """Trim if much has become free since the last trim.

        Args:
            free: the free bytes now.
        """
        if free >= self._given_back + _WORTH_TRIMMING:
            self._trim()
            self._given_back = free
        self._given_back = min(self._given_back, free)
