"""Opening the storage that a database URL names. A backend is imported only when a URL names it."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from msgspec import Struct

from storage.contract import Storage
from storage.errors import DatabaseRefused

if TYPE_CHECKING:
    from storage.postgres import PostgresStorage

_log = structlog.get_logger("storage")

_SQLITE_URL = "sqlite:///"
_POSTGRES_URLS = ("postgresql://", "postgres://")


class StorageLimits(Struct, frozen=True):
    """Limits of the write queue and the write-ahead log, and an assumption about the database."""

    queued_changes: int = 10_000
    queued_bytes: int = 64 * 2**20
    log_bytes: int = 4 * 2**30
    """The maximum size, in bytes, of the write-ahead log of a SQLite database."""
    log_space: int = 0
    """How many bytes of that log are allocated on opening: until the log has grown by itself, small commits take half
    as long with them."""
    same: bool = False
    """Whether a database that seems to be a copy, or restored to an earlier state, continues as the original."""
    patience: float = 5.0
    """Seconds that a write waits for a PostgreSQL database that does not respond."""


def check_url(url: str) -> str:
    """Return a database URL unchanged, after checking it.

    Raises:
        ValueError: the URL names no backend.
    """
    if not is_postgres(url) and (not url.startswith(_SQLITE_URL) or url == _SQLITE_URL):
        raise ValueError(
            "a database URL is sqlite:///file.db, sqlite:////folder/file.db or postgresql://user:password@host/database"
        )
    return url


def is_postgres(url: str) -> bool:
    """Return whether a URL names a PostgreSQL database, which several gateways may serve."""
    return url.startswith(_POSTGRES_URLS)


def place_of(url: str) -> str:
    """Return the location of the data for display, without a password."""
    if is_postgres(url):
        from storage.postgres.database import without_password

        return without_password(url)
    return str(sqlite_path(url).resolve())


def sqlite_path(url: str) -> Path:
    """Return the path of the file that a SQLite URL names."""
    return Path(check_url(url).removeprefix(_SQLITE_URL))


def sqlite_url(path: Path) -> str:
    """Return the URL of the SQLite database in a file."""
    return f"{_SQLITE_URL}{path}"


@contextlib.asynccontextmanager
async def open_storage(url: str, limits: StorageLimits | None = None) -> AsyncIterator[Storage]:
    """Open the storage that a URL names, to be served by this process.

    Raises:
        StorageError: the database was refused or cannot be opened.
    """
    limits = limits or StorageLimits()
    opened = _open_postgres if is_postgres(url) else _open_sqlite
    async with opened(url, limits) as storage:
        yield storage


@contextlib.asynccontextmanager
async def _open_sqlite(url: str, limits: StorageLimits) -> AsyncIterator[Storage]:
    from storage.sqlite import SQLiteStorage

    storage = await SQLiteStorage.open(
        sqlite_path(url),
        queued_changes=limits.queued_changes,
        queued_bytes=limits.queued_bytes,
        log_bytes=limits.log_bytes,
        log_space=limits.log_space,
        same=limits.same,
    )
    if storage.new_incarnations is not None:
        _log.warning("every client starts over: the database begins new incarnations", reason=storage.new_incarnations)
    try:
        yield storage
    finally:
        await storage.close()
        if storage.rescued is not None:
            _log.error("the database file was removed or replaced; what was in it was copied", to=str(storage.rescued))


@contextlib.asynccontextmanager
async def _open_postgres(url: str, limits: StorageLimits) -> AsyncIterator[Storage]:
    storage = await _postgres().open(
        url,
        queued_changes=limits.queued_changes,
        queued_bytes=limits.queued_bytes,
        same=limits.same,
        patience=limits.patience,
    )
    try:
        yield storage
    finally:
        await storage.close()


def _postgres() -> "type[PostgresStorage]":
    try:
        from storage.postgres import PostgresStorage
    except ModuleNotFoundError as error:
        if error.name != "asyncpg":
            raise
        raise DatabaseRefused(
            "for a PostgreSQL database asyncpg is needed: pip install 'yjs-gateway[postgres]'"
        ) from None
    return PostgresStorage


@contextlib.asynccontextmanager
async def open_storage_read_only(url: str, limits: StorageLimits | None = None) -> AsyncIterator[Storage]:
    """Open the storage that a URL names read-only, even while a gateway serves it.

    Args:
        limits: those of the gateway. A long read is given up before the gateway has to refuse writes for it.

    Raises:
        StorageError: as for `open_storage`.
    """
    storage: Storage
    if is_postgres(url):
        storage = await _postgres().open_read_only(url)
    else:
        from storage.sqlite import SQLiteStorage

        log_bytes = (limits or StorageLimits()).log_bytes
        storage = await SQLiteStorage.open_read_only(sqlite_path(url), log_bytes=log_bytes)
    try:
        yield storage
    finally:
        await storage.close()
