"""The connections to PostgreSQL: pools, settings, schema, and the mapping of errors."""

import asyncio
import contextlib
import hashlib
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any, Protocol, Self, TypeVar
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from storage.errors import (
    DatabaseRefused,
    DataDamaged,
    NotAGatewayDatabase,
    SchemaTooNew,
    SchemaTooOld,
    StorageClosed,
    StorageError,
    StorageFull,
    StorageUnavailable,
)
from storage.migrations import migrations
from storage.postgres.generations import new_generation

_log = logging.getLogger(__name__)

T = TypeVar("T")
Row = tuple[Any, ...]
Trace = Callable[[str, tuple[Any, ...]], None]


class Connection(Protocol):
    """The part of an asyncpg connection that this package uses."""

    async def execute(self, statement: str, *values: object, timeout: float | None = None) -> str: ...  # noqa: ASYNC109

    async def executemany(self, statement: str, values: Iterable[Row], *, timeout: float | None = None) -> None: ...  # noqa: ASYNC109

    async def fetch(self, statement: str, *values: object, timeout: float | None = None) -> list[Row]: ...  # noqa: ASYNC109

    async def fetchrow(self, statement: str, *values: object, timeout: float | None = None) -> Row | None: ...  # noqa: ASYNC109

    async def fetchval(self, statement: str, *values: object, timeout: float | None = None) -> Any: ...  # noqa: ASYNC109

    def cursor(self, statement: str, *values: object, prefetch: int) -> AsyncIterator[Row]: ...

    def transaction(self, *, isolation: str | None = None, readonly: bool = False) -> Any: ...

    async def add_listener(self, channel: str, callback: Callable[["Connection", int, str, str], None]) -> None: ...

    def add_termination_listener(self, callback: Callable[["Connection"], None]) -> None: ...

    def is_closed(self) -> bool: ...

    def terminate(self) -> None: ...


PATIENCE_S = 5.0
_CLOSE_S = 2.0
_PREPARE_S = 30.0
"""How long a gateway that starts waits for a connection: nobody waits for its answers yet."""
_STATEMENT_S = 30.0
_READERS, _WRITERS = 8, 4

LOST = (
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # its state is not what the server's answers say, after a statement was cancelled
    asyncpg.exceptions.OperatorInterventionError,  # shutting down, crashed, or not up yet
    asyncpg.exceptions.ReadOnlySQLTransactionError,  # a primary that was demoted
    asyncpg.exceptions.TooManyConnectionsError,
    ConnectionError,
    OSError,
    TimeoutError,
    EOFError,
)
"""The connection is lost: it is unknown whether statements in flight were executed."""
FAILURES = (asyncpg.PostgresError, *LOST)
"""The exceptions that a database call raises."""
CONTENTION = (
    asyncpg.exceptions.SerializationError,
    asyncpg.exceptions.DeadlockDetectedError,
    asyncpg.exceptions.LockNotAvailableError,
)
"""Another transaction was faster; nothing was done."""


class Patience:
    """How long a database that does not respond is waited for, in seconds.

    Args:
        seconds: how long a batch waits before it is refused. The rest is in proportion.
    """

    __slots__ = ("attempt", "connect", "write")

    def __init__(self, seconds: float = PATIENCE_S) -> None:
        self.write = seconds
        self.attempt = max(3.0, 0.6 * seconds)
        """How long one attempt may take: after that, a silent connection is abandoned for another one."""
        self.connect = max(2.0, 0.4 * seconds)

    @property
    def settings(self) -> dict[str, str]:
        """The settings of a session."""
        return {
            "application_name": "yjs-gateway",
            "synchronous_commit": "on",  # whatever the database's default: acknowledged changes are durable
            "jit": "off",
            "lock_timeout": f"{int(self.connect * 1000)}",
            "idle_in_transaction_session_timeout": f"{int(max(PATIENCE_S, self.write) * 1000)}",
        }


_SERVER = (
    "SELECT (SELECT system_identifier FROM pg_control_system()) || '/' ||"
    " left(pg_walfile_name(pg_current_wal_lsn()), 8)"
)
"""Names the PostgreSQL cluster and its timeline: another one when a standby was promoted or a backup was restored."""


def project_id(name: str) -> int:
    """Return the id of a project: 64 bits of a hash of its name."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), signed=True)


def without_password(url: str) -> str:
    """Return the URL of a database without its password, for display."""
    parts = urlsplit(url)
    if parts.password is None:
        return url
    user = f"{parts.username}:***@" if parts.username else "***@"
    return urlunsplit(parts._replace(netloc=user + parts.netloc.rpartition("@")[2]))


class Database:
    """Owns the pools. A read that loses its connection is retried once on another one."""

    def __init__(
        self, url: str, readers: asyncpg.Pool, writers: asyncpg.Pool, *, same: bool, patience: Patience
    ) -> None:
        self.url = url
        self.patience = patience
        self._same = same
        self.name = without_password(url)
        self.readers = readers
        self.writers = writers
        self.closed = False

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        read_only: bool = False,
        same: bool = False,
        patience: float = PATIENCE_S,
        trace: Trace | None = None,
    ) -> Self:
        """Connect, and create or upgrade the schema.

        Args:
            same: whether the database goes on as it was on another server or timeline.
            patience: seconds that a write waits for a database that does not respond.
            trace: called with every statement of the pools and its values.

        Raises:
            NotAGatewayDatabase, SchemaTooNew, SchemaTooOld: the database is left unchanged.
            StorageUnavailable: the database cannot be reached.
        """
        try:
            await _prepare(url, read_only=read_only)
            times = Patience(patience)
            readers = await _pool(url, _READERS, times, read_only=read_only, same=same, trace=trace)
            writers = await _pool(url, _WRITERS, times, read_only=read_only, same=same, trace=trace)
        except (*FAILURES, ValueError) as error:
            raise _opening_error(url, error) from error
        return cls(url, readers, writers, same=same, patience=times)

    async def connect(self) -> Connection:
        """Open a connection outside the pools."""
        connection = await _connect(self.url, self.patience)
        try:
            await _recognize(connection, same=self._same)
        except BaseException:
            connection.terminate()
            raise
        return connection

    async def begin_generation(self, last: str) -> None:
        """Begin a new generation after `last`, because commits are lost, unless one has begun already."""
        connection = await self.connect()
        try:
            if await connection.fetchval(_BEGIN + " RETURNING 1", new_generation(), last):
                _log.error("commits of %s are lost: every client starts over", self.name)
        finally:
            connection.terminate()

    async def fetch(self, statement: str, *values: object) -> list[Row]:
        """Run a read that is a single statement."""
        return await self._retry(lambda connection: connection.fetch(statement, *values))

    async def fetch_row(self, statement: str, *values: object) -> Row | None:
        return await self._retry(lambda connection: connection.fetchrow(statement, *values))

    async def read(self, function: Callable[[Connection], Awaitable[T]]) -> T:
        """Run several reads in one consistent transaction."""

        async def work(connection: Connection) -> T:
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                return await function(connection)

        return await self._retry(work)

    async def _retry(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        for last in (False, True):
            try:
                async with self.acquire(self.readers) as connection:
                    return await work(connection)
            except LOST as error:
                if last or self.closed:
                    raise storage_error(error) from error
            except asyncpg.PostgresError as error:
                raise storage_error(error) from error
        raise AssertionError

    async def write(self, function: Callable[[Connection], Awaitable[T]]) -> T:
        """Run `function` in one transaction: committed when it returns, rolled back when it raises.

        Raises:
            StorageFull, StorageUnavailable: the database failed; nothing was stored if `certain`.
        """
        committing = False
        try:
            async with self.acquire(self.writers) as connection:
                transaction = connection.transaction()
                await transaction.start()
                try:
                    result = await function(connection)
                except BaseException:
                    with contextlib.suppress(*LOST):
                        await transaction.rollback()
                    raise
                committing = True
                await transaction.commit()
                return result
        except FAILURES as error:
            raise storage_error(error, certain=not committing) from error

    @contextlib.asynccontextmanager
    async def acquire(self, pool: asyncpg.Pool) -> AsyncIterator[Connection]:
        if self.closed:
            raise StorageClosed("the storage is closed")
        connection = await pool.acquire(timeout=self.patience.connect * 2)
        try:
            yield connection
        except (asyncio.CancelledError, *LOST):
            connection.terminate()  # its statement may still be running
            raise
        finally:
            with contextlib.suppress(*LOST):
                await pool.release(connection)

    async def close(self) -> None:
        self.closed = True
        for pool in (self.readers, self.writers):
            try:
                await asyncio.wait_for(pool.close(), _CLOSE_S)
            except LOST:
                pool.terminate()


async def _connect(url: str, patience: Patience) -> Connection:
    connection: Connection = await asyncpg.connect(
        url, timeout=patience.connect, command_timeout=patience.write, server_settings=patience.settings
    )
    return connection


def _session(url: str, *, read_only: bool) -> str | None:
    """Return the kind of server that a pool connects to; None: what the URL says. A session of ours that is read-only
    does not count as `read-write`."""
    return "primary" if read_only and "target_session_attrs=read-write" in url else None


async def _keep(connection: Connection) -> None:
    """Do not reset the connection: no session of this package changes its settings."""


_BEGIN = "UPDATE cluster SET generation = $1 WHERE generation = $2"


async def _recognize(connection: Connection, *, same: bool) -> None:
    """Compare the server with the one that the database was on last. If it is another one, it may lack commits that
    were acknowledged: before the connection is used, a new generation begins, unless the database goes on as the
    `same`.

    Raises:
        ConnectionError: the server is a standby.
    """
    try:
        row = await connection.fetchrow(f"SELECT ({_SERVER}), server FROM cluster")
    except asyncpg.exceptions.ObjectNotInPrerequisiteStateError:
        raise ConnectionError("the server is a standby") from None
    except asyncpg.exceptions.PostgresError as error:
        if isinstance(error, LOST):
            raise
        return  # a service that does not tell
    if row is None or row[0] == row[1]:
        return
    server, last = row
    begin = last is not None and not same
    changed = await connection.fetchval(
        f"UPDATE cluster SET server = $1{', generation = $3' if begin else ''}"
        " WHERE server IS NOT DISTINCT FROM $2 RETURNING 1",
        *(server, last, *([new_generation()] if begin else [])),
    )
    if begin and changed:
        _log.error("the database is on another server or timeline than before: every client starts over")


async def _pool(
    url: str, size: int, patience: Patience, *, read_only: bool, same: bool, trace: Trace | None
) -> asyncpg.Pool:
    async def watch(connection: Any) -> None:
        if not read_only:
            await _recognize(connection, same=same)
        if trace is not None:
            connection.add_query_logger(lambda ran: trace(ran.query, ran.args or ()))

    settings = {**patience.settings, **({"default_transaction_read_only": "on"} if read_only else {})}
    return await asyncpg.create_pool(
        url,
        min_size=0,
        max_size=size,
        timeout=patience.connect,
        command_timeout=_STATEMENT_S,
        server_settings=settings,
        target_session_attrs=_session(url, read_only=read_only),
        reset=_keep,
        init=watch,
        max_inactive_connection_lifetime=0,
    )


async def _prepare(url: str, *, read_only: bool) -> None:
    """Check the database, and create or upgrade its schema."""
    files = migrations("postgres")
    connection = await _connect(url, Patience(_PREPARE_S))
    try:
        encoding = await connection.fetchval("SHOW server_encoding")
        if encoding != "UTF8":
            raise NotAGatewayDatabase(without_password(url), f"its encoding is {encoding}, and must be UTF8")
        if read_only:
            present = await _schema(connection, url)
            if present == 0:
                raise NotAGatewayDatabase(without_password(url), "it is empty")
            if present < len(files):
                raise SchemaTooOld(without_password(url), present, len(files))
            return
        if await _schema(connection, url) == len(files):
            return
        async with connection.transaction():
            # One gateway applies the schema; the others wait, and then see that it is done.
            await connection.execute("SET LOCAL lock_timeout = '60s'")
            await connection.execute("SELECT pg_advisory_xact_lock($1)", project_id("yjs-gateway schema"), timeout=60)
            present = await _schema(connection, url)
            if present == len(files):
                return
            for _, script in files[present:]:
                await connection.execute(script, timeout=3600)
            if present == 0:
                await connection.execute(
                    "INSERT INTO cluster (schema, database, awake_ms, awake_at) VALUES ($1, $2, 0, now())",
                    len(files),
                    secrets.token_hex(8),
                )
            else:
                await connection.execute("UPDATE cluster SET schema = $1", len(files))
                _log.warning("the schema was upgraded from %d to %d", present, len(files))
    finally:
        connection.terminate()


async def _schema(connection: Connection, url: str) -> int:
    """Return the number of the newest schema file that was applied; 0: none.

    Raises:
        NotAGatewayDatabase, SchemaTooNew
    """
    tables = {
        row[0] for row in await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = current_schema()")
    }
    if "cluster" not in tables:
        if tables & {"project", "file", "change", "session", "turn"}:
            raise NotAGatewayDatabase(without_password(url), "it holds the tables of another application")
        return 0
    row = await connection.fetchrow("SELECT schema FROM cluster")
    if row is None:
        raise NotAGatewayDatabase(without_password(url), "its table `cluster` is empty")
    known = len(migrations("postgres"))
    if row[0] > known:
        raise SchemaTooNew(without_password(url), row[0], known)
    return int(row[0])


def _opening_error(url: str, error: Exception) -> StorageError:
    name = without_password(url)
    if isinstance(error, asyncpg.exceptions.InvalidAuthorizationSpecificationError | ValueError):
        return DatabaseRefused(f"{name} refused the connection: {error}")
    if isinstance(error, asyncpg.exceptions.InvalidCatalogNameError):
        return DatabaseRefused(f"{name} does not exist: {error}")
    return StorageUnavailable(f"{name} cannot be reached: {error or type(error).__name__}")


def storage_error(error: BaseException, *, certain: bool = True) -> StorageError:
    """Convert an error of PostgreSQL into a StorageError. `certain`: nothing of the transaction was stored."""
    if isinstance(error, StorageError):
        return error
    if isinstance(error, asyncpg.exceptions.DiskFullError):
        return StorageFull("the disk that holds the database is full")
    if isinstance(error, asyncpg.exceptions.DataCorruptedError | asyncpg.exceptions.IndexCorruptedError):
        return DataDamaged(None, str(error))
    return StorageUnavailable(f"the database failed: {error or type(error).__name__}", certain=certain)
