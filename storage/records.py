"""The records that storage accepts and returns: frozen (except `Line`), flat, without behaviour.

Times are integer milliseconds since 1970 in UTC.
"""

import secrets
from typing import Literal, NewType

from msgspec import Struct

from storage.times import Times

Sequence = NewType("Sequence", int)
"""A position in a project's single ordered sequence of changes: 1, 2, 3 …"""

Version = NewType("Version", int)
"""A file's own counter: 1, 2, 3 … without gaps; 0 stands for "never existed"."""

Epoch = NewType("Epoch", str)
"""The incarnation of a project: it changes when the project is restored or created again."""

Incarnation = NewType("Incarnation", str)
"""The incarnation of a file, from a create to the next delete."""

Milliseconds = NewType("Milliseconds", int)


def new_incarnation() -> Incarnation:
    """Return a name that no other incarnation of a file has had."""
    return Incarnation(secrets.token_hex(5))


class ProjectHead(Struct, frozen=True, gc=False):
    """Where a project's sequence stands."""

    name: str
    epoch: Epoch
    sequence: Sequence
    last_modified: Milliseconds

    @property
    def cursor(self) -> str:
        """The newest position in the sequence, as a cursor that is opaque to clients."""
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
    """A chain of changes of one file, each building on the one queued before it. Version numbers alone do not suffice:
    until a version is durable, its number does not tell which change will get it."""

    broken: bool = False
    """Set by storage when a change of the line failed; every later change of the line fails too."""


class Author(Struct, frozen=True, gc=False):
    """Who makes a change."""

    name: str | None = None
    """None: unknown."""
    credential: str | None = None
    """The id of the credential; several ids are separated by a comma and a space. None: none was required."""


NOBODY = Author()


class AppendUpdate(Struct, frozen=True, gc=False):
    """Add one update to a file that is at `expected_version`.

    If there is no file (version 0), or a tombstone, a new incarnation begins.
    """

    path: str
    expected_version: Version
    body: bytes
    author: str | None = None
    line: Line | None = None
    """The line of changes that the update builds on; None: it builds only on durable changes."""
    incarnation: Incarnation | None = None
    """The incarnation of the file that the update is made for. If the file does not exist, the new incarnation gets
    this name."""
    credential: str | None = None
    """The id of the credential that the update was sent with."""


class DeleteFile(Struct, frozen=True, gc=False):
    """Put a tombstone on a file that is at `expected_version`."""

    path: str
    expected_version: Version
    author: str | None = None
    credential: str | None = None


Change = AppendUpdate | DeleteFile


class Committed(Struct, frozen=True, gc=False):
    """One change that has become durable."""

    project: ProjectHead
    """The project just after this change: its sequence is that of the change."""
    head: FileHead
    update: bytes | None = None
    """The update that the change added; None for a tombstone."""


class StoredUpdate(Struct, frozen=True, gc=False):
    """One row of a file's log. A tombstone has no body."""

    version: Version
    last_modified: Milliseconds
    size: int
    """Bytes of the updates stored for the incarnation, up to and including this version."""
    author: str | None
    body: bytes | None
    intact: bool = True
    """False: the body is damaged. Checked only when the whole log is read."""
    credential: str | None = None


class Tombstone(Struct, frozen=True, gc=False):
    """A file that was deleted, and who deleted it."""

    head: FileHead
    author: str | None


class VersionRecord(Struct, frozen=True, gc=False):
    """A row of a file's log without its update."""

    version: Version
    last_modified: Milliseconds
    size: int
    """Bytes of the updates stored for the incarnation, up to and including this version."""
    author: str | None
    deleted: bool
    credential: str | None = None


class Snapshot(Struct, frozen=True, gc=False):
    """The whole document at a version, as one update. A cache: only the log is authoritative."""

    version: Version
    body: bytes
    log_size: int = 0
    """Bytes of the updates of the incarnation, up to and including `version`; filled in by storage."""
    intact: bool = True
    """False: the body is damaged. Checked only when all snapshots of a file are read."""


class StoredDocument(Struct, frozen=True, gc=False):
    """The data needed to build a document at `version`: a snapshot, if there is one, and the updates after it."""

    head: FileHead
    version: Version
    incarnation: Incarnation
    last_modified: Milliseconds
    """When `version` was written."""
    size: int
    """Bytes of the updates of the incarnation, up to and including `version`."""
    snapshot: Snapshot | None
    updates: tuple[bytes, ...]


class Increment(Struct, frozen=True, gc=False):
    """The updates after `after` up to the head, oldest first."""

    head: FileHead
    after: Version
    updates: tuple[bytes, ...]


class Retention(Struct, frozen=True, gc=False):
    """Which versions of a file are kept: those that either rule keeps, and the newest. Without a rule, all are kept."""

    versions: int | None = None
    """Keep this many of the newest versions."""
    since: Milliseconds | None = None
    """Keep the versions written at this time or later."""


class SquashPoint(Struct, frozen=True, gc=False):
    """A file with versions to be squashed, and the oldest version that is kept."""

    project: str
    path: str
    version: Version
    squashed: bool
    """Whether the file is squashed already, and only the purge is left."""


TurnStatus = Literal["pending", "running", "completed", "failed", "cancelled"]
FINISHED: frozenset[TurnStatus] = frozenset({"completed", "failed", "cancelled"})
"""A turn in one of these states never changes again."""

BlockType = Literal["text", "thinking", "tool_use", "tool_result", "error", "system", "result"]


class SessionHead(Struct, frozen=True, gc=False):
    """A session of work with an agent. It never changes."""

    session_id: str
    title: str | None
    sequence: Sequence
    created_at: Milliseconds


class TurnHead(Struct, frozen=True, gc=False):
    """A turn's newest state, without its prompt and its blocks, which may be long."""

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
    """Bytes of the content of all its blocks."""
    output_offset: int
    """How many bytes of the agent's output have been consumed."""
    result_status: TurnStatus | None = None
    """The status in which the turn ends when its output has ended: that of the last result in the output; None: there
    was no result."""
    result_error: str | None = None
    settling: bool = False
    """Whether the turn ends with its result unless its output continues within a grace period."""
    grown: bool = False
    """Whether a reader that has all blocks may lack content of the last ones, because they grew after they were
    added."""


class NewBlock(Struct, frozen=True, gc=False):
    """A block to be stored. Storage keeps `content` as it is."""

    type: BlockType
    content: bytes
    told_from: int | None = None
    """The position of the oldest block, including this one, that is still growing when this one is added. A reader
    whose last block is this one is sent all blocks from there on again. None: no block is growing."""


class GrownBlock(Struct, frozen=True, gc=False):
    """The new content of a block that is already stored."""

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
    """A block's stored columns other than its content, for verification: none of the values is trusted."""

    index: int
    type: BlockType
    created_at: Milliseconds
    size: int
    """Bytes of the content of the blocks up to this one."""
    length: int
    """Bytes of the content of this block."""
    told_from: int | None


class TurnRows(Struct, frozen=True, gc=False):
    """A turn, and the rows stored with it."""

    session: SessionHead
    head: TurnHead
    in_project: bool
    """Whether the turn belongs to the same project as its session."""
    has_prompt: bool
    output_state: bytes
    blocks: tuple[BlockRow, ...]


class StoredTurn(Struct, frozen=True, gc=False):
    """A turn with its prompt and the requested blocks."""

    head: TurnHead
    prompt: str
    blocks: tuple[StoredBlock, ...] = ()
    prompt_cut: bool = False
    """Whether `prompt` is only the beginning of the prompt."""


class OutputPosition(Struct, frozen=True, gc=False):
    """How far the agent's output has been consumed, and the parser state needed to continue from there."""

    offset: int
    state: bytes = b""


class Once(Struct, frozen=True, gc=False):
    """The idempotency key of a change that is made only once, however often it is requested within a day."""

    key: str
    digest: bytes
    """The digest of the request: the same key with another digest is a client error."""


class Done(Struct, frozen=True, gc=False):
    """The result of a change that had an idempotency key."""

    digest: bytes
    session_id: str
    turn_id: str | None
    """None if the change created a session."""
    block_count: int
    """The number of blocks of the turn just after the change."""
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
    """Change the status, the blocks or the output, or all of them, of a turn whose newest change is
    `expected_sequence`.

    With none of these, the change renews the turn: its sequence and `last_updated` advance. `grown` replaces the
    content of existing blocks; a result is kept until another one replaces it.
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
    """A session that has become durable. It has a position in the sequence, but is not part of the change feed."""

    project: ProjectHead
    session: SessionHead


class CommittedTurn(Struct, frozen=True, gc=False):
    """A turn's state that has become durable."""

    project: ProjectHead
    """The project just after this change: its sequence is that of the turn."""
    turn: TurnHead


class ErasedProject(Struct, frozen=True, gc=False):
    """A project that was erased: nothing of it is stored any more. A later project of its name has another epoch."""

    project: ProjectHead
    """The last head of the project."""


Commit = Committed | CommittedTurn | CommittedSession | ErasedProject
"""Anything that became durable. Each commit has a `project` and, except an erasure, a sequence number of its own."""


class StoredProject(Struct, frozen=True, gc=False):
    """A project in a list of projects."""

    head: ProjectHead
    files: int
    """The number of files that exist."""
    size: int
    """Bytes of the updates stored for the present incarnations of these files."""


class Statistics(Struct, frozen=True, gc=False):
    """Figures for the operator of the gateway; counters start when the storage is opened."""

    commits: int
    changes: int
    queued: int
    database_bytes: int
    """The database and its write-ahead log."""
    log_bytes: int
    """The write-ahead log alone."""
    catch_ups: int = 0
    """How often changes that another gateway had stored were read."""
    races_lost: int = 0
    """How often another gateway was faster to write to a project."""
    commit_times: Times | None = None
    """How long transactions of queued changes took, from their beginning until they were durable."""
    flush_times: Times | None = None
    """How long their COMMIT took, which waits for the disk; None: the backend does not tell."""


class AccessToken(Struct, frozen=True, gc=False):
    """An access token of the gateway. The secret itself is not stored: `digest` is its SHA-256."""

    id: str
    digest: bytes
    name: str
    subject: str
    grant: str
    """The permissions of the token, as JSON. Storage keeps it as it is."""
    created: Milliseconds
    expires: Milliseconds | None = None
    last_used: Milliseconds | None = None
    """Accurate to the hour."""
    revoked: Milliseconds | None = None


class StoredTicket(Struct, frozen=True, gc=False):
    """A ticket that was not used yet: it stands for a credential once."""

    digest: bytes
    """Names the ticket. Storage does not know the ticket itself."""
    project: str
    sealed: bytes
    """The encrypted credential. Storage keeps it as it is."""
    expires: Milliseconds


class AuditEntry(Struct, frozen=True, gc=False):
    """An action that was performed or refused."""

    time: Milliseconds
    action: str
    subject: str | None = None
    """Who acted; None if the gateway does not require credentials."""
    credential: str | None = None
    """The id of the credential."""
    project: str | None = None
    path: str | None = None
    version: int | None = None
    """The version of the file that the action created."""
    detail: str | None = None
    number: int = 0
    """An ascending number; filled in by storage."""


ReaderStage = Literal["idle", "pause", "retry", "sending", "ended"]
"""What a reader waits for: changes of its project, the end of a pause, the time of a retry, an answer, or nothing any
more."""


class Reader(Struct, frozen=True, gc=False):
    """A recipient of the changes of a project, and the cursor up to which changes were sent."""

    project: str
    kind: str
    name: str
    """Unique within the kind and the project."""
    revision: str
    """A new value each time the reader is put: steps made for an earlier revision are ignored."""
    settings: str
    """JSON of the gateway. Storage keeps it as it is."""
    cursor: str
    """The position up to which everything that the reader wants was sent."""
    looked: int
    """The sequence of the project when the reader was last checked."""
    state: str
    """JSON of the gateway. Storage keeps it as it is."""
    due: Milliseconds | None
    """When to check the reader next; None: when its project changes, or never if the reader has ended."""
    stage: ReaderStage
    intact: bool = True
    """False: the row is damaged."""


class ReaderStep(Struct, frozen=True, gc=False):
    """The new state of a reader."""

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
    """The number of readers whose project has changed since they were last checked."""
    furthest: int
    """How many changes the reader that is furthest behind is behind."""
