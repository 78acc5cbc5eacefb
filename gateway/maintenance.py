"""Work in the background, for later: snapshots where the log since the last one has grown long."""

import structlog

from gateway.documents import Documents, in_worker, stored_parts
from gateway.updates import InvalidUpdate, SnapshotFault, prove_snapshot
from storage import Snapshot, Storage, StorageError

_log = structlog.get_logger("gateway.maintenance")


class Maintenance:
    """Takes the snapshots that open documents ask for, one at a time."""

    def __init__(self, storage: Storage, documents: Documents) -> None:
        self._storage = storage
        self._documents = documents

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            await self._documents.due_event.wait()
            self._documents.due_event.clear()
            while self._documents.due:
                project, path = next(iter(self._documents.due))
                del self._documents.due[project, path]
                try:
                    await self.take_snapshot(project, path)
                except (StorageError, SnapshotFault, InvalidUpdate) as error:
                    # A snapshot is a cache: without it the next open replays more. The next update asks again.
                    _log.warning("snapshot not taken", project=project, path=path, reason=str(error))

    async def take_snapshot(self, project: str, path: str) -> bool:
        """Build a file's document from its log, prove that the result is whole, and keep it.

        Returns False if nothing is due.
        """
        stored = await self._storage.read_document(project, path)
        if stored is None or not stored.updates:
            return False
        body = await in_worker(prove_snapshot, stored_parts(stored))
        await self._storage.put_snapshot(project, path, Snapshot(stored.version, body))
        self._documents.note_snapshot(project, path, stored.size, len(body))
        return True
