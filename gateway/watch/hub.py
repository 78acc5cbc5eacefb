"""The hub of watched projects: their newest cursors, the newest heads of their files, and the waiting requests.

All of this state follows from the commits of storage (`Storage.listen`), is bounded, and can be dropped at any time:
waiting requests hold positions, not messages, and read the log when they are woken.
"""

import asyncio
from typing import Any

import structlog

from gateway.shared_turn import Pieces
from gateway.watch.answers import AnswerBudget
from gateway.watch.project import WatchedProject
from gateway.watch.waiters import Waiters
from gateway.wire.problems import ProjectNotFound
from gateway.wire.tags import EntityTags
from storage import Commit, Committed, CommittedTurn, ErasedProject, FileHead, Storage, TurnHead

_log = structlog.get_logger("gateway.hub")

_PROJECTS = 4096
_MATCHED_AT_ONCE = 1000
"""How many filters are asked about changes at once."""
_UNMATCHED = 16_384
"""How many changes of a project may wait to be matched; beyond, all who wait there are woken."""
_FREED_TOGETHER = 512
"""What is known of so many files is freed in one step."""
_ANSWER_BYTES, _ANSWER_BYTES_PER_PROJECT = 256 * 2**20, 4 * 2**20


class Hub:
    """Follows the commits of a storage and has `waiters` wake the requests that wait for them."""

    def __init__(self, storage: Storage, waiters: Waiters | None = None) -> None:
        self._storage = storage
        self._projects: dict[str, WatchedProject] = {}
        self._budget = AnswerBudget(_ANSWER_BYTES, _ANSWER_BYTES_PER_PROJECT)
        self.waiters = waiters or Waiters()
        storage.listen(self._committed, self._missed)

    @property
    def fresh(self) -> bool:
        """Whether the state in memory was current at most a second ago."""
        return self._storage.fresh

    def get(self, name: str) -> WatchedProject | None:
        """Return the project if it is in memory."""
        return self._projects.get(name)

    def _committed(self, batch: tuple[Commit, ...]) -> None:
        changed: dict[WatchedProject, None] = {}
        for committed in batch:
            project = self._projects.get(committed.project.name)
            if project is None:
                continue
            if isinstance(committed, ErasedProject):
                self._missed((committed,))
                continue
            project.advance(committed.project)
            if isinstance(committed, Committed):
                if project.complete or committed.head.path in project.files:
                    project.update_file(committed.head)
                if project.members:
                    project.unmatched.append(committed.head)
                    changed[project] = None
            elif isinstance(committed, CommittedTurn):
                project.update_turn(committed.turn)
                if project.members:
                    project.unmatched.append(committed.turn)
                    changed[project] = None
        for project in changed:
            self._wake_waiters(project)

    def _wake_waiters(self, project: WatchedProject) -> None:
        """Wake those who wait for the new changes of a project: very many filters are asked in several turns."""
        if len(project.unmatched) > _UNMATCHED:
            project.unmatched.clear()
            self.waiters.wake_all(project)
        if project.is_matching or not project.unmatched:
            return
        project.is_matching = True
        if len(project.unmatched) * len(project.general) <= _MATCHED_AT_ONCE:
            for _ in self._match(project):
                pass
        else:
            self.waiters.turn.run(self._match(project))

    def _match(self, project: WatchedProject) -> Pieces:
        try:
            while project.unmatched:
                self.waiters.wake(project.take_waiters(project.unmatched.popleft()))
                yield 0.0
        except Exception:
            _log.exception("waiters not found")
            project.unmatched.clear()
            self.waiters.wake_all(project)
        finally:
            project.is_matching = False
        return 0.0

    def _missed(self, batch: tuple[Commit, ...]) -> None:
        """Drop the projects of a batch of commits that was received only in part, and wake all of their waiters: they
        read the project anew, or learn that it is gone."""
        for name in {committed.project.name for committed in batch}:
            project = self._let_go(name)
            if project is not None:
                project.close()
                self.waiters.wake_all(project)

    def presence_changed(self, name: str, path: str) -> None:
        """Wake the waiters for the presence in a file."""
        project = self._projects.get(name)
        if project is not None and project.members:
            self.waiters.wake(project.take_presence_waiters(path))

    def drain(self) -> None:
        """Wake all waiters now, and new ones immediately: the gateway is about to stop."""
        self.waiters.drain(self._projects.values())

    # Reading

    async def require(self, name: str) -> WatchedProject:
        """Return the up-to-date project, read from storage if necessary.

        Raises:
            ProjectNotFound
        """
        project = await self.project(name)
        if project is None:
            raise ProjectNotFound(name)
        return project

    async def project(self, name: str) -> WatchedProject | None:
        """Return the up-to-date project, read from storage if necessary; None if the project does not exist."""
        watched = self._projects.get(name)
        if watched is not None and watched.head is not None:
            if not self._storage.fresh:  # the state in memory may be stale
                await self._storage.catch_up(name)
            return watched
        # Watch the project before reading it: a commit between a read and the registration would be missed.
        watched = self._watch(name)
        try:
            head = await self._storage.follow(name)
        except BaseException:
            if self._projects.get(name) is watched and watched.head is None:
                del self._projects[name]
            raise
        if self._projects.get(name) is not watched or watched.followed:
            self._storage.unfollow(name)  # a concurrent call found no project, or followed it
            return await self.project(name)
        watched.followed = True
        if head is not None:
            watched.advance(head)
        if watched.head is None:
            self._let_go(name)
            return None
        return watched

    def _let_go(self, name: str) -> WatchedProject | None:
        """Drop a project and stop following it."""
        watched = self._projects.pop(name, None)
        if watched is not None and watched.followed:
            watched.followed = False
            self._storage.unfollow(name)
        if watched is not None and len(watched.files) > _FREED_TOGETHER:
            freed = _free(*watched.forget_files())
            asyncio.get_running_loop().call_soon(self.waiters.turn.run, freed)
        return watched

    async def require_as_of(self, name: str, tags: EntityTags | None) -> WatchedProject:
        """Return the project, at least as new as a client's tags (of its turns, or its cursor), which name sequences.

        Raises:
            ProjectNotFound
        """
        project = await self.require(name)
        assert project.head is not None
        if tags is not None and tags.newest(project.head.epoch) > project.head.sequence:
            await self._storage.catch_up(name)
        return project

    def _watch(self, name: str) -> WatchedProject:
        watched = self._projects.get(name)
        if watched is None:
            if len(self._projects) >= _PROJECTS:
                self._forget_one()
            watched = self._projects[name] = WatchedProject(self._budget)
        return watched

    def _forget_one(self) -> None:
        """Make room for a project by dropping the oldest one without waiters."""
        for name, project in self._projects.items():
            if not project.members:
                project.close()
                self._let_go(name)
                return

    async def file(self, project: WatchedProject, name: str, path: str) -> FileHead | None:
        """Return the newest head of a file of the project `name`; None if the file never existed."""
        known = project.files.get(path)
        if known is not None:
            return known.head
        before = project.head
        head = await self._storage.file_head(name, path)
        if head is not None and project.head is before:  # otherwise this read may lack a commit made meanwhile
            project.update_file(head)
        return head

    async def turn(self, project: WatchedProject, name: str, session_id: str, turn_id: str) -> TurnHead | None:
        """Return the newest head of a turn of the project `name`; None if there is no such turn."""
        known = project.turns.get((session_id, turn_id))
        if known is not None:
            return known.head
        before = project.head
        head = await self._storage.turn_head(name, session_id, turn_id)
        if head is not None and project.head is before:
            project.update_turn(head)
        return head

    async def files(self, project: WatchedProject, name: str, paths: list[str]) -> dict[str, FileHead]:
        """Return the newest heads of those of `paths` that ever existed, as of one moment at or after the call."""
        found = {path: known.head for path in paths if (known := project.files.get(path)) is not None}
        missing = [path for path in paths if path not in found]
        if missing:
            before = project.head
            answer = await self._storage.file_heads(name, missing if len(missing) < len(paths) else paths)
            heads = [] if answer is None else answer[1]
            if project.head is before:
                for head in heads:
                    project.update_file(head)
            elif len(missing) < len(paths):  # heads of two moments: read all as of one
                return await self._read_files(name, paths)
            found.update({head.path: head for head in heads})
        return found

    async def all_files(self, project: WatchedProject, name: str) -> list[FileHead]:
        """Return the newest heads of at least all files that exist; deleted files may be among them."""
        if project.complete:
            return [known.head for known in project.files.values()]
        before = project.head
        answer = await self._storage.files_changed_since(name, 0)
        heads = [] if answer is None else answer[1]
        if project.head is before:
            project.update_all_files(heads)
        return heads

    async def _read_files(self, name: str, paths: list[str]) -> dict[str, FileHead]:
        answer = await self._storage.file_heads(name, paths)
        return {} if answer is None else {head.path: head for head in answer[1]}


def _free(*known: dict[str, Any]) -> Pieces:
    """Let go of what was known of very many files, some at a time."""
    for files in known:
        while files:
            for _ in range(min(_FREED_TOGETHER, len(files))):
                files.popitem()
            yield 0.0
    return 0.0
