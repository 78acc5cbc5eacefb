"""The storage contract: every promise that a backend makes, in words.

It has seven parts: `FileLog`, `Following`, `Turns`, `Housekeeping`, `Copies`, `AccessRecords` and `ReaderRecords`. A
backend is a `Storage`, which is all of them; whoever needs one part alone asks for that. `tests/contract/` holds each
promise against every backend.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping
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
    StoredTurn,
    StoredUpdate,
    Tombstone,
    TurnHead,
    TurnRows,
    UpdateTurn,
    Version,
    VersionRecord,
)

CommitListener = Callable[[tuple[Commit, ...]], None]
"""Hears of every batch that became durable. It must not wait."""


MessageListener = Callable[[str, str, bytes], None]
"""Hears of a message: which gateway sent it, its topic, and what it says."""


class FileLog(Protocol):
    """The log of files: what is written, what is heard of it, what is read back."""

    def append(self, project: str, changes: tuple[Change, ...]) -> Awaitable[tuple[Committed, ...]]:
        """Queue changes, to be committed together. The project comes into being with its first change.

        Changes are committed in the order of the calls. The call itself only queues, so that the order is
        decided by the caller without waiting; the returned future is answered once the changes are durable.

        Raises:
            StorageOverloaded, StorageClosed: at once; nothing was queued.
            VersionConflict: by the future; a file was at another version than the change expects.
            PredecessorFailed: by the future; an earlier change of the line was not stored, or the file is in another
                incarnation than the change was made for.
            StorageFull, StorageUnavailable: by the future; nothing was stored where `certain` says so.
        """

    def listen(self, listener: CommitListener, missed: CommitListener | None = None) -> None:
        """Call `listener` with every batch from now on, of this gateway, and in followed projects of others.

        A listener that raises keeps nobody else from hearing of a batch, nor writes from being stored. The failure is
        logged, and `missed` is called with the batch: what is remembered of its projects may be stale.
        """

    async def project_head(self, project: str) -> ProjectHead | None:
        """Where the project's sequence stands; None if the project does not exist."""

    async def file_head(self, project: str, path: str) -> FileHead | None:
        """The file's newest state, which may be a tombstone; None if it never existed."""

    async def file_heads(self, project: str, paths: Collection[str]) -> tuple[ProjectHead, list[FileHead]] | None:
        """The heads of those of `paths` that ever existed, and the project's head at the same moment."""

    async def list_files(
        self, project: str, *, prefix: str = "", after: str = "", limit: int
    ) -> tuple[ProjectHead, list[FileHead]] | None:
        """Up to `limit` files that exist now, by path (code point order), after the path `after`."""

    async def list_tombstones(
        self, project: str, *, prefix: str = "", after: str = "", limit: int
    ) -> tuple[ProjectHead, list[Tombstone]] | None:
        """The same of the files that were deleted, without those of which the past was forgotten."""

    async def files_changed_since(
        self, project: str, sequence: int, *, limit: int | None = None
    ) -> tuple[ProjectHead, list[FileHead]] | None:
        """The files changed after `sequence`, each once with its newest state, oldest change first."""

    async def changes_since(
        self, project: str, sequence: int, *, limit: int | None = None
    ) -> tuple[ProjectHead, list[FileHead | TurnHead]] | None:
        """The files and turns changed after `sequence`, each once with its newest state, oldest change first."""

    async def existed_at(self, project: str, path: str, sequence: int) -> bool:
        """Whether the file existed (created, not deleted) just after `sequence`."""

    async def read_increment(
        self, project: str, path: str, after: int, *, most_bytes: int, known: FileHead | None = None
    ) -> Increment | None:
        """The updates after version `after` of the present incarnation.

        None if the file never existed, if `after` lies before this incarnation or above the head or was squashed,
        or if the updates hold more than `most_bytes`. `known` is what the caller knows of the file: it spares a read
        where that is still its newest state. (What was squashed and not yet purged may be served then.)
        """

    async def read_document(self, project: str, path: str, *, at_version: int | None = None) -> StoredDocument | None:
        """What builds the document at a version (default: the head). None where there is none: no such version,
        or a tombstone."""

    async def past_incarnations(self, project: str, path: str, *, limit: int) -> list[Version]:
        """The last versions before the tombstones of up to `limit` ended incarnations of a file, newest first."""

    async def read_history(
        self, project: str, path: str, *, before: int | None = None, limit: int
    ) -> tuple[FileHead, list[VersionRecord]] | None:
        """Up to `limit` versions below `before` (default: all), newest first; None if the file never existed."""

    async def version_at(self, project: str, path: str, sequence: int) -> Version | None:
        """The version that a file had just after `sequence`, which may be a tombstone; 0 where the file had none.

        None where that is not known any more: it was squashed, or the project was imported
        later."""

    async def read_version(self, project: str, path: str, version: int) -> StoredUpdate | None:
        """One row of the log; None where it was squashed, or never was."""

    async def tombstone_floor(self, project: str) -> Sequence:
        """The newest tombstone that was forgotten: who knows the project as it was before has to start over."""

    async def base_version(self, project: str, path: str) -> Version:
        """The oldest version of a file that can be had; 1 where nothing was squashed."""

    async def put_snapshot(self, project: str, path: str, snapshot: Snapshot) -> None:
        """Keep a snapshot beside the file's others; ignored where the log has no such version."""


class Following(Protocol):
    """Hearing of what other gateways store in the same database. Storage that one process has for itself hears of all
    that is stored anyway."""

    @property
    def shared(self) -> bool:
        """Whether other gateways may serve the same database."""

    async def follow(self, project: str) -> ProjectHead | None:
        """Have the listeners hear of what other gateways store in a project, which need not exist yet.

        Returns where it stands; the listeners hear of all after that. Each call is taken back by one of `unfollow`.
        """

    def unfollow(self, project: str) -> None:
        """Take a call of `follow` back."""

    async def catch_up(self, project: str) -> ProjectHead | None:
        """When it returns, the listeners have heard of all that others stored in a followed project before the call.

        Returns where the project stands; None if it does not exist.
        """

    @property
    def fresh(self) -> bool:
        """Whether the listeners have heard of all that was stored in followed projects up to a second ago."""

    @property
    def lag(self) -> float:
        """For how many seconds that has not been known; 0 where nothing is followed."""

    async def hold(self, job: str, seconds: float) -> bool:
        """Whether this gateway is the one to do a job for the next so many seconds, by the clock of the database. Held
        again before they are over, it stays so. For economy only: two may hold a job where one was stopped for long."""

    async def due_turns(self, lease: float, grace: float) -> list[tuple[str, TurnHead]]:
        """Some of the running turns, by project, in which nothing was stored for `lease` seconds, or where they are
        settling for `grace` seconds. Time counts only while gateways call this. Of a database of one process: none,
        since the process hears of every turn itself.
        """

    def tell(self, topic: str, message: bytes) -> None:
        """Send a message to the other gateways of the database, soon and at best once: it is kept nowhere. A long one
        is not sent."""

    def hear(self, listener: MessageListener) -> None:
        """Call `listener` with each message of another gateway: its name, the topic, the message; with the topic alone
        empty where that gateway is no more."""


class Turns(Protocol):
    """Sessions, turns and their blocks."""

    async def create_session(self, project: str, change: CreateSession) -> CommittedSession:
        """Store a session. The project comes into being with its first change.

        Raises:
            AlreadyDone: the change bears a key, and one with this key was made within the last day.
            TurnConflict: the session is there.
            StorageError: as of `append`.
        """

    async def write_turn(self, project: str, change: CreateTurn | UpdateTurn) -> CommittedTurn:
        """Store a new turn, or a change of one together with its blocks: all of it or nothing.

        `started_at` and `completed_at` follow from the status. Whether a status may follow another is not checked.

        Raises:
            AlreadyDone: the change bears a key, and one with this key was made within the last day. Comes before all
                other reasons.
            SessionMissing: there is no session to add a turn to.
            TurnConflict: the turn is there already, or it was changed after the sequence that the change expects.
            StorageError: as of `append`.
        """

    async def done(self, project: str, key: str) -> Done | None:
        """What came of the change that bore a key (`Once`), durable with it; None after a day, or if there was none."""

    async def session(self, project: str, session_id: str) -> SessionHead | None:
        """A session; None if there is none."""

    async def sessions(self, project: str, *, after: str | None = None, limit: int) -> list[SessionHead]:
        """Up to `limit` sessions, newest first, older than the session `after`."""

    async def turn_head(self, project: str, session_id: str, turn_id: str) -> TurnHead | None:
        """A turn's newest state; None if there is no such turn."""

    async def turns(
        self, project: str, session_id: str, *, after: str | None = None, limit: int, prompt_length: int
    ) -> list[StoredTurn]:
        """Up to `limit` turns of a session without their blocks, newest first, older than the turn `after`.

        A prompt is cut to `prompt_length` characters.
        """

    async def read_turn(
        self, project: str, session_id: str, turn_id: str, *, after_block: int = 0, most_bytes: int | None = None
    ) -> StoredTurn | None:
        """A turn with its blocks, but for the first `after_block`; None if there is no such turn.

        Those of the left out blocks that may have grown since a reader was told `after_block` blocks are there too.
        If there are blocks after the first `after_block`, at least one of them is there, so that a reader who asks
        again gets on; apart from that there is no more than `most_bytes` of content.
        """

    async def read_blocks(
        self, project: str, session_id: str, turn_id: str, *, after_block: int, limit: int, most_bytes: int
    ) -> list[StoredBlock]:
        """Up to `limit` blocks after the first `after_block`: one, or as many as have `most_bytes` of content."""

    async def output_state(self, project: str, session_id: str, turn_id: str) -> bytes:
        """What was stored last as `OutputPosition.state` of a turn; empty if nothing was."""

    def running_turns(self) -> AsyncIterator[tuple[str, TurnHead]]:
        """Every turn that is running, with the name of its project."""


class Housekeeping(Protocol):
    """What is done beside requests: squashing what need not be kept, and the state of the storage itself."""

    async def drop_snapshots(self) -> int:
        """Forget every snapshot; returns how many there were. Loses nothing."""

    def squash_points(self, rule: Retention, *, worth: int) -> AsyncIterator[SquashPoint]:
        """The files of which a rule lets at least `worth` versions go, and those that are not purged."""

    async def squash(self, project: str, path: str, version: int, body: bytes | None) -> bool:
        """Make a version the file's oldest one: what came before it is gone, as if it had been written as a whole.

        Args:
            body: the whole document at that version; None where it is a tombstone.

        Returns False, and does nothing, where it is not a version that can be had, or is the oldest already.
        Versions above it keep their numbers, times, authors, sizes.
        """

    async def purge(self, project: str, path: str) -> int:
        """Free some of the space of what was squashed; returns of how many versions, 0 when all is done."""

    async def forget_tombstones(self, before: int) -> list[tuple[str, str]]:
        """Squash some of the files that were deleted before a time to their tombstones, and raise the floors of their
        projects; returns the projects and paths, none when all is done. Their version counters stay."""

    async def begin_new_incarnations(self) -> int:
        """Give every project a new epoch, every file a new incarnation: to be called when the database was set back to
        an earlier time, so that nobody takes new changes for those that they know. Returns how many projects there are.
        """

    async def reclaim(self) -> int:
        """Give unused space back to the file system; returns the bytes freed."""

    @property
    def load(self) -> float:
        """How full the queue of writes is, from 0 to 1."""

    def statistics(self) -> Statistics:
        """Figures of this moment."""

    @property
    def warning(self) -> str | None:
        """What an operator has to look after although requests are answered, in words; None: nothing."""

    async def ready(self) -> None:
        """Raises StorageError unless the storage can take and answer requests."""

    async def close(self) -> None:
        """Commit what was queued, then close. Later calls raise StorageClosed."""


class Copies(Protocol):
    """Reading everything, to verify it, to copy it, or to move it into another database."""

    def projects(self) -> AsyncIterator[ProjectHead]:
        """Every project, by name."""

    def files(self, project: str) -> AsyncIterator[FileHead]:
        """Every file of a project that ever was, tombstones included, by path."""

    def updates(self, project: str, path: str) -> AsyncIterator[StoredUpdate]:
        """The whole log of a file, oldest first: from its oldest version that can be had, which is a whole document."""

    async def snapshots(self, project: str, path: str) -> list[Snapshot]:
        """The stored snapshots of a file, oldest first."""

    def turn_rows(self, project: str) -> AsyncIterator[TurnRows]:
        """Every turn in the sessions of a project, oldest first, each as of one moment, with what is stored with it:
        also where that does not fit together."""

    async def dangling(self) -> list[str]:
        """What is stored of something that is not there, and which rows are not what was written, in words."""

    async def back_up(self, target: Path) -> None:
        """Write all that is committed at one moment into a new file, which is a database of its own.

        When that is opened to be served, every project begins a new epoch, every file a new incarnation.
        """

    async def export_project(self, project: str, take: Callable[[Record], None]) -> None:
        """Hand over the records of a project as of one moment, in the order of `storage.portable`; none if there is
        no such project. `take` is called in another thread."""

    async def import_project(self, name: str, records: Iterable[Record]) -> ProjectHead:
        """Store an exported project under a name, all of it or nothing: with a new epoch and new incarnations, else as
        it was. Not for a storage that is served: listeners do not hear of it. `records` is read in another thread.

        Raises:
            ProjectExists, NotAnExport
            What reading `records` raises.
        """


class AccessRecords(Protocol):
    """Tokens of the gateway, and who did what. Of all projects, and in no project's sequence."""

    async def add_token(self, token: AccessToken) -> None:
        """Store a new token."""

    async def token(self, identifier: str) -> AccessToken | None:
        """A token by its id, also one that was revoked or has expired; None if there never was one."""

    async def tokens(self) -> list[AccessToken]:
        """Every token, oldest first."""

    async def revoke_token(self, identifier: str, now: Milliseconds) -> AccessToken | None:
        """Note that a token counts no more, unless that was noted before; None if there never was one."""

    async def note_use(self, used: Mapping[str, int]) -> None:
        """Note when tokens were used last, by id, in milliseconds since 1970. It never goes back."""

    async def note_audit(self, entries: Iterable[AuditEntry]) -> None:
        """Store entries of the audit, all of them or none."""

    async def audit(
        self,
        *,
        since: int = 0,
        project: str | None = None,
        subject: str | None = None,
        before: int | None = None,
        limit: int,
    ) -> list[AuditEntry]:
        """Up to `limit` entries of `since` or later, newest first, with a number below `before`.

        Args:
            project, subject: None: of all.
        """

    async def forget_audit(self, before: Milliseconds) -> int:
        """Delete some of the entries older than a time; returns how many, 0 when all is done."""


class ReaderRecords(Protocol):
    """Readers with a place of their own, and what the gateway keeps for good. In no project's sequence."""

    async def put_reader(self, reader: Reader) -> bool:
        """Store a reader, in place of one of the same kind and name. False: there is no such project."""

    async def reader(self, project: str, kind: str, name: str) -> Reader | None:
        """A reader; None if there is none."""

    async def readers(self, project: str, kind: str, *, after: str = "", limit: int) -> list[Reader]:
        """Up to `limit` readers of a kind, by name, after the name `after`."""

    async def delete_reader(self, project: str, kind: str, name: str) -> bool:
        """Forget a reader; returns whether there was one."""

    async def count_readers(self, project: str) -> int:
        """How many readers a project has."""

    async def reader_projects(self) -> list[str]:
        """The projects that have readers, by name."""

    async def idle_readers(self, project: str | None, *, limit: int) -> list[Reader]:
        """Up to `limit` of the readers that wait for their project to move on, and it has; None: of all projects."""

    async def due_readers(self, now: Milliseconds, *, limit: int) -> list[Reader]:
        """Up to `limit` of the readers whose time has come, the longest due first."""

    async def next_due(self) -> Milliseconds | None:
        """When the next reader is due; None: none is."""

    async def hasten(self, stage: ReaderStage, project: str | None, now: Milliseconds) -> int:
        """Let the readers in a stage be due now; returns how many were to wait longer. None: of all projects.

        Of those that wait for a pause, the ones whose project has moved on since they were looked at.
        """

    async def note_steps(self, steps: Collection[ReaderStep]) -> None:
        """Note what became of readers, all of it or nothing; not of one that was put again or forgotten since."""

    async def reader_figures(self) -> list[ReaderFigures]:
        """How many readers there are, by kind, and how far behind."""

    async def keep(self, name: str, value: str) -> str:
        """Keep a value for good, unless there is one under this name: returns that which is kept."""


class Storage(FileLog, Following, Turns, Housekeeping, Copies, AccessRecords, ReaderRecords, Protocol):
    """Orders and keeps the changes of all projects.

    What holds for every backend:

    1. *Acknowledged is durable.* When the future of `append` has a result, its changes outlive a crash.
    2. *Versions* of a file are 1, 2, 3 … without gaps, never used twice, also across deletions.
    3. *No holes.* Sequence order is commit order: whoever read a project at sequence S is never later shown
       a change at or before S that was not there.
    4. *Time does not run backwards*: `last_modified` never decreases along a project's sequence.
    5. *Listeners first.* Commit listeners hear of a batch before the futures of its changes have results,
       in commit order, each batch once. Of what another gateway stored in a followed project they hear in the order of
       the sequence, each version of a file once with its update; where that is much, of each file at least its newest
       head, without an update.
    6. *All or nothing.* The changes of one `append` are stored together, next to each other, or not at all.
    7. *A failed change takes those with it that build on it.* Once a queued change of a `Line` was not stored, for
       whatever reason, no later change of that line is.
    8. Reads see one moment: what one call returns comes from one read transaction.
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
