"""The file of a room, as the room reads and writes it."""

from collections.abc import Sequence

from gateway.files.preconditions import Preconditions
from gateway.files.store import Files, WrittenTogether
from gateway.wire.problems import FileDeleted, FileNotFound, ProjectNotFound
from gateway.workers.pool import LIGHT_UNITS, in_worker
from gateway.yjs.updates import EMPTY_UPDATE, adds_to
from storage import AppendDone, Author


class RoomFile:
    """One file of a project, read and written for the clients of its room."""

    def __init__(self, files: Files, project: str, path: str) -> None:
        self._files = files
        self.project = project
        self.path = path

    def append_at_once(self, update: bytes, life: Preconditions, author: Author, done: AppendDone) -> bool:
        """Queue an update as a version of the room's incarnation if nothing has to be waited for.

        Returns False if nothing was queued: `append` must decide then.

        Args:
            done: called with what was stored, or with the reason why nothing was.

        Raises:
            Problem, StorageError
        """
        return self._files.append_at_once(self.project, self.path, update, author, done, life)

    async def append(self, updates: list[bytes], life: Preconditions, author: Author) -> WrittenTogether:
        """Write updates as one version of the room's incarnation, unless one of the updates is refused.

        Raises:
            FileDeleted, another Problem, StorageError: nothing was written.
        """
        return await self._files.append_together(self.project, self.path, updates, life, author)

    async def lacks(self, update: bytes) -> bool:
        """Whether an update holds anything that the file is missing.

        Raises:
            InvalidUpdate, Problem, StorageError
        """
        try:
            whole = (await self._files.read_whole(self.project, self.path)).update
        except (FileNotFound, ProjectNotFound, FileDeleted):
            whole = EMPTY_UPDATE
        return await in_worker(_adds, (update, whole), units=LIGHT_UNITS)

    async def state_vector(self) -> bytes:
        return await self._files.state_vector(self.project, self.path)

    async def is_past(self, update: bytes) -> bool:
        """Whether an update holds content of an earlier incarnation of the file."""
        return await self._files.is_past(self.project, self.path, update)

    async def is_replica_of_past(self, state_vector: bytes) -> bool:
        """Whether the replica with this state vector holds content of an earlier incarnation of the file."""
        return await self._files.is_replica_of_past(self.project, self.path, state_vector)

    async def read_lacking(self, state_vector: bytes) -> tuple[bytes, int]:
        """Return what a replica is missing of the file, and the version that the replica has after it."""
        try:
            content = await self._files.read_lacking(self.project, self.path, state_vector)
        except (FileNotFound, ProjectNotFound, FileDeleted):
            return EMPTY_UPDATE, 0
        return await self._files.wire_update(content), content.version


def _adds(update_and_whole: Sequence[bytes]) -> bool:
    return adds_to(*update_and_whole)
