"""Text diffs for entries of the change feed, for an agent or a person who was away."""

from typing import cast

from msgspec import Raw
from msgspec.structs import replace

from gateway.changes.cursors import Position
from gateway.files.history import Versions
from gateway.pace import with_turns
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
"""The errors for which one entry has no diff, while other entries still get theirs."""


class AsText:
    """Adds text diffs to the entries of one answer of the feed, until the answer is full.

    Args:
        most_bytes: the size limit of all diffs together, as UTF-8.
        root: the name of the `Y.Text`.
    """

    def __init__(self, storage: Storage, versions: Versions, most_bytes: int, root: str) -> None:
        self._storage = storage
        self._versions = versions
        self._left = most_bytes
        self._root = root
        self._full = False

    async def of(self, project: str, entries: list[FeedEntry], since: Position) -> list[FeedEntry]:
        """Return the entries of one answer with authors, diffs and prompts, for a client at the position `since`."""
        return [
            await self._of_turn(project, entry)
            if isinstance(entry, TurnFeedEntry)
            else await self._of_file(project, entry, since)
            async for entry in with_turns(entries, 8)
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
            diff = await self._versions.news_of(project, entry.path, known, entry.version, self._root, self._left)
        except _NO_TEXT:
            return None
        if diff is None:
            self._full = True
            return None
        encoded, length = diff
        self._left -= length
        return cast(str, Raw(encoded))  # a struct encodes both in the same way
