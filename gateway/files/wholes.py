"""A cache of whole documents as they are sent to clients, in the memory that open documents leave free."""

from collections.abc import Callable

from msgspec import Struct

from storage import FileHead

_OVERHEAD = 500
"""The approximate overhead in bytes of a document, beyond its own bytes."""
_SHARE = 4
"""A document is not kept if it alone takes more than one part in this many of the memory."""


class Whole(Struct, gc=False):
    """A whole document in the form of the wire."""

    head: FileHead
    """The state that the document is of."""
    update: bytes
    headers: list[tuple[bytes, bytes]] | None = None
    """The headers of the answer, set by who first answers with it."""


class Wholes:
    """The newest whole documents that were asked for, least recently used first.

    Args:
        limit: the most bytes that these and open documents may take together.
        open_bytes: returns how many open documents take.
    """

    def __init__(self, limit: int, open_bytes: Callable[[], int]) -> None:
        self._limit = limit
        self._open_bytes = open_bytes
        self._kept: dict[tuple[str, str], Whole] = {}
        self.size = 0
        """The bytes that the cache takes."""

    def get(self, project: str, path: str, head: FileHead) -> Whole | None:
        """Return the document of a file in exactly this state, if it is kept."""
        key = (project, path)
        kept = self._kept.get(key)
        if kept is None or (kept.head is not head and kept.head != head):
            return None
        del self._kept[key]
        self._kept[key] = kept  # most recently used last
        return kept

    def keep(self, project: str, path: str, head: FileHead, update: bytes) -> None:
        """Keep the document of a file, if there is room for it."""
        self.forget(project, path)
        if (len(update) + _OVERHEAD) * _SHARE > self._limit:
            return
        self._kept[project, path] = Whole(head, update)
        self.size += len(update) + _OVERHEAD
        self.make_room()

    def forget(self, project: str, path: str) -> None:
        """Forget the document of a file that has changed."""
        kept = self._kept.pop((project, path), None)
        if kept is not None:
            self.size -= len(kept.update) + _OVERHEAD

    def forget_project(self, project: str) -> None:
        """Forget the documents of a project that was erased."""
        for key in [key for key in self._kept if key[0] == project]:
            self.forget(*key)

    def make_room(self) -> None:
        """Forget documents, least recently used first, until the others fit beside the open documents."""
        while self._kept and self.size + self._open_bytes() > self._limit:
            self.forget(*next(iter(self._kept)))
