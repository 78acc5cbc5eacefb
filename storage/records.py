"""What storage takes and gives: frozen (all but `Line`), flat, without behaviour.

Times are integer milliseconds since 1970 in UTC.
"""

import secrets
from typing import Literal, NewType

from msgspec import Struct

Sequence = NewType("Sequence", int)
"""A position in a project's one ordered sequence of changes: 1, 2, 3 …"""

Version = NewType("Version", int)
"""A file's own counter: 1, 2, 3 … without gaps; 0 stands for "never existed"."""

Epoch = NewType("Epoch", str)
"""A project's life: it changes when the project is restored or created again."""

Incarnation = NewType("Incarnation", str)
"""The incarnation of a file between a create and a delete."""

Milliseconds = NewType("Milliseconds", int)


def new_incarnation() -> Incarnation:
    """A name that no other incarnation of a file has had."""
    return Incarnation(secrets.token_hex(5))


class ProjectHead(Struct, frozen=True, gc=False):
    """Where a project's sequence stands."""

    name: str
    epoch: Epoch
    sequence: Sequence
    last_modified: Milliseconds

    @property
    def cursor(self) -> str:
        """The newest point of the sequence, as clients keep it: opaque to them."""
        return f"{self.epoch}.{self.sequence}"


class FileHead(Struct, frozen=True, gc=False):
    """A file's newest state. A deleted file keeps its head: the tombstone is its newest version."""

    path: str
    version: Version
    incarnation: Incarnation
    sequence: Sequence
    last_modified: Milliseconds
    size: int
    """Bytes of the updates stored for this incarnation."""
    deleted: bool
    born_version: Version
    """The first version of this incarnation."""
    born_sequence: Sequence


class Line(Struct, eq=False):
    """Changes of one file that build on each other, each on the one queued before it: a version number that is not
    durable yet only counts, and cannot tell whether the change that was to have it is the one that got it."""

    broken: bool = False
    """Set by storage: a change of the line failed, and so does every later one."""


class AppendUpdate(Struct, frozen=True, gc=False):
    """Add one update to a file that is at `expected_version`.

    Where no file is (version 0) or its tombstone, a new incarnation begins.
    """

    path: str
    expected_version: Version
    body: bytes
    author: str | None = None
    line: Line | None = None
    """The changes that the update builds on; None: it builds on nothing that is not durable."""
    incarnation: Incarnation | None = None
    """The incarnation of the file that the update is made for. Where none is, the one that begins is called so."""


class DeleteFile(Struct, frozen=True, gc=False):
    """Put a tombstone on a file that is at `expected_version`."""

    path: str
    expected_version: Version
    author: str | None = None


Change = AppendUpdate | DeleteFile


class Committed(Struct, frozen=True, gc=False):
    """One change that is durable now."""

    project: ProjectHead
    """The project just after this change: its sequence is that of the change."""
    head: FileHead
    update: bytes | None = None
    """What the change added; None for a tombstone."""


class StoredUpdate(Struct, frozen=True, gc=False):
    """One row of a file's log. A tombstone has no body."""

    version: Version
    last_modified: Milliseconds
    size: int
    """Bytes of the updates stored for the incarnation up to and with this version."""
    author: str | None
    body: bytes | None
    intact: bool = True
    """False: the body is not the one that was written. Only reading the whole log finds out."""


class Tombstone(Struct, frozen=True, gc=False):
    """A file that was deleted, and who deleted it."""

    head: FileHead
    author: str | None


class VersionRecord(Struct, frozen=True, gc=False):
    """A row of a file's log without what it added."""

    version: Version
    last_modified: Milliseconds
    size: int
    """Bytes of the updates stored for the incarnation up to and with this version."""
    author: str | None
    deleted: bool


class Snapshot(Struct, frozen=True, gc=False):
    """The whole document at a version, as one update. A cache: the log alone is the truth."""

    version: Version
    body: bytes
    log_size: int = 0
    """Bytes of the updates of the incarnation up to and with `version`; filled in by storage."""
    intact: bool = True
    """False: the body is not the one that was written. Only reading all snapshots of a file finds out."""


class StoredDocument(Struct, frozen=True, gc=False):
    """All that is needed to build a document at `version`: a snapshot, if there is one, and the updates after it."""

    head: FileHead
    version: Version
    incarnation: Incarnation
    last_modified: Milliseconds
    """When `version` was written."""
    size: int
    """Bytes of the updates of the incarnation up to and with `version`."""
    snapshot: Snapshot | None
    updates: tuple[bytes, ...]


class Increment(Struct, frozen=True, gc=False):
    """The updates after `after` up to the head, oldest first."""

    head: FileHead
    after: Version
    updates: tuple[bytes, ...]


class Retention(Struct, frozen=True, gc=False):
    """Which versions of a file are kept: those that either rule keeps, and the newest. Without a rule all are."""

    versions: int | None = None
    """The newest so many."""
    since: Milliseconds | None = None
    """Those written at this time or later."""


class SquashPoint(Struct, frozen=True, gc=False):
    """A file of which versions are to go, and the oldest that is kept."""

    project: str
    path: str
    version: Version
    squashed: bool
    """Whether that has been done, but for rows that are still to be deleted."""


TurnStatus = Literal["pending", "running", "completed", "failed", "cancelled"]
FINISHED: frozenset[TurnStatus] = frozenset({"completed", "failed", "cancelled"})
"""A turn in one of these never changes again."""

BlockType = Literal["text", "thinking", "tool_use", "tool_result", "error", "system", "result"]


class SessionHead(Struct, frozen=True, gc=False):
    """A session of work with an agent. It never changes."""

    session_id: str
    title: str | None
    sequence: Sequence
    created_at: Milliseconds


class TurnHead(Struct, frozen=True, gc=False):
    """A turn's newest state, without what is long: its prompt and its blocks."""

    session_id: str
    turn_id: str
    status: TurnStatus
    block_count: int
    sequence: Sequence
    last_updated: Milliseconds
    created_at: Milliseconds
    started_at: Milliseconds | None
    completed_at: Milliseconds | None
    error: str | None
    size: int
    """Bytes of the content of its blocks."""
    output_offset: int
    """How many bytes of the agent's own output have been taken."""
    result_status: TurnStatus | None = None
    """How the turn ends when its output has ended, by the last result in the output; None: there was no result."""
    result_error: str | None = None
    settling: bool = False
    """Whether the turn ends with its result unless its output goes on within a grace."""
    grown: bool = False
    """Whether a reader that has all blocks may lack content of the last ones: they have grown since they came."""


class NewBlock(Struct, frozen=True, gc=False):
    """A block to be stored. Storage keeps `content` as it is."""

    type: BlockType
    content: bytes
    told_from: int | None = None
    """The position of the oldest block, this one included, that still grows when this one comes. A reader that has this
    block as its last is told again all from there on. None: no block grows."""


class GrownBlock(Struct, frozen=True, gc=False):
    """The new content of a block that is stored already."""

    index: int
    content: bytes


class TurnResult(Struct, frozen=True, gc=False):
    """How a turn ends when its output has ended."""

    status: TurnStatus
    error: str | None = None


class StoredBlock(Struct, frozen=True, gc=False):
    """A block of a turn; `index` counts from 0."""

    index: int
    type: BlockType
    content: bytes
    created_at: Milliseconds


class BlockRow(Struct, frozen=True, gc=False):
    """What is stored of a block beside its content, to be verified: nothing of it is taken for right."""

    index: int
    type: BlockType
    created_at: Milliseconds
    size: int
    """Bytes of the content of the blocks up to this one."""
    length: int
    """Bytes of its own content."""
    told_from: int | None


class TurnRows(Struct, frozen=True, gc=False):
    """A turn, and what is stored with it."""

    session: SessionHead
    head: TurnHead
    in_project: bool
    """Whether it belongs to the project that its session belongs to."""
    has_prompt: bool
    output_state: bytes
    blocks: tuple[BlockRow, ...]


class StoredTurn(Struct, frozen=True, gc=False):
    """A turn with its prompt, and with those of its blocks that were asked for."""

    head: TurnHead
    prompt: str
    blocks: tuple[StoredBlock, ...] = ()
    prompt_cut: bool = False
    """Whether `prompt` is only the beginning of the prompt."""


class OutputPosition(Struct, frozen=True, gc=False):
    """How far the agent's own output has been taken, and what its reader has to remember from there on."""

    offset: int
    state: bytes = b""


class Once(Struct, frozen=True, gc=False):
    """The key of a change that is to be made once, however often it is asked for within a day."""

    key: str
    digest: bytes
    """Of what is asked for: the same key with another one is a mistake of the client."""


class Done(Struct, frozen=True, gc=False):
    """What came of a change that bore a key."""

    digest: bytes
    session_id: str
    turn_id: str | None
    """None where a session was created."""
    block_count: int
    """Of the turn, just after the change."""
    done_at: Milliseconds


class CreateSession(Struct, frozen=True, gc=False):
    session_id: str
    title: str | None
    once: Once | None = None


class CreateTurn(Struct, frozen=True, gc=False):
    """Add a pending turn to a session."""

    session_id: str
    turn_id: str
    prompt: str
    once: Once | None = None


class UpdateTurn(Struct, frozen=True, gc=False):
    """Advance a turn whose newest change is `expected_sequence`: its status, its blocks, its output, or all of them.

    With neither it renews the turn: its sequence and `last_updated` move. `grown` replaces the content of blocks that
    are there; a result is kept until there is another one.
    """

    session_id: str
    turn_id: str
    expected_sequence: Sequence
    status: TurnStatus
    error: str | None = None
    blocks: tuple[NewBlock, ...] = ()
    output: OutputPosition | None = None
    grown: tuple[GrownBlock, ...] = ()
    result: TurnResult | None = None
    settling: bool = False
    once: Once | None = None


TurnChange = CreateSession | CreateTurn | UpdateTurn


class CommittedSession(Struct, frozen=True, gc=False):
    """A session that is durable now. It has a place in the sequence, and is not part of the change feed."""

    project: ProjectHead
    session: SessionHead


class CommittedTurn(Struct, frozen=True, gc=False):
    """A turn's state that is durable now."""

    project: ProjectHead
    """The project just after this change: its sequence is that of the turn."""
    turn: TurnHead


Commit = Committed | CommittedTurn | CommittedSession
"""Whatever became durable. Each has `project`, and a sequence number of its own."""


class Statistics(Struct, frozen=True, gc=False):
    """Figures for whoever operates the gateway; counters count from the opening of the storage."""

    commits: int
    changes: int
    queued: int
    database_bytes: int
    """The database and its write-ahead log."""
    log_bytes: int
    """Of these the write-ahead log."""
    catch_ups: int = 0
    """How often something was read that another gateway had stored."""
    races_lost: int = 0
    """How often another gateway was faster to write to a project."""


class AccessToken(Struct, frozen=True, gc=False):
    """A token of the gateway. Its secret is stored nowhere: `digest` is the SHA-256 of it."""

    id: str
    digest: bytes
    name: str
    subject: str
    grant: str
    """What it may do, as JSON. Storage keeps it as it is."""
    created: Milliseconds
    expires: Milliseconds | None = None
    last_used: Milliseconds | None = None
    """To the hour."""
    revoked: Milliseconds | None = None


class AuditEntry(Struct, frozen=True, gc=False):
    """Something that was done, or refused."""

    time: Milliseconds
    action: str
    subject: str | None = None
    """Who; None where nobody is asked for credentials."""
    credential: str | None = None
    """The id of the credential."""
    project: str | None = None
    path: str | None = None
    version: int | None = None
    """The version of the file that it made."""
    detail: str | None = None
    number: int = 0
    """Counts up; filled in by storage."""


ReaderStage = Literal["idle", "pause", "retry", "sending", "ended"]
"""What a reader waits for: that its project moves on, a pause, a time, an answer, nothing any more."""


class Reader(Struct, frozen=True, gc=False):
    """Who is sent what happens in a project, and up to where it was sent."""

    project: str
    kind: str
    name: str
    """Of its kind in its project."""
    revision: str
    """Another one each time that it is put: a step of an earlier one is no step any more."""
    settings: str
    """JSON of the gateway. Storage keeps it as it is."""
    cursor: str
    """Up to where all was sent that it wants."""
    looked: int
    """The sequence of the project when it was looked at last."""
    state: str
    """JSON of the gateway. Storage keeps it as it is."""
    due: Milliseconds | None
    """When to look at it next; None: when its project moves on, or never where it has ended."""
    stage: ReaderStage
    intact: bool = True
    """False: it is not what was written."""


class ReaderStep(Struct, frozen=True, gc=False):
    """What became of a reader."""

    reader: Reader
    cursor: str
    looked: int
    state: str
    due: Milliseconds | None
    stage: ReaderStage


class ReaderFigures(Struct, frozen=True, gc=False):
    """The readers of one kind."""

    kind: str
    count: int
    ended: int
    behind: int
    """Those whose project has moved on since they were looked at."""
    furthest: int
    """By how many changes the one furthest behind is."""
