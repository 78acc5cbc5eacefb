"""Takes snapshots of documents whose log has grown long since the last one."""

from gateway.files.documents import Documents, stored_rows
from gateway.maintenance.jobs import Job
from gateway.workers.pool import Lane, in_worker
from gateway.yjs.snapshots import make_snapshot, update_size
from storage import Snapshot, Storage, Version


class Maintenance:
    """Takes the snapshots that open documents request, one at a time."""

    def __init__(self, storage: Storage, documents: Documents) -> None:
        self._storage = storage
        self._documents = documents
        self.job = Job("snapshots")

    async def run(self) -> None:
        """Run until cancelled."""
        while True:
            await self._documents.due_event.wait()
            self._documents.due_event.clear()
            while self._documents.due:
                project, path = next(iter(self._documents.due))
                version = self._documents.due.pop((project, path))
                try:
                    await self.take_snapshot(project, path, version)
                except Exception as error:
                    # A snapshot is a cache: without it the next open replays more. The next update requests it again.
                    self.job.failed(error, project=project, path=path)

    async def take_snapshot(self, project: str, path: str, version: Version | None = None) -> bool:
        """Build a file's document at a version (None: the newest) from its log, verify that it is whole, and store it.

        Returns False if there is one already, or no such version.
        """
        head = await self._storage.project_head(project)
        stored = await self._storage.read_document(project, path, at_version=version)
        if head is None or stored is None or not stored.updates:
            return False
        rows = await stored_rows(stored)
        body = await in_worker(make_snapshot, rows, lane=Lane.UPKEEP, units=0)  # to compress takes 20 ms for a MB
        await self._storage.put_snapshot(project, path, Snapshot(stored.version, body), head.epoch)
        if version is None:
            self._documents.note_snapshot(project, path, stored.size, update_size(body))
        return True
