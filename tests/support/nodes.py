"""Two gateways' storages of one database, used as one."""

import asyncio
import contextlib
import inspect
from collections.abc import Awaitable
from typing import Any

from storage import AppendDone, Change, Committed, ProjectHead, StorageClosed, StorageError
from storage.contract import CommitListener, Storage


class TwoNodes:
    """Every call goes to the other of two storages than the one before, so that each promise is one between them.

    Only what `append` promises of one process alone is asked of one: while changes of a project wait, further ones of
    it follow them to the same storage, which keeps their order. Whoever listens does so at the first one; a change that
    the second one stored has been heard there before its receipt.
    """

    def __init__(self, first: Storage, second: Storage) -> None:
        self._nodes = first, second
        self._turn = 0
        self._waiting: dict[str, tuple[Storage, set[asyncio.Future[Any]]]] = {}
        self._written: set[str] = set()

    def _next(self) -> Any:
        self._turn += 1
        return self._nodes[self._turn % 2]

    def append(self, project: str, changes: tuple[Change, ...]) -> asyncio.Future[tuple[Committed, ...]]:
        node, waiting = self._waiting.get(project, (None, set()))
        if node is None:
            node = self._next() if project in self._written else self._nodes[0]  # which tracks it from here on
        self._written.add(project)
        future = asyncio.ensure_future(self._heard(project, node, node.append(project, changes)))
        waiting.add(future)
        self._waiting[project] = node, waiting
        future.add_done_callback(lambda done: self._done(project, done))
        return future

    def append_and_call(self, project: str, changes: tuple[Change, ...], done: AppendDone) -> None:
        def call(future: asyncio.Future[tuple[Committed, ...]]) -> None:
            error = future.exception()
            assert error is None or isinstance(error, StorageError)
            done(future.result() if error is None else error)

        self.append(project, changes).add_done_callback(call)

    def _done(self, project: str, future: asyncio.Future[Any]) -> None:
        if not future.cancelled():
            future.exception()
        _, waiting = self._waiting[project]
        waiting.discard(future)
        if not waiting:
            del self._waiting[project]

    async def _heard(self, project: str, node: Storage, stored: Awaitable[Any]) -> Any:
        result = await stored
        if node is not self._nodes[0]:
            with contextlib.suppress(StorageClosed):
                await self._nodes[0].catch_up(project)
        return result

    async def create_session(self, project: str, change: Any) -> Any:
        return await self._write("create_session", project, change)

    async def write_turn(self, project: str, change: Any) -> Any:
        return await self._write("write_turn", project, change)

    async def _write(self, name: str, project: str, change: Any) -> Any:
        node = self._next() if project in self._written else self._nodes[0]
        self._written.add(project)
        return await self._heard(project, node, getattr(node, name)(project, change))

    async def erase_project(self, project: str) -> ProjectHead | None:
        node = self._next()
        return await self._heard(project, node, node.erase_project(project))  # type: ignore[no-any-return]

    def listen(self, listener: CommitListener, missed: CommitListener | None = None, *, first: bool = False) -> None:
        self._nodes[0].listen(listener, missed, first=first)

    @property
    def load(self) -> float:
        return max(node.load for node in self._nodes)

    async def follow(self, project: str) -> ProjectHead | None:
        return [await node.follow(project) for node in self._nodes][self._turn % 2]

    def unfollow(self, project: str) -> None:
        for node in self._nodes:
            node.unfollow(project)

    @property
    def shared(self) -> bool:
        return True

    @property
    def fresh(self) -> bool:
        return all(node.fresh for node in self._nodes)

    async def close(self) -> None:
        for node in self._nodes:
            await node.close()
        pending = [future for _, waiting in self._waiting.values() for future in waiting]
        if pending:
            await asyncio.wait(pending)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._next(), name)
        assert inspect.ismethod(found)
        return found
