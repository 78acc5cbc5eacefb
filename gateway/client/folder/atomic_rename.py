"""Renames that lose no file which another process puts in the way: `renameat2` of Linux, `renameatx_np` of macOS."""

import ctypes
import errno
import os
import sys
from collections.abc import Callable
from pathlib import Path

_HERE = -2 if sys.platform == "darwin" else -100
"""`AT_FDCWD`."""
_EXCHANGE, _EXCLUSIVE = (2, 4) if sys.platform == "darwin" else (2, 1)
_UNKNOWN = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EPERM}
"""The errors of systems and file systems without such renames."""


def _function() -> Callable[..., int] | None:
    name = {"linux": "renameat2", "darwin": "renameatx_np"}.get(sys.platform)
    if name is None:
        return None
    try:
        found = getattr(ctypes.CDLL(None, use_errno=True), name)
    except (OSError, AttributeError):
        return None
    found.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
    found.restype = ctypes.c_int
    return found  # type: ignore[no-any-return]


_rename = _function()


def exchange(name: str, folder: int | None, file: Path) -> bool:
    """Exchange two files in one step; returns False if the system cannot.

    Programs that watch the folder are told that `name` has gone and then come.

    Raises:
        FileNotFoundError: one of them does not exist.
    """
    return _renamed((folder, name), (None, file), _EXCHANGE)


def rename_exclusively(file: Path, name: str, folder: int | None) -> bool:
    """Rename a file to a name that is free; returns False if the system cannot.

    Raises:
        FileExistsError: the name is taken.
    """
    return _renamed((None, file), (folder, name), _EXCLUSIVE)


_Place = tuple[int | None, str | Path]


def _renamed(old: _Place, new: _Place, flag: int) -> bool:
    if _rename is None:
        return False
    places = (each for folder, name in (old, new) for each in (_HERE if folder is None else folder, os.fsencode(name)))
    if _rename(*places, flag) == 0:
        return True
    number = ctypes.get_errno()
    if number in _UNKNOWN:
        return False
    raise OSError(number, os.strerror(number), str(new[1]))
