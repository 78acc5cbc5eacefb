"""A folder and a project, brought together by `pull` and `push`: only what changed moves, and nothing is overwritten.

A file that changed on both sides is a conflict for `pull`, which keeps what is here. For `push` it is none: it names
the version that was edited, and the gateway merges the edit with what others did meanwhile.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Literal

from msgspec import Struct

from gateway.client import GatewayError, Project
from gateway.client.answers import WithETag
from gateway.client.errors import FileDeleted, FileNotFound, NotAText, PreconditionFailed, ProjectNotFound
from gateway.client.folder.files import Folder, FolderState, KnownFile, UnsafePath
from gateway.wire.changes import FileChange, StatusAnswer

Action = Literal["pulled", "pushed", "merged", "deleted here", "deleted there", "conflict", "left out", "waiting"]
Side = Literal["same", "new", "edited", "deleted"]
Progress = Callable[[int, int], None]
"""Told how many files of how many are done."""

_AT_ONCE = 8


class Outcome(Struct, frozen=True, omit_defaults=True):
    """What became of a file."""

    path: str
    action: Action
    detail: str = ""


class Difference(Struct, frozen=True):
    """How a file differs from what both sides had."""

    path: str
    here: Side
    there: Side


class Stopped(Exception):
    """A pull or a push that could not go on: what the gateway said, and what was done before."""

    def __init__(self, reason: GatewayError, outcomes: "list[Outcome]") -> None:
        super().__init__(str(reason))
        self.reason = reason
        self.outcomes = outcomes


class FolderSync:
    """Pulls and pushes. The caller saves `state`, whatever happens.

    A file that cannot be moved, for whatever reason, is left out and named; the others are moved.
    """

    def __init__(self, folder: Folder, project: Project, state: FolderState, progress: Progress) -> None:
        self._folder = folder
        self._project = project
        self.state = state
        self._progress = progress

    async def pull(self) -> list[Outcome]:
        """Bring what changed at the gateway here.

        Raises:
            Stopped: the gateway cannot be reached any more; the rest was not tried, what was done is in the state.
            ProjectNotFound, another GatewayError: nothing was tried.
        """
        changes, cursor = await self._changes_there()
        chosen = [change for change in changes if not self._folder.ignores(change.path)]
        outcomes = await self._each(chosen, self._pull_one)
        self.state.cursor = cursor
        return outcomes

    async def push(self) -> list[Outcome]:
        """Bring what changed here to the gateway. Raises as `pull` does."""
        outcomes = await self._each(self._changed_here(), self._push_one)
        return [*outcomes, *(Outcome(path, "left out", reason) for path, reason in self._folder.unreadable.items())]

    async def differences(self) -> list[Difference]:
        """What `pull` and `push` would look at. Nothing is moved."""
        here = {path: self._side_here(path) for path in self._changed_here()}
        try:
            changes, _ = await self._changes_there()
        except ProjectNotFound:
            changes = []  # the first push will make it
        there = {change.path: self._side_there(change) for change in changes if not self._folder.ignores(change.path)}
        return [Difference(path, here.get(path, "same"), there.get(path, "same")) for path in sorted({*here, *there})]

    async def _each(self, items: Sequence[Any], work: Callable[[Any], Awaitable[Outcome | None]]) -> list[Outcome]:
        """Do it to all, some at once; outcomes in their order."""
        room, done = asyncio.Semaphore(_AT_ONCE), 0
        outcomes: list[Outcome | None] = [None] * len(items)

        async def one(number: int, item: Any) -> None:
            nonlocal done
            async with room:
                outcomes[number] = await work(item)
            done += 1
            self._progress(done, len(items))

        self._progress(0, len(items))
        try:
            async with asyncio.TaskGroup() as group:
                for number, item in enumerate(items):
                    group.create_task(one(number, item))
        except* GatewayError as faults:
            reason = faults.exceptions[0]
            assert isinstance(reason, GatewayError)
            raise Stopped(reason, [outcome for outcome in outcomes if outcome is not None]) from None
        return [outcome for outcome in outcomes if outcome is not None]

    async def _or_left_out(self, path: str, moving: Awaitable[Outcome | None], *, pulled: bool) -> Outcome | None:
        """What becomes of one file; one that cannot be moved does not hold up the others."""
        try:
            return await moving
        except UnsafePath as fault:
            reason = str(fault)
        except OSError as fault:
            reason = fault.strerror or str(fault)
        except GatewayError as fault:
            if concerns_all(fault):
                raise
            reason = str(fault)
        outcome = Outcome(path, "left out", reason)
        return self._unresolved(path, outcome) if pulled else outcome

    # What changed

    async def _changes_there(self) -> tuple[list[FileChange], str]:
        """What changed at the gateway since the last pull, and what could not be taken then."""
        answer = (await self._project.status(since=self.state.cursor, versions=self.state.unresolved or None)).value
        changes = list(answer.changes)
        if answer.reset is True:
            changes += self._gone(answer)
        known = self.state.files
        news = [
            change
            for change in changes
            if change.change_type == "deleted"
            or change.reset is True
            or answer.reset is True
            or change.path not in known
            or known[change.path].version != change.version
        ]
        return news, answer.cursor

    def _gone(self, answer: StatusAnswer) -> list[FileChange]:
        """After the gateway was restored: what is not in its listing any more."""
        listed = {change.path for change in answer.changes}
        return [FileChange(path, "", 0, "deleted") for path in self.state.files if path not in listed]

    def _changed_here(self) -> list[str]:
        found = list(self._folder.paths())
        known = self.state.files
        changed = [path for path in found if path not in known or not self._is_as_known(path)]
        gone = [path for path in known if not self._folder.ignores(path) and not self._is_here(path)]
        return sorted({*changed, *gone})

    def _side_here(self, path: str) -> Side:
        if path not in self.state.files:
            return "new"
        return "edited" if self._is_here(path) else "deleted"

    def _side_there(self, change: FileChange) -> Side:
        if change.change_type == "deleted":
            return "deleted"
        return "edited" if change.path in self.state.files else "new"

    def _is_as_known(self, path: str) -> bool:
        try:
            return self._folder.is_as_known(path, self.state.files[path])
        except (UnsafePath, OSError):
            return False

    def _is_here(self, path: str) -> bool:
        try:
            return self._folder.has(path)
        except (UnsafePath, OSError):
            return False

    # Pull

    async def _pull_one(self, change: FileChange) -> Outcome | None:
        return await self._or_left_out(change.path, self._pull_change(change), pulled=True)

    async def _pull_change(self, change: FileChange) -> Outcome | None:
        path, known = change.path, self.state.files.get(change.path)
        here = self._folder.read(path)
        theirs = None if change.change_type == "deleted" else await self._project.read_text(path)
        untouched = here is None if known is None else here is not None and self._is_as_known(path)
        if theirs is None:
            return self._pull_deletion(path, here, untouched)
        content = theirs.value.encode()
        if here != content and not untouched:
            what = "deleted" if here is None else "edited" if known else "another file"
            detail = f"{what} here and changed there; what is here is kept" + ("" if known is None else ", push merges")
            return self._unresolved(path, Outcome(path, "conflict", detail))
        if here != content:
            self._folder.write(path, content)
        self._remember(path, theirs, content)
        return None if here == content else Outcome(path, "pulled")

    def _pull_deletion(self, path: str, here: bytes | None, untouched: bool) -> Outcome | None:
        if here is not None and not untouched:
            if path in self.state.files:
                return self._unresolved(path, Outcome(path, "conflict", "deleted there, edited here; it is kept"))
            return None  # it was never there as far as this folder knows
        if here is not None:
            self._folder.remove(path)
        self._forget(path)
        return None if here is None else Outcome(path, "deleted here")

    # Push

    async def _push_one(self, path: str) -> Outcome | None:
        return await self._or_left_out(path, self._push_change(path), pulled=False)

    async def _push_change(self, path: str) -> Outcome | None:
        known = self.state.files.get(path)
        content = self._folder.read(path)
        if content is None:
            return await self._push_deletion(path, known)
        try:
            text = content.decode()
        except UnicodeDecodeError as fault:
            return Outcome(path, "left out", f"it is not UTF-8 text (byte {fault.start})")
        try:
            written = await self._project.put_text(path, text, base_version=0 if known is None else known.version)
        except (FileDeleted, FileNotFound):
            return self._unresolved(path, Outcome(path, "conflict", "deleted there, edited here; it is kept"))
        except PreconditionFailed:
            if known is None:
                return await self._meet(path, content)
            detail = "the version that was edited is not kept any more; what is here is kept"
            return self._unresolved(path, Outcome(path, "conflict", detail))
        if written.value.merged is True:
            return await self._take_merged(path, content)
        self._remember(path, written, content, written.value.version)
        return Outcome(path, "pushed")

    async def _push_deletion(self, path: str, known: KnownFile | None) -> Outcome | None:
        if known is None:  # it went while we looked
            return None
        try:
            await self._project.delete(path, if_match=known.tag)
        except PreconditionFailed:
            return self._unresolved(path, Outcome(path, "conflict", "deleted here, changed there; it is there still"))
        except (FileDeleted, FileNotFound):
            self._forget(path)
            return None
        self._forget(path)
        return Outcome(path, "deleted there")

    async def _meet(self, path: str, content: bytes) -> Outcome | None:
        """Both sides have made a file of this name."""
        try:
            theirs = await self._project.read_text(path)
        except (NotAText, FileDeleted) as fault:
            return Outcome(path, "conflict", str(fault))
        if theirs.value.encode() == content:
            self._remember(path, theirs, content)
            return None
        return self._unresolved(path, Outcome(path, "conflict", "another file is there; what is here is kept"))

    async def _take_merged(self, path: str, pushed: bytes) -> Outcome:
        """The gateway merged what was pushed with the edits of others: the folder gets the merged text."""
        merged = await self._project.read_text(path)
        content = merged.value.encode()
        if self._folder.read(path) != pushed:
            return self._unresolved(path, Outcome(path, "conflict", "edited again while it was pushed; push once more"))
        if content != pushed:
            self._folder.write(path, content)
        self._remember(path, merged, content)
        return Outcome(path, "merged")

    # What is remembered

    def _remember(self, path: str, answer: WithETag[Any], content: bytes, version: int | None = None) -> None:
        tag = answer.tag or ""
        head = (answer.version or 0) if version is None else version
        self.state.files[path] = self._folder.known(path, head, tag, content)
        self.state.unresolved.pop(path, None)

    def _forget(self, path: str) -> None:
        self.state.files.pop(path, None)
        self.state.unresolved.pop(path, None)

    def _unresolved(self, path: str, outcome: Outcome) -> Outcome:
        known = self.state.files.get(path)
        self.state.unresolved[path] = 0 if known is None else known.version
        return outcome


def concerns_all(error: GatewayError) -> bool:
    """Whether an error would meet every other file as well: the gateway is not there, is full, or wants credentials."""
    return error.status is None or error.status in (401, 407, 421, 429, 502, 503, 504, 507)


def conflicts(outcomes: Iterable[Outcome]) -> bool:
    """Whether somebody has to decide something."""
    return any(outcome.action == "conflict" for outcome in outcomes)
