"""The SQLite file: opening, pragmas, schema, and the three connections to it."""

import asyncio
import functools
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Generic, Self, TypeVar

import aiosqlite
import structlog

from storage.checksums import checksum, row_checksum
from storage.errors import (
    DatabaseOverwritten,
    DataDamaged,
    NotAGatewayDatabase,
    SchemaTooNew,
    SchemaTooOld,
    StorageError,
    StorageFull,
    StorageUnavailable,
)
from storage.migrations import migrations
from storage.sqlite.lock import DatabaseLock
from storage.sqlite.log_bound import LogBound, LongReads
from storage.sqlite.log_space import allocate_log
from storage.times import Times

T = TypeVar("T")

_log = structlog.get_logger("storage")

APPLICATION_ID = 0x594A5347
"""Marks the file as ours in its header ("YJSG")."""

FAILURES = (sqlite3.Error, UnicodeDecodeError)
"""The exceptions that a SQLite call raises; the second if the message quotes a damaged schema."""
_BUSY_TIMEOUT_S = 5.0
_JOURNAL_SIZE_LIMIT = 64 * 2**20


class _WorkerConnection(aiosqlite.Connection):
    """An aiosqlite connection that runs a whole function in its thread: one thread hop instead of one per statement."""

    def run(self, function: Callable[[sqlite3.Connection], T]) -> asyncio.Future[T]:
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self.run_and_call(function, functools.partial(_set, future))
        return future

    def run_and_call(
        self, function: Callable[[sqlite3.Connection], T], done: Callable[[T | BaseException], None]
    ) -> None:
        """Run a function as `run` does, and call `done` in the event loop with what it returned or raised.

        A future would take another turn of the loop.
        """
        if not self._running:
            raise ValueError("the connection is closed")
        self._tx.put_nowait((None, _Call(functools.partial(function, self._conn), done)))

    @classmethod
    async def to(cls, path: Path, *, read_only: bool = False) -> Self:
        connection = cls(lambda: _connect(path, read_only=read_only), iter_chunk_size=64)
        await connection
        return connection


class _Call(Generic[T]):
    """Calls a function in the thread of a connection, and another one in the event loop with the outcome.

    It forgets the function and the outcome, which may hold many bodies, since aiosqlite keeps what it called last, and
    what that returned, until it is called again.
    """

    __slots__ = ("_done", "_function", "_loop")

    def __init__(self, function: Callable[[], T], done: Callable[[T | BaseException], None]) -> None:
        self._function = function
        self._done = done
        self._loop = asyncio.get_running_loop()

    def __call__(self) -> None:
        function, done = self._function, self._done
        del self._function, self._done
        try:
            result = function()
        except BaseException as error:
            self._loop.call_soon_threadsafe(done, error)
        else:
            self._loop.call_soon_threadsafe(done, result)


def _set(future: asyncio.Future[T], outcome: T | BaseException) -> None:
    if future.done():  # it was cancelled
        return
    if isinstance(outcome, BaseException):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)


class Database:
    """Owns every connection: one writer, one reader in a thread, and one reader in the event loop's thread.

    A bounded, indexed read takes microseconds and a thread hop 70 to 90, so such reads run in the caller's thread.
    """

    def __init__(
        self,
        path: Path,
        writer: _WorkerConnection,
        reader: _WorkerConnection,
        near: sqlite3.Connection,
        lock: DatabaseLock | None = None,
        log_bound: LogBound | None = None,
        long_reads: LongReads | None = None,
    ) -> None:
        self.path = path
        self.log_bound = log_bound
        self._long_reads = long_reads
        self._lock = lock
        self._writer = writer
        self._reader = reader
        self._near = near
        self.flush_times = Times()

    @classmethod
    async def open(
        cls,
        path: Path,
        prepare: Callable[[sqlite3.Connection], None],
        lock: DatabaseLock | None,
        log_limit: int,
        log_space: int = 0,
    ) -> Self:
        """Open the file; create it or upgrade its schema if necessary.

        Args:
            prepare: called with the database before anything else is done to it.
            lock: tells whether the files are still those that were opened; None: nothing tells.
            log_limit: the maximum size of the write-ahead log, in bytes.
            log_space: how many bytes of the log are allocated now, in the writer's thread, before they are needed.

        Raises:
            SchemaTooNew, NotAGatewayDatabase: the file is left unchanged.
        """
        _migrate(path, prepare)
        writer = await _WorkerConnection.to(path)
        reader = await _WorkerConnection.to(path, read_only=True)
        bound = LogBound(_log_of(path), log_limit)
        database = cls(path, writer, reader, _connect(path, read_only=True), lock, bound)
        await database.write(lambda connection: None)  # from here on the log exists
        if log_space:
            writer.run(functools.partial(allocate_log, _log_of(path), log_space))
        return database

    @classmethod
    async def open_read_only(cls, path: Path, log_limit: int) -> Self:
        """Open an existing file read-only, even while a gateway serves it. Writing fails.

        Args:
            log_limit: that of the gateway. Reads are ended before the log reaches it.
        """
        if not path.is_file():  # noqa: ASYNC240 - before anything is served
            raise NotAGatewayDatabase(str(path), "there is no such file")
        connection = _connect(path, read_only=True)
        try:
            version, known = _schema_version(connection, path), len(migrations("sqlite"))
            if version == 0:
                raise NotAGatewayDatabase(str(path), "it is empty")
            if version < known:
                raise SchemaTooOld(str(path), version, known)
        finally:
            connection.close()
        writer = await _WorkerConnection.to(path, read_only=True)
        reader = await _WorkerConnection.to(path, read_only=True)
        long_reads = LongReads(_log_of(path), log_limit)
        await reader.run(long_reads.watch)
        return cls(path, writer, reader, _connect(path, read_only=True), long_reads=long_reads)

    def write(self, function: Callable[[sqlite3.Connection], T]) -> asyncio.Future[T]:
        """Run `function` in the writer's thread in one transaction, which is rolled back if the function raises.

        Raises, through the future:
            StorageFull, StorageUnavailable: the database failed, or its log is too large; nothing was stored if
                `certain`.
            DatabaseMoved, DatabaseOverwritten: nothing was stored in the file that the path names now.
        """
        return self._writer.run(functools.partial(self._transaction, function))

    def write_and_call(
        self, function: Callable[[sqlite3.Connection], T], done: Callable[[T | BaseException], None]
    ) -> None:
        """Run `function` as `write` does, and call `done` in the event loop with its result or with the exception."""
        self._writer.run_and_call(functools.partial(self._transaction, function), done)

    def _transaction(self, function: Callable[[sqlite3.Connection], T], connection: sqlite3.Connection) -> T:
        committing = False
        try:
            try:
                if self.log_bound is not None:
                    self.log_bound.require_room(connection, None if self._lock is None else self._lock.log_bytes)
                connection.execute("BEGIN IMMEDIATE")
                result = function(connection)
                self._require_in_place()
                committing = True
                started = time.perf_counter()
                connection.execute("COMMIT")
                self.flush_times.note(time.perf_counter() - started)
                self._require_in_place()  # this late, so that acknowledged changes are in the file that the path names
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
        except FAILURES as error:
            raise self._writing_error(error, certain=not committing) from error
        except StorageError as error:
            error.certain = not committing
            raise
        return result

    def _require_in_place(self) -> None:
        if self._lock is not None:
            self._lock.require_in_place()

    def _writing_error(self, error: sqlite3.Error | UnicodeDecodeError, *, certain: bool) -> StorageError:
        try:
            self._require_contents()
        except DatabaseOverwritten as overwritten:  # that is why it failed
            overwritten.certain = certain
            return overwritten
        return storage_error(error, certain=certain)

    async def write_alone(self, function: Callable[[sqlite3.Connection], T]) -> T:
        """Run `function` in the writer's thread outside a transaction (VACUUM, checkpoints)."""
        try:
            return await self._writer.run(function)
        except FAILURES as error:
            raise storage_error(error) from error

    def read(self, function: Callable[[sqlite3.Connection], T]) -> T:
        """Run a bounded, indexed read synchronously, in one read transaction."""
        try:
            return _read_transaction(self._near, function)
        except FAILURES as error:
            raise storage_error(error) from error
        finally:
            self._require_contents()

    def read_one(self, function: Callable[[sqlite3.Connection], T]) -> T:
        """Run a read of a single statement synchronously; it is consistent without a transaction."""
        try:
            return function(self._near)
        except FAILURES as error:
            raise storage_error(error) from error
        finally:
            self._require_contents()

    async def read_long(self, function: Callable[[sqlite3.Connection], T]) -> T:
        """Run a read of any length in the reader's thread, in one read transaction."""
        try:
            return await self._reader.run(lambda connection: _read_transaction(connection, function))
        except FAILURES as error:
            raise self._reading_error(error) from error
        finally:
            self._require_contents()

    def require_short_log(self) -> None:
        """Raise LogHeld if a long read of another process than the gateway has to end. Call it between statements."""
        if self._long_reads is not None:
            self._long_reads.require_short_log()

    def _require_contents(self) -> None:
        """Raise DatabaseOverwritten, in the place of whatever came of it, after a read of a file that was
        overwritten."""
        if self._lock is not None:
            self._lock.require_contents()

    def _reading_error(self, error: sqlite3.Error | UnicodeDecodeError) -> StorageError:
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_INTERRUPT and self._long_reads is not None:
            return self._long_reads.given_up()
        return storage_error(error)

    async def read_alone(self, function: Callable[[sqlite3.Connection], T]) -> T:
        """Run `function` in the reader's thread outside a transaction (VACUUM INTO)."""
        try:
            return await self._reader.run(function)
        except FAILURES as error:
            raise self._reading_error(error) from error

    async def visit_connections(self, visit: Callable[[sqlite3.Connection], object]) -> None:
        """Call `visit` with each connection, in that connection's thread: for traces and query plans."""
        visit(self._near)
        await self._reader.run(visit)
        await self._writer.run(visit)

    async def close(self, *, copy_log: bool = True) -> None:
        """Close the connections.

        Args:
            copy_log: whether the log is copied into the file; else it is left. SQLite copies it when the last
                connection is closed, unless that one can only read.
        """
        if not copy_log:
            await self._writer.close()
        self._near.close()
        await self._reader.close()
        if copy_log:
            await self._writer.close()


def _read_transaction(connection: sqlite3.Connection, function: Callable[[sqlite3.Connection], T]) -> T:
    connection.execute("BEGIN")
    try:
        return function(connection)
    finally:
        connection.execute("COMMIT")


def storage_error(error: sqlite3.Error | UnicodeDecodeError, *, certain: bool = True) -> StorageError:
    """Convert an error of SQLite into a StorageError. `certain`: nothing of the transaction was stored.

    A commit that runs out of disk space stores nothing: its last frame, which makes it valid, is not in the log.
    """
    if isinstance(error, UnicodeDecodeError):
        return DataDamaged(None, f"SQLite says what is no text: {error.object!r}")
    if str(error).startswith("Could not decode to UTF-8"):
        return DataDamaged(None, str(error))
    if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
        return StorageFull("the disk that holds the database is full")
    if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_CORRUPT:
        return DataDamaged(None, str(error))
    return StorageUnavailable(f"the database failed: {error}", certain=certain)


def _connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    uri = path.resolve().as_uri() + ("?mode=ro" if read_only else "")
    connection = sqlite3.connect(
        uri, uri=True, isolation_level=None, timeout=_BUSY_TIMEOUT_S, check_same_thread=False, cached_statements=256
    )
    connection.create_function("row_checksum", -1, row_checksum, deterministic=True)
    connection.create_function("body_checksum", 1, checksum, deterministic=True)
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(f"PRAGMA journal_size_limit = {_JOURNAL_SIZE_LIMIT}")
    return connection


def _log_of(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


def _schema_version(connection: sqlite3.Connection, path: Path) -> int:
    """Return the schema number; 0 for an empty file.

    Raises:
        NotAGatewayDatabase, SchemaTooNew
    """
    try:
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    except FAILURES as error:
        raise _opening_error(path, error) from error
    if tables and application != APPLICATION_ID:
        raise NotAGatewayDatabase(str(path), "it holds the tables of another application")
    known = len(migrations("sqlite"))
    if version > known:
        raise SchemaTooNew(str(path), version, known)
    return int(version)


def _opening_error(path: Path, error: sqlite3.Error | UnicodeDecodeError) -> StorageError:
    """Convert an error on opening: distinguish a file of another kind from a file that cannot be read now."""
    if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_NOTADB:
        return NotAGatewayDatabase(str(path), str(error))
    return storage_error(error)


def _migrate(path: Path, prepare: Callable[[sqlite3.Connection], None]) -> None:
    """Create or upgrade the schema, each step in its own transaction."""
    try:
        connection = _connect(path)
    except FAILURES as error:
        raise _opening_error(path, error) from error
    try:
        present = _schema_version(connection, path)
        connection.execute("PRAGMA journal_mode = WAL")
        for number, script in migrations("sqlite")[present:]:
            connection.executescript(
                f"BEGIN IMMEDIATE;\n{script}\n"
                f"PRAGMA application_id = {APPLICATION_ID};\nPRAGMA user_version = {number};\nCOMMIT;"
            )
        if 0 < present < len(migrations("sqlite")):
            _log.info("schema upgraded", database=str(path), before=present, now=len(migrations("sqlite")))
        prepare(connection)
    except FAILURES as error:
        raise storage_error(error) from error
    finally:
        connection.close()


def dangling(connection: sqlite3.Connection) -> list[str]:
    """Describe, in words, the rows that refer to rows that do not exist."""
    return [
        f"a row of {table} (row {row}) belongs to a {parent} that is not there"
        for table, row, parent, _ in connection.execute("PRAGMA foreign_key_check")
    ]
