"""A cache of documents and increments as they are sent to clients, in the memory that open documents leave free.

Beside them it keeps the rows of the log that were read for an increment, and those that were written since: a client
that follows a file asks for them after each write, and then no query is needed.
"""

from collections.abc import Callable, Iterator, Sequence

from msgspec import Struct

from storage import FileHead

_OVERHEAD = 500
"""The approximate overhead in bytes of an update, beyond its own bytes."""
_SHARE = 4
"""An update is not kept if it alone takes more than one part in this many of the memory."""
_INCREMENTS = 64
"""How many increments of one state of a file are kept: clients are at a few versions, not at all of them."""

_ROWS_BYTES = 64 * 1024
"""A file of which so much was written since its rows were last read is forgotten: perhaps nobody follows it."""
_ROW_OVERHEAD = 64
"""The approximate overhead in bytes of a row, beyond its own bytes."""


class SentUpdate(Struct, gc=False):
    """A whole document or an increment, in the form of the wire."""

    head: FileHead
    """The state to which the update leads."""
    builds_on: int
    """The version that the update builds on; 0: it is the whole document."""
    update: bytes
    headers: list[tuple[bytes, bytes]] | None = None
    """The headers of the answer, set by who first answers with it."""
    lines: bytes = b""
    """The same as encoded lines, set by who first answers with them."""


class _File(Struct):
    head: FileHead
    updates: dict[int, SentUpdate]
    after: int
    """The version before the first one of `rows`."""
    rows: list[bytes]
    """The rows of the log after that, up to `head`."""
    rows_size: int = 0
    size: int = 0


class SentUpdates:
    """What was asked for of the newest states of files, and how these came about, least recently used files first.

    Args:
        limit: the most bytes that these and open documents may take together.
        open_bytes: returns how many open documents take.
    """

    def __init__(self, limit: int, open_bytes: Callable[[], int]) -> None:
        self._limit = limit
        self._open_bytes = open_bytes
        self._files: dict[tuple[str, str], _File] = {}
        self._of_project: dict[str, dict[str, _File]] = {}
        """The same, by project and path."""
        self.size = 0
        """The bytes that the cache takes."""

    def get(self, project: str, path: str, head: FileHead, since: int = 0) -> SentUpdate | None:
        """Return the update that leads to exactly this state of a file, if it is kept.

        Args:
            since: the version that it builds on; 0: the whole document.
        """
        key = (project, path)
        file = self._files.get(key)
        if file is None or (file.head is not head and file.head != head):
            return None
        kept = file.updates.get(since)
        if kept is not None:
            del self._files[key]
            self._files[key] = file  # most recently used last
        return kept

    def rows_since(self, project: str, path: str, head: FileHead, version: int) -> list[bytes] | None:
        """Return the rows of the log that lead from a version to exactly this state of a file, if they are kept."""
        key = (project, path)
        file = self._files.get(key)
        if file is None or not file.after <= version <= head.version or (file.head is not head and file.head != head):
            return None
        del self._files[key]
        self._files[key] = file  # most recently used last
        return file.rows[version - file.after :]

    def keep(
        self, project: str, path: str, head: FileHead, update: bytes, since: int = 0, rows: Sequence[bytes] = ()
    ) -> None:
        """Keep an update that leads to the newest state of a file, if there is room for it.

        Args:
            rows: the rows of the log that the update was made of, if they are known.
        """
        key = (project, path)
        file = self._files.get(key)
        if file is not None and (file.head != head or since in file.updates or len(file.updates) > _INCREMENTS):
            self.forget(project, path)
            file = None
        size = len(update) + _OVERHEAD
        if size * _SHARE > self._limit:
            return
        if file is None:
            file = self._files[key] = _File(head, {}, head.version, [])
            self._of_project.setdefault(project, {})[path] = file
        if rows and since < file.after:
            rows_size = sum(map(len, rows)) + _ROW_OVERHEAD * len(rows)
            if rows_size <= _ROWS_BYTES // 2:
                size += rows_size - file.rows_size
                file.after, file.rows, file.rows_size = since, list(rows), rows_size
        file.updates[since] = SentUpdate(head, since, update)
        file.size += size
        self.size += size
        self.make_room()

    def advance(self, project: str, path: str, head: FileHead, row: bytes | None) -> None:
        """Note the newest state of a file: what was sent before leads to it no more, but with its row of the log.

        Args:
            row: None if the state has none, or if the row is not known.
        """
        file = self._files.get((project, path))
        if file is None:
            return
        old = file.head
        if row is None or head.version != old.version + 1 or head.incarnation != old.incarnation:
            self.forget(project, path)
            return
        file.rows_size += len(row) + _ROW_OVERHEAD
        if file.rows_size > _ROWS_BYTES:
            self.forget(project, path)
            return
        file.head, file.updates = head, {}
        file.rows.append(row)
        self.size += _OVERHEAD + file.rows_size - file.size
        file.size = _OVERHEAD + file.rows_size

    def forget(self, project: str, path: str) -> None:
        """Forget what was sent of a file."""
        file = self._files.pop((project, path), None)
        if file is None:
            return
        self.size -= file.size
        siblings = self._of_project.get(project)
        if siblings is not None and siblings.get(path) is file:
            del siblings[path]
            if not siblings:
                del self._of_project[project]

    def forget_project(self, project: str) -> Iterator[None]:
        """Forget what was sent of a project that was erased, a file with each step: nobody is given it meanwhile, since
        files that are made anew have other states."""
        return self._forget_all(project, self._of_project.pop(project, {}))

    def _forget_all(self, project: str, files: dict[str, _File]) -> Iterator[None]:
        while files:
            path, file = files.popitem()
            if self._files.get((project, path)) is file:
                self.forget(project, path)
            yield

    def make_room(self) -> None:
        """Forget files, least recently used first, until the others fit beside the open documents."""
        while self._files and self.size + self._open_bytes() > self._limit:
            self.forget(*next(iter(self._files)))
