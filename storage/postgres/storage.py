"""`PostgresStorage`: the storage contract in a PostgreSQL database that any number of gateways share."""

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Self

import structlog

from storage.contract import CommitListener, MessageListener
from storage.errors import BackupElsewhere, StorageClosed, StorageError, StorageUnavailable
from storage.log import Clock, results_since, wall_clock
from storage.portable import Record
from storage.postgres import access, erasing, files, readers, retention, transfer, turns, upkeep
from storage.postgres.batch import DONE, done_from_row
from storage.postgres.database import (
    FAILURES,
    LOST,
    PATIENCE_S,
    Connection,
    Database,
    Trace,
    project_id,
    storage_error,
)
from storage.postgres.projects import Projects, TrackedProject
from storage.postgres.row_checks import damaged_rows
from storage.postgres.tail import Tail
from storage.postgres.text import to_text
from storage.postgres.writer import Writer
from storage.records import (
    AccessToken,
    AuditEntry,
    Change,
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
from storage.shared_reads import SharedReads, read_once

_log = structlog.get_logger("storage")

_PAGE_ROWS = 1000
_TIDY_S = 600.0
_HIGHEST = 2**63 - 1
"""The largest integer of the database: no version or sequence is greater."""


class PostgresStorage:
    """Opened by `PostgresStorage.open`; implements `storage.contract.Storage`, where the methods are described."""

    def __init__(self, database: Database, node: str, clock: Clock) -> None:
        self._database = database
        self.reads = SharedReads()
        self._clock = clock
        self.node = node
        """The name of this gateway among the gateways of the database."""
        self._projects = Projects(database)
        self._tidied_at = time.monotonic()
        self._group: Writer | None = None
        self._tail: Tail | None = None

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        clock: Clock = wall_clock,
        queued_changes: int = 10_000,
        queued_bytes: int = 64 * 2**20,
        same: bool = False,
        patience: float = PATIENCE_S,
        trace: Trace | None = None,
    ) -> Self:
        """Open a database that others may have open too; create or upgrade its schema.

        Args:
            url: `postgresql://user:password@host:5432/database`; several hosts are separated by commas.
            clock: milliseconds since 1970.
            queued_changes, queued_bytes: limits of the write queue.
            same: whether cursors and incarnations go on after the database was moved to another server or timeline.
            patience: seconds that a write waits for a database that does not respond.
            trace: called with the statements that read and write, and their values.

        Raises:
            NotAGatewayDatabase, SchemaTooNew, DatabaseRefused, StorageUnavailable
        """
        database = await Database.open(url, same=same, patience=patience, trace=trace)
        storage = cls(database, secrets.token_hex(8), clock)
        row = await database.fetch_row("SELECT database FROM cluster")
        assert row is not None
        storage._tail = Tail(database, storage._projects, node=storage.node, database_id=row[0])
        storage._group = Writer(
            database,
            storage._projects,
            node=storage.node,
            clock=clock,
            queued_changes=queued_changes,
            queued_bytes=queued_bytes,
            tell=storage._tail.say,
        )
        return storage

    @classmethod
    async def open_read_only(cls, url: str) -> Self:
        """Open a database read-only, even while gateways serve it."""
        return cls(await Database.open(url, read_only=True), "", wall_clock)

    @property
    def _writer(self) -> Writer:
        if self._group is None:
            raise TypeError("the storage was opened for reading only")
        return self._group

    def append(self, project: str, changes: tuple[Change, ...]) -> asyncio.Future[tuple[Committed, ...]]:
        return self._writer.append(project, changes)

    def append_and_call(self, project: str, changes: tuple[Change, ...], done: AppendDone) -> None:
        self._writer.append_and_call(project, changes, done)

    def listen(self, listener: CommitListener, missed: CommitListener | None = None, *, first: bool = False) -> None:
        self._projects.listen(listener, missed, first=first)

    async def follow(self, project: str) -> ProjectHead | None:
        tracked = self._projects.track(project)
        tracked.followers += 1
        try:
            await self._heard(tracked, known=True)
        except BaseException:
            tracked.followers -= 1
            raise
        if self._tail is not None and not self._tail.fresh:
            self._tail.followed_more()
        return tracked.head

    def unfollow(self, project: str) -> None:
        tracked = self._projects.get(project)
        if tracked is not None:
            tracked.followers -= 1

    async def catch_up(self, project: str) -> ProjectHead | None:
        tracked = self._projects.track(project)
        # Thousands may ask at once, when a gateway has been too busy to hear of changes.
        if tracked.next_read is None:
            tracked.next_read = asyncio.create_task(self._heard(tracked, known=False), name="catch-up")
            tracked.next_read.add_done_callback(_retrieved)
        await asyncio.shield(tracked.next_read)
        return tracked.head

    async def _heard(self, tracked: TrackedProject, *, known: bool) -> None:
        """Notify the listeners of what was stored in a project before the call; with `known`, only if they follow the
        project from now on."""
        async with tracked.lock:
            if known and tracked.loaded and tracked.followers > 1:
                return
            if not known:
                tracked.next_read = None
            for last in (False, True):  # as other reads, this one gets a second connection
                try:
                    async with self._database.acquire(self._database.readers) as connection:
                        await self._projects.catch_up(tracked, connection)
                    return
                except FAILURES as error:
                    if last or not isinstance(error, LOST):
                        raise storage_error(error) from error

    @property
    def shared(self) -> bool:
        return True

    @property
    def fresh(self) -> bool:
        return self._tail is not None and self._tail.fresh

    @property
    def lag(self) -> float:
        return self._tail.lag if self._tail is not None else 0.0

    async def hold(self, job: str, seconds: float) -> bool:
        return await self._database.write(lambda connection: upkeep.hold(connection, self.node, job, seconds))

    async def due_turns(self, lease: float, grace: float) -> list[tuple[str, TurnHead]]:
        due = await self._database.write(lambda connection: upkeep.due_turns(connection, lease, grace))
        if time.monotonic() - self._tidied_at > _TIDY_S:
            self._tidied_at = time.monotonic()
            before = results_since(self._clock())
            await self._database.write(lambda connection: upkeep.tidy(connection, before))
        return due

    def tell(self, topic: str, message: bytes) -> None:
        if self._tail is not None:
            self._tail.tell(topic, message)

    def hear(self, listener: MessageListener) -> None:
        if self._tail is not None:
            self._tail.hear(listener)

    @read_once
    async def project_head(self, project: str) -> ProjectHead | None:
        return await files.project_head(self._database, project)

    @read_once
    async def file_head(self, project: str, path: str) -> FileHead | None:
        return await files.file_head(self._database, project, path)

    async def file_heads(self, project: str, paths: Collection[str]) -> tuple[ProjectHead, list[FileHead]] | None:
        return await self._file_heads(project, tuple(paths))

    @read_once
    async def _file_heads(self, project: str, paths: tuple[str, ...]) -> tuple[ProjectHead, list[FileHead]] | None:
        return await files.file_heads(self._database, project, paths)

    @read_once
    async def list_files(
        self, project: str, *, prefix: str = "", after: str = "", limit: int
    ) -> tuple[ProjectHead, list[FileHead]] | None:
        return await files.list_files(self._database, project, prefix, after, limit)

    @read_once
    async def list_tombstones(
        self, project: str, *, prefix: str = "", after: str = "", limit: int
    ) -> tuple[ProjectHead, list[Tombstone]] | None:
        return await files.list_tombstones(self._database, project, prefix, after, limit)

    @read_once
    async def files_changed_since(
        self, project: str, sequence: int, *, limit: int | None = None
    ) -> tuple[ProjectHead, list[FileHead]] | None:
        head = await self._about(project)
        if head is None:
            return None
        return await files.files_changed_since(self._database, project, head, min(sequence, _HIGHEST), limit)

    async def _about(self, project: str) -> ProjectHead | None:
        """Return the approximate head of a project: as last heard, or as it is."""
        tracked = self._projects.get(project)
        if tracked is not None and tracked.head is not None:
            return tracked.head
        return await self.project_head(project)

    @read_once
    async def changes_since(
        self, project: str, sequence: int, *, limit: int | None = None
    ) -> tuple[ProjectHead, list[FileHead | TurnHead]] | None:
        sequence = min(sequence, _HIGHEST)
        while True:
            of_files = await self.files_changed_since(project, sequence, limit=limit)
            if of_files is None:
                return None
            of_turns = await turns.turns_changed_since(self._database, project, sequence, limit)
            if of_turns is not None and of_turns[0] == of_files[0]:  # two reads of one moment
                changes: list[FileHead | TurnHead] = sorted(
                    [*of_files[1], *of_turns[1]], key=lambda change: change.sequence
                )
                return of_files[0], changes if limit is None else changes[:limit]

    @read_once
    async def existed_at(self, project: str, path: str, sequence: int) -> bool:
        return await files.existed_at(self._database, project, path, min(sequence, _HIGHEST))

    @read_once
    async def read_increment(
        self, project: str, path: str, after: int, *, most_bytes: int, known: FileHead | None = None
    ) -> Increment | None:
        if after > _HIGHEST:
            return None
        return await files.read_increment(self._database, project, path, after, min(most_bytes, _HIGHEST))

    @read_once
    async def read_document(self, project: str, path: str, *, at_version: int | None = None) -> StoredDocument | None:
        version = None if at_version is None else min(at_version, _HIGHEST)
        document, damaged = await self._database.read(
            lambda connection: files.read_document(connection, project, path, version)
        )
        if damaged:
            await self._drop_snapshots(project, path, damaged)
        return document

    async def _drop_snapshots(self, project: str, path: str, damaged: list[int]) -> None:
        """Delete damaged snapshots, so that new ones can be made from the log."""
        _log.error("snapshots are damaged", project=project, path=path, versions=damaged)
        if self._group is not None:
            try:
                await self._database.write(
                    lambda connection: files.drop_damaged_snapshots(connection, project, path, damaged)
                )
            except StorageError as error:  # the snapshots are skipped even if they are not deleted
                _log.warning("damaged snapshots not removed", project=project, path=path, reason=str(error))

    async def past_incarnations(self, project: str, path: str, *, limit: int) -> list[Version]:
        return await self._database.read(lambda connection: files.past_incarnations(connection, project, path, limit))

    async def read_history(
        self, project: str, path: str, *, before: int | None = None, limit: int
    ) -> tuple[FileHead, list[VersionRecord]] | None:
        bound = None if before is None else min(before, _HIGHEST)
        return await self._database.read(lambda connection: files.read_history(connection, project, path, bound, limit))

    async def version_at(self, project: str, path: str, sequence: int) -> Version | None:
        bound = min(sequence, _HIGHEST)
        return await self._database.read(lambda connection: files.version_at(connection, project, path, bound))

    async def read_version(self, project: str, path: str, version: int) -> StoredUpdate | None:
        bound = min(version, _HIGHEST)
        return await self._database.read(lambda connection: files.read_version(connection, project, path, bound))

    async def create_session(self, project: str, change: CreateSession) -> CommittedSession:
        (committed,) = await self._writer.append(project, (change,))
        return committed  # type: ignore[no-any-return]

    async def write_turn(self, project: str, change: CreateTurn | UpdateTurn) -> CommittedTurn:
        (committed,) = await self._writer.append(project, (change,))
        return committed  # type: ignore[no-any-return]

    async def done(self, project: str, key: str) -> Done | None:
        row = await self._database.fetch_row(
            f"SELECT {DONE} FROM done WHERE project = $1 AND key = $2 AND done_at > $3",
            project_id(project),
            to_text(key),
            results_since(self._clock()),
        )
        return None if row is None else done_from_row(row)

    async def session(self, project: str, session_id: str) -> SessionHead | None:
        return await turns.session(self._database, project, session_id)

    async def sessions(self, project: str, *, after: str | None = None, limit: int) -> list[SessionHead]:
        return await turns.sessions(self._database, project, after, limit)

    @read_once
    async def turn_head(self, project: str, session_id: str, turn_id: str) -> TurnHead | None:
        return await turns.turn_head(self._database, project, session_id, turn_id)

    async def turns(
        self, project: str, session_id: str, *, after: str | None = None, limit: int, prompt_length: int
    ) -> list[StoredTurn]:
        return await turns.turns(self._database, project, session_id, after, limit, prompt_length)

    @read_once
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
        most_bytes = _HIGHEST if most_bytes is None else most_bytes
        after_block = min(after_block, _HIGHEST)
        return await self._database.read(
            lambda connection: turns.read_turn(connection, project, session_id, turn_id, after_block, limit, most_bytes)
        )

    @read_once
    async def read_blocks(
        self, project: str, session_id: str, turn_id: str, *, after_block: int, limit: int, most_bytes: int
    ) -> list[StoredBlock]:
        after_block = min(after_block, _HIGHEST)
        return await self._database.read(
            lambda connection: turns.read_blocks(
                connection, project, session_id, turn_id, after_block, limit, most_bytes
            )
        )

    async def output_state(self, project: str, session_id: str, turn_id: str) -> bytes:
        return await turns.output_state(self._database, project, session_id, turn_id)

    async def running_turns(self) -> AsyncIterator[tuple[str, TurnHead]]:
        after = (-_HIGHEST, -_HIGHEST)
        while page := await turns.running_turns_after(self._database, after, _PAGE_ROWS):
            for _, project, head in page:
                yield project, head
            after = page[-1][0]

    async def turn_rows(self, project: str) -> AsyncIterator[TurnRows]:
        after = (-_HIGHEST, -_HIGHEST)
        while page := await self._database.read(
            lambda connection, after=after: turns.turn_rows_after(connection, project, after, _PAGE_ROWS)  # type: ignore[misc]
        ):
            for _, rows in page:
                yield rows
            after = page[-1][0]

    async def dangling(self) -> list[str]:
        return await self._database.read(transfer.dangling) + await self._database.read(damaged_rows)

    async def put_snapshot(self, project: str, path: str, snapshot: Snapshot, epoch: Epoch | None = None) -> None:
        async def put(connection: Connection) -> None:
            if await erasing.hold_epoch(connection, project, epoch):
                await files.put_snapshot(connection, project, path, snapshot)

        await self._database.write(put)

    async def drop_snapshots(self) -> int:
        return await self._database.write(files.drop_snapshots)

    async def projects(self) -> AsyncIterator[ProjectHead]:
        after = ""
        while page := await files.projects_after(self._database, after, _PAGE_ROWS):
            for head in page:
                yield head
            after = page[-1].name

    async def files(self, project: str) -> AsyncIterator[FileHead]:
        after = ""
        while page := await files.files_after(self._database, project, after, _PAGE_ROWS):
            for head in page:
                yield head
            after = page[-1].path

    async def updates(self, project: str, path: str) -> AsyncIterator[StoredUpdate]:
        after = Version(0)
        while page := await self._database.read(
            lambda connection, after=after: files.updates_after(connection, project, path, after, _PAGE_ROWS)  # type: ignore[misc]
        ):
            for update in page:
                yield update
            after = page[-1].version

    async def snapshots(self, project: str, path: str) -> list[Snapshot]:
        return await files.snapshots(self._database, project, path)

    async def squash_points(self, rule: Retention, *, worth: int) -> AsyncIterator[SquashPoint]:
        after: retention.Position | None = retention.START
        while after is not None:
            points, after = await self._database.read(
                lambda connection, after=after: retention.squash_points(connection, rule, worth, after)  # type: ignore[misc]
            )
            for point in points:
                yield point

    async def squash(
        self, project: str, path: str, version: int, body: bytes | None, epoch: Epoch | None = None
    ) -> bool:
        async def squash(connection: Connection) -> bool:
            if not await erasing.hold_epoch(connection, project, epoch):
                return False
            return await retention.squash(connection, project, path, version, body)

        return await self._database.write(squash)

    async def list_projects(
        self, *, names: Collection[str] | None = None, prefix: str = "", after: str = "", limit: int
    ) -> list[StoredProject]:
        return await erasing.list_projects(self._database, names, prefix, after, limit)

    async def erase_project(self, project: str) -> ProjectHead | None:
        tracked = self._projects.track(project)
        async with tracked.lock:
            head = await self._database.write(lambda connection: erasing.erase_project(connection, project))
            if head is not None:
                self._projects.erased(tracked, head)
        return head

    async def purge(self, project: str, path: str) -> int:
        return await self._database.write(lambda connection: retention.purge(connection, project, path))

    async def forget_tombstones(self, before: int) -> list[tuple[str, str]]:
        return await self._database.write(lambda connection: retention.forget_tombstones(connection, before))

    @read_once
    async def tombstone_floor(self, project: str) -> Sequence:
        return Sequence(await files.tombstone_floor(self._database, project))

    async def base_version(self, project: str, path: str) -> Version:
        return Version(await files.base_version(self._database, project, path))

    async def back_up(self, target: Path) -> None:
        raise BackupElsewhere

    async def export_project(self, project: str, take: Callable[[Record], None]) -> None:
        await self._database.read(lambda connection: transfer.export_project(connection, project, take))

    async def import_project(self, name: str, records: Iterable[Record]) -> ProjectHead:
        return await self._database.write(lambda connection: transfer.import_project(connection, name, records))

    async def add_token(self, token: AccessToken) -> None:
        await self._database.write(lambda connection: access.add_token(connection, token))

    async def token(self, identifier: str) -> AccessToken | None:
        return await access.token(self._database, identifier)

    async def tokens(self, *, after: str | None = None, limit: int) -> list[AccessToken]:
        return await access.tokens(self._database, after, limit)

    async def revoked_tokens(self, identifiers: Collection[str]) -> list[str]:
        return await access.revoked_tokens(self._database, identifiers)

    async def revoke_token(self, identifier: str, now: Milliseconds) -> AccessToken | None:
        return await self._database.write(lambda connection: access.revoke_token(connection, identifier, now))

    async def note_use(self, used: Mapping[str, int]) -> None:
        await self._database.write(lambda connection: access.note_use(connection, used))

    async def add_ticket(self, ticket: StoredTicket, now: Milliseconds) -> None:
        await self._database.write(lambda connection: access.add_ticket(connection, ticket, now))

    async def take_ticket(self, digest: bytes) -> StoredTicket | None:
        return await self._database.write(lambda connection: access.take_ticket(connection, digest))

    async def note_audit(self, entries: Iterable[AuditEntry]) -> None:
        await self._database.write(lambda connection: access.note_audit(connection, entries))

    async def audit(
        self,
        *,
        since: int = 0,
        project: str | None = None,
        subject: str | None = None,
        before: int | None = None,
        limit: int,
    ) -> list[AuditEntry]:
        return await access.audit(self._database, since, project, subject, before, limit)

    async def forget_audit(self, before: Milliseconds) -> int:
        return await self._database.write(lambda connection: access.forget_audit(connection, before))

    async def begin_new_incarnations(self) -> int:
        return await self._database.write(upkeep.begin_new_incarnations)

    async def put_reader(self, reader: Reader) -> bool:
        return await self._database.write(lambda connection: readers.put_reader(connection, reader))

    async def reader(self, project: str, kind: str, name: str) -> Reader | None:
        return await readers.reader(self._database, project, kind, name)

    async def readers(self, project: str, kind: str, *, after: str = "", limit: int) -> list[Reader]:
        return await readers.readers(self._database, project, kind, after, limit)

    async def delete_reader(self, project: str, kind: str, name: str) -> bool:
        return await self._database.write(lambda connection: readers.delete_reader(connection, project, kind, name))

    async def count_readers(self, project: str) -> int:
        return await readers.count_readers(self._database, project)

    async def reader_projects(self) -> list[str]:
        return await readers.reader_projects(self._database)

    async def idle_readers(self, project: str | None, *, limit: int) -> list[Reader]:
        return await readers.idle_readers(self._database, project, limit)

    async def due_readers(self, now: Milliseconds, *, limit: int) -> list[Reader]:
        return await readers.due_readers(self._database, now, limit)

    async def next_due(self) -> Milliseconds | None:
        return await readers.next_due(self._database)

    async def hasten(self, stage: ReaderStage, project: str | None, now: Milliseconds) -> int:
        return await self._database.write(lambda connection: readers.hasten(connection, stage, project, now))

    async def bring_forward(self, latest: Milliseconds) -> int:
        return await self._database.write(lambda connection: readers.bring_forward(connection, latest))

    async def note_steps(self, steps: Collection[ReaderStep]) -> None:
        await self._database.write(lambda connection: readers.note_steps(connection, steps))

    async def reader_figures(self) -> list[ReaderFigures]:
        return await readers.reader_figures(self._database)

    async def keep(self, name: str, value: str) -> str:
        return await self._database.write(lambda connection: readers.keep(connection, name, value))

    async def keep_newest(self, name: str, value: str) -> None:
        await self._database.write(lambda connection: readers.keep_newest(connection, name, value))

    async def reclaim(self) -> int:
        return 0  # the database's own vacuum does this regularly

    @property
    def load(self) -> float:
        return self._group.load if self._group else 0.0

    def statistics(self) -> Statistics:
        writer = self._group
        return Statistics(
            commits=writer.commits if writer else 0,
            changes=writer.changes if writer else 0,
            queued=writer.queued if writer else 0,
            database_bytes=self._tail.database_bytes if self._tail else 0,
            log_bytes=0,
            commit_times=writer.times if writer else None,
            catch_ups=self._projects.catch_ups,
            races_lost=writer.races_lost if writer else 0,
        )

    @property
    def warning(self) -> str | None:
        return None

    async def ready(self) -> None:
        if self._database.closed:
            raise StorageClosed("the storage is closed")
        if self._tail is not None and self._tail.lag > 1:
            raise StorageUnavailable(f"the database has not been heard for {self._tail.lag:.1f} seconds")
        await self._database.fetch("SELECT 1")

    async def close(self) -> None:
        if self._group is not None:
            await self._group.close()
        if self._tail is not None:
            await self._tail.close()
            with contextlib.suppress(StorageError):  # otherwise the lease expires
                await self._database.write(lambda connection: upkeep.release(connection, self.node))
        await self._database.close()


def _retrieved(task: asyncio.Task[None]) -> None:
    """Note that the error of a task is known, if all who waited for it are gone."""
    if not task.cancelled():
        task.exception()
