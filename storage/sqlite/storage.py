"""`SQLiteStorage`: the storage contract in one SQLite file."""

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Self

import structlog

from storage.contract import CommitListener, MessageListener
from storage.errors import StorageError
from storage.log import Clock, wall_clock
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
    ErasedProject,
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
from storage.sqlite import access, files, projects, readers, retention, transfer, turns
from storage.sqlite.database import Database, dangling
from storage.sqlite.identity import Opening, begin_new_incarnations, require_own_log
from storage.sqlite.lock import DatabaseLock
from storage.sqlite.once import find_done
from storage.sqlite.row_checks import SCANNED, damaged_rows
from storage.sqlite.writer import GroupCommitWriter

_log = structlog.get_logger("storage")

_NEAR_READ_BYTES = 256 * 1024
"""The most bytes that one read fetches in the event loop's thread; larger reads run in the reader's thread."""
_NEAR_BESIDE_BYTES = 2**20
"""The longest update beside which a few values of its row are read in the event loop's thread: in 0.5 ms."""
_NEAR_READ_ROWS = 200
_PAGE_ROWS = 1000
_REMEMBERED_FILES = 16_384
_HIGHEST = 2**63 - 1
"""SQLite's largest integer: no version or sequence is greater."""


class SQLiteStorage:
    """Opened by `SQLiteStorage.open`; implements `storage.contract.Storage`, where the methods are described."""

    def __init__(
        self,
        database: Database,
        writer: GroupCommitWriter | None = None,
        lock: DatabaseLock | None = None,
        new_incarnations: str | None = None,
        clock: Clock = wall_clock,
    ) -> None:
        self._database = database
        self._group = writer
        self._lock = lock
        self._clock = clock
        self.new_incarnations = new_incarnations
        """Why projects and files began new incarnations when the database was opened; None: they continue."""
        self.rescued: Path | None = None
        """Where the database was copied on closing because its file had been removed or replaced."""
        self._file_ids: dict[tuple[str, str], int] = {}

    @classmethod
    async def open(
        cls,
        path: Path,
        *,
        clock: Clock = wall_clock,
        queued_changes: int = 10_000,
        queued_bytes: int = 64 * 2**20,
        log_bytes: int = 4 * 2**30,
        log_space: int = 0,
        same: bool = False,
    ) -> Self:
        """Open the database file for this process exclusively, creating it if necessary.

        Args:
            path: the database file; its folder must exist.
            clock: milliseconds since 1970.
            queued_changes, queued_bytes: limits of the write queue.
            log_bytes: limit of the write-ahead log, which grows while another process reads an old state.
            log_space: how many bytes of the write-ahead log are allocated before they are needed.
            same: projects continue even if the file seems to be a copy or restored to an earlier state.

        Raises:
            DatabaseInUse, SchemaTooNew, LeftoverLog, NotAGatewayDatabase
        """
        lock = DatabaseLock(path)
        try:
            require_own_log(lock)
            opening = Opening(lock, same=same)
            database = await Database.open(lock.path, opening.prepare, lock, log_bytes, log_space)
            lock.note(opening.database, opening.opened, alone=opening.alone, place=opening.place)
        except BaseException:
            lock.release()
            raise
        writer = GroupCommitWriter(database, clock=clock, queued_changes=queued_changes, queued_bytes=queued_bytes)
        storage = cls(database, writer, lock, opening.new_incarnations, clock)
        writer.listen(storage._forget_erased, None, first=True)
        return storage

    @classmethod
    async def open_read_only(cls, path: Path, *, log_bytes: int = 4 * 2**30) -> Self:
        """Open the file read-only, even while a gateway serves it.

        Args:
            log_bytes: that of the gateway. A long read raises LogHeld at half of it, before writes are refused.
        """
        return cls(await Database.open_read_only(path, log_bytes))

    @property
    def _writer(self) -> GroupCommitWriter:
        if self._group is None:
            raise TypeError("the storage was opened for reading only")
        return self._group

    async def visit_connections(self, visit: Callable[[sqlite3.Connection], object]) -> None:
        """Call `visit` with each database connection, in that connection's thread: for traces and query plans."""
        await self._database.visit_connections(visit)

    def append(self, project: str, changes: tuple[Change, ...]) -> asyncio.Future[tuple[Committed, ...]]:
        return self._writer.append(project, changes)

    def append_and_call(self, project: str, changes: tuple[Change, ...], done: AppendDone) -> None:
        self._writer.append_and_call(project, changes, done)

    def listen(self, listener: CommitListener, missed: CommitListener | None = None, *, first: bool = False) -> None:
        self._writer.listen(listener, missed, first=first)

    @property
    def shared(self) -> bool:
        return False

    async def follow(self, project: str) -> ProjectHead | None:
        return await self.project_head(project)

    def unfollow(self, project: str) -> None:
        pass

    async def catch_up(self, project: str) -> ProjectHead | None:
        return await self.project_head(project)

    @property
    def fresh(self) -> bool:
        return True

    @property
    def lag(self) -> float:
        return 0.0

    async def hold(self, job: str, seconds: float) -> bool:
        return True

    async def due_turns(self, lease: float, grace: float) -> list[tuple[str, TurnHead]]:
        return []

    def tell(self, topic: str, message: bytes) -> None:
        pass

    def hear(self, listener: MessageListener) -> None:
        pass

    async def project_head(self, project: str) -> ProjectHead | None:
        found = self._database.read(lambda connection: files.project_head(connection, project))
        return None if found is None else found[1]

    async def file_head(self, project: str, path: str) -> FileHead | None:
        return self._database.read(lambda connection: files.file_head(connection, project, path))

    async def file_heads(self, project: str, paths: Collection[str]) -> tuple[ProjectHead, list[FileHead]] | None:
        def query(connection: sqlite3.Connection) -> tuple[ProjectHead, list[FileHead]] | None:
            return files.file_heads(connection, project, paths)

        if len(paths) <= _NEAR_READ_ROWS:
            return self._database.read(query)
        return await self._database.read_long(query)

    async def list_files(
        self, project: str, *, prefix: str = "", after: str = "", limit: int
    ) -> tuple[ProjectHead, list[FileHead]] | None:
        def query(connection: sqlite3.Connection) -> tuple[ProjectHead, list[FileHead]] | None:
            return files.list_files(connection, project, prefix, after, limit)

        if limit <= _NEAR_READ_ROWS:
            return self._database.read(query)
        return await self._database.read_long(query)

    async def list_tombstones(
        self, project: str, *, prefix: str = "", after: str = "", limit: int
    ) -> tuple[ProjectHead, list[Tombstone]] | None:
        def query(connection: sqlite3.Connection) -> tuple[ProjectHead, list[Tombstone]] | None:
            return files.list_tombstones(connection, project, prefix, after, limit)

        if limit <= _NEAR_READ_ROWS:
            return self._database.read(query)
        return await self._database.read_long(query)

    async def files_changed_since(
        self, project: str, sequence: int, *, limit: int | None = None
    ) -> tuple[ProjectHead, list[FileHead]] | None:
        def query(connection: sqlite3.Connection) -> tuple[ProjectHead, list[FileHead]] | None:
            return files.files_changed_since(connection, project, min(sequence, _HIGHEST), limit)

        head = await self.project_head(project)
        if head is None:
            return None
        if min(head.sequence - sequence, _HIGHEST if limit is None else limit) <= _NEAR_READ_ROWS:
            return self._database.read(query)
        return await self._database.read_long(query)

    async def existed_at(self, project: str, path: str, sequence: int) -> bool:
        return self._database.read(
            lambda connection: files.existed_at(connection, project, path, min(sequence, _HIGHEST))
        )

    async def read_increment(
        self, project: str, path: str, after: int, *, most_bytes: int, known: FileHead | None = None
    ) -> Increment | None:
        near = most_bytes <= _NEAR_READ_BYTES
        if near and known is not None and known.version - after <= _NEAR_READ_ROWS:
            file = self._file_id(project, path)
            found = self._database.read_one(lambda c: files.increment_up_to(c, file, known, after, most_bytes))
            if found is not None:
                return found

        def query(connection: sqlite3.Connection, most_rows: int | None = None) -> Increment | None:
            return files.read_increment(connection, project, path, min(after, _HIGHEST), most_bytes, most_rows)

        if near:
            with contextlib.suppress(files.TooManyRows):
                return self._database.read(lambda connection: query(connection, _NEAR_READ_ROWS))
        return await self._database.read_long(query)

    def _forget_erased(self, batch: tuple[Commit, ...]) -> None:
        """Forget the row ids of erased files, which may be used again. An erasure is a batch of its own."""
        if type(batch[0]) is ErasedProject:
            self._file_ids.clear()

    def _file_id(self, project: str, path: str) -> int:
        """Return the row id of a file, which never changes and is cached; 0 if there is none."""
        key = (project, path)
        file = self._file_ids.get(key)
        if file is None:
            file = self._database.read(lambda connection: files.file_id(connection, project, path))
            if len(self._file_ids) >= _REMEMBERED_FILES:
                self._file_ids.clear()
            if file:
                self._file_ids[key] = file
        return file

    async def read_document(self, project: str, path: str, *, at_version: int | None = None) -> StoredDocument | None:
        def query(connection: sqlite3.Connection) -> tuple[StoredDocument | None, list[tuple[int, int]]]:
            version = None if at_version is None else min(at_version, _HIGHEST)
            return files.read_document(connection, project, path, version)

        head = await self.file_head(project, path)
        if head is None:
            return None
        if head.size <= _NEAR_READ_BYTES and head.version <= _NEAR_READ_ROWS:
            document, damaged = self._database.read(query)
        else:
            document, damaged = await self._database.read_long(query)
        if damaged:
            await self._drop_snapshots(project, path, damaged)
        return document

    async def _drop_snapshots(self, project: str, path: str, damaged: list[tuple[int, int]]) -> None:
        """Delete damaged snapshots, so that new ones can be made from the log."""
        _log.error("snapshots are damaged", project=project, path=path, versions=[version for _, version in damaged])
        if self._group is not None:
            try:
                await self._database.write(lambda connection: files.drop_damaged_snapshots(connection, damaged))
            except StorageError as error:  # the snapshots are skipped even if they are not deleted
                _log.warning("damaged snapshots not removed", project=project, path=path, reason=str(error))

    async def past_incarnations(self, project: str, path: str, *, limit: int) -> list[Version]:
        return self._database.read(lambda connection: files.past_incarnations(connection, project, path, limit))

    async def read_history(
        self, project: str, path: str, *, before: int | None = None, limit: int
    ) -> tuple[FileHead, list[VersionRecord]] | None:
        def query(connection: sqlite3.Connection) -> tuple[FileHead, list[VersionRecord]] | None:
            bound = None if before is None else min(before, _HIGHEST)
            return files.read_history(connection, project, path, bound, limit)

        if limit <= _NEAR_READ_ROWS and self._are_near(project, path, before, limit):
            return self._database.read(query)
        return await self._database.read_long(query)

    async def version_at(self, project: str, path: str, sequence: int) -> Version | None:
        def query(connection: sqlite3.Connection) -> Version | None:
            return files.version_at(connection, project, path, min(sequence, _HIGHEST))

        head = await self.file_head(project, path)
        if head is None or head.size <= _NEAR_BESIDE_BYTES:
            return self._database.read(query)
        return await self._database.read_long(query)

    async def read_version(self, project: str, path: str, version: int) -> StoredUpdate | None:
        version = min(version, _HIGHEST)

        def query(connection: sqlite3.Connection) -> StoredUpdate | None:
            return files.read_version(connection, project, path, version)

        if self._are_near(project, path, version + 1, 1):
            return self._database.read(query)
        return await self._database.read_long(query)

    def _are_near(self, project: str, path: str, before: int | None, limit: int) -> bool:
        """Whether rows of a log are to be read in the event loop's thread: what stands behind a long update in its row
        is found only through all of its pages."""
        bound = _HIGHEST if before is None else min(before, _HIGHEST)
        longest = self._database.read(lambda c: files.longest_row(c, project, path, bound, limit))
        return longest <= _NEAR_READ_BYTES

    async def changes_since(
        self, project: str, sequence: int, *, limit: int | None = None
    ) -> tuple[ProjectHead, list[FileHead | TurnHead]] | None:
        def query(connection: sqlite3.Connection) -> tuple[ProjectHead, list[FileHead | TurnHead]] | None:
            return turns.changes_since(connection, project, min(sequence, _HIGHEST), limit)

        head = await self.project_head(project)
        if head is None:
            return None
        if min(head.sequence - sequence, _HIGHEST if limit is None else limit) <= _NEAR_READ_ROWS:
            return self._database.read(query)
        return await self._database.read_long(query)

    async def create_session(self, project: str, change: CreateSession) -> CommittedSession:
        (committed,) = await self._writer.append(project, (change,))
        return committed  # type: ignore[no-any-return]

    async def write_turn(self, project: str, change: CreateTurn | UpdateTurn) -> CommittedTurn:
        (committed,) = await self._writer.append(project, (change,))
        return committed  # type: ignore[no-any-return]

    async def done(self, project: str, key: str) -> Done | None:
        return self._database.read(lambda connection: find_done(connection, project, key, self._clock()))

    async def session(self, project: str, session_id: str) -> SessionHead | None:
        return self._database.read(lambda connection: turns.session(connection, project, session_id))

    async def sessions(self, project: str, *, after: str | None = None, limit: int) -> list[SessionHead]:
        return await self._database.read_long(lambda connection: turns.sessions(connection, project, after, limit))

    async def turn_head(self, project: str, session_id: str, turn_id: str) -> TurnHead | None:
        return self._database.read(lambda connection: turns.turn_head(connection, project, session_id, turn_id))

    async def turns(
        self, project: str, session_id: str, *, after: str | None = None, limit: int, prompt_length: int
    ) -> list[StoredTurn]:
        return await self._database.read_long(
            lambda connection: turns.turns(connection, project, session_id, after, limit, prompt_length)
        )

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
        most_bytes = _HIGHEST // 2 if most_bytes is None else most_bytes

        def query(connection: sqlite3.Connection) -> StoredTurn | None:
            return turns.read_turn(connection, project, session_id, turn_id, after_block, limit, most_bytes)

        after_block = min(after_block, _HIGHEST)
        blocks, size = self._database.read(
            lambda connection: turns.extent_after(
                connection, project, session_id, turn_id, after_block, _NEAR_READ_BYTES
            )
        )
        if blocks <= _NEAR_READ_ROWS and size <= _NEAR_READ_BYTES:
            return self._database.read(query)
        return await self._database.read_long(query)

    async def read_blocks(
        self, project: str, session_id: str, turn_id: str, *, after_block: int, limit: int, most_bytes: int
    ) -> list[StoredBlock]:
        return await self._database.read_long(
            lambda connection: turns.read_blocks(
                connection, project, session_id, turn_id, after_block, limit, most_bytes
            )
        )

    async def output_state(self, project: str, session_id: str, turn_id: str) -> bytes:
        turn = project, session_id, turn_id
        state = self._database.read(lambda connection: turns.output_state(connection, *turn, _NEAR_READ_BYTES))
        if state is None:  # it holds the beginning of a long line
            state = await self._database.read_long(lambda connection: turns.output_state(connection, *turn))
        return state or b""

    async def running_turns(self) -> AsyncIterator[tuple[str, TurnHead]]:
        after = 0
        while page := await self._database.read_long(
            lambda c, after=after: turns.running_turns_after(c, after, _PAGE_ROWS)  # type: ignore[misc]
        ):
            for row, project, head in page:
                if head is None:
                    _log.error("a running turn is damaged", project=project, row=row)
                else:
                    yield project, head
            after = page[-1][0]

    async def turn_rows(self, project: str) -> AsyncIterator[TurnRows]:
        after = (0, 0)
        while page := await self._database.read_long(
            lambda c, after=after: turns.turn_rows_after(c, project, after, _PAGE_ROWS)  # type: ignore[misc]
        ):
            for _, rows in page:
                yield rows
            after = page[-1][0]

    async def dangling(self) -> list[str]:
        found = []
        for table in SCANNED:
            after: int | None = 0
            while after is not None:
                damaged, after = await self._database.read_long(
                    lambda c, table=table, after=after: damaged_rows(c, table, after, _PAGE_ROWS)  # type: ignore[misc]
                )
                found += damaged
        return found + await self._database.read_long(dangling)

    async def put_snapshot(self, project: str, path: str, snapshot: Snapshot, epoch: Epoch | None = None) -> None:
        await self._database.write(lambda connection: files.put_snapshot(connection, project, path, snapshot, epoch))

    async def drop_snapshots(self) -> int:
        return await self._database.write(files.drop_snapshots)

    async def projects(self) -> AsyncIterator[ProjectHead]:
        after = ""
        while page := await self._database.read_long(lambda c, after=after: files.projects_after(c, after, _PAGE_ROWS)):  # type: ignore[misc]
            for head in page:
                yield head
            after = page[-1].name

    async def files(self, project: str) -> AsyncIterator[FileHead]:
        after = ""
        while page := await self._database.read_long(
            lambda c, after=after: files.files_after(c, project, after, _PAGE_ROWS)  # type: ignore[misc]
        ):
            for head in page:
                yield head
            after = page[-1].path

    async def updates(self, project: str, path: str) -> AsyncIterator[StoredUpdate]:
        after = Version(0)
        while page := await self._database.read_long(
            lambda c, after=after: files.updates_after(c, project, path, after, _PAGE_ROWS)  # type: ignore[misc]
        ):
            for update in page:
                yield update
            after = page[-1].version

    async def snapshots(self, project: str, path: str) -> list[Snapshot]:
        return await self._database.read_long(lambda connection: files.snapshots(connection, project, path))

    async def squash_points(self, rule: Retention, *, worth: int) -> AsyncIterator[SquashPoint]:
        after: int | None = 0
        while after is not None:
            points, after = await self._database.read_long(
                lambda c, after=after: retention.squash_points(c, rule, worth, after)  # type: ignore[misc]
            )
            for point in points:
                yield point

    async def squash(
        self, project: str, path: str, version: int, body: bytes | None, epoch: Epoch | None = None
    ) -> bool:
        return await self._database.write(
            lambda connection: retention.squash(connection, project, path, version, body, epoch)
        )

    async def list_projects(
        self, *, names: Collection[str] | None = None, prefix: str = "", after: str = "", limit: int
    ) -> list[StoredProject]:
        return await self._database.read_long(
            lambda connection: projects.list_projects(connection, names, prefix, after, limit)
        )

    async def erase_project(self, project: str) -> ProjectHead | None:
        erased: tuple[ErasedProject, ...] = await self._writer.erase(project)
        return erased[0].project if erased else None

    async def purge(self, project: str, path: str) -> int:
        return await self._database.write(lambda connection: retention.purge(connection, project, path))

    async def forget_tombstones(self, before: int) -> list[tuple[str, str]]:
        return await self._database.write(lambda connection: retention.forget_tombstones(connection, before))

    async def tombstone_floor(self, project: str) -> Sequence:
        return Sequence(self._database.read(lambda connection: retention.tombstone_floor(connection, project)))

    async def base_version(self, project: str, path: str) -> Version:
        return Version(self._database.read(lambda connection: retention.base_version(connection, project, path)))

    async def add_token(self, token: AccessToken) -> None:
        await self._database.write(lambda connection: access.add_token(connection, token))

    async def token(self, identifier: str) -> AccessToken | None:
        return self._database.read(lambda connection: access.token(connection, identifier))

    async def tokens(self, *, after: str | None = None, limit: int) -> list[AccessToken]:
        return await self._database.read_long(lambda connection: access.tokens(connection, after, limit))

    async def revoked_tokens(self, identifiers: Collection[str]) -> list[str]:
        return await self._database.read_long(lambda connection: access.revoked_tokens(connection, identifiers))

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
        return await self._database.read_long(
            lambda connection: access.audit(connection, Milliseconds(since), project, subject, before, limit)
        )

    async def forget_audit(self, before: Milliseconds) -> int:
        return await self._database.write(lambda connection: access.forget_audit(connection, before))

    async def back_up(self, target: Path) -> None:
        await self._database.read_alone(lambda connection: transfer.back_up(connection, target))

    async def export_project(self, project: str, take: Callable[[Record], None]) -> None:
        def export(connection: sqlite3.Connection) -> None:
            for record in transfer.export_project(connection, project):
                self._database.require_short_log()
                take(record)

        await self._database.read_long(export)

    async def import_project(self, name: str, records: Iterable[Record]) -> ProjectHead:
        return await self._database.write(lambda connection: transfer.import_project(connection, name, records))

    async def begin_new_incarnations(self) -> int:
        def begin(connection: sqlite3.Connection) -> int:
            begin_new_incarnations(connection)
            self._writer.forget_rows()
            return int(connection.execute("SELECT count(*) FROM project").fetchone()[0])

        return await self._database.write(begin)

    async def put_reader(self, reader: Reader) -> bool:
        return await self._database.write(lambda connection: readers.put_reader(connection, reader))

    async def reader(self, project: str, kind: str, name: str) -> Reader | None:
        return self._database.read(lambda connection: readers.reader(connection, project, kind, name))

    async def readers(self, project: str, kind: str, *, after: str = "", limit: int) -> list[Reader]:
        return await self._database.read_long(
            lambda connection: readers.readers(connection, project, kind, after, limit)
        )

    async def delete_reader(self, project: str, kind: str, name: str) -> bool:
        return await self._database.write(lambda connection: readers.delete_reader(connection, project, kind, name))

    async def count_readers(self, project: str) -> int:
        return self._database.read(lambda connection: readers.count_readers(connection, project))

    async def reader_projects(self) -> list[str]:
        return await self._database.read_long(lambda connection: readers.reader_projects(connection))

    async def idle_readers(self, project: str | None, *, limit: int) -> list[Reader]:
        return await self._database.read_long(lambda connection: readers.idle_readers(connection, project, limit))

    async def due_readers(self, now: Milliseconds, *, limit: int) -> list[Reader]:
        return await self._database.read_long(lambda connection: readers.due_readers(connection, now, limit))

    async def next_due(self) -> Milliseconds | None:
        return self._database.read(lambda connection: readers.next_due(connection))

    async def hasten(self, stage: ReaderStage, project: str | None, now: Milliseconds) -> int:
        return await self._database.write(lambda connection: readers.hasten(connection, stage, project, now))

    async def bring_forward(self, latest: Milliseconds) -> int:
        return await self._database.write(lambda connection: readers.bring_forward(connection, latest))

    async def note_steps(self, steps: Collection[ReaderStep]) -> None:
        await self._database.write(lambda connection: readers.note_steps(connection, steps))

    async def reader_figures(self) -> list[ReaderFigures]:
        return await self._database.read_long(lambda connection: readers.reader_figures(connection))

    async def keep(self, name: str, value: str) -> str:
        return await self._database.write(lambda connection: readers.keep(connection, name, value))

    async def keep_newest(self, name: str, value: str) -> None:
        await self._database.write(lambda connection: readers.keep_newest(connection, name, value))

    async def reclaim(self) -> int:
        before = self._database_bytes()

        def vacuum(connection: sqlite3.Connection) -> None:
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

        await self._database.write_alone(vacuum)
        return before - self._database_bytes()

    @property
    def load(self) -> float:
        return self._group.load if self._group else 0.0

    def statistics(self) -> Statistics:
        writer = self._group
        return Statistics(
            commits=writer.commits if writer else 0,
            changes=writer.changes if writer else 0,
            queued=writer.queued if writer else 0,
            database_bytes=self._database_bytes(),
            log_bytes=_size(self._log_path),
            commit_times=writer.times if writer else None,
            flush_times=self._database.flush_times,
        )

    def _database_bytes(self) -> int:
        """Return the size of the file and its write-ahead log in bytes."""
        return _size(self._database.path) + _size(self._log_path)

    @property
    def _log_path(self) -> Path:
        return self._database.path.with_name(self._database.path.name + "-wal")

    @property
    def warning(self) -> str | None:
        bound = self._database.log_bound
        return None if bound is None else bound.held

    async def ready(self) -> None:
        if self._lock is not None:
            self._lock.require_in_place()
        if self._group is not None:
            self._group.require_running()
            if self.warning is not None:  # the problem may be over, although nobody has written since
                await self._database.write(lambda connection: None)
        self._database.read(lambda connection: connection.execute("SELECT 1 FROM project LIMIT 1").fetchone())

    async def close(self) -> None:
        if self._group is not None:
            await self._group.close()
        if self._lock is None:
            await self._database.close()
            return
        overwritten = self._lock.is_overwritten()
        try:
            if not overwritten and not self._lock.is_in_place():
                self.rescued = await self._rescue()
        finally:
            await self._database.close(copy_log=not overwritten)
            self._lock.part_log(rescued=self.rescued is not None)
            self._lock.release()

    async def _rescue(self) -> Path:
        """Copy the database, whose file was removed or replaced, to a new file beside its path: otherwise its contents
        would be lost when this process ends."""
        path = self._database.path
        target = path.with_name(f"{path.name}.rescued-{wall_clock()}")
        partial = target.with_name(target.name + ".partial")
        await self._database.read_alone(lambda connection: connection.execute("VACUUM INTO ?", (str(partial),)))
        return partial.rename(target)


def _size(path: Path) -> int:
    """Return the size of a file in bytes; 0 if it does not exist."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
