"""Readers over a real database and real sockets, in a time that the test moves on."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec

from gateway.access.access import OPEN, Access
from gateway.access.grants import EVERYTHING, View
from gateway.changes.feed import Feed
from gateway.files.documents import Documents
from gateway.files.history import Versions
from gateway.files.preconditions import Preconditions
from gateway.files.store import Files
from gateway.readers.opening import Readers, open_readers
from gateway.watch.connected import Connected
from gateway.watch.hub import Hub
from gateway.wire.readers import Hook, HookRequest
from storage import Author, CreateSession, CreateTurn, Reader, Storage, UpdateTurn
from storage.sqlite import SQLiteStorage


class VirtualClock:
    """A time that stands until the test moves it on."""

    def __init__(self) -> None:
        self._now = time.time_ns() // 1_000_000
        self._moved = asyncio.Event()
        self.resting = asyncio.Event()
        """Set while the job waits."""

    def now(self) -> int:
        return self._now

    async def wait(self, news: asyncio.Event, until: int | None) -> None:
        while not news.is_set() and (until is None or until > self._now):
            self._moved.clear()
            self.resting.set()
            waiting = [asyncio.create_task(news.wait()), asyncio.create_task(self._moved.wait())]
            try:
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in waiting:
                    task.cancel()
            self.resting.clear()

    def advance(self, seconds: float) -> None:
        """Move on; `resting` is set again once the job has done what is due then."""
        self._now += int(seconds * 1000)
        self.resting.clear()
        self._moved.set()


class Place:
    """A storage, what reads and writes it, and its readers at work."""

    def __init__(
        self, storage: Storage, clock: VirtualClock, files: Files, readers: Readers, connected: Connected
    ) -> None:
        self.storage, self.clock, self.files, self.readers = storage, clock, files, readers
        self.connected = connected
        self._turns = 0

    async def put(self, path: str, text: str, project: str = "demo") -> str:
        """Write a file; returns the cursor after it."""
        written = await self.files.put_text(project, path, text, "content", Preconditions(), Author("ann"))
        return written.receipt().cursor

    async def turn(self, status: str = "completed", project: str = "demo") -> str:
        """A turn with a status; returns its id."""
        self._turns += 1
        name = f"turn{self._turns}"
        if self._turns == 1:
            await self.storage.create_session(project, CreateSession("session", None))
        head = (await self.storage.write_turn(project, CreateTurn("session", name, "do it"))).turn
        for each in ("running", status):
            head = (await self.storage.write_turn(project, UpdateTurn("session", name, head.sequence, each))).turn  # type: ignore[arg-type]
        return name

    async def hook(self, name: str, url: str, access: Access = OPEN, view: View = EVERYTHING, **more: Any) -> Hook:
        request = msgspec.convert({"url": url, **more}, HookRequest)
        hook, _ = await self.readers.registry.put_hook("demo", name, request, access, view)
        return hook

    async def read(self, name: str) -> Hook:
        return await self.readers.registry.hook("demo", name)

    async def stored(self, kind: str, name: str) -> Reader:
        """The row of a reader."""
        reader = await self.storage.reader("demo", kind, name)
        assert reader is not None
        return reader

    async def pushed(self, cursor: str) -> None:
        """Returns once the subscription is where the cursor is."""
        await self.until(lambda reader: reader.cursor == cursor)

    async def until(self, holds: Callable[[Reader], bool], kind: str = "push", name: str = "client") -> None:
        """Returns once something holds of a reader, by default of the subscription."""
        async with asyncio.timeout(60):
            while True:
                if holds(await self.stored(kind, name)):
                    return
                await asyncio.sleep(0.01)

    async def until_stage(self, name: str, stage: str) -> None:
        """Returns once a hook is in a stage."""
        await self.until(lambda reader: reader.stage == stage, "hook", name)

    async def settled(self, name: str, **expected: Any) -> Hook:
        """The hook, once it is as expected."""
        async with asyncio.timeout(60):
            while True:
                hook = await self.read(name)
                as_expected = all(getattr(hook, key) == value for key, value in expected.items())
                # A reader whose result is being stored is looked at a second later, which virtual time does not bring.
                if as_expected and ("demo", "hook", name) not in self.readers.deliveries._sending:
                    return hook
                await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def place(folder: Path, clock: VirtualClock | None = None, **options: Any) -> AsyncIterator[Place]:
    clock = clock or VirtualClock()
    storage = await SQLiteStorage.open(folder / "readers.db", clock=clock.now, same=True)
    hub = Hub(storage)
    documents = Documents(storage, memory_limit=2**26, size_limit=2**24)
    files = Files(storage, documents, hub)
    versions = Versions(storage, files)
    settings = {"vapid_key": "", "push_contact": "", "push_hosts": ("127.0.0.1",), "hook_hosts": ("127.0.0.1",)}
    readers = await open_readers(
        storage,
        hub,
        Feed(storage, hub, versions, files),
        versions,
        files,
        limit=20_000,
        clock=clock,
        **{**settings, **options},  # type: ignore[arg-type]
    )
    work = asyncio.create_task(readers.deliveries.run())
    try:
        yield Place(storage, clock, files, readers, hub.waiters.connected)
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
        await readers.close()
        documents.close()
        await storage.close()
