"""The errors that storage raises.

StorageError
├── VersionConflict       the file is not at the version that the change was made for
│   └── PredecessorFailed     … or it is, but a change that this one builds on was not stored
├── TurnConflict          the turn has changed since, or does not exist
├── AlreadyDone           a change with this key was made before
├── SessionMissing        there is no such session to add a turn to
├── BackupElsewhere       backups are made with the database's own tools
├── ProjectExists         there is already a project of this name
├── NotAnExport           the file is not an exported project, or not a complete one
├── StorageOverloaded     more changes are queued than the limit allows
├── StorageFull           the disk is full; nothing of the batch was stored
├── StorageUnavailable    the database failed in another way; `certain`: nothing of the batch was stored
│   ├── DatabaseMoved         its file was removed or replaced
│   ├── DatabaseOverwritten   another program wrote into its files
│   └── LogHeld               its write-ahead log is too large, and another process keeps it from being emptied
├── DataDamaged           stored data is damaged: it is not what was written
├── StorageClosed         the storage has been closed
└── DatabaseRefused       the database was not opened, and was left unchanged
    ├── DatabaseInUse         another process holds it
    ├── SchemaTooNew          a newer release wrote it
    ├── SchemaTooOld          it was opened read-only, but its schema must be upgraded first
    ├── LeftoverLog           the log of another database lies beside it
    └── NotAGatewayDatabase   the file is not a database of this gateway
"""

from storage.records import Done


class StorageError(Exception):
    """The base class of all errors that this package raises deliberately."""

    certain = True
    """Whether it is certain that nothing was stored; False: the change may have been stored."""


class VersionConflict(StorageError):
    """A change was made for `expected`, but the file was at `found` (0: it never existed)."""

    def __init__(self, project: str, path: str, expected: int, found: int) -> None:
        super().__init__(f"{path!r} of project {project!r} is at version {found}, not {expected}")
        self.project = project
        self.path = path
        self.expected = expected
        self.found = found


class PredecessorFailed(VersionConflict):
    """A change builds on a change that was not stored, or on another incarnation of the file.

    The file may be at version `expected` nevertheless: another change got that number."""

    def __init__(self, project: str, path: str, expected: int, found: int) -> None:
        super().__init__(project, path, expected, found)
        self.args = (f"a change of {path!r} of project {project!r} builds on what was not stored",)


class TurnConflict(StorageError):
    """A change was made for a turn at sequence `expected`, but the turn was at `found` (0: it does not exist).

    `turn` is None if the conflict is about creating a session that exists already.
    """

    def __init__(self, project: str, session: str, turn: str | None, expected: int, found: int) -> None:
        name = f"session {session!r}" if turn is None else f"turn {turn!r} of session {session!r}"
        super().__init__(f"{name} of project {project!r} is at sequence {found}, not {expected}")
        self.project = project
        self.session = session
        self.turn = turn
        self.expected = expected
        self.found = found


class AlreadyDone(StorageError):
    """A change with the same idempotency key was made within the last day; `done` is the result of that change."""

    def __init__(self, project: str, key: str, done: Done) -> None:
        super().__init__(f"a change with the key {key!r} was made in project {project!r}")
        self.done = done


class SessionMissing(StorageError):
    """A turn was to be added to a session that does not exist."""

    def __init__(self, project: str, session: str) -> None:
        super().__init__(f"project {project!r} has no session {session!r}")
        self.project = project
        self.session = session


class BackupElsewhere(StorageError):
    """A backup was requested of a database that has its own backup tools."""

    def __init__(self) -> None:
        super().__init__(
            "PostgreSQL makes its own backups: use pg_dump, or base backups with point-in-time recovery;"
            " `export` writes one project into a file"
        )


class ProjectExists(StorageError):
    """A project was to be imported under the name of an existing project."""

    def __init__(self, project: str) -> None:
        super().__init__(f"there is a project {project!r} already; import it under another name")
        self.project = project


class NotAnExport(StorageError):
    """The file to be imported is not an exported project, or not a complete one."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path} cannot be imported: {reason}")
        self.path = path


class StorageOverloaded(StorageError):
    """`queued` changes wait to be written, and the limit is `limit`. Try again in a moment."""

    def __init__(self, queued: int, limit: int) -> None:
        super().__init__(f"{queued} changes are waiting to be written; the limit is {limit}")
        self.queued = queued
        self.limit = limit


class StorageFull(StorageError):
    """The disk is full. Nothing was stored; reads still work."""


class StorageUnavailable(StorageError):
    """The database failed.

    If `certain`, nothing was stored; if the commit itself failed, the changes may have been stored.
    """

    def __init__(self, reason: str, *, certain: bool = True) -> None:
        super().__init__(reason)
        self.certain = certain


class LogHeld(StorageUnavailable):
    """The write-ahead log has reached its limit, and another process keeps it from being emptied."""


class DatabaseMoved(StorageUnavailable):
    """The database file or its log was removed or replaced."""

    def __init__(self, path: str) -> None:
        super().__init__(
            f"{path} was removed or replaced while it was served: nothing is taken until the gateway is started again"
        )
        self.path = path


class DatabaseOverwritten(StorageUnavailable):
    """Another program wrote into the database file or its log."""

    def __init__(self, path: str) -> None:
        super().__init__(
            f"{path}, or its log, was written over by another program while it was served: nothing is read or taken"
            " until the gateway is started again"
        )
        self.path = path


class DataDamaged(StorageError):
    """Stored data is not what was written: the disk, or another writer to the database, changed it.

    Args:
        path: the damaged file; None if something else is damaged.
        what: what is damaged if there is no `path`, in words.
    """

    def __init__(
        self, path: str | None, reason: str, version: int | None = None, *, what: str = "the database"
    ) -> None:
        what = what if path is None else repr(path)
        super().__init__(f"{what if version is None else f'version {version} of {what}'} is damaged: {reason}")
        self.path = path
        self.version = version


class StorageClosed(StorageError):
    """The storage was closed before it accepted the change."""


class DatabaseRefused(StorageError):
    """The database was not opened, and nothing in it was changed."""


class DatabaseInUse(DatabaseRefused):
    """Another process holds the database; `holder` describes it."""

    def __init__(self, path: str, holder: str) -> None:
        super().__init__(f"the database {path} is in use by {holder}; one gateway serves one database file")
        self.path = path
        self.holder = holder


class SchemaTooNew(DatabaseRefused):
    """The database has schema `found`; this release knows schemas up to `known`."""

    def __init__(self, path: str, found: int, known: int) -> None:
        super().__init__(
            f"the database {path} has schema {found}, this release knows up to {known}: run a newer yjs-gateway on it"
        )
        self.path = path
        self.found = found
        self.known = known


class SchemaTooOld(DatabaseRefused):
    """The database has the older schema `found`, and was to be opened read-only."""

    def __init__(self, path: str, found: int, known: int) -> None:
        super().__init__(
            f"the database {path} has schema {found}, this release works with {known}: serve it once, that updates it"
        )
        self.path = path
        self.found = found
        self.known = known


class LeftoverLog(DatabaseRefused):
    """The log of a former database lies beside this one, and SQLite would apply it to this one."""

    def __init__(self, path: str) -> None:
        super().__init__(
            f"beside {path} lies the log of the database that was here before: to serve this one, remove {path}-wal and"
            f" {path}-shm; to go on with the former one, put it back first"
        )
        self.path = path


class NotAGatewayDatabase(DatabaseRefused):
    """The file exists and is not a database of this gateway."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path} is not a yjs-gateway database: {reason}")
        self.path = path
