"""What an operator does with a database by hand: verify it, compact it."""

from collections.abc import Callable

from gateway.maintenance.retention import Retainer
from gateway.maintenance.turn_check import Places, TurnCheck, content_faults, id_fault
from gateway.settings import RetentionPolicy
from gateway.yjs.snapshots import SnapshotDamaged, decompress
from gateway.yjs.surrogates import read_row
from gateway.yjs.updates import Document, InvalidUpdate, apply_row, build_document, leaves_gap, same_content
from storage import DataDamaged, FileHead, ProjectHead, SessionHead, Snapshot, Storage, StoredUpdate, TurnRows

Report = Callable[[str], None]
_PAGE = 1000
_PAGE_BYTES = 8 * 2**20
_STATE = {True: "deleted", False: "alive"}


async def verify_storage(storage: Storage, report: Report) -> int:
    """Derive every file again from its log and compare, and check every turn with its blocks; return the number of
    faults, each of which is reported."""
    verifier = _Verifier(storage, report)
    async for project in storage.projects():
        await verifier.verify(project)
    for fault in await storage.dangling():
        verifier.report(fault)
    report(f"{verifier.files} files and {verifier.turns} turns verified, {verifier.faults} faults")
    return verifier.faults


class _Verifier:
    """Counts what was verified. A gateway may be writing meanwhile."""

    def __init__(self, storage: Storage, report: Report) -> None:
        self._storage = storage
        self._report = report
        self.files = self.turns = self.faults = 0

    def report(self, fault: str) -> None:
        self.faults += 1
        self._report(fault)

    async def verify(self, project: ProjectHead) -> None:
        places = Places()
        async for head in self._storage.files(project.name):
            self.files += 1
            found = [
                *await self._of_file(project.name, head),
                *places.take(head.sequence, head.last_modified),
                *await self._outside(project, head.sequence),
            ]
            self._tell(f"{project.name}: {head.path}", found)
        await self._verify_sessions(project, places)
        async for rows in self._storage.turn_rows(project.name):
            self.turns += 1
            found = [
                *await _turn_faults(self._storage, project.name, rows),
                *places.take(rows.head.sequence, rows.head.last_updated),
                *await self._outside(project, rows.head.sequence),
            ]
            self._tell(f"{project.name}: turn {rows.head.session_id}/{rows.head.turn_id}", found)
        self._tell(project.name, places.finish())

    async def _verify_sessions(self, project: ProjectHead, places: Places) -> None:
        after = None
        while page := await self._sessions_after(project.name, after):
            for session in page:
                fault = id_fault(session.session_id)
                found = [
                    *([fault] if fault else []),
                    *places.take(session.sequence, session.created_at),
                    *await self._outside(project, session.sequence),
                ]
                self._tell(f"{project.name}: session {session.session_id}", found)
            after = page[-1].session_id

    async def _sessions_after(self, project: str, after: str | None) -> list[SessionHead]:
        try:
            return await self._storage.sessions(project, after=after, limit=_PAGE)
        except DataDamaged as error:
            self.report(f"{project}: {error}")
            return []

    def _tell(self, what: str, faults: list[str]) -> None:
        for fault in faults:
            self.report(f"{what}: {fault}")

    async def _of_file(self, project: str, head: FileHead) -> list[str]:
        try:
            return await self._faults_of(project, head)
        except DataDamaged as error:
            return [str(error)]

    async def _faults_of(self, project: str, head: FileHead) -> list[str]:
        base = await self._storage.base_version(project, head.path)
        found = await _file_faults(self._storage, project, head, base)
        while found and base != (now := await self._storage.base_version(project, head.path)):
            base = now  # the file was squashed meanwhile
            found = await _file_faults(self._storage, project, head, base)
        return found

    async def _outside(self, project: ProjectHead, sequence: int) -> list[str]:
        """Whether a sequence is above the project's, even when that is read again."""
        if sequence <= project.sequence:
            return []
        try:
            now = await self._storage.project_head(project.name)
        except DataDamaged:  # reported separately
            return []
        if now is not None and sequence <= now.sequence:
            return []
        return [f"its sequence {sequence} is above the project's {project.sequence}"]


async def _turn_faults(storage: Storage, project: str, rows: TurnRows) -> list[str]:
    """Return what is wrong with one turn: its state, its blocks as they were at one moment, their contents."""
    check = TurnCheck(rows.session, rows.head, rows.output_state)
    faults = check.begin()
    if not rows.in_project:
        faults.append("it belongs to another project than its session")
    if not rows.has_prompt:
        faults.append("its prompt is missing")
    for row in rows.blocks:
        faults += check.take(row)
    faults += check.finish()
    session_id, turn_id, after = rows.head.session_id, rows.head.turn_id, 0
    try:
        while blocks := await storage.read_blocks(
            project, session_id, turn_id, after_block=after, limit=_PAGE, most_bytes=_PAGE_BYTES
        ):
            for block in blocks:
                faults += content_faults(block.index, block.content)
            after = blocks[-1].index + 1
    except DataDamaged as error:
        faults.append(str(error))
    return faults


async def _file_faults(storage: Storage, project: str, head: FileHead, base: int) -> list[str]:
    """Return what is wrong with one file: its log from its oldest version on, its snapshots, its head."""
    faults: list[str] = []
    snapshots = {snapshot.version: snapshot for snapshot in await storage.snapshots(project, head.path)}
    document, version, size, time, deleted = build_document([]), base - 1, 0, 0, True
    async for update in storage.updates(project, head.path):
        if version == head.version:  # this version and its records were written after the head was read
            snapshots = {each: snapshot for each, snapshot in snapshots.items() if each <= version}
            break
        version += 1
        if update.version != version:
            return [*faults, f"version {version} is missing"]
        if update.last_modified < time:
            faults.append(f"version {version} is older than the one before")
        time = update.last_modified
        deleted = update.body is None
        if update.body is None:
            document, size = build_document([]), 0
            continue
        # A version squashed into a whole document keeps the size of the updates it was squashed from.
        size = update.size if version == base > 1 else size + len(update.body)
        document, found = _apply(document, update, size)
        faults += found
        snapshot = snapshots.pop(update.version, None)
        if snapshot is not None and not _is_snapshot_of(document, snapshot):
            faults.append(f"the snapshot at version {version} differs from the log")
    faults += [f"there is a snapshot at version {version}, which has no document" for version in snapshots]
    if version != head.version:
        faults.append(f"the log ends at version {version}, the head is {head.version}")
    elif deleted != head.deleted:
        faults.append(f"the log says that it is {_STATE[deleted]}, the head that it is {_STATE[head.deleted]}")
    elif not deleted and size != head.size:
        faults.append(f"the log has {size} bytes, the head says {head.size}")
    return faults


def _apply(document: Document, row: StoredUpdate, size: int) -> tuple[Document, list[str]]:
    """Apply the next row of a log; return the document, and what is wrong with the row."""
    assert row.body is not None
    faults = []
    if not row.intact:
        faults.append(f"version {row.version} is not what was written")
    if row.size != size:
        faults.append(f"version {row.version} says {row.size} bytes of log, there are {size}")
    try:
        document = apply_row(document, row.body)
        if leaves_gap(read_row(row.body)[0], document.get_state()):
            faults.append(f"version {row.version} leaves something pending")
    except InvalidUpdate as error:
        faults.append(f"version {row.version} does not load: {error}")
    return document, faults


def _is_snapshot_of(document: Document, snapshot: Snapshot) -> bool:
    try:
        return snapshot.intact and same_content(document, [document.get_update()], decompress(snapshot.body))
    except (InvalidUpdate, SnapshotDamaged):
        return False


async def compact_storage(storage: Storage, policy: RetentionPolicy, report: Report) -> int:
    """Squash what the policy does not keep, drop every snapshot, and shrink the database; return the bytes freed."""
    if not policy.keeps_all:
        squashed = await Retainer(storage, policy).squash_all()
        report(
            f"{squashed.versions} versions of {squashed.files} files squashed,"
            f" {squashed.tombstones} deleted files forgotten"
        )
    dropped = await storage.drop_snapshots()
    freed = await storage.reclaim()
    report(f"{dropped} snapshots dropped, {freed} bytes freed")
    return freed
