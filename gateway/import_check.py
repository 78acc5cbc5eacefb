"""Checks the records of a portable file, as they are read, against all that `verify` knows of a database."""

import re
from collections.abc import Iterator

import msgspec

from gateway.scan import MalformedUpdate, scan
from gateway.stored_form import to_wire
from gateway.surrogates import read_row
from gateway.updates import Document, InvalidUpdate, apply_row, build_document, leaves_gap
from gateway.wire import path_fault
from storage import FINISHED, NotAnExport
from storage.portable import (
    BlockRecord,
    FileRecord,
    ProjectRecord,
    Record,
    SessionRecord,
    TurnRecord,
    VersionRow,
)

_ID = re.compile(r"[A-Za-z0-9._~-]{1,128}")


def checked(source: str, records: Iterator[Record]) -> Iterator[Record]:
    """The same records. Documents are built in the thread that takes them.

    Raises:
        NotAnExport: something does not fit; what was taken so far must not be kept.
    """
    check: _ImportCheck | None = None
    try:
        for record in records:
            if isinstance(record, ProjectRecord):
                check = _ImportCheck(record)
            elif check is not None:
                check.take(record)
            yield record
        if check is not None:
            check.finish()
    except _Fault as fault:
        raise NotAnExport(source, str(fault)) from None


class _Fault(Exception):
    """What does not fit; the message is for whoever imports the file."""


class _ImportCheck:
    """Where the records of one project stand."""

    def __init__(self, project: ProjectRecord) -> None:
        self._project = project
        self._sequences: set[int] = set()
        self._file: _FileCheck | None = None
        self._turn: _TurnCheck | None = None
        self._session: SessionRecord | None = None
        if project.tombstone_floor > project.sequence:
            raise _Fault("the floor of its tombstones is above its sequence")

    def take(self, record: Record) -> None:
        match record:
            case VersionRow() if self._file is not None:
                self._file.take(record)
            case BlockRecord() if self._turn is not None:
                self._turn.take(record)
            case FileRecord():
                self._finish_parts()
                self._place(record.path, record.sequence, record.last_modified)
                self._file = _FileCheck(record)
            case SessionRecord():
                self._finish_parts()
                self._place(record.session_id, record.sequence, record.created_at)
                self._session = record
                _require_id(record.session_id)
            case TurnRecord() if self._session is not None:
                self._finish_parts()
                if record.sequence <= self._session.sequence:
                    raise _Fault(f"turn {record.turn_id!r}: it is older than its session")
                self._place(record.turn_id, record.sequence, record.last_updated)
                self._turn = _TurnCheck(record)
            case _:
                raise _Fault(f"a {type(record).__struct_config__.tag} stands where none can")

    def finish(self) -> None:
        self._finish_parts()

    def _finish_parts(self) -> None:
        for part in (self._file, self._turn):
            if part is not None:
                part.finish()
        self._file = self._turn = None

    def _place(self, name: str, sequence: int, time: int) -> None:
        """What was changed last at a sequence: each of them has one change, and lies within the project."""
        if not 0 < sequence <= self._project.sequence:
            raise _Fault(f"{name!r}: its sequence {sequence} is not one of the project's 1 to {self._project.sequence}")
        if sequence in self._sequences:
            raise _Fault(f"{name!r}: something else has its sequence {sequence}")
        if time > self._project.last_modified:
            raise _Fault(f"{name!r}: it is newer than the project")
        self._sequences.add(sequence)


class _FileCheck:
    """One file: its versions have no gap, each loads, and its newest state and its lives are what they make."""

    def __init__(self, record: FileRecord) -> None:
        self._file = record
        self._first = max(record.base_version, 1)
        self._last: VersionRow | None = None
        self._size = 0
        self._born: list[int] = []
        """The versions at which lives began, as far as the versions tell."""
        self._document: Document = build_document([])
        fault = path_fault(record.path)
        if fault is not None:
            raise self._fault(fault)
        self._check_lives()

    def _check_lives(self) -> None:
        file = self._file
        version = sequence = 0
        for life in file.lives:
            if not (life.born_version > version and sequence < life.born_sequence < life.died_sequence):
                raise self._fault("its former lives do not follow each other")
            version, sequence = life.born_version, life.died_sequence
        if not (version < file.born_version <= file.version and sequence < file.born_sequence <= file.sequence):
            raise self._fault("its life does not fit its versions and its former lives")

    def take(self, row: VersionRow) -> None:
        version = self._first if self._last is None else self._last.version + 1
        if row.version != version:
            raise self._fault(f"version {version} is missing")
        if self._last is not None and row.last_modified < self._last.last_modified:
            raise self._fault(f"version {version} is older than the one before")
        if row.update is None:
            self._document = build_document([])
        else:
            self._take_update(row, row.update)
        if row.size != self._size and (self._last is not None or row.update is not None):
            raise self._fault(f"version {version} says {row.size} bytes of log, there are {self._size}")
        self._size, self._last = row.size, row

    def _take_update(self, row: VersionRow, update: bytes) -> None:
        if self._last is None or self._last.update is None:
            self._born.append(row.version)
            self._size = 0
        # What was folded into a whole document keeps the size of what it was folded of.
        self._size = row.size if row.version == self._file.base_version else self._size + len(update)
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
        file, last = self._file, self._last
        if last is None or (last.version, last.update is None) != (file.version, file.deleted):
            raise self._fault(f"its versions do not end with version {file.version}")
        if last.size != file.size:
            raise self._fault(f"it is to have {file.size} bytes of log, there are {last.size}")
        if last.last_modified != file.last_modified:
            raise self._fault("its time is not that of its last version")
        told = [*(life.born_version for life in file.lives), file.born_version]
        born = self._born
        if born and born[0] == self._first > 1 and self._first not in told:
            born = born[1:]  # the first version is of a life that began before it
        if [version for version in told if version >= self._first] != born:
            raise self._fault("its lives are not those that its versions tell")

    def _fault(self, reason: str) -> _Fault:
        return _Fault(f"{self._file.path!r}: {reason}")


class _TurnCheck:
    """One turn: its status fits its times, and its blocks are as many and as large as it says."""

    def __init__(self, record: TurnRecord) -> None:
        self._turn = record
        self._blocks = self._size = 0
        _require_id(record.turn_id)
        started, completed = record.started_at is not None, record.completed_at is not None
        if completed != (record.status in FINISHED) or (record.status == "running" and not started):
            raise self._fault(f"its times do not fit its status, {record.status}")
        if record.status == "pending" and started:
            raise self._fault("it is pending, and has started")

    def take(self, block: BlockRecord) -> None:
        if block.index != self._blocks:
            raise self._fault(f"block {self._blocks} is missing")
        self._blocks += 1
        self._size += len(block.content)
        if block.told_from is not None and block.told_from > block.index:
            raise self._fault(f"block {block.index} is to be told from a later one on")
        try:
            msgspec.json.decode(block.content)
        except (msgspec.DecodeError, RecursionError) as error:
            raise self._fault(f"block {block.index} is no JSON: {error}") from None

    def finish(self) -> None:
        turn = self._turn
        if (self._blocks, self._size) != (turn.block_count, turn.size):
            found = f"{self._blocks} of {self._size} bytes"
            raise self._fault(f"it is to have {turn.block_count} blocks of {turn.size} bytes, and there are {found}")

    def _fault(self, reason: str) -> _Fault:
        return _Fault(f"turn {self._turn.turn_id!r}: {reason}")


def _require_id(text: str) -> None:
    if not _ID.fullmatch(text):
        raise _Fault(f"{text[:200]!r} is no id of a session or a turn")
