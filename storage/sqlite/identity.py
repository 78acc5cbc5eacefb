"""The identity of a database: a copy, or a restored earlier state, must not continue as if it were the original."""

import secrets
import sqlite3
from pathlib import Path

from storage.errors import DataDamaged, LeftoverLog
from storage.sqlite.lock import DatabaseLock
from storage.sqlite.log_space import is_log_empty
from storage.sqlite.row_checks import checksum_of


def require_own_log(lock: DatabaseLock) -> None:
    """Check that the log beside a database belongs to it, not to a former database: SQLite would mix the two.

    Raises:
        LeftoverLog
    """
    former = lock.former
    if former is None or not lock.log_path.exists():
        return
    log = lock.log_path.stat()
    if is_log_empty(lock.log_path):
        return
    if lock.inode != former.inode and log.st_ino == former.log:
        raise LeftoverLog(str(lock.path))
    try:
        identity = _identity_without_log(lock.path)
    except sqlite3.DatabaseError as error:
        # Who was killed while the log was being copied into the file leaves a file that is whole only together with it.
        # The file and the log are those that belonged together: what SQLite makes of them is what was written.
        if _is_torn(error) and lock.inode == former.inode and log.st_ino == former.log:
            return
        identity = None
    if identity is None or not former.was_left_with(*identity):
        raise LeftoverLog(str(lock.path))


def _is_torn(error: sqlite3.DatabaseError) -> bool:
    return error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_CORRUPT


def _identity_without_log(path: Path) -> tuple[object, object] | None:
    """Return the identity in the file alone, and how often that was opened.

    Raises:
        sqlite3.DatabaseError
    """
    connection = sqlite3.connect(path.as_uri() + "?mode=ro&immutable=1", uri=True)
    try:
        row: tuple[object, object] | None = connection.execute("SELECT database, opened FROM identity").fetchone()
    finally:
        connection.close()
    return row


class Opening:
    """Opening a database for serving: decides whether the database continues or begins new incarnations."""

    def __init__(self, lock: DatabaseLock, *, same: bool) -> None:
        self._lock = lock
        self._same = same
        self.database = ""
        self.opened = 0
        self.alone = False
        """Whether the file without the log has both."""
        self.place = 0
        """Where in the file both are, in bytes."""
        self.new_incarnations: str | None = None
        """Why projects and files began new incarnations; None: they continue."""

    def prepare(self, connection: sqlite3.Connection) -> None:
        """Record the opening in the database. If the database must not continue, give each project a new epoch and
        each file a new incarnation, so that clients do not mistake state from before for what is written from now on.
        """
        connection.execute("BEGIN IMMEDIATE")
        (page,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'identity'").fetchone()
        self.place = (page - 1) * connection.execute("PRAGMA page_size").fetchone()[0]
        row = connection.execute("SELECT database, inode, opened FROM identity").fetchone()
        if row is not None and not _is_identity(*row):
            raise DataDamaged(None, "which database it is, and how often it was opened, is not what was written")
        self.database, inode, self.opened = row or (secrets.token_hex(8), str(self._lock.inode), 0)
        self.new_incarnations = self._reason(connection, int(inode))
        if self.new_incarnations is not None:
            self.database = secrets.token_hex(8)
            begin_new_incarnations(connection)
        try:
            self._store(connection)
        except sqlite3.OperationalError as error:
            # A full disk must not keep the gateway from serving reads, and the opening need not be counted.
            if error.sqlite_errorcode != sqlite3.SQLITE_FULL or row is None or self.new_incarnations is not None:
                raise
            if connection.in_transaction:
                connection.execute("ROLLBACK")

    def _store(self, connection: sqlite3.Connection) -> None:
        connection.execute("DELETE FROM identity")
        values = (self.database, str(self._lock.inode), self.opened + 1)
        connection.execute("INSERT INTO identity (database, inode, opened) VALUES (?, ?, ?)", values)
        connection.execute("COMMIT")
        self.opened += 1
        # `require_own_log` reads the identity without the log.
        (busy, *_) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        self.alone = not busy

    def _reason(self, connection: sqlite3.Connection, inode: int) -> str | None:
        if connection.execute("SELECT 1 FROM backup").fetchone() is not None:
            return "it is a backup"
        if self._same:
            return None
        if inode != self._lock.inode:
            return "it is a copy of the file that was served before"
        former = self._lock.former
        if former is None or former.database != self.database:
            return None
        if former.opened > self.opened:
            return "it is as it was at an earlier time"
        if former.overwritten:
            return "another program wrote into its files while it was served"
        return None


def _is_identity(database: object, inode: object, opened: object) -> bool:
    return isinstance(database, str) and isinstance(inode, str) and inode.isdecimal() and isinstance(opened, int)


def begin_new_incarnations(connection: sqlite3.Connection) -> None:
    """Give every project a new epoch and every file a new incarnation. Damaged rows stay damaged."""
    for table, name in (("project", "epoch"), ("file", "incarnation"), ("past_life", "incarnation")):
        connection.execute(f"UPDATE {table} SET row_check = NULL WHERE row_check IS NOT {checksum_of(table)}")
        connection.execute(f"UPDATE {table} SET {name} = lower(hex(randomblob(5)))")
        connection.execute(f"UPDATE {table} SET row_check = {checksum_of(table)} WHERE row_check IS NOT NULL")
    connection.execute("DELETE FROM backup")
