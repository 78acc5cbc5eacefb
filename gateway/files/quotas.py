"""Quotas of a project: the number of its files and their stored bytes (GATEWAY_PROJECT_FILES, _BYTES)."""

import asyncio
from collections.abc import Iterable

from gateway.wire.problems import QuotaExceeded
from storage import Commit, Committed, ErasedProject, Storage

_PROJECTS = 1000


class _Holding:
    """The usage of a project: the stored bytes of each of its files."""

    def __init__(self) -> None:
        self.files: dict[str, int] = {}
        self.bytes = 0
        self.heard: set[str] | None = None
        """The files with commits since the read of all files began; None when no read is in progress."""
        self.read = asyncio.Event()
        """Set when all files have been read."""

    def put(self, path: str, size: int | None) -> None:
        """Set the stored bytes of a file; None: the file was deleted."""
        if self.heard is not None:
            self.heard.add(path)
        self.bytes -= self.files.pop(path, 0)
        if size is not None:
            self.files[path] = size
            self.bytes += size


class Quotas:
    """Tracks the usage of the projects that are written to, if a limit is set.

    Two concurrent writes may exceed a limit by one of them, since updates in flight are not counted.

    Args:
        files, bytes_: the limits of a project; 0: no limit.
    """

    def __init__(self, storage: Storage, *, files: int, bytes_: int) -> None:
        self._storage = storage
        self._files = files
        self._bytes = bytes_
        self._known: dict[str, _Holding] = {}
        self.limited = bool(files or bytes_)
        """Whether a limit is set."""
        if self.limited:
            storage.listen(self._committed, self._missed)

    def knows(self, project: str) -> bool:
        """Whether `look` has nothing to wait for: the usage of the project is known, or is not limited."""
        if not self.limited:
            return True
        known = self._known.get(project)
        return known is not None and known.read.is_set()

    async def look(self, project: str) -> None:
        """Read the usage of a project before something is added to it."""
        if not self.limited:
            return
        known = self._known.get(project)
        if known is not None:
            await known.read.wait()
            return
        while len(self._known) >= _PROJECTS:
            del self._known[next(iter(self._known))]
        holding = self._known[project] = _Holding()  # registered before the read, to count concurrent commits
        heard = holding.heard = set()
        try:
            async for head in self._storage.files(project):
                if head.path not in heard and not head.deleted:
                    holding.put(head.path, head.size)
        except BaseException:
            if self._known.get(project) is holding:
                del self._known[project]
            raise
        finally:
            holding.heard = None
            holding.read.set()

    def require(self, project: str, additions: Iterable[tuple[str, int]]) -> None:
        """Raise QuotaExceeded if additions (paths with the bytes added to each) exceed a quota of the project."""
        holding = self._known.get(project)
        if holding is None:
            return
        added = list(additions)
        more = sum(path not in holding.files for path, _ in added)
        if self._files and more and len(holding.files) + more > self._files:
            raise QuotaExceeded(project, "files", self._files)
        if self._bytes and holding.bytes + sum(size for _, size in added) > self._bytes:
            raise QuotaExceeded(project, "bytes", self._bytes)

    def _committed(self, batch: tuple[Commit, ...]) -> None:
        for committed in batch:
            if isinstance(committed, ErasedProject):
                self._known.pop(committed.project.name, None)
                continue
            holding = self._known.get(committed.project.name)
            if holding is not None and isinstance(committed, Committed):
                holding.put(committed.head.path, None if committed.head.deleted else committed.head.size)

    def _missed(self, batch: tuple[Commit, ...]) -> None:
        for committed in batch:
            self._known.pop(committed.project.name, None)
