"""Synchronization of a folder and a project by `pull` and `push`: only changes move, and nothing is overwritten.

For `pull`, a file that changed on both sides is a conflict, and the local file is kept. For `push` it is not: `push`
sends the base version, and the gateway merges the edit with those that others made in the meantime.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Literal

from msgspec import Struct

from gateway.client import GatewayError, Project
from gateway.client.answers import WithETag
from gateway.client.errors import FileDeleted, FileNotFound, NotAText, PreconditionFailed, ProjectNotFound
from gateway.client.folder.files import Folder, UnsafePath
from gateway.client.folder.state import FolderState, KnownFile
from gateway.wire.changes import FileChange, StatusAnswer

Action = Literal["pulled", "pushed", "merged", "deleted here", "deleted there", "conflict", "left out", "waiting"]
Side = Literal["same", "new", "edited", "deleted"]
Progress = Callable[[int, int], None]
"""Called with the number of finished files and the total."""

_AT_ONCE = 8


class Outcome(Struct, frozen=True, omit_defaults=True):
    """The outcome for one file."""

    path: str
    action: Action
    detail: str = ""


class Difference(Struct, frozen=True):
    """How each side of a file differs from the last common state."""

    path: str
    here: Side
    there: Side


class Stopped(Exception):
    """A pull or a push was interrupted: `reason` is the gateway's error, `outcomes` what was done before."""

    def __init__(self, reason: GatewayError, outcomes: "list[Outcome]") -> None:
        super().__init__(str(reason))
        self.reason = reason
        self.outcomes = outcomes


class FolderSync:
    """Pulls and pushes. The caller must save `state` in any case, even after an exception.

    A file that cannot be transferred, for whatever reason, is left out and reported; the others are transferred.
    """

    def __init__(self, folder: Folder, project: Project, state: FolderState, progress: Progress) -> None:
        self._folder = folder
        self._project = project
        self.state = state
        self._progress = progress

    async def pull(self) -> list[Outcome]:
        """Apply the gateway's changes to the folder.

        Raises:
            Stopped: the gateway became unavailable; completed files are in the state, the rest was not tried.
            ProjectNotFound, another GatewayError: nothing was tried.
        """
        changes, cursor = await self._changes_there()
        chosen = [change for change in changes if not self._folder.rules.ignore(change.path)]
        outcomes = await self._each(chosen, self._pull_one)
        self.state.cursor = cursor
        return outcomes

    async def push(self) -> list[Outcome]:
        """Send the folder's changes to the gateway. Raises the same exceptions as `pull`."""
        outcomes = await self._each(self._changed_here(), self._push_one)
        return [*outcomes, *(Outcome(path, "left out", reason) for path, reason in self._folder.unreadable.items())]

    async def differences(self) -> list[Difference]:
        """Return the files that `pull` and `push` would consider, without transferring any."""
        here = {path: self._side_here(path) for path in self._changed_here()}
        try:
            changes, _ = await self._changes_there()
        except ProjectNotFound:
            changes = []  # the first push creates the project
        there = {
            change.path: self._side_there(change) for change in changes if not self._folder.rules.ignore(change.path)
        }
        return [Difference(path, here.get(path, "same"), there.get(path, "same")) for path in sorted({*here, *there})]

    async def _each(self, items: Sequence[Any], work: Callable[[Any], Awaitable[Outcome | None]]) -> list[Outcome]:
        """Process all items, several concurrently; the outcomes are in the order of the items."""
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
        """Transfer one file; a file that cannot be transferred is left out without stopping the others."""
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

    # Finding changes

    async def _changes_there(self) -> tuple[list[FileChange], str]:
        """Return the gateway's changes since the last pull and those left unresolved by it, with the new cursor."""
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
        """Return the known files that are missing from the listing of a restored gateway, as deletions."""
        listed = {change.path for change in answer.changes}
        return [FileChange(path, "", 0, "deleted") for path in self.state.files if path not in listed]

    def _changed_here(self) -> list[str]:
        found = list(self._folder.paths())
        known = self.state.files
        changed = [path for path in found if path not in known or not self._is_as_known(path)]
        gone = [path for path in known if not self._folder.rules.ignore(path) and not self._is_here(path)]
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
            return None  # as far as this folder knows, the file never existed there
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
        if known is None:  # the file vanished during the scan
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
        """Handle a file that both sides created: no conflict if the contents are equal."""
        try:
            theirs = await self._project.read_text(path)
        except (NotAText, FileDeleted) as fault:
            return Outcome(path, "conflict", str(fault))
        if theirs.value.encode() == content:
            self._remember(path, theirs, content)
            return None
        return self._unresolved(path, Outcome(path, "conflict", "another file is there; what is here is kept"))

    async def _take_merged(self, path: str, pushed: bytes) -> Outcome:
        """Write the text that the gateway merged from the pushed text and the edits of others to the folder."""
        merged = await self._project.read_text(path)
        content = merged.value.encode()
        if self._folder.read(path) != pushed:
            return self._unresolved(path, Outcome(path, "conflict", "edited again while it was pushed; push once more"))
        if content != pushed:
            self._folder.write(path, content)
        self._remember(path, merged, content)
        return Outcome(path, "merged")

    # The known state

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
    """Whether an error concerns every file: the gateway is unavailable, is full, or requires credentials."""
    return error.status is None or error.status in (401, 407, 421, 429, 502, 503, 504, 507)


def conflicts(outcomes: Iterable[Outcome]) -> bool:
    """Whether any outcome is a conflict that the user has to resolve."""
    return any(outcome.action == "conflict" for outcome in outcomes)
