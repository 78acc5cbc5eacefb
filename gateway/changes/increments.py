"""Small updates within the entries of the change feed, which save a follower the request for each of them."""

from msgspec.structs import replace

from gateway.changes.cursors import Position
from gateway.files.reader import FileReader
from gateway.pace import with_turns
from gateway.wire.changes import FeedEntry, FileFeedEntry
from storage import DataDamaged, Storage

_UPDATE_BYTES = 4096
"""The size of the largest update that an entry carries."""
_TOTAL_BYTES = 64 * 1024
"""The size of all updates of an answer together."""
_FILES = 50
"""How many entries of an answer are looked up: a client that is far behind reads the files that it shows anyway."""


class Increments:
    """Adds updates to the entries of the feed."""

    def __init__(self, storage: Storage, files: FileReader) -> None:
        self._storage = storage
        self._files = files

    async def of(self, project: str, entries: list[FeedEntry], since: Position) -> list[FeedEntry]:
        """Return the entries of one answer, those of modified files with their small updates since the position."""
        if since.sequence is None:
            return entries
        told, left, looked_up = list[FeedEntry](), _TOTAL_BYTES, 0
        async for entry in with_turns(entries):
            if isinstance(entry, FileFeedEntry) and entry.change_type == "modified" and left and looked_up < _FILES:
                looked_up += 1
                entry = await self._with_update(project, entry, since.sequence, min(_UPDATE_BYTES, left))
                left -= len(entry.update or b"")
            told.append(entry)
        return told

    async def _with_update(self, project: str, entry: FileFeedEntry, since: int, most_bytes: int) -> FileFeedEntry:
        known = await self._storage.version_at(project, entry.path, since)
        if not known:
            return entry
        try:
            content = await self._files.read_increment(project, entry.path, known, most_bytes)
        except DataDamaged:  # the request for the file says which version is damaged
            return entry
        if content is None or content.version < entry.version:
            return entry
        update = await self._files.wire_update(content)
        if len(update) > most_bytes:
            return entry
        # Versions that were stored since the entry was read are part of the update: the client is told them again.
        return replace(
            entry, version=content.version, from_version=known, incarnation=content.incarnation, update=update
        )
