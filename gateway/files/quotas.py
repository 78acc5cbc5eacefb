"""How much a project may hold: files, and bytes of what is stored of them (GATEWAY_PROJECT_FILES, _BYTES)."""

import asyncio
from collections.abc import Iterable

from gateway.wire.problems import QuotaExceeded
from storage import Commit, Committed, Storage

_PROJECTS = 1000


class _Holding:
    """What a project holds: the stored bytes of each of its files."""

    def __init__(self) -> None:
        self.files: dict[str, int] = {}
        self.bytes = 0
        self.heard: set[str] | None = None
        """The files that were heard of, while the others are read."""
        self.read = asyncio.Event()
        """All are known."""

    def put(self, path: str, size: int | None) -> None:
        """A file has so many bytes now; None: it was deleted."""
        if self.heard is not None:
            self.heard.add(path)
        self.bytes -= self.files.pop(path, 0)
        if size is not None:
            self.files[path] = size
            self.bytes += size


class Quotas:
    """Knows what the projects hold that somebody writes to, as far as a limit is set.

    Two writes at the same moment may pass a limit by one of them: what is not stored yet is not counted.

    Args:
        files, bytes_: 0: no limit.
    """

    def __init__(self, storage: Storage, *, files: int, bytes_: int) -> None:
        self._storage = storage
        self._files = files
        self._bytes = bytes_
        self._known: dict[str, _Holding] = {}
        if files or bytes_:
            storage.listen(self._committed, self._missed)

    async def look(self, project: str) -> None:
        """Learn what a project holds, before something is added to it."""
        if not (self._files or self._bytes):
            return
        known = self._known.get(project)
        if known is not None:
            await known.read.wait()
            return
        while len(self._known) >= _PROJECTS:
            del self._known[next(iter(self._known))]
        holding = self._known[project] = _Holding()  # known before it is read: what is committed meanwhile is heard of
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
        """Raises QuotaExceeded where files (by path, with the bytes that are added to each) do not fit any more."""
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
            holding = self._known.get(committed.project.name)
            if holding is not None and isinstance(committed, Committed):
                holding.put(committed.head.path, None if committed.head.deleted else committed.head.size)

    def _missed(self, batch: tuple[Commit, ...]) -> None:
        for committed in batch:
            self._known.pop(committed.project.name, None)
