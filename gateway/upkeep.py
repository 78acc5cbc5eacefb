"""What an operator does with a database by hand: verify it, compact it."""

from collections.abc import Callable

from gateway.retention import Retainer, RetentionPolicy
from gateway.surrogates import read_row
from gateway.updates import Document, InvalidUpdate, apply_row, build_document, leaves_gap, same_content
from storage import FileHead, Snapshot, Storage, StoredUpdate

Report = Callable[[str], None]
_STATE = {True: "deleted", False: "alive"}


async def verify_storage(storage: Storage, report: Report) -> int:
    """Derive every file again from its log and compare; returns the number of faults, each reported."""
    files = faults = 0
    async for project in storage.projects():
        async for head in storage.files(project.name):
            files += 1
            base = await storage.base_version(project.name, head.path)
            found = await _file_faults(storage, project.name, head, base)
            while found and base != (now := await storage.base_version(project.name, head.path)):
                base = now  # it was folded meanwhile
                found = await _file_faults(storage, project.name, head, base)
            if head.sequence > project.sequence and await _is_stale(storage, project.name, head):
                found.append(f"its sequence {head.sequence} is above the project's {project.sequence}")
            for fault in found:
                report(f"{project.name}: {head.path}: {fault}")
            faults += len(found)
    report(f"{files} files verified, {faults} faults")
    return faults


async def _is_stale(storage: Storage, project: str, head: FileHead) -> bool:
    """Whether the project's head still lies below a file's when both are read again (a gateway may be writing)."""
    now = await storage.project_head(project)
    return now is None or now.sequence < head.sequence


async def _file_faults(storage: Storage, project: str, head: FileHead, base: int) -> list[str]:
    """What is wrong with one file: its log from its oldest version on, its snapshots, its head."""
    faults: list[str] = []
    snapshots = {snapshot.version: snapshot for snapshot in await storage.snapshots(project, head.path)}
    document, version, size, time, deleted = build_document([]), base - 1, 0, 0, True
    async for update in storage.updates(project, head.path):
        if version == head.version:  # this one, and what is of it, was written since the head was read
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
        # What was folded into a whole document keeps the size of what it was folded of.
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
    """Apply the next row of a log; returns the document, and what is wrong with the row."""
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
        return snapshot.intact and same_content(document, [document.get_update()], snapshot.body)
    except InvalidUpdate:
        return False


async def compact_storage(storage: Storage, policy: RetentionPolicy, report: Report) -> int:
    """Fold what need not be kept, drop every snapshot, and shrink the database; returns the bytes freed."""
    if not policy.keeps_all:
        folded = await Retainer(storage, policy).fold_all()
        report(
            f"{folded.versions} versions of {folded.files} files folded, {folded.tombstones} deleted files forgotten"
        )
    dropped = await storage.drop_snapshots()
    freed = await storage.reclaim()
    report(f"{dropped} snapshots dropped, {freed} bytes freed")
    return freed
