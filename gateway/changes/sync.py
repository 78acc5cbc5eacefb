"""Push and pull of many files in one round trip: `POST P/sync`."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from typing import TypeVar

from msgspec import UNSET

from gateway.access.grants import Paths
from gateway.changes.status import Changes
from gateway.files.preconditions import Preconditions
from gateway.files.store import Files, Written
from gateway.pace import next_slice, with_turns
from gateway.wire.changes import FileChange, StatusQuestion, SyncAnswer, SyncChange, SyncRequest
from gateway.wire.files import Receipt
from gateway.wire.problems import (
    FileDeleted,
    FileNotFound,
    InvalidPath,
    Problem,
    ProblemDetails,
    SyncRefused,
    TooManyPaths,
    VersionAhead,
    after_a_write,
    problem_from_storage,
)
from gateway.wire.values import path_fault, rfc3339
from storage import Author, FileHead, StorageError

T = TypeVar("T")

_AT_ONCE = 64
"""How many files are written concurrently, which are committed together."""
_IN_A_SLICE = 8
"""How many writes are begun, and how many files are read, in one slice: two or three milliseconds."""


class Sync:
    """Applies updates and answers with what the client is missing."""

    def __init__(self, files: Files, changes: Changes, *, paths_limit: int, answer_limit: int) -> None:
        self._files = files
        self._changes = changes
        self._paths_limit = paths_limit
        self._answer_limit = answer_limit

    async def exchange(
        self, project: str, request: SyncRequest, author: Author, visible: Paths | None = None
    ) -> SyncAnswer:
        """Apply `updates`, either independently or atomically; then answer as status does, with updates.

        Args:
            visible: the files that the requester can see; others can be neither read nor created; None: all.

        Raises:
            SyncRefused: `atomic` is set and an update cannot be applied.
            Problem: the question is invalid; nothing was applied.
        """
        await self._check(request)
        hidden = [path for path in request.updates if visible is not None and path not in visible]
        if hidden and request.atomic:
            raise SyncRefused({path: _hidden(path) if path in hidden else None for path in request.updates})
        updates = {path: update for path, update in request.updates.items() if path not in hidden}
        before = await self._files.heads(project, list(updates))
        results = await self._push(project, updates, request.atomic, author)
        results.update({path: FileNotFound(path) for path in hidden})
        stored = any(isinstance(written, Written) and written.changed for written in results.values())
        with after_a_write() if stored else contextlib.nullcontext():
            return await self._answer(project, request, results, before, visible)

    async def _answer(
        self,
        project: str,
        request: SyncRequest,
        results: dict[str, Written | Problem],
        before: dict[str, FileHead],
        visible: Paths | None,
    ) -> SyncAnswer:
        question = StatusQuestion(request.paths, request.since, request.versions)
        found = await self._changes.compare(project, question, visible)
        asked = await self._changes.position(project, request.since, found.head)
        own = {
            path
            for path, written in results.items()
            if _wrote_alone(written, before.get(path), asked.sequence, (request.versions or {}).get(path))
        }
        changes, sequence = await self._pull(project, found.changes, own, request)
        return SyncAnswer(
            {path: _result(written) async for path, written in with_turns(results.items())},
            changes,
            asked.cursor(found.head, found.head.sequence if sequence is None else sequence, more=sequence is not None),
            more=sequence is not None,
            reset=True if found.reset else UNSET,
        )

    async def _check(self, request: SyncRequest) -> None:
        if len(request.updates) > self._paths_limit:
            raise TooManyPaths(len(request.updates), self._paths_limit)
        async for path in with_turns(request.updates):
            fault = path_fault(path)
            if fault is not None:
                raise InvalidPath(path, fault)
        await self._changes.check(StatusQuestion(request.paths, request.since, request.versions))

    async def _push(
        self, project: str, updates: dict[str, bytes], atomic: bool, author: Author
    ) -> dict[str, Written | Problem]:
        if atomic and updates:
            written, refused = await self._files.append_all(project, updates, author)
            if refused:
                raise SyncRefused({path: _details(refused.get(path)) for path in updates})
            return dict(written)
        results: dict[str, Written | Problem] = {}
        for paths in _chunks(list(updates), _AT_ONCE):
            writing: dict[str, asyncio.Task[Written | Problem]] = {}
            async with asyncio.TaskGroup() as group:
                async for path in with_turns(paths, _IN_A_SLICE):
                    writing[path] = group.create_task(self._append(project, path, updates[path], author))
            results.update((path, writing[path].result()) for path in paths)
        return results

    async def _append(self, project: str, path: str, update: bytes, author: Author) -> Written | Problem:
        try:
            return await self._files.append(project, path, update, Preconditions(), author)
        except Problem as problem:
            return problem
        except StorageError as error:
            return problem_from_storage(error)

    async def _pull(
        self, project: str, changed: list[tuple[int, FileChange]], own: set[str], request: SyncRequest
    ) -> tuple[list[SyncChange], int | None]:
        """Return the changes with what the client is missing of each, and the last sequence if the answer is full."""
        changes: list[SyncChange] = []
        size = last = 0
        most = min(request.max_bytes, self._answer_limit)
        async for chunk in self._chunks_within(project, changed, most):
            lacking = await asyncio.gather(*(self._lacking(project, change, own, request) for _, change in chunk))
            for (sequence, _), change in zip(chunk, lacking, strict=True):
                update = change.update or b""
                if size and size + len(update) > most:
                    return changes, last
                size += len(update)
                changes.append(change)
                last = sequence
            await next_slice()
        return changes, None

    async def _chunks_within(
        self, project: str, changed: list[tuple[int, FileChange]], most: int
    ) -> AsyncIterator[list[tuple[int, FileChange]]]:
        """Yield chunks of changes to read concurrently: at most `most` bytes each, by the sizes of the files."""
        for group in _chunks(changed, _IN_A_SLICE):
            heads = await self._files.heads(project, [change.path for _, change in group])
            chunk: list[tuple[int, FileChange]] = []
            size = 0
            for each in group:
                head = heads.get(each[1].path)
                length = 0 if head is None else head.size
                if chunk and size + length > most:
                    yield chunk
                    chunk, size = [], 0
                chunk.append(each)
                size += length
            yield chunk

    async def _lacking(self, project: str, change: FileChange, own: set[str], request: SyncRequest) -> SyncChange:
        answer = SyncChange(change.path, change.last_modified, change.version, change.change_type, change.reset)
        if change.change_type == "deleted" or change.path in own:
            return answer
        known = 0 if change.reset is True else (request.versions or {}).get(change.path, 0)
        try:
            content = await self._files.read_since(project, change.path, known)
        except (FileDeleted, FileNotFound, VersionAhead):
            return answer  # the file changed again meanwhile: the next answer will report it
        return SyncChange(
            change.path,
            rfc3339(content.last_modified),
            content.version,
            change.change_type,
            change.reset,
            content.update,
            content.builds_on,
        )


def _wrote_alone(written: Written | Problem, before: FileHead | None, since: int | None, version: int | None) -> bool:
    """Return whether a client has all of a file it just wrote: it had the former state, with no write in between."""
    if isinstance(written, Problem) or written.head.version != (before.version if before else 0) + written.changed:
        return False
    if before is None or before.deleted:
        return True
    return version == before.version if version is not None else since is not None and before.sequence <= since


def _result(written: Written | Problem) -> Receipt | ProblemDetails:
    return written.details() if isinstance(written, Problem) else written.receipt()


def _hidden(path: str) -> ProblemDetails:
    return FileNotFound(path).details()


def _details(problem: Problem | None) -> ProblemDetails | None:
    return None if problem is None else problem.details()


def _chunks(items: list[T], length: int) -> Iterable[list[T]]:
    return (items[start : start + length] for start in range(0, len(items), length))
