"""Requests and answers as they stand on the wire: shapes, and how a time, a cursor and a path are written."""

import functools
import re
import time
import unicodedata
from typing import Literal

from msgspec import UNSET, Struct, UnsetType

ChangeType = Literal["created", "modified", "deleted"]

_PROJECT_ID = re.compile(r"[A-Za-z0-9._~-]{1,128}")
_CURSOR = re.compile(r"([0-9a-z]{1,32})\.(0|[1-9][0-9]{0,18})")
_PATH_BYTES = 1024


class Receipt(Struct, frozen=True, gc=False):
    """What a write answers."""

    path: str
    version: int
    last_modified: str
    """RFC 3339 in UTC with milliseconds."""
    cursor: str
    """The point in the project's sequence at which this version was written."""
    changed: bool
    """False where the write added nothing: no new version was made."""


class FileEntry(Struct, frozen=True, gc=False):
    path: str
    version: int
    last_modified: str
    size: int
    """Bytes of the updates stored for the file's present incarnation."""


class FileListing(Struct, frozen=True, gc=False):
    files: list[FileEntry]
    cursor: str
    next: str | None
    """The `after` of the next page; null on the last."""


class StatusQuestion(Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """What a client asks about many files; every member may be left out."""

    paths: list[str] | None = None
    """The files asked about; left out: the whole project."""
    since: str | None = None
    """A cursor: what the client has followed so far."""
    versions: dict[str, int] | None = None
    """The version that the client has of each file, 0 for none. Beats `since` for the files it names."""
    wait: float = 0
    """Seconds to wait for a change where there is none."""


class FileChange(Struct, frozen=True, gc=False, omit_defaults=True):
    path: str
    last_modified: str
    version: int
    change_type: ChangeType
    reset: bool | UnsetType = UNSET
    """True where the client's version is ahead of the server's, which was restored: the client must start over."""


class StatusAnswer(Struct, frozen=True, gc=False, omit_defaults=True):
    changes: list[FileChange]
    cursor: str
    reset: bool | UnsetType = UNSET
    """True where `since` is of another epoch: `changes` is the whole listing."""


class FileFeedEntry(Struct, frozen=True, gc=False, omit_defaults=True, tag_field="kind", tag="file"):
    """A file that changed: its newest state."""

    path: str
    last_modified: str
    version: int
    change_type: ChangeType


FeedEntry = FileFeedEntry


class FeedAnswer(Struct, frozen=True, gc=False, omit_defaults=True):
    """A stretch of the change feed."""

    changes: list[FeedEntry]
    cursor: str
    """How far the answer has looked, also where a filter left nothing to show."""
    more: bool
    """True where there is more after the cursor already."""
    reset: bool | UnsetType = UNSET
    """True where `since` is of another epoch: `changes` begins with the whole listing."""


class MoveRequest(Struct, frozen=True, gc=False, rename={"source": "from", "target": "to"}, forbid_unknown_fields=True):
    source: str
    target: str


class ProblemDetails(Struct, frozen=True, gc=False, omit_defaults=True):
    """RFC 9457, with a stable machine name in `code`."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    state_vector: str | UnsetType = UNSET
    """With `missing_predecessors`: what the server has, base64url."""


class Health(Struct, frozen=True, gc=False):
    status: Literal["ok"]


class Cursor(Struct, frozen=True, gc=False):
    """A point in a project's sequence. On the wire an opaque string."""

    epoch: str
    sequence: int

    def __str__(self) -> str:
        return f"{self.epoch}.{self.sequence}"

    @classmethod
    def parse(cls, text: str) -> "Cursor":
        """Raises ValueError if no gateway wrote `text`."""
        match = _CURSOR.fullmatch(text)
        if match is None:
            raise ValueError("not a cursor")
        return cls(match[1], int(match[2]))


def rfc3339(milliseconds: int) -> str:
    """A time as the wire has it: `2025-01-06T10:00:00.000Z`."""
    seconds, rest = divmod(milliseconds, 1000)
    return f"{_to_the_second(seconds)}.{rest:03d}Z"


@functools.lru_cache(4096)
def _to_the_second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


def valid_project_id(text: str) -> bool:
    return _PROJECT_ID.fullmatch(text) is not None


def path_fault(path: str) -> str | None:
    """What keeps a text from being a file path; None if it is one."""
    if not path:
        return "it is empty"
    try:
        size = len(path.encode())
    except UnicodeEncodeError:
        return "it is not valid Unicode"
    if size > _PATH_BYTES:
        return f"it has {size} bytes, more than {_PATH_BYTES}"
    for segment in path.split("/"):
        if segment in ("", ".", ".."):
            return f"it has the segment {segment!r}"
    if path.isascii():
        return None if path.isprintable() else "it has a control character"
    if any(unicodedata.category(character) == "Cc" for character in path):
        return "it has a control character"
    if not unicodedata.is_normalized("NFC", path):
        return "it is not in Unicode normalisation form C"
    return None
