"""The storage contract: every promise that a backend makes, in words.

The contract has seven parts: `FileLog`, `Following`, `Turns`, `Housekeeping`, `Copies`, `AccessRecords` and
`ReaderRecords`. A backend implements `Storage`, which combines them; code that needs only one part depends on that
part alone. `tests/contract/` checks each promise against every backend.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Protocol

from storage.portable import Record
from storage.records import (
    AccessToken,
    AuditEntry,
    Change,
    Commit,
    Committed,
    CommittedSession,
    CommittedTurn,
    CreateSession,
    CreateTurn,
    Done,
    Epoch,
    FileHead,
    Increment,
    Milliseconds,
    ProjectHead,
    Reader,
    ReaderFigures,
    ReaderStage,
    ReaderStep,
    Retention,
    Sequence,
    SessionHead,
    Snapshot,
    SquashPoint,
    Statistics,
    StoredBlock,
    StoredDocument,
    StoredProject,
    StoredTicket,
    StoredTurn,
    StoredUpdate,
    Tombstone,
    TurnHead,
    TurnRows,
    UpdateTurn,
    Version,
    VersionRecord,
)
from storage.results import AppendDone

CommitListener = Callable[[tuple[Commit, ...]], None]
"""Called with every batch that became durable. A listener must not block."""


MessageListener = Callable[[str, str, bytes], None]
"""Called with each message: the name of the sending gateway, the topic, and the payload."""


class FileLog(Protocol):
    """The log of files: writing it, listening to it, and reading it back."""

    def append(self, project: str, changes: tuple[Change, ...]) -> asyncio.Future[tuple[Committed, ...]]:
        """Queue changes to be committed together. A project is created by its first change.

        Changes are committed in the order of the calls. The call itself only queues, so that the caller
        decides the order without waiting; the returned future resolves once the changes are durable.

        Raises:
            StorageOverloaded, StorageClosed: raised immediately; nothing was queued.
            VersionConflict: raised by the future; a file was at another version than the change expects.
            PredecessorFailed: raised by the future; an earlier change of the line was not stored, or the file is in
                another incarnation than the change was made for.
            StorageFull, StorageUnavailable: raised by the future; nothing was stored if `certain` is true.
        """

    def append_and_call(self, project: str, changes: tuple[Change, ...], done: AppendDone) -> None:
        """Queue changes as `append` does, and call `done` in the place of a future: that takes less time.

        Raises:
            StorageOverloaded, StorageClosed: `done` is not called.
        """

    def listen(self, listener: CommitListener, missed: CommitListener | None = None, *, first: bool = False) -> None:
        """Call `listener` with every later batch of this gateway and, in followed projects, of other gateways:
        `first`, or after the listeners that are known.

        A listener that raises prevents neither other listeners from being called nor writes from being stored. The
        failure is logged, and `missed` is called with the batch: cached state of its projects may be stale.
        """

    async def project_head(self, project: str) -> ProjectHead | None:
        """Return the head of the project's sequence; None if the project does not exist."""

    async def file_head(self, project: str, path: str) -> FileHead | None:
        """Return the file's newest state, which may be a tombstone; None if the file never existed."""

    async def file_heads(self, project: str, paths: Collection[str]) -> tuple[ProjectHead, list[FileHead]] | None:
        """Return the project's head and, as of the same moment, the heads of those `paths` that ever existed."""

    async def list_files(
        self, project: str, *, prefix: str = "", after: str = "", limit: int
    ) -> tuple[ProjectHead, list[FileHead]] | None:
        """Return up to `limit` files that exist now, ordered by path (code point order), after the path `after`."""

    async def list_tombstones(
        self, project: str, *, prefix: str = "", after: str = "", limit: int
    ) -> tuple[ProjectHead, list[Tombstone]] | None:
        """Return up to `limit` deleted files in the same order, except those whose tombstones were forgotten."""

    async def files_changed_since(
        self, project: str, sequence: int, *, limit: int | None = None
    ) -> tuple[ProjectHead, list[FileHead]] | None:
        """Return the files changed after `sequence`, each once with its newest state, oldest change first."""

    async def changes_since(
        self, project: str, sequence: int, *, limit: int | None = None
    ) -> tuple[ProjectHead, list[FileHead | TurnHead]] | None:
        """Return the files and turns changed after `sequence`, each once with its newest state, oldest change first."""

    async def existed_at(self, project: str, path: str, sequence: int) -> bool:
        """Return whether the file existed (created, not deleted) just after `sequence`."""

    async def read_increment(
        self, project: str, path: str, after: int, *, most_bytes: int, known: FileHead | None = None
    ) -> Increment | None:
        """Return the updates after version `after` of the current incarnation.

        None if the file never existed, if `after` lies before this incarnation or above the head or was squashed,
        or if the updates exceed `most_bytes`. `known` is the file head that the caller has: it saves a read if it is
        still the newest state. (In that case updates that were squashed but not yet purged may be served.)
        """

    async def read_document(self, project: str, path: str, *, at_version: int | None = None) -> StoredDocument | None:
        """Return the snapshot and updates that build the document at a version (default: the head). None if there is
        no such version, or if it is a tombstone."""

    async def past_incarnations(self, project: str, path: str, *, limit: int) -> list[Version]:
        """Return the last version before the tombstone of up to `limit` ended incarnations of a file, newest first."""

    async def read_history(
        self, project: str, path: str, *, before: int | None = None, limit: int
    ) -> tuple[FileHead, list[VersionRecord]] | None:
        """Return up to `limit` versions below `before` (default: all), newest first; None if the file never existed."""

    async def version_at(self, project: str, path: str, sequence: int) -> Version | None:
        """Return the version that a file had just after `sequence`, which may be a tombstone; 0 if it had none.

        None if that version is no longer known: it was squashed, or the project was imported
        later."""

    async def read_version(self, project: str, path: str, version: int) -> StoredUpdate | None:
        """Return one row of the log; None if it was squashed or never existed."""

    async def tombstone_floor(self, project: str) -> Sequence:
        """Return the sequence of the newest forgotten tombstone: a client whose state is older has to start over."""

    async def base_version(self, project: str, path: str) -> Version:
        """Return the oldest version of a file that is still available; 1 if nothing was squashed."""

    async def put_snapshot(self, project: str, path: str, snapshot: Snapshot, epoch: Epoch | None = None) -> None:
        """Store a snapshot in addition to the file's others; ignored if the log has no such version, or if the project
        is in another epoch than the one in which the document was read (None: whatever it is)."""


class Following(Protocol):
    """Following what other gateways store in the same database. The listeners of a storage that belongs to a single
    process hear of every change anyway."""

    @property
    def shared(self) -> bool:
        """Whether other gateways may serve the same database."""

    async def follow(self, project: str) -> ProjectHead | None:
        """Notify the listeners of what other gateways store in a project, which need not exist yet.

        Returns the project's head; the listeners hear of every change after it. Each call needs its own call of
        `unfollow`.
        """

    def unfollow(self, project: str) -> None:
        """Undo one call of `follow`."""

    async def catch_up(self, project: str) -> ProjectHead | None:
        """Wait until the listeners have heard of all that others stored in a followed project before the call.

        Returns the project's head; None if the project does not exist.
        """

    @property
    def fresh(self) -> bool:
        """Whether the listeners have heard of everything stored in followed projects up to one second ago."""

    @property
    def lag(self) -> float:
        """Seconds since the listeners were last known to be up to date; 0 if nothing is followed."""

    async def hold(self, job: str, seconds: float) -> bool:
        """Try to take or renew the lease on a job for `seconds`, by the clock of the database; return whether this
        gateway holds it. A lease renewed before it expires is kept. For economy only: two gateways may hold a job if
        one of them was suspended for long."""

    async def due_turns(self, lease: float, grace: float) -> list[tuple[str, TurnHead]]:
        """Return some of the running turns, with their projects, in which nothing was stored for `lease` seconds, or
        which have been settling for `grace` seconds. Time counts only while gateways call this method. Empty for a
        database of a single process, because that process hears of every turn itself.
        """

    def tell(self, topic: str, message: bytes) -> None:
        """Send a message to the other gateways of the database, soon and at most once: it is not stored. A message
        that is too long is not sent."""

    def hear(self, listener: MessageListener) -> None:
        """Call `listener` with each message of another gateway: the gateway's name, the topic, the message. An empty
        topic means that the gateway is gone. If the name is empty as well, this gateway begins to listen, and may have
        missed messages before."""


class Turns(Protocol):
    """Sessions, turns and their blocks."""

    async def create_session(self, project: str, change: CreateSession) -> CommittedSession:
        """Store a session. A project is created by its first change.

        Raises:
            AlreadyDone: the change has an idempotency key, and a change with this key was made within the last day.
            TurnConflict: the session exists already.
            StorageError: as for `append`.
        """

    async def write_turn(self, project: str, change: CreateTurn | UpdateTurn) -> CommittedTurn:
        """Store a new turn, or a change of a turn together with its blocks, atomically.

        `started_at` and `completed_at` follow from the status. Status transitions are not checked.

        Raises:
            AlreadyDone: the change has an idempotency key, and a change with this key was made within the last day.
                Takes precedence over all other errors.
            SessionMissing: there is no session to add a turn to.
            TurnConflict: the turn exists already, or it was changed after the sequence that the change expects.
            StorageError: as for `append`.
        """

    async def done(self, project: str, key: str) -> Done | None:
        """Return the result of the change with an idempotency key (`Once`), stored together with the change; None
        after a day, or if there was no such change."""

    async def session(self, project: str, session_id: str) -> SessionHead | None:
        """Return a session; None if it does not exist."""

    async def sessions(self, project: str, *, after: str | None = None, limit: int) -> list[SessionHead]:
        """Return up to `limit` sessions, newest first, older than the session `after`."""

    async def turn_head(self, project: str, session_id: str, turn_id: str) -> TurnHead | None:
        """Return a turn's newest state; None if there is no such turn."""

    async def turns(
        self, project: str, session_id: str, *, after: str | None = None, limit: int, prompt_length: int
    ) -> list[StoredTurn]:
        """Return up to `limit` turns of a session without their blocks, newest first, older than the turn `after`.

        Prompts are truncated to `prompt_length` characters.
        """

    async def read_turn(
        self,
        project: str,
        session_id: str,
        turn_id: str,
        *,
        after_block: int = 0,
        limit: int | None = None,
        most_bytes: int | None = None,
    ) -> StoredTurn | None:
        """Return a turn with its blocks after the first `after_block`; None if there is no such turn.

        Skipped blocks that may have grown since a reader received `after_block` blocks are included too. If there are
        blocks after the first `after_block`, at least one and at most `limit` of them are included, so that a reader
        that asks again makes progress; apart from that, the content is at most `most_bytes`.
        """

    async def read_blocks(
        self, project: str, session_id: str, turn_id: str, *, after_block: int, limit: int, most_bytes: int
    ) -> list[StoredBlock]:
        """Return up to `limit` blocks after the first `after_block`: as many as fit into `most_bytes` of content, but
        at least one."""

    async def output_state(self, project: str, session_id: str, turn_id: str) -> bytes:
        """Return the `OutputPosition.state` that was stored last for a turn; empty if none was."""

    def running_turns(self) -> AsyncIterator[tuple[str, TurnHead]]:
        """Yield every running turn, with the name of its project."""


class Housekeeping(Protocol):
    """Maintenance outside of requests: squashing and purging old versions, and the state of the storage itself."""

    async def drop_snapshots(self) -> int:
        """Delete every snapshot and return how many there were. No data is lost."""

    def squash_points(self, rule: Retention, *, worth: int) -> AsyncIterator[SquashPoint]:
        """Yield the files of which a retention rule releases at least `worth` versions, and those that were squashed
        but not yet purged."""

    async def squash(
        self, project: str, path: str, version: int, body: bytes | None, epoch: Epoch | None = None
    ) -> bool:
        """Make a version the file's oldest one: earlier versions are gone, as if this one had been written whole.

        Args:
            body: the whole document at that version; None if it is a tombstone.
            epoch: the epoch of the project in which the document was read; None: whatever it is.

        Returns False, and does nothing, if the version is not available or is the oldest already, or if the project is
        in another epoch. Later versions keep their numbers, times, authors and sizes.
        """

    async def purge(self, project: str, path: str) -> int:
        """Free some of the space of squashed versions; return how many versions were purged, 0 when none are left."""

    async def forget_tombstones(self, before: int) -> list[tuple[str, str]]:
        """Squash some of the files that were deleted before a time to their tombstones, and raise the tombstone floors
        of their projects. Return the projects and paths, empty when there are none left. The version counters of the
        files are kept."""

    async def list_projects(
        self, *, names: Collection[str] | None = None, prefix: str = "", after: str = "", limit: int
    ) -> list[StoredProject]:
        """Return up to `limit` projects, ordered by name, after the name `after`.

        Args:
            names: only projects of these names; None: of any name.
        """

    async def erase_project(self, project: str) -> ProjectHead | None:
        """Delete a project with everything that belongs to it: files and their log, snapshots, sessions, turns,
        readers, tickets, results of idempotent changes. The audit log is kept. Return the last head of the project;
        None if it does not exist.

        The listeners of every gateway that follows the project hear of it (`ErasedProject`). Changes that are queued
        later, here or elsewhere, find no project; the first that creates something begins a new one, with a new epoch.

        Raises:
            StorageError: nothing was erased if `certain`; else repeat the call.
        """

    async def begin_new_incarnations(self) -> int:
        """Give every project a new epoch and every file a new incarnation, and return the number of projects. To be
        called when the database was restored to an earlier state, so that no client mistakes new changes for ones that
        it has seen.
        """

    async def reclaim(self) -> int:
        """Give unused space back to the file system; return the number of bytes freed."""

    @property
    def load(self) -> float:
        """How full the queue of writes is, from 0 to 1."""

    def statistics(self) -> Statistics:
        """Return the current figures."""

    @property
    def warning(self) -> str | None:
        """A problem, in words, that an operator has to look into although requests are served; None: no problem."""

    async def ready(self) -> None:
        """Raise StorageError unless the storage can serve requests."""

    async def close(self) -> None:
        """Commit the queued changes, then close. Later calls raise StorageClosed."""


class Copies(Protocol):
    """Reading all data, to verify it, to copy it, or to move it into another database."""

    def projects(self) -> AsyncIterator[ProjectHead]:
        """Yield every project, ordered by name."""

    def files(self, project: str) -> AsyncIterator[FileHead]:
        """Yield every file that ever existed in a project, tombstones included, ordered by path."""

    def updates(self, project: str, path: str) -> AsyncIterator[StoredUpdate]:
        """Yield the whole log of a file, oldest first, from its oldest available version, which is a whole document."""

    async def snapshots(self, project: str, path: str) -> list[Snapshot]:
        """Return the stored snapshots of a file, oldest first."""

    def turn_rows(self, project: str) -> AsyncIterator[TurnRows]:
        """Yield every turn in the sessions of a project with all that is stored with it, oldest first, each as of one
        moment, including rows that are inconsistent."""

    async def dangling(self) -> list[str]:
        """Describe, in words, the rows that refer to something that does not exist and the rows that are damaged."""

    async def back_up(self, target: Path) -> None:
        """Write everything committed as of one moment into a new file, which is a database of its own.

        When the new database is opened to be served, every project begins a new epoch and every file a new incarnation.
        """

    async def export_project(self, project: str, take: Callable[[Record], None]) -> None:
        """Pass the records of a project as of one moment to `take`, in the order of `storage.portable`; none if there
        is no such project. `take` is called in another thread."""

    async def import_project(self, name: str, records: Iterable[Record]) -> ProjectHead:
        """Store an exported project under a name, atomically: with a new epoch and new incarnations, otherwise
        unchanged. Not for a storage that is being served: listeners are not notified. `records` is read in another
        thread.

        Raises:
            ProjectExists, NotAnExport
            Whatever reading `records` raises.
        """


class AccessRecords(Protocol):
    """The gateway's access tokens and audit log. They span all projects, and are in no project's sequence."""

    async def add_token(self, token: AccessToken) -> None:
        """Store a new token."""

    async def token(self, identifier: str) -> AccessToken | None:
        """Return a token by its id, even if it was revoked or has expired; None if it never existed."""

    async def tokens(self, *, after: str | None = None, limit: int) -> list[AccessToken]:
        """Return up to `limit` tokens, oldest first, newer than the token with the id `after`; none if there is no such
        token."""

    async def revoked_tokens(self, identifiers: Collection[str]) -> list[str]:
        """Return the ids, of those given, of the tokens that were revoked."""

    async def revoke_token(self, identifier: str, now: Milliseconds) -> AccessToken | None:
        """Mark a token as revoked, unless it already is, and return it; None if it never existed."""

    async def note_use(self, used: Mapping[str, int]) -> None:
        """Record when tokens were last used, by id, in milliseconds since 1970. The stored time never decreases."""

    async def add_ticket(self, ticket: StoredTicket, now: Milliseconds) -> None:
        """Store a new ticket, and delete tickets that have expired."""

    async def take_ticket(self, digest: bytes) -> StoredTicket | None:
        """Delete and return a ticket; None if there is none: of all callers, at whichever gateway, one gets it."""

    async def note_audit(self, entries: Iterable[AuditEntry]) -> None:
        """Store audit entries, all of them or none."""

    async def audit(
        self,
        *,
        since: int = 0,
        project: str | None = None,
        subject: str | None = None,
        before: int | None = None,
        limit: int,
    ) -> list[AuditEntry]:
        """Return up to `limit` entries made at `since` or later, with a number below `before`, newest first.

        Args:
            project, subject: only the entries of this project or subject; None for all.
        """

    async def forget_audit(self, before: Milliseconds) -> int:
        """Delete some of the entries older than a time; return how many, 0 when there are none left."""


class ReaderRecords(Protocol):
    """Readers that keep their own cursor, and values that the gateway keeps for good. In no project's sequence."""

    async def put_reader(self, reader: Reader) -> bool:
        """Store a reader, replacing one of the same kind and name; return False if there is no such project."""

    async def reader(self, project: str, kind: str, name: str) -> Reader | None:
        """Return a reader; None if it does not exist."""

    async def readers(self, project: str, kind: str, *, after: str = "", limit: int) -> list[Reader]:
        """Return up to `limit` readers of a kind, ordered by name, after the name `after`."""

    async def delete_reader(self, project: str, kind: str, name: str) -> bool:
        """Delete a reader; return whether it existed."""

    async def count_readers(self, project: str) -> int:
        """Return the number of readers of a project."""

    async def reader_projects(self) -> list[str]:
        """Return the names of the projects that have readers, in order."""

    async def idle_readers(self, project: str | None, *, limit: int) -> list[Reader]:
        """Return up to `limit` readers that wait for changes of their project and whose project has changed; None: of
        all projects."""

    async def due_readers(self, now: Milliseconds, *, limit: int) -> list[Reader]:
        """Return up to `limit` of the readers that are due, longest overdue first."""

    async def next_due(self) -> Milliseconds | None:
        """Return when the next reader is due; None if none is."""

    async def hasten(self, stage: ReaderStage, project: str | None, now: Milliseconds) -> int:
        """Make the readers in a stage due now; return how many would have waited longer. None: of all projects.

        Of the readers in stage "pause", only those whose project has changed since they were last checked.
        """

    async def bring_forward(self, latest: Milliseconds) -> int:
        """Let no reader wait beyond a time; return how many would have waited longer."""

    async def note_steps(self, steps: Collection[ReaderStep]) -> None:
        """Store the new states of readers, all of them or none, except of readers replaced or deleted meanwhile."""

    async def reader_figures(self) -> list[ReaderFigures]:
        """Return, by kind, how many readers there are and how far they are behind."""

    async def keep(self, name: str, value: str) -> str:
        """Keep a value for good, unless one is stored under this name already; return the stored value."""

    async def keep_newest(self, name: str, value: str) -> None:
        """Keep a value in place of the one that is stored under this name."""


class Storage(FileLog, Following, Turns, Housekeeping, Copies, AccessRecords, ReaderRecords, Protocol):
    """Orders and stores the changes of all projects.

    Every backend keeps these promises:

    1. *Acknowledged is durable.* Once the future of `append` has a result, its changes survive a crash.
    2. *Versions* of a file are 1, 2, 3 … without gaps and are never reused, not even across deletions.
    3. *No holes.* Sequence order is commit order: a client that read a project at sequence S is never later shown
       a change at or before S that was not there at the time.
    4. *Time does not run backwards*: `last_modified` never decreases along a project's sequence.
    5. *Listeners first.* Commit listeners are called with a batch before its changes have results, in commit order,
       once per batch. What another gateway stored in a followed project reaches them in sequence order, each version
       of a file once with its update; if there is much of it, they receive at least the newest head of each file,
       without an update.
    6. *All or nothing.* The changes of one `append` are stored together, next to each other, or not at all.
    7. *A failed change fails the changes that build on it.* Once a queued change of a `Line` was not stored, for
       whatever reason, no later change of that line is stored.
    8. *Consistent reads.* Everything that one call returns comes from one read transaction.
    """


__all__ = [
    "AccessRecords",
    "CommitListener",
    "Copies",
    "FileLog",
    "Following",
    "Housekeeping",
    "MessageListener",
    "ReaderRecords",
    "Storage",
    "Turns",
]
