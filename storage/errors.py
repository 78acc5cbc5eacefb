"""What storage can answer instead of a result.

StorageError
├── VersionConflict       the file is not at the version that the change was made for
│   └── PredecessorFailed     … or it is, without what the change builds on
├── TurnConflict          the turn has changed since, or is not there
├── AlreadyDone           a change with this key was made before
├── SessionMissing        there is no such session to add a turn to
├── BackupElsewhere      the database's own tools make its backups
├── ProjectExists         there is a project of this name
├── NotAnExport           the file is not an exported project, or not all of one
├── StorageOverloaded     more changes wait to be written than the bound allows
├── StorageFull           the disk has no room; nothing of the batch was kept
├── StorageUnavailable    the database failed in another way; `certain`: nothing of the batch was kept
│   ├── DatabaseMoved         its file was removed or replaced
│   └── LogHeld               its write-ahead log is too large, and somebody keeps it from being emptied
├── DataDamaged           what is stored is not what was written
├── StorageClosed         the storage has been closed
└── DatabaseRefused       the database could not be opened, and was left as it is
    ├── DatabaseInUse         another process holds it
    ├── SchemaTooNew          a newer release wrote it
    ├── SchemaTooOld          it is to be read as it is, but its schema must be brought up to date first
    ├── LeftoverLog           the log of another database lies beside it
    └── NotAGatewayDatabase   the file is something else
"""

from storage.records import Done


class StorageError(Exception):
    """The root of all that this package raises on purpose."""

    certain = True
    """Whether nothing was stored; False: it may have been."""


class VersionConflict(StorageError):
    """A change was made for `expected`, but the file was at `found` (0: it never existed)."""

    def __init__(self, project: str, path: str, expected: int, found: int) -> None:
        super().__init__(f"{path!r} of project {project!r} is at version {found}, not {expected}")
        self.project = project
        self.path = path
        self.expected = expected
        self.found = found


class PredecessorFailed(VersionConflict):
    """A change builds on what is not there: on a change that was not stored, or on another incarnation of the file.

    The file may be at version `expected` all the same: somebody else's change came to have that number."""

    def __init__(self, project: str, path: str, expected: int, found: int) -> None:
        super().__init__(project, path, expected, found)
        self.args = (f"a change of {path!r} of project {project!r} builds on what was not stored",)


class TurnConflict(StorageError):
    """A change was made for the turn as of sequence `expected`, but it was at `found` (0: there is none).

    `turn` is None where a session was to be created that is there.
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
    """A change bore a key under which one was made within the last day; `done` is what came of that one."""

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
    """A backup was asked for of a database that has tools of its own for it."""

    def __init__(self) -> None:
        super().__init__(
            "PostgreSQL makes its own backups: use pg_dump, or base backups with point-in-time recovery;"
            " `export` writes one project into a file"
        )


class ProjectExists(StorageError):
    """A project was to be imported under the name of one that exists."""

    def __init__(self, project: str) -> None:
        super().__init__(f"there is a project {project!r} already; import it under another name")
        self.project = project


class NotAnExport(StorageError):
    """What was to be imported is not, or not wholly, a project that was exported."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path} cannot be imported: {reason}")
        self.path = path


class StorageOverloaded(StorageError):
    """`queued` changes wait to be written, and the bound is `limit`. Try again in a moment."""

    def __init__(self, queued: int, limit: int) -> None:
        super().__init__(f"{queued} changes are waiting to be written; the limit is {limit}")
        self.queued = queued
        self.limit = limit


class StorageFull(StorageError):
    """The disk is full. What was to be written is not stored; reads go on."""


class StorageUnavailable(StorageError):
    """The database could not do its work.

    What was to be written is not stored where `certain`; where the commit itself failed it may have been.
    """

    def __init__(self, reason: str, *, certain: bool = True) -> None:
        super().__init__(reason)
        self.certain = certain


class LogHeld(StorageUnavailable):
    """The write-ahead log has reached its bound, and another process keeps it from being emptied."""


class DatabaseMoved(StorageUnavailable):
    """The database file, or its log, is not there any more, or another one is in its place."""

    def __init__(self, path: str) -> None:
        super().__init__(
            f"{path} was removed or replaced while it was served: nothing is taken until the gateway is started again"
        )
        self.path = path


class DataDamaged(StorageError):
    """What is stored is not what was written: the disk, or whoever else wrote to the database, changed it.

    Args:
        path: the file that is damaged.
        what: what else is, in words.
    """

    def __init__(
        self, path: str | None, reason: str, version: int | None = None, *, what: str = "the database"
    ) -> None:
        what = what if path is None else repr(path)
        super().__init__(f"{what if version is None else f'version {version} of {what}'} is damaged: {reason}")
        self.path = path
        self.version = version


class StorageClosed(StorageError):
    """The storage was closed before the change was taken."""


class DatabaseRefused(StorageError):
    """The database was not opened, and nothing in it was touched."""


class DatabaseInUse(DatabaseRefused):
    """Another process holds the database; `holder` says which."""

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
    """The database has schema `found`, and was to be opened for reading only."""

    def __init__(self, path: str, found: int, known: int) -> None:
        super().__init__(
            f"the database {path} has schema {found}, this release works with {known}: serve it once, that updates it"
        )
        self.path = path
        self.found = found
        self.known = known


class LeftoverLog(DatabaseRefused):
    """The log of the database that was here before lies beside this one, and would be mixed into it."""

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
