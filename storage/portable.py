"""The export format of a project: one file of gzipped JSON lines, one record per line, format version 1.

    {"record":"project", "format":1, …}                       first, once
    {"record":"file", …}      then its {"record":"version", …}, oldest first, without gaps
    {"record":"session", …}   then its {"record":"turn", …}, each with its {"record":"block", …}
    {"record":"end", …}                                       last, once: the number of records, the SHA-256 of all

Times are milliseconds since 1970 in UTC; updates and contents are base64. A reader ignores unknown members.
"""

import gzip
import hashlib
import shutil
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Annotated

import msgspec
from msgspec import Meta, Struct

from storage.errors import NotAnExport
from storage.records import BlockType, TurnStatus

FORMAT = 1
_LONGEST_LINE = 256 * 2**20

Count = Annotated[int, Meta(ge=0, le=2**52)]
"""A version, a sequence or a size. The bound is never reached in practice, and leaves room to count on from it."""
Time = Annotated[int, Meta(ge=0, le=253_402_300_799_999)]
"""Up to the year 9999: RFC 3339 cannot express a later time."""
Author = Annotated[str, Meta(max_length=65_536)] | None
"""No longer than the head of the request that names the author."""


class ProjectRecord(Struct, frozen=True, tag="project", tag_field="record"):
    name: str
    sequence: Count
    last_modified: Time
    tombstone_floor: Count
    exported_at: Time
    format: int = FORMAT


class LifeRecord(Struct, frozen=True):
    """A former incarnation of a file."""

    born_version: Count
    born_sequence: Count
    died_sequence: Count


class FileRecord(Struct, frozen=True, tag="file", tag_field="record"):
    """The newest state of a file; a deleted one has a tombstone as its last version."""

    path: str
    version: Count
    sequence: Count
    last_modified: Time
    size: Count
    deleted: bool
    born_version: Count
    born_sequence: Count
    base_version: Count
    """The first version record that follows, whose update is the whole document; 0: the log begins at version 1."""
    lives: tuple[LifeRecord, ...] = ()


class VersionRow(Struct, frozen=True, tag="version", tag_field="record"):
    version: Count
    last_modified: Time
    size: Count
    author: Author
    update: bytes | None
    """None: a tombstone."""
    credential: Author = None


class SessionRecord(Struct, frozen=True, tag="session", tag_field="record"):
    session_id: str
    title: str | None
    sequence: Count
    created_at: Time


class TurnRecord(Struct, frozen=True, tag="turn", tag_field="record"):
    turn_id: str
    status: TurnStatus
    block_count: Count
    sequence: Count
    last_updated: Time
    created_at: Time
    started_at: Time | None
    completed_at: Time | None
    error: str | None
    size: Count
    output_offset: Count
    prompt: str
    output_state: bytes
    result_status: TurnStatus | None = None
    result_error: str | None = None
    settling: Count = 0
    grown: Count = 0


class BlockRecord(Struct, frozen=True, tag="block", tag_field="record"):
    index: Count
    type: BlockType
    created_at: Time
    content: bytes
    told_from: Count | None = None


class EndRecord(Struct, frozen=True, tag="end", tag_field="record"):
    records: int
    sha256: str


Record = ProjectRecord | FileRecord | VersionRow | SessionRecord | TurnRecord | BlockRecord


class ExportWriter:
    """Writes records to an export file.

    Records are first collected, uncompressed, in a temporary file: while the database is read in one transaction, its
    write-ahead log cannot be emptied and grows with each write, and compressing takes long.
    """

    def __init__(self, file: IO[bytes], waiting: IO[bytes]) -> None:
        self._file = file
        self._waiting = waiting
        self._digest = hashlib.sha256()
        self._encoder = msgspec.json.Encoder()
        self.records = 0

    def write(self, record: Record) -> None:
        self._write_line(record)
        self.records += 1

    def _write_line(self, record: Record | EndRecord) -> None:
        line = self._encoder.encode(record) + b"\n"
        self._digest.update(line)
        self._waiting.write(line)

    def finish(self) -> None:
        """Write the end record, and compress everything into the file."""
        self._write_line(EndRecord(self.records, self._digest.hexdigest()))
        self._waiting.seek(0)
        with gzip.GzipFile(filename="", mode="wb", fileobj=self._file, mtime=0) as compressed:
            shutil.copyfileobj(self._waiting, compressed)


def read_export(path: Path) -> Iterator[Record]:
    """Yield the records of an exported file, the project first. Whether the file is complete is known only at its end.

    Raises:
        NotAnExport: the file is not an export, has a newer format, is damaged, or is incomplete.
    """
    decoder: msgspec.json.Decoder[Record | EndRecord] = msgspec.json.Decoder(Record | EndRecord)
    digest, records = hashlib.sha256(), 0
    try:
        lines = _lines(path)
        for line in lines:
            record = _decode(path, line, decoder)
            if isinstance(record, EndRecord):
                if (record.records, record.sha256) != (records, digest.hexdigest()):
                    raise NotAnExport(str(path), "it is damaged: its end does not fit what comes before")
                if next(lines, None) is not None:
                    raise NotAnExport(str(path), "something follows its end")
                return
            if (records == 0) != isinstance(record, ProjectRecord):
                raise NotAnExport(str(path), "it does not begin with one project")
            if isinstance(record, ProjectRecord) and record.format != FORMAT:
                raise NotAnExport(str(path), f"its format is {record.format}, this release knows {FORMAT}")
            digest.update(line)
            records += 1
            yield record
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise NotAnExport(str(path), str(error)) from None
    raise NotAnExport(str(path), "its end is missing")


def _lines(path: Path) -> Iterator[bytes]:
    with gzip.open(path) as file:
        while line := file.readline(_LONGEST_LINE):
            yield line


def _decode(path: Path, line: bytes, decoder: "msgspec.json.Decoder[Record | EndRecord]") -> Record | EndRecord:
    try:
        return decoder.decode(line)
    except msgspec.DecodeError as error:
        raise NotAnExport(str(path), f"a line is no record: {error}") from None
    except RecursionError:
        raise NotAnExport(str(path), "a line is no record: it is nested too deeply") from None
