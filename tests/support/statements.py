"""Which SQL statements run: a recorder on every connection of a storage, and a write that the test holds open."""

import asyncio
import contextlib
import sqlite3
import threading
from collections.abc import Iterator

from storage.sqlite import SQLiteStorage

_STEPS = 20
"""More statements than any job of a gateway runs at its start, one after another: who waits for as many, on the same
connections, comes after them."""


class StatementRecorder:
    """Collects the statements of every connection while it records; those that only frame a read are left out."""

    def __init__(self) -> None:
        self.statements: list[str] = []
        self._recording = False

    def attach(self, connection: sqlite3.Connection) -> None:
        connection.set_trace_callback(self._trace)

    def _trace(self, statement: str) -> None:
        if self._recording:
            self.statements.append(statement)

    @contextlib.contextmanager
    def recording(self) -> Iterator[list[str]]:
        """The statements that run inside the block."""
        self.statements = []
        self._recording = True
        try:
            yield self.statements
        finally:
            self._recording = False


async def record_statements(storage: SQLiteStorage) -> StatementRecorder:
    """A recorder on the writer, on the reader in its thread and on the reader in the loop's."""
    recorder = StatementRecorder()
    for _ in range(_STEPS):
        await storage.visit_connections(lambda connection: None)
    await storage.visit_connections(recorder.attach)
    return recorder


class HeldWrite:
    """A batch whose rows are written and whose commit waits until the test lets it go."""

    def __init__(self, storage: SQLiteStorage) -> None:
        self._storage = storage
        self._held = threading.Event()
        self._released = threading.Event()

    async def arm(self) -> None:
        """Hold the next commit."""
        await self._storage.visit_connections(self._attach)

    def _attach(self, connection: sqlite3.Connection) -> None:
        writing = False

        def trace(statement: str) -> None:
            nonlocal writing
            writing = writing or statement == "BEGIN IMMEDIATE"
            if writing and statement == "COMMIT" and not self._released.is_set():
                self._held.set()
                self._released.wait(300)

        connection.set_trace_callback(trace)

    async def held(self) -> None:
        """Wait until a batch stands before its commit."""
        assert await asyncio.to_thread(self._held.wait, 120)

    def release(self) -> None:
        self._released.set()
