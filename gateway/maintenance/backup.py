"""Copies of a database, and of a project as a file: complete or not made at all, and always verified."""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile

from gateway.access.records import every_token
from gateway.maintenance.import_check import checked
from gateway.maintenance.verify import Report, verify_storage
from gateway.wire.values import valid_project_id
from storage import Storage
from storage.opening import sqlite_url
from storage.portable import ExportWriter, FileRecord, ProjectRecord, Record, read_export

_PARTIAL = ".partial"


class NotCopied(Exception):
    """The copy was not made; the message says why."""


async def back_up(
    storage: Storage,
    target: Path,
    open_copy: Callable[[str], AbstractAsyncContextManager[Storage]],
    report: Report,
) -> None:
    """Copy a database as it is at this moment, even while a gateway is serving it, and verify the copy.

    Raises:
        NotCopied, StorageError
    """
    _require_free(target)
    partial = _partial(target)
    partial.unlink(missing_ok=True)  # left by an interrupted attempt
    try:
        await storage.back_up(partial)
        async with open_copy(sqlite_url(partial)) as copy:
            faults = await verify_storage(copy, report)
        if faults:
            raise NotCopied(f"{faults} faults were found in what was copied: the database has them")
        _keep(partial, target)
    except OSError as error:
        raise NotCopied(f"{target}: {error.strerror}") from None
    finally:
        for leftover in (partial, *(partial.with_name(partial.name + end) for end in ("-wal", "-shm", "-journal"))):
            leftover.unlink(missing_ok=True)
    report(f"{target}: verified, and on the disk")


async def export_project(storage: Storage, project: str, target: Path, report: Report) -> None:
    """Write a project, as it is at this moment, into a portable file.

    Raises:
        NotCopied, StorageError
    """
    _require_free(target)
    partial = _partial(target)
    try:
        with partial.open("wb") as file, TemporaryFile(dir=target.parent) as waiting:
            writer = ExportWriter(file, waiting)
            await storage.export_project(project, writer.write)
            if not writer.records:
                raise NotCopied(f"there is no project {project!r}")
            writer.finish()
        _keep(partial, target)
    except OSError as error:
        raise NotCopied(f"{target}: {error.strerror}") from None
    finally:
        partial.unlink(missing_ok=True)
    report(f"{target}: {writer.records} records")


async def import_project(storage: Storage, source: Path, name: str | None, report: Report) -> None:
    """Store the content of a portable file, all or nothing: every record is checked, and every document built, in the
    transaction that stores them.

    Raises:
        NotCopied, StorageError
    """
    files = 0

    def count(records: Iterator[Record]) -> Iterator[Record]:
        nonlocal files
        for record in records:
            files += isinstance(record, FileRecord)
            yield record

    try:
        records = checked(str(source), read_export(source))
        first = next(records)
        if isinstance(first, ProjectRecord):
            name = name or first.name
        if name is None or not valid_project_id(name):
            raise NotCopied(f"{name!r} cannot be the id of a project")
        head = await storage.import_project(name, chain([first], count(records)))
    except OSError as error:
        raise NotCopied(f"{source}: {error.strerror}") from None
    report(f"project {name}: {files} files, up to change {head.sequence}")


async def copy_database(source: Storage, target: Storage, report: Report) -> int:
    """Copy the projects and tokens that the target storage does not have, and verify the target; return the number of
    its faults.

    Raises:
        NotCopied, StorageError
    """
    present = {head.name async for head in target.projects()}
    with TemporaryDirectory() as folder:
        async for head in source.projects():
            if head.name in present:
                report(f"project {head.name}: is there already")
                continue
            file = Path(folder) / "project"
            await export_project(source, head.name, file, lambda said: None)
            await import_project(target, file, head.name, report)
            file.unlink()
    added = 0
    async for token in every_token(source):
        if await target.token(token.id) is None:
            await target.add_token(token)
            added += 1
    report(f"{added} tokens")
    return await verify_storage(target, report)


def _require_free(target: Path) -> None:
    if target.exists():
        raise NotCopied(f"there is a file {target} already")
    if not target.parent.is_dir():
        raise NotCopied(f"there is no folder {target.parent}")


def _partial(target: Path) -> Path:
    return target.with_name(target.name + _PARTIAL)


def _keep(partial: Path, target: Path) -> None:
    """Give a finished file its name; after that it survives a crash."""
    _flush(partial)
    os.link(partial, target)  # fails if the target was created meanwhile
    _flush(target.parent)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
