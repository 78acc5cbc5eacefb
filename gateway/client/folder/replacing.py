"""Replaces files of a folder by texts of the gateway, and merges what local programs save at the same time.

A program may save between the last look at a file and its replacement, save a text that it made from an earlier one, or
write into a file that it opened before the replacement. None of that is lost.
"""

import asyncio
import contextlib
import math
import os
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

import msgspec
from msgspec import Struct

from gateway.client.folder.files import Folder, Placed, read_regular, sha256
from gateway.client.folder.merging import NoText, merged, text_of
from gateway.client.folder.recent_texts import RecentTexts
from gateway.client.folder.state import FolderState, KnownFile, UnmergedSave

_QUIET_S = 0.02
"""A file written more recently than this may still be incomplete."""
_EMPTIED_S = 0.1
"""A file truncated to zero bytes more recently than this is probably about to be rewritten."""
_LATE_S = 2.0
"""How long a replaced file is kept for programs that had opened it before and write into it now."""
_MOST_LATE_BYTES = 16 * 2**20


class _Replaced(Struct, frozen=True):
    """A file that was replaced by a text of the gateway."""

    path: str
    file: Path
    """Where it is now."""
    content: bytes
    size_and_time: tuple[int, int]
    until: float
    """When it is looked at for the last time, by the clock of the event loop."""


class Replacer:
    """Replaces the files of a folder.

    Args:
        mark: called with a path that has to be compared with the gateway.
        is_busy: whether somebody works on a path.
    """

    def __init__(
        self, folder: Folder, state: FolderState, mark: Callable[[str], None], is_busy: Callable[[str], bool]
    ) -> None:
        self._folder = folder
        self._state = state
        self._mark = mark
        self._is_busy = is_busy
        self._recent = RecentTexts()
        self._replaced: deque[_Replaced] = deque()
        """Replaced files, in the order of their times."""
        self._replaced_bytes = 0
        self._has_replaced = asyncio.Event()

    def look(self, path: str) -> tuple[os.stat_result | None, bytes | None]:
        """Read a file with the stat result that the content had."""
        return self._folder.look(path) or (None, None)

    def saved(self, path: str, content: bytes, former: str | None) -> None:
        """Note that a text is sent which was saved here; `former` is the hash of the one before."""
        self._recent.saved(path, content, former)

    def base_of(self, path: str, content: bytes, about: os.stat_result, last: bytes) -> bytes:
        """Return the text that a save was made from: `last`, or one that the file had lately."""
        return self._recent.base_of(path, content, about, last)

    async def repair(self, path: str, known: KnownFile | None) -> bool:
        """Merge a save with what arrived before, if it was made from an earlier text; returns whether it was."""
        last = self._recent.last(path)
        if known is None or last is None:
            return False
        about, now = self.look(path)
        if now is None or about is None:
            return False
        base = await asyncio.to_thread(self._recent.base_of, path, now, about, last)
        if base == last:
            return False
        both = merged(text_of(base), text_of(now), text_of(last)).encode()
        await self.replace(path, now, both, msgspec.structs.replace(known, size=-1, mtime_ns=0))
        self._mark(path)
        return True

    async def replace(self, path: str, expected: bytes | None, content: bytes, known: KnownFile) -> bool:
        """Replace a file if it still has the expected content; returns whether it was replaced.

        Args:
            known: the known state afterwards. If its hash is that of `content`, size and mtime are filled in.
        """
        prepared = await asyncio.to_thread(self._folder.prepare, path, content)
        placed: Placed | None = None
        try:
            if self._folder.read(path) != expected:
                return False
            if sha256(content) == known.sha256:
                about = prepared.stat()
                known = msgspec.structs.replace(known, size=about.st_size, mtime_ns=about.st_mtime_ns)
            try:
                placed = self._folder.put_in_place(path, prepared, known, expected)
            except FileExistsError:
                self._folder.state.note(path, self._state.files.get(path))
                return False
            except OSError:
                self._folder.state.note(path, self._state.files.get(path))
                raise
        finally:
            if placed is None:
                prepared.unlink(missing_ok=True)
        self._state.unmerged.pop(path, None)
        self._state.know(path, known)
        if expected is not None:
            await self._after_replacement(path, expected, content, placed)
        return True

    async def _after_replacement(self, path: str, expected: bytes, content: bytes, placed: Placed) -> None:
        """Merge what was saved between the last look at a file and its replacement."""
        file = placed.replaced
        found = None if file is None else _read_regular(file)
        if file is None or found is None or found[1] == expected:
            self._recent.replaced(path, expected, content, placed.since_ns)
            if file is not None and found is not None:
                self._keep_replaced(path, file, found)
            elif file is not None:
                file.unlink(missing_ok=True)
            return
        about, saved = found  # an editor's save came in between
        base = self._recent.base_of(path, saved, about, expected)
        self._recent.replaced(path, saved, content, placed.since_ns)
        while True:
            left_s = until_quiet_s(about)
            if saved or left_s <= 0:
                try:
                    self._state.unmerged[path] = UnmergedSave(text_of(base), text_of(saved))
                except NoText:
                    self._folder.put_back(path, file)
                    self._mark(path)
                    return
            if left_s <= 0:
                break
            await asyncio.sleep(left_s)
            about, saved = _read_regular(file) or (about, saved)
        await self.merge_save(path)
        self._keep_replaced(path, file, (about, saved))
        self._mark(path)

    async def merge_save(self, path: str) -> None:
        """Merge a local save, which the gateway's text has just replaced, into the present content."""
        save = self._state.unmerged[path]
        while self._state.unmerged.get(path) == save:
            _, now = self.look(path)
            known = self._state.files.get(path)
            try:
                both = save.text if now is None else merged(save.base, save.text, text_of(now))
            except NoText:  # the file was overwritten since
                both = None
            if both is None or known is None or now == both.encode():
                if both is not None and known is None:
                    self._folder.write(path, both.encode())
                self._folder.state.note(path, known)
                del self._state.unmerged[path]
            else:
                await self.replace(path, now, both.encode(), msgspec.structs.replace(known, size=-1, mtime_ns=0))

    # Files that were replaced: a program that had opened one may still write into it

    def _keep_replaced(self, path: str, file: Path, found: tuple[os.stat_result, bytes]) -> None:
        now = asyncio.get_running_loop().time()
        self._replaced.append(_replaced(path, file, found, now + _LATE_S))
        self._replaced_bytes += len(found[1])
        self._has_replaced.set()
        if self._replaced_bytes > _MOST_LATE_BYTES:
            self._look_at_replaced(now + _LATE_S)

    async def look_regularly(self) -> None:
        """Find what is written into replaced files, until cancelled; then call `finish`."""
        while True:
            await self._has_replaced.wait()
            await asyncio.sleep(_LATE_S / 2)
            self._look_at_replaced(asyncio.get_running_loop().time())
            if not self._replaced:
                self._has_replaced.clear()

    def finish(self) -> None:
        """Look at the replaced files for the last time, and delete them."""
        self._look_at_replaced(math.inf)

    def _look_at_replaced(self, now: float) -> None:
        """Find what was written into replaced files, and delete those that were kept until `now`."""
        kept, self._replaced = self._replaced, deque()
        for each in kept:
            found = _read_regular(each.file) if size_and_time_of(each.file) != each.size_and_time else None
            if found is not None and found[1] != each.content:
                if now < math.inf and not _rests(found[0]):
                    self._replaced.append(each)
                    continue
                if self._is_busy(each.path) or each.path in self._state.unmerged:
                    self._replaced.append(each)
                    continue
                with contextlib.suppress(NoText):
                    self._state.unmerged[each.path] = UnmergedSave(text_of(each.content), text_of(found[1]))
                    self._mark(each.path)
                    if now < math.inf:  # the program may go on writing
                        self._replaced.append(_replaced(each.path, each.file, found, now + _LATE_S))
                        continue
            elif each.until > now:
                self._replaced.append(each)
                continue
            each.file.unlink(missing_ok=True)
        self._replaced_bytes = sum(len(each.content) for each in self._replaced)


def size_and_time_of(file: Path) -> tuple[int, int] | None:
    """Return the size of a file and when it was written, in nanoseconds; None if it is gone."""
    try:
        about = file.stat()
    except OSError:
        return None
    return about.st_size, about.st_mtime_ns


def _read_regular(file: Path) -> tuple[os.stat_result, bytes] | None:
    try:
        return read_regular(file)
    except OSError:  # it is a link, or gone
        return None


def _replaced(path: str, file: Path, found: tuple[os.stat_result, bytes], until: float) -> _Replaced:
    about, content = found
    return _Replaced(path, file, content, (about.st_size, about.st_mtime_ns), until)


def until_quiet_s(about: os.stat_result) -> float:
    """Return after how many seconds a file counts as completely written, unless it is written to again."""
    age_s = time.time() - about.st_mtime
    return (_QUIET_S if about.st_size else _EMPTIED_S) - age_s if age_s >= 0 else 0


def _rests(about: os.stat_result) -> bool:
    return not 0 <= time.time() - about.st_mtime < _EMPTIED_S
