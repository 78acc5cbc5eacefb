"""Checks the records of a portable file, while they are read, against the rules by which `verify` checks a database."""

from collections.abc import Iterator

from gateway.maintenance.turn_check import Places, TurnCheck, id_fault
from gateway.wire.values import path_fault
from gateway.yjs.lib0 import MalformedUpdate
from gateway.yjs.scan import scan
from gateway.yjs.stored_form import to_wire
from gateway.yjs.surrogates import read_row
from gateway.yjs.updates import Document, InvalidUpdate, apply_row, build_document, leaves_gap
from storage import NotAnExport
from storage.portable import (
    BlockRecord,
    FileRecord,
    ProjectRecord,
    Record,
    SessionRecord,
    TurnRecord,
    VersionRow,
)


def checked(source: str, records: Iterator[Record]) -> Iterator[Record]:
    """Yield the same records, checked. Documents are built in the thread of the consumer.

    Raises:
        NotAnExport: a record does not fit; the records consumed so far must be discarded.
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
    """A record does not fit; the message is for the user who imports the file."""


class _ImportCheck:
    """The position in the records of one project."""

    def __init__(self, project: ProjectRecord) -> None:
        self._project = project
        self._places = Places()
        self._file: _FileCheck | None = None
        self._turn: tuple[str, TurnCheck] | None = None
        self._session: SessionRecord | None = None
        if project.tombstone_floor > project.sequence:
            raise _Fault("the floor of its tombstones is above its sequence")

    def take(self, record: Record) -> None:
        match record:
            case VersionRow() if self._file is not None:
                self._file.take(record)
            case BlockRecord() if self._turn is not None:
                turn_id, check = self._turn
                _require_none(turn_id, check.take(record))
            case FileRecord():
                self._finish_parts()
                self._place(record.path, record.sequence, record.last_modified)
                self._file = _FileCheck(record)
            case SessionRecord():
                self._finish_parts()
                self._place(record.session_id, record.sequence, record.created_at)
                self._session = record
                if fault := id_fault(record.session_id):
                    raise _Fault(fault)
            case TurnRecord() if self._session is not None:
                self._finish_parts()
                self._place(record.turn_id, record.sequence, record.last_updated)
                check = TurnCheck(self._session, record, record.output_state)
                self._turn = record.turn_id, check
                _require_none(record.turn_id, check.begin())
            case _:
                raise _Fault(f"a {type(record).__struct_config__.tag} stands where none can")

    def finish(self) -> None:
        self._finish_parts()
        for fault in self._places.finish():
            raise _Fault(fault)

    def _finish_parts(self) -> None:
        if self._file is not None:
            self._file.finish()
        if self._turn is not None:
            turn_id, check = self._turn
            _require_none(turn_id, check.finish())
        self._file = self._turn = None

    def _place(self, name: str, sequence: int, time: int) -> None:
        """Check the sequence of a change: it is used once, and lies within the project."""
        if not 0 < sequence <= self._project.sequence:
            raise _Fault(f"{name!r}: its sequence {sequence} is not one of the project's 1 to {self._project.sequence}")
        for fault in self._places.take(sequence, time):
            raise _Fault(f"{name!r}: {fault}")
        if time > self._project.last_modified:
            raise _Fault(f"{name!r}: it is newer than the project")


def _require_none(turn_id: str, faults: list[str]) -> None:
    for fault in faults:
        raise _Fault(f"turn {turn_id!r}: {fault}")


class _FileCheck:
    """One file: its versions have no gaps, each one loads, and they make up its newest state and its incarnations."""

    def __init__(self, record: FileRecord) -> None:
        self._file = record
        self._first = max(record.base_version, 1)
        self._last: VersionRow | None = None
        self._size = 0
        self._born: list[int] = []
        """The versions at which incarnations began, as far as the versions show."""
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
                raise self._fault("its former incarnations do not follow each other")
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
        # A version squashed into a whole document keeps the size of the updates it was squashed from.
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
            born = born[1:]  # the first version belongs to an incarnation that began before it
        if [version for version in told if version >= self._first] != born:
            raise self._fault("its incarnations are not those that its versions tell")

    def _fault(self, reason: str) -> _Fault:
        return _Fault(f"{self._file.path!r}: {reason}")
