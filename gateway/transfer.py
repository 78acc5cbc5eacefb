"""A copy of a database, a project as a file: made whole or not at all, and proven before it is called done."""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from gateway.scan import MalformedUpdate, scan
from gateway.stored_form import to_wire
from gateway.surrogates import read_row
from gateway.updates import Document, InvalidUpdate, apply_row, build_document, leaves_gap
from gateway.upkeep import Report, verify_storage
from gateway.wire import path_fault, valid_project_id
from storage import NotAnExport, Storage
from storage.portable import ExportWriter, FileRecord, ProjectRecord, Record, VersionRow, read_export

_PARTIAL = ".partial"


class NotCopied(Exception):
    """The copy was not made; the message says why."""


async def back_up(
    storage: Storage,
    target: Path,
    open_copy: Callable[[Path], AbstractAsyncContextManager[Storage]],
    report: Report,
) -> None:
    """Copy a database as it is at this moment, also beside a gateway that serves it, and verify the copy.

    Raises:
        NotCopied, StorageError
    """
    _require_free(target)
    partial = _partial(target)
    partial.unlink(missing_ok=True)  # of an attempt that was interrupted
    try:
        await storage.back_up(partial)
        async with open_copy(partial) as copy:
            faults = await verify_storage(copy, report)
        if faults:
            raise NotCopied(f"{faults} faults were found in what was copied: the database has them")
        _keep(partial, target)
    finally:
        for leftover in (partial, *(partial.with_name(partial.name + end) for end in ("-wal", "-shm"))):
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
        with partial.open("wb") as file:
            writer = ExportWriter(file)
            await storage.export_project(project, writer.write)
            if not writer.records:
                raise NotCopied(f"there is no project {project!r}")
            writer.finish()
        _keep(partial, target)
    finally:
        partial.unlink(missing_ok=True)
    report(f"{target}: {writer.records} records")


async def import_project(storage: Storage, source: Path, name: str | None, report: Report) -> None:
    """Read a portable file to its end, build every document in it, and only then store it, all of it or nothing.

    Raises:
        NotCopied, StorageError
    """
    files = 0
    for record in _checked(source):
        files += isinstance(record, FileRecord)
        if isinstance(record, ProjectRecord):
            name = name or record.name
    if name is None or not valid_project_id(name):
        raise NotCopied(f"{name!r} cannot be the id of a project")
    head = await storage.import_project(name, read_export(source))
    report(f"project {name}: {files} files, up to change {head.sequence}")


def _checked(source: Path) -> Iterator[Record]:
    """The records of a portable file; each file is what its log makes, version for version.

    Raises:
        NotAnExport
    """
    check: _FileCheck | None = None
    try:
        for record in read_export(source):
            if isinstance(record, VersionRow):
                if check is None:
                    raise NotAnExport(str(source), "a version stands before the first file")
                check.take(record)
            elif check is not None:
                check.finish()
                check = None
            if isinstance(record, FileRecord):
                check = _FileCheck(str(source), record)
            yield record
    except OSError as error:
        raise NotCopied(f"{source}: {error.strerror}") from None


class _FileCheck:
    """One file of a portable file: its versions are without gaps, and each loads."""

    def __init__(self, source: str, record: FileRecord) -> None:
        self._source = source
        self._file = record
        self._version = max(record.base_version, 1) - 1
        self._document: Document = build_document([])
        self._deleted = True
        fault = path_fault(record.path)
        if fault is not None:
            raise self._fault(fault)

    def take(self, row: VersionRow) -> None:
        self._version += 1
        if row.version != self._version:
            raise self._fault(f"version {self._version} is missing")
        self._deleted = row.update is None
        if row.update is None:
            self._document = build_document([])
            return
        update = row.update
        try:
            alone, _ = read_row(update)
            scan(to_wire(alone))
            self._document = apply_row(self._document, update)
            whole = not leaves_gap(alone, self._document.get_state())
        except (InvalidUpdate, MalformedUpdate) as error:
            raise self._fault(f"version {row.version} does not load: {error}") from None
        if not whole:
            raise self._fault(f"version {row.version} builds on something that is missing")

    def finish(self) -> None:
        if (self._version, self._deleted) != (self._file.version, self._file.deleted):
            raise self._fault(f"its versions end with {self._version}, it is to be at {self._file.version}")

    def _fault(self, reason: str) -> NotAnExport:
        return NotAnExport(self._source, f"{self._file.path!r}: {reason}")


def _require_free(target: Path) -> None:
    if target.exists():
        raise NotCopied(f"there is a file {target} already")
    if not target.parent.is_dir():
        raise NotCopied(f"there is no folder {target.parent}")


def _partial(target: Path) -> Path:
    return target.with_name(target.name + _PARTIAL)


def _keep(partial: Path, target: Path) -> None:
    """Give a finished file its name; after that it outlives a crash."""
    _flush(partial)
    os.link(partial, target)  # fails where somebody else was faster
    _flush(target.parent)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
