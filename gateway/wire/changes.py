"""Requests and answers as they stand on the wire: shapes, and how a time, a cursor and a path are written."""

import base64
import functools
import re
import time
import unicodedata
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from storage import BlockType, TurnStatus

ChangeType = Literal["created", "modified", "deleted"]

_PROJECT_ID = re.compile(r"(?!\.{1,2}\Z)[A-Za-z0-9._~-]{1,128}")
_CURSOR = re.compile(r"([0-9a-z]{1,32})\.(0|[1-9][0-9]{0,18})(?:\.(0|[1-9][0-9]{0,18}))?")
_OWN_TAG = re.compile(r"[0-9a-z]+(?:\.[0-9]+){1,2}(?:\.[jt])?(?![0-9A-Za-z.])")
_PATH_BYTES = 1024
LARGEST_INTEGER = 2**63 - 1
"""No version, sequence or index is larger."""
_UNSEEN = frozenset({"Cc", "Cf", "Zl", "Zp"})
"""Categories of characters that steer how a text is shown, and show nothing themselves."""
_JOINERS = "\u200c\u200d"
"""Of the category Cf, but words of Persian and Indic scripts, and emoji, are spelled with these."""


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
    incomplete: bool | UnsetType = UNSET
    """True where a part of the update was left out: it builds on something that the gateway lacks."""
    state_vector: str | UnsetType = UNSET
    """With `incomplete`: what the gateway has now, base64url."""

    @property
    def known_state(self) -> bytes | None:
        """What the gateway has, as a state vector, where a part of the update was left out."""
        if not isinstance(self.state_vector, str):
            return None
        return base64.urlsafe_b64decode(self.state_vector + "=" * (-len(self.state_vector) % 4))


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


class DeletedFile(Struct, frozen=True, gc=False):
    """A file that was deleted and can be restored."""

    path: str
    version: int
    """That of the tombstone; the version before it is what the file was last."""
    last_modified: str
    author: str | None
    """Who deleted the file, if that was said."""


class DeletedListing(Struct, frozen=True, gc=False):
    files: list[DeletedFile]
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


class TurnFeedEntry(Struct, frozen=True, gc=False, tag_field="kind", tag="turn"):
    """A turn that changed: its newest state."""

    session_id: str
    turn_id: str
    status: TurnStatus
    block_count: int
    last_updated: str


FeedEntry = FileFeedEntry | TurnFeedEntry


class FeedAnswer(Struct, frozen=True, gc=False, omit_defaults=True):
    """A stretch of the change feed."""

    changes: list[FeedEntry]
    cursor: str
    """How far the answer has looked, also where a filter left nothing to show."""
    more: bool
    """True where there is more after the cursor already."""
    reset: bool | UnsetType = UNSET
    """True where `since` is of another epoch: `changes` begins with the whole listing."""


class SyncRequest(Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """Push and pull in one: `updates` are applied, then the other members are a status question."""

    since: str | None = None
    versions: dict[str, int] | None = None
    updates: dict[str, bytes] = {}
    """Yjs updates (v1) by file; base64 in JSON."""
    paths: list[str] | None = None
    atomic: bool = False
    """All of `updates` or none."""
    max_bytes: Annotated[int, Meta(ge=0, le=LARGEST_INTEGER)] = 4 * 2**20
    """How many bytes of updates may come back."""


class SyncChange(Struct, frozen=True, gc=False, omit_defaults=True):
    """A changed file, with what the client lacks of it."""

    path: str
    last_modified: str
    version: int
    change_type: ChangeType
    reset: bool | UnsetType = UNSET
    update: bytes | UnsetType = UNSET
    """Left out where there is nothing to send: the file was deleted, or the client has just written it itself."""
    from_version: int | UnsetType = UNSET
    """The version that `update` builds on; 0: it is the whole document."""


class SyncAnswer(Struct, frozen=True, gc=False, omit_defaults=True):
    results: dict[str, Any]
    """By file a receipt, or the problem that its update met."""
    changes: list[SyncChange]
    cursor: str
    more: bool
    """True where `max_bytes` was reached: ask again from `cursor`."""
    reset: bool | UnsetType = UNSET


class VersionEntry(Struct, frozen=True, gc=False, omit_defaults=True):
    """A version of a file, or with `group` a run of versions of one author."""

    version: int
    """With `group` the newest of the run."""
    last_modified: str
    size: int
    """Bytes of the updates stored for the life of the file up to this version."""
    author: str | None
    """Who wrote it; null where nobody was named."""
    deleted: bool | UnsetType = UNSET
    """True where the version is a tombstone."""
    first_version: int | UnsetType = UNSET
    """With `group` the oldest of the run."""


class History(Struct, frozen=True, gc=False):
    versions: list[VersionEntry]
    """Newest first."""
    next: int | None
    """The `before` of the next page; null on the last."""


class TextEdit(Struct, frozen=True, gc=False):
    """Replace the code points from `start` to `end` of the older text with `text`."""

    start: int
    end: int
    text: str


class TextDifference(Struct, frozen=True, gc=False, rename={"older": "from", "newer": "to"}):
    older: int
    newer: int
    edits: list[TextEdit]
    """In order, positions in the older text."""


class RestoreRequest(Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    version: Annotated[int, Meta(ge=1, le=LARGEST_INTEGER)]


class MoveRequest(Struct, frozen=True, gc=False, rename={"source": "from", "target": "to"}, forbid_unknown_fields=True):
    source: str
    target: str


class NewSession(Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    title: Annotated[str, Meta(max_length=1000)] | None = None


class Session(Struct, frozen=True, gc=False):
    id: str
    title: str | None
    created_at: str


class SessionListing(Struct, frozen=True, gc=False):
    sessions: list[Session]
    """Newest first."""
    next: str | None
    """The `after` of the next page; null on the last."""


class NewTurn(Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    prompt: str


class TurnSummary(Struct, frozen=True, gc=False):
    """A turn without its blocks."""

    id: str
    session_id: str
    prompt: str
    status: TurnStatus
    block_count: int
    error: str | None
    created_at: str
    started_at: str | None
    completed_at: str | None
    last_updated: str
    prompt_cut: bool | UnsetType = UNSET
    """True where `prompt` is only the beginning of the prompt: in lists."""


class TurnListing(Struct, frozen=True, gc=False):
    turns: list[TurnSummary]
    """Newest first."""
    next: str | None
    """The `after` of the next page; null on the last."""


class Block(Struct, frozen=True, gc=False):
    id: str
    index: int
    """Counts from 0 within the turn."""
    type: BlockType
    content: Raw
    """Any JSON value."""
    created_at: str


class Turn(Struct, frozen=True, gc=False):
    id: str
    session_id: str
    prompt: str
    status: TurnStatus
    blocks: list[Block]
    """Without the first `after_block` of them, but for those that may have grown since they were told."""
    block_count: int
    error: str | None
    created_at: str
    started_at: str | None
    completed_at: str | None
    last_updated: str
    prompt_cut: bool | UnsetType = UNSET
    """True where `prompt` is only the beginning of the prompt."""
    more: bool | UnsetType = UNSET
    """True where the blocks are too many for one answer: ask again at once, after the last of these."""


class TurnState(Struct, frozen=True, gc=False):
    """The least that tells whether to read a turn again."""

    status: TurnStatus
    block_count: int
    last_updated: str


class TurnPatch(Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    status: TurnStatus
    error: Annotated[str, Meta(max_length=10_000)] | None = None


class GivenBlock(Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    type: BlockType
    content: Any


class BlockBatch(Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    blocks: Annotated[list[GivenBlock], Meta(min_length=1)]
    first_index: Annotated[int, Meta(ge=0, le=LARGEST_INTEGER)] | None = None
    """The index that the first of them is to have; makes a retry harmless."""


class BlocksReceipt(Struct, frozen=True, gc=False):
    """The turn just after the batch was stored; a retry is told the same."""

    first_index: int
    status: TurnStatus
    block_count: int
    last_updated: str


class OutputReceipt(Struct, frozen=True, gc=False):
    """The turn after the output was taken."""

    status: TurnStatus
    block_count: int
    last_updated: str
    offset: int
    """How many bytes of the stream are stored: a sender goes on from there."""
    lease: float
    """The turn fails unless the next write comes within so many seconds."""
    result: TurnStatus | UnsetType = UNSET
    """How the turn ends when its output has ended, by the last result in the output."""


class ProblemDetails(Struct, frozen=True, gc=False, omit_defaults=True):
    """RFC 9457, with a stable machine name in `code`."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    state_vector: str | UnsetType = UNSET
    """With `missing_predecessors`: what the server has, base64url."""
    roots: dict[str, str] | UnsetType = UNSET
    """With `not_a_text`: by name the kind of each root that holds something: text, array, map or xml."""
    results: dict[str, Any] | UnsetType = UNSET
    """With `sync_refused`: by file its problem, or null."""
    turn_status: TurnStatus | UnsetType = UNSET
    """With `turn_finished` and `illegal_transition`: the status that the turn has."""
    block_count: int | UnsetType = UNSET
    """With `block_conflict`: how many blocks the turn has."""
    certain: bool | UnsetType = UNSET
    """With 503 and 507: true where nothing was stored, false where it may have been."""
    offset: int | UnsetType = UNSET
    """With `output_conflict`: how many bytes of the stream are stored."""


class Health(Struct, frozen=True, gc=False, omit_defaults=True):
    """`degraded`: requests are answered, but something in the background does not work."""

    status: Literal["ok", "degraded"]
    checks: dict[str, str] = {}
    """What was looked at, and "ok" or what is wrong with it."""


class Cursor(Struct, frozen=True, gc=False):
    """A point in a project's sequence. On the wire an opaque string."""

    epoch: str
    sequence: int
    began: int | None = None
    """Within a listing that takes several answers: where the sequence stood when it began."""

    def __str__(self) -> str:
        listing = "" if self.began is None else f".{self.began}"
        return f"{self.epoch}.{self.sequence}{listing}"

    @classmethod
    def parse(cls, text: str) -> "Cursor":
        """Raises ValueError if no gateway wrote `text`."""
        match = _CURSOR.fullmatch(text)
        if match is None:
            raise ValueError("not a cursor")
        return cls(match[1], int(match[2]), None if match[3] is None else int(match[3]))


def own_tag(text: str) -> str | None:
    """The tag of this gateway that an opaque tag (without quotes) begins with; None if that is a tag of another server.

    What follows is a mark of a proxy, which may mark the tags of what it compresses: `-gzip`, `--gzip`, `;gzip`, `-br`.
    """
    match = _OWN_TAG.match(text)
    return None if match is None else match[0]


def rfc3339(milliseconds: int) -> str:
    """A time as the wire has it: `2025-01-06T10:00:00.000Z`."""
    seconds, rest = divmod(milliseconds, 1000)
    return f"{_to_the_second(seconds)}.{rest:03d}Z"


@functools.lru_cache(4096)
def _to_the_second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


def valid_project_id(text: str) -> bool:
    return _PROJECT_ID.fullmatch(text) is not None


def has_unseen(text: str) -> bool:
    """Whether a text has characters that control how it is shown; U+200C and U+200D join letters and emoji."""
    return any(unicodedata.category(character) in _UNSEEN and character not in _JOINERS for character in text)


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
    if has_unseen(path):
        return "it has a control character"
    if not unicodedata.is_normalized("NFC", path):
        return "it is not in Unicode normalisation form C"
    return None
