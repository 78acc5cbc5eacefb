"""What changed, as text: for an agent or a person that was away."""

from msgspec.structs import replace

from gateway.changes.cursors import Position
from gateway.files.history import Versions
from gateway.wire.changes import FeedEntry, FileFeedEntry, TurnFeedEntry
from gateway.wire.problems import (
    FileDeleted,
    FileNotFound,
    NotAText,
    TooComplex,
    VersionNotFound,
)
from storage import DataDamaged, Storage

_PROMPT_CHARACTERS = 1000
_NO_TEXT = (NotAText, TooComplex, VersionNotFound, FileDeleted, FileNotFound, DataDamaged)
"""Why an entry has no difference: that keeps no other entry from having one."""


class AsText:
    """Adds to the entries of one answer of the feed what changed. The work ends where the answer is full.

    Args:
        most_bytes: of all differences together, as UTF-8.
        root: the name of the `Y.Text`.
    """

    def __init__(self, storage: Storage, versions: Versions, most_bytes: int, root: str) -> None:
        self._storage = storage
        self._versions = versions
        self._left = most_bytes
        self._root = root
        self._full = False

    async def of(self, project: str, entries: list[FeedEntry], since: Position) -> list[FeedEntry]:
        """Entries of one answer to who asked from a position."""
        return [
            await self._of_turn(project, entry)
            if isinstance(entry, TurnFeedEntry)
            else await self._of_file(project, entry, since)
            for entry in entries
        ]

    async def _of_file(self, project: str, entry: FileFeedEntry, since: Position) -> FileFeedEntry:
        known: int | None = 0
        if since.sequence is not None:
            known = await self._storage.version_at(project, entry.path, since.sequence)
        authors = await self._versions.authors(project, entry.path, known or 0, entry.version)
        diff = None if known is None or self._full else await self._compare(project, entry, known)
        return replace(entry, from_version=known, authors=authors, diff=diff)

    async def _of_turn(self, project: str, entry: TurnFeedEntry) -> TurnFeedEntry:
        turn = await self._storage.read_turn(
            project, entry.session_id, entry.turn_id, after_block=entry.block_count, most_bytes=0
        )
        return entry if turn is None else replace(entry, prompt=turn.prompt[:_PROMPT_CHARACTERS])

    async def _compare(self, project: str, entry: FileFeedEntry, known: int) -> str | None:
        try:
            diff = await self._versions.news_of(project, entry.path, known, entry.version, self._root)
        except _NO_TEXT:
            return None
        size = len(diff.encode("utf-8", "surrogatepass"))
        if size > self._left:
            self._full = True
            return None
        self._left -= size
        return diff
