"""Live synchronization of a folder and a project in both directions.

A file saved in the folder is sent with its base version, so that the gateway merges it with remote edits; remote edits
are written to a temporary file that is renamed into place. Only one task works on a path at a time, and it always
examines the whole state of the path: events merely say which paths to examine, in any order and any number of times.
"""

import asyncio
import contextlib
import os
import random
import stat
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec
from watchfiles import Change, awatch

from gateway.client import GatewayError, PollSettings, Project
from gateway.client.answers import WithETag
from gateway.client.errors import (
    FileDeleted,
    FileNotFound,
    NotAText,
    PreconditionFailed,
    ProjectNotFound,
    VersionAhead,
)
from gateway.client.folder.files import Folder, UnsafePath, sha256
from gateway.client.folder.merging import NoText, merged, text_of, united
from gateway.client.folder.names import is_of_others
from gateway.client.folder.replacing import Replacer, size_and_time_of, until_quiet_s
from gateway.client.folder.state import FolderState, KnownFile, SentText
from gateway.client.folder.sync import Action, Outcome, concerns_all
from gateway.client.policy import is_retried, retry_delay_ms
from gateway.wire.changes import FileFeedEntry

_AT_ONCE = 8
_STEP_MS = 10
"""File events that follow each other within this time form a batch."""
_BATCH_MS = 50
"""The longest time that a batch of file events is collected."""
_MISSING_S = 0.3
"""A file missing for this long counts as deleted; editors that replace a file in two steps take less."""
_LOOK_AGAIN_S = 1.0
"""The delay of a full scan after events: events are lost when a folder is created and filled at once."""
_NO_PROJECT_S = 1.0
"""The interval of checks for a project that does not exist yet."""
_KEEP_S = 1.0
_SETTINGS = PollSettings(retry_delays_ms=(100, 200, 400, 1_000, 2_000, 4_000, 8_000), retry_for_ever=True)

Tell = Callable[[Outcome], None]


class LiveFolder:
    """Keeps a folder and a project equal. The known state is in `state`, and at any time in the folder's journal.

    Args:
        tell: called with the outcome for a file.
        ready: called once, when both sides are equal for the first time, with the number of files.
    """

    def __init__(
        self, folder: Folder, project: Project, state: FolderState, tell: Tell, ready: Callable[[int], None]
    ) -> None:
        self._folder = folder
        self._project = project
        self.state = state
        self._tell = tell
        self._ready: Callable[[int], None] | None = ready
        self._queue: asyncio.Queue[str] = asyncio.Queue()
        self._queued: set[str] = set()
        self._busy: set[str] = set()
        self._again: set[str] = set()
        """Paths that were marked while a task worked on them."""
        self._there: dict[str, int | None] = {}
        """Files with another version at the gateway, as far as known; None if versions cannot be compared."""
        self._missing: dict[str, float] = {}
        """When a known file was found missing."""
        self._later: dict[str, asyncio.TimerHandle] = {}
        self._left_out: dict[str, tuple[str, tuple[int, int] | None]] = {}
        """Why a file was left out, with its size and mtime at that time."""
        self._failed: set[str] = set()
        """Files that could not be read or written, and are retried once."""
        self._listing_wanted = asyncio.Event()
        self._rest = asyncio.Event()
        """Set while no path is queued, in progress or scheduled."""
        self._project_exists = asyncio.Event()
        self._listed = asyncio.Event()
        """Set once the gateway's files have been listed."""
        self._gate = asyncio.Event()
        """Cleared during a back-off, while no requests are sent."""
        self._gate.set()
        self._attempts = 0
        self._waiting = False
        """Whether it was told that the gateway is unavailable."""
        self._scan_wanted = asyncio.Event()
        self._replacer = Replacer(folder, state, self._mark, self._busy.__contains__)

    async def run(self) -> None:
        """Keep both sides equal until cancelled.

        Raises:
            GatewayError: a permanent error that concerns every file.
            OSError: the folder cannot be watched, or its state cannot be saved.
        """
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._watch())
                await asyncio.sleep(0)  # the folder is watched from here on: now scan it
                for path in (*self.state.unanswered, *self.state.unmerged):
                    self._mark(path)
                await self._scan()
                group.create_task(self._follow())
                group.create_task(self._scan_after_events())
                group.create_task(self._list_when_wanted())
                group.create_task(self._keep())
                group.create_task(self._replacer.look_regularly())
                for _ in range(_AT_ONCE):
                    group.create_task(self._work())
        except* (GatewayError, OSError) as faults:
            raise _first(faults) from None
        finally:
            for timer in self._later.values():
                timer.cancel()
            self._replacer.finish()
            self._folder.state.save(self.state)

    # Finding changed paths

    def _mark(self, path: str) -> None:
        self._rest.clear()
        if path in self._busy:
            self._again.add(path)
        elif path not in self._queued:
            self._queued.add(path)
            self._queue.put_nowait(path)

    def _mark_later(self, path: str, delay_s: float) -> None:
        def now() -> None:
            self._later.pop(path, None)
            self._mark(path)

        self._rest.clear()
        if path not in self._later:
            self._later[path] = asyncio.get_running_loop().call_later(delay_s, now)

    async def _watch(self) -> None:
        root = self._folder.root.resolve()

        def concerns(_: Change, name: str) -> bool:
            return not is_of_others(name[len(str(root)) + 1 :])

        async for changes in awatch(
            root, watch_filter=concerns, debounce=_BATCH_MS, step=_STEP_MS, ignore_permission_denied=True
        ):
            self._seen({Path(name).relative_to(root).as_posix() for _, name in changes})

    def _seen(self, paths: set[str]) -> None:
        """Handle events on paths, which may be files, folders, links, or gone."""
        gone: set[str] = set()
        if any(path.rpartition("/")[2] == ".gitignore" for path in paths):
            self._folder.rules.forget()
            self._listing_wanted.set()  # files ignored so far may exist at the gateway
        for path in paths:
            try:
                mode = os.lstat(self._folder.root / path).st_mode
            except OSError:
                gone.add(path)
                continue
            if stat.S_ISDIR(mode):
                if not self._folder.rules.ignore(path + "/"):
                    self._mark_all(self._folder.sizes_and_times(path + "/"))
            elif (stat.S_ISREG(mode) or path in self.state.files) and not self._folder.rules.ignore(path):
                self._mark(path)
        if gone:
            self._mark_all(path for path in self.state.files if _is_within(path, gone))
        self._scan_wanted.set()

    def _mark_all(self, paths: Iterable[str]) -> None:
        for path in paths:
            if not self._folder.rules.ignore(path):
                self._mark(path)

    async def _scan_after_events(self) -> None:
        while True:
            await self._scan_wanted.wait()
            await asyncio.sleep(_LOOK_AGAIN_S)
            self._scan_wanted.clear()
            await self._scan()

    async def _scan(self) -> None:
        """Scan the folder, and mark all paths that may differ."""
        found = await asyncio.to_thread(self._folder.sizes_and_times)
        known = self.state.files
        for path, size_and_time in found.items():
            entry, left_out = known.get(path), self._left_out.get(path)
            as_known = entry is not None and (entry.size, entry.mtime_ns) == size_and_time
            if not as_known and (left_out is None or left_out[1] != size_and_time):
                self._mark(path)
        self._mark_all(path for path in list(known) if path not in found)
        for path in list(self._there):
            self._mark(path)

    async def _follow(self) -> None:
        """Mark files that change at the gateway."""
        while True:
            try:
                since = await self._list_there()
                self._listed.set()
                async for answer in self._project.follow(since, kinds=["file"], settings=_SETTINGS):
                    if answer.reset is True:  # the gateway was restored: versions cannot be compared any more
                        await self._list_there(all_of_them=True)
                    for change in answer.changes:
                        assert isinstance(change, FileFeedEntry)
                        self._changed_there(change.path, change.version, there=change.change_type != "deleted")
            except ProjectNotFound:  # the first file sent, from here or elsewhere, creates it
                self._listed.set()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_NO_PROJECT_S):
                        await self._project_exists.wait()
                self._project_exists.clear()

    async def _list_when_wanted(self) -> None:
        while True:
            await self._listing_wanted.wait()
            self._listing_wanted.clear()
            with contextlib.suppress(ProjectNotFound):
                await self._list_there()

    async def _list_there(self, *, all_of_them: bool = False) -> str:
        """Mark files that differ at the gateway from their known state; returns the cursor of the listing."""
        while True:
            before = set(self.state.files)
            try:
                listing = (await self._project.status()).value
                break
            except GatewayError as fault:
                if not is_retried(fault.status):
                    raise
                await asyncio.sleep(self._backoff_s(fault))
        self._attempts, self._waiting = 0, False
        for each in listing.changes:
            self._changed_there(each.path, None if all_of_them else each.version)
        for path in before.difference(each.path for each in listing.changes):
            self._changed_there(path, None)
        return listing.cursor

    def _changed_there(self, path: str, version: int | None, *, there: bool = True) -> None:
        known = self.state.files.get(path)
        if _is_old(version, known) or self._folder.rules.ignore(path):
            return
        if not there and known is None and path not in self._busy:
            return  # the file was deleted from here, or never existed here
        self._there[path] = version
        self._mark(path)

    def _backoff_s(self, fault: GatewayError) -> float:
        self._attempts += 1
        delay_s = retry_delay_ms(_SETTINGS, self._attempts, random.random(), fault.retry_after_s) / 1000
        return max(delay_s, fault.backoff_s or 0)

    # Processing paths

    async def _work(self) -> None:
        while True:
            path = await self._queue.get()
            self._queued.discard(path)
            self._busy.add(path)
            try:
                await self._gate.wait()
                await self._attempt(path)
            finally:
                self._busy.discard(path)
            if path in self._again:
                self._again.discard(path)
                self._mark(path)
            if not (self._queued or self._busy or self._later):
                self._rest.set()

    async def _keep(self) -> None:
        """Report when both sides are first equal, and save the state regularly to keep the journal short."""
        if not (self._queued or self._busy):
            self._rest.set()
        await self._listed.wait()
        while True:
            await self._rest.wait()
            if self._ready is not None:
                self._ready(len(self.state.files))
                self._ready = None
            if self._folder.state.has_journal():
                self._folder.state.save(self.state)
            await asyncio.sleep(_KEEP_S)

    async def _attempt(self, path: str) -> None:
        """Synchronize one file, or report why it is left out."""
        try:
            await self._bring(path)
            self._attempts, self._waiting = 0, False
            self._left_out.pop(path, None)
            self._failed.discard(path)
            return
        except (UnsafePath, NoText) as fault:
            reason = str(fault)
        except OSError as fault:
            reason = fault.strerror or str(fault)
            if path not in self._failed:  # the obstacle may be about to vanish: a folder that becomes a file
                self._failed.add(path)
                self._mark_later(path, _LOOK_AGAIN_S)
                return
        except GatewayError as fault:
            if is_retried(fault.status):
                self._pause(path, fault)
                self._again.add(path)
                return
            if concerns_all(fault):
                raise
            self._unanswered(path, None)
            reason = str(fault)
        told = self._left_out.get(path, ("", None))[0]
        self._left_out[path] = reason, self._size_and_time(path)
        if told != reason:
            self._tell(Outcome(path, "left out", reason))

    def _pause(self, path: str, fault: GatewayError) -> None:
        """Back off while the gateway is unavailable: no task sends requests for a while."""
        if self._gate.is_set():
            self._gate.clear()
            asyncio.get_running_loop().call_later(self._backoff_s(fault), self._gate.set)
            if not self._waiting:  # the count would not say: attempts to list the files are in it
                self._waiting = True
                self._tell(Outcome(path, "waiting", str(fault)))

    def _size_and_time(self, path: str) -> tuple[int, int] | None:
        return size_and_time_of(self._folder.root / path)

    async def _bring(self, path: str) -> None:
        """Compare both sides of one file, and take the next step."""
        if self._folder.rules.ignore_now(path):
            self._there.pop(path, None)
            return
        if path in self.state.unmerged:
            await self._replacer.merge_save(path)
            self._mark(path)
            return
        if path in self.state.unanswered:
            await self._send(path, self.state.unanswered[path])
            self._mark(path)
            return
        known = self.state.files.get(path)
        if _is_old(self._there.get(path), known):
            del self._there[path]
        content = await self._read_when_quiet(path, known)
        if content is not None:
            self._missing.pop(path, None)
        if content is None and known is not None:
            await self._bring_deletion(path, known)
        elif content is not None and (known is None or sha256(content) != known.sha256):
            text = text_of(content)
            if await self._replacer.repair(path, known):
                return
            self._replacer.saved(path, content, None if known is None else known.sha256)
            await self._send(path, SentText(0 if known is None else known.version, text))
        elif path in self._there:
            await self._take(path)
        elif content is not None and known is not None:
            about, now = self._replacer.look(path)
            if about is not None and now == content:  # touched, or rewritten with the same content
                self._remember(path, msgspec.structs.replace(known, size=about.st_size, mtime_ns=about.st_mtime_ns))

    async def _read_when_quiet(self, path: str, known: KnownFile | None) -> bytes | None:
        """Read a file once it is no longer being written."""
        while True:
            try:
                found = self._folder.place(path).stat()
            except (FileNotFoundError, NotADirectoryError):
                return None
            if not stat.S_ISREG(found.st_mode):
                return None
            if known is not None and (found.st_size, found.st_mtime_ns) == (known.size, known.mtime_ns):
                return self._folder.read(path)
            left_s = until_quiet_s(found)
            if left_s <= 0:
                return self._folder.read(path)
            await asyncio.sleep(left_s)

    # From the folder to the gateway

    async def _bring_deletion(self, path: str, known: KnownFile) -> None:
        since = self._missing.setdefault(path, time.monotonic())
        left_s = _MISSING_S - (time.monotonic() - since)
        if left_s > 0:
            self._mark_later(path, left_s)
            return
        self._missing.pop(path, None)
        try:
            await self._project.delete(path, if_match=known.tag)
        except PreconditionFailed:  # the file was changed there in the meantime: restore it here
            self._there[path] = None
            self._mark(path)
        except (FileDeleted, FileNotFound):
            pass
        else:
            self._tell(Outcome(path, "deleted there"))
        self._remember(path, None)

    async def _send(self, path: str, sent: SentText) -> None:
        """Send a text with its base version, and write back the result of merging it with later remote edits."""
        self._unanswered(path, sent)
        try:
            written = await self._project.put_text(path, sent.text, base_version=sent.base)
        except (FileDeleted, FileNotFound):  # deleted there, edited here: create it again from the local text
            self._remember(path, None)
            self._mark(path)
        except (PreconditionFailed, VersionAhead):
            await self._unite(path, sent.text)
        else:
            self._project_exists.set()
            if written.value.merged is True:
                theirs = await self._project.read_text(path)
                await self._land(
                    path, sent.text, theirs, theirs.value, "merged" if theirs.value != sent.text else "pushed"
                )
            else:
                await self._land(path, sent.text, written, sent.text, "pushed" if written.value.changed else None)

    async def _unite(self, path: str, ours: str) -> None:
        """Combine the lines of both sides: both have a file of this name, and no common base is known."""
        try:
            theirs = await self._project.read_text(path)
        except (FileDeleted, FileNotFound):
            self._remember(path, None)
            self._mark(path)
            return
        await self._land(path, ours, theirs, theirs.value, None, united(ours, theirs.value))

    async def _land(
        self,
        path: str,
        shown: str,
        answer: WithETag[Any],
        theirs: str,
        action: Action | None,
        wanted: str | None = None,
    ) -> None:
        """Write a version that contains everything sent from the folder, merged with local saves in the meantime.

        Args:
            shown: the text that the folder had when it was sent.
            theirs: the text of the version that `answer` names.
            wanted: the text to write instead of `theirs`.
        """
        while True:
            about, now = self._replacer.look(path)
            if now is None or about is None:
                target = None
            elif now == shown.encode():
                target = (theirs if wanted is None else wanted).encode()
            else:
                base = text_of(self._replacer.base_of(path, now, about, shown.encode()))
                target = merged(base, text_of(now), theirs if wanted is None else wanted).encode()
            known = _known(answer, theirs.encode(), about if now == theirs.encode() else None)
            if target == now:
                self._remember(path, known)
                break
            assert target is not None
            if await self._replacer.replace(path, now, target, known):
                break
        if action is not None:
            self._tell(Outcome(path, action))
        if now is None or target != theirs.encode():
            self._mark(path)

    # From the gateway to the folder

    async def _take(self, path: str) -> None:
        """Replace the known content by the gateway's."""
        asked = self._there.pop(path)
        known = self.state.files.get(path)
        try:
            theirs = await self._project.read_text(path)
            content = theirs.value.encode()
            about, now = self._replacer.look(path)
            if now == content:
                self._remember(path, _known(theirs, content, about))
            elif not self._is_as_known(now, known):  # saved in the meantime: the local text is sent first
                self._there[path] = asked
                self._mark(path)
            elif await self._replacer.replace(path, now, content, _known(theirs, content, None)):
                self._tell(Outcome(path, "pulled"))
            else:
                self._there[path] = asked
                self._mark(path)
        except (FileDeleted, FileNotFound):
            self._take_deletion(path, known)
        except (OSError, UnsafePath, GatewayError) as fault:
            if not isinstance(fault, NotAText):
                self._there[path] = asked
            raise

    def _take_deletion(self, path: str, known: KnownFile | None) -> None:
        _, now = self._replacer.look(path)
        if known is not None and now is not None and not self._is_as_known(now, known):
            self._mark(path)  # edited here: the file is created there again
            return
        if known is not None and now is not None:
            if not self._folder.remove_known(path, known.sha256):
                self._mark(path)  # saved at this moment
                return
            self._tell(Outcome(path, "deleted here"))
        if known is not None:
            self._remember(path, None)

    def _is_as_known(self, content: bytes | None, known: KnownFile | None) -> bool:
        if content is None or known is None:
            return content is None and known is None
        return sha256(content) == known.sha256

    # The known state

    def _remember(self, path: str, known: KnownFile | None) -> None:
        if self.state.files.get(path) != known or path in self.state.unanswered:
            self._folder.state.note(path, known)
        self.state.know(path, known)

    def _unanswered(self, path: str, sent: SentText | None) -> None:
        """Record a text about to be sent, or with None that it was refused."""
        if sent is None:
            self._remember(path, self.state.files.get(path))
        elif self.state.unanswered.get(path) != sent:
            self._folder.state.note_sent(path, sent)
            self.state.unanswered[path] = sent


def _known(answer: WithETag[Any], content: bytes, about: os.stat_result | None) -> KnownFile:
    """Return the known state for a version with this content; `about` is of the local file that has it, if any."""
    assert answer.tag is not None
    assert answer.version is not None
    size, mtime_ns = (-1, 0) if about is None else (about.st_size, about.st_mtime_ns)
    return KnownFile(answer.version, answer.tag, sha256(content), size, mtime_ns)


def _is_old(version: int | None, known: KnownFile | None) -> bool:
    return version is not None and known is not None and version <= known.version


def _is_within(path: str, folders: set[str]) -> bool:
    """Whether a path is one of `folders` or inside one of them."""
    return path in folders or any(path[:end] in folders for end, each in enumerate(path) if each == "/")


def _first(faults: BaseExceptionGroup[Any]) -> BaseException:
    first: BaseException = faults.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first
