"""The pure half of writing: turns requests and the known state of their project into results, rows and new heads.

Versions, sequence numbers, times, incarnations and sizes are decided here for every backend, without a query. A backend
loads the state that `needs` names, makes a plan, stores the plan in one transaction, and then calls `Plan.settle` to
advance the known state. A plan that was not stored leaves no trace.
"""

import secrets
import time
from collections.abc import Callable, Iterable
from collections.abc import Sequence as Items

from msgspec import Struct

from storage.checksums import checksum
from storage.errors import (
    AlreadyDone,
    PredecessorFailed,
    SessionMissing,
    StorageError,
    TurnConflict,
    VersionConflict,
)
from storage.records import (
    FINISHED,
    AppendUpdate,
    BlockType,
    Change,
    Commit,
    Committed,
    CommittedSession,
    CommittedTurn,
    CreateSession,
    CreateTurn,
    DeleteFile,
    Done,
    Epoch,
    FileHead,
    Incarnation,
    Line,
    Milliseconds,
    Once,
    ProjectHead,
    Sequence,
    SessionHead,
    TurnChange,
    TurnHead,
    UpdateTurn,
    Version,
    new_incarnation,
)

Clock = Callable[[], int]
"""Returns milliseconds since 1970."""
Request = tuple[Change | TurnChange, ...]
"""The changes of one `append`: stored together or not at all."""
Result = tuple[Commit, ...] | StorageError

_DONE_KEPT_MS = 24 * 3600 * 1000
"""How long the result of a change with an idempotency key is kept."""
_FILE_CHANGES = (AppendUpdate, DeleteFile)
"""The classes that distinguish changes of files from changes of turns, the most frequent first: an `isinstance` check
that fails takes much longer than one that succeeds."""
_KNOWN_LENGTHS = 64
"""The number of newest blocks of a turn whose lengths are remembered: only the newest blocks grow."""


def wall_clock() -> Milliseconds:
    """Return the time of the system clock."""
    return Milliseconds(time.time_ns() // 1_000_000)


_STARTED = wall_clock(), time.monotonic()


def results_since(now: int) -> int:
    """Return from when on the results of changes with idempotency keys are still kept.

    A clock that leaps while the process runs forgets none that a client may still ask for.

    Args:
        now: what the clock says.
    """
    wall, monotonic = _STARTED
    return min(now, wall + int((time.monotonic() - monotonic) * 1000)) - _DONE_KEPT_MS


def new_epoch() -> Epoch:
    """Return a name that no other incarnation of a project has had."""
    return Epoch(secrets.token_hex(5))


def size_of_change(change: Change | TurnChange) -> int:
    """Return the approximate size of a change in bytes."""
    if type(change) is AppendUpdate:
        return len(change.body)
    if type(change) is UpdateTurn:
        return sum(len(block.content) for block in change.blocks)
    return len(change.prompt) if type(change) is CreateTurn else 0


def break_lines(changes: Iterable[Change | TurnChange]) -> None:
    """Mark the lines of changes that were not stored as broken."""
    for change in changes:
        if type(change) is AppendUpdate and change.line is not None:
            change.line.broken = True


class KnownFile:
    """A file's row: its id in the backend (0: not stored yet), and its head."""

    __slots__ = ("head", "id")

    def __init__(self, id: int, head: FileHead) -> None:
        self.id = id
        self.head = head


class KnownTurn:
    """A turn's row. `lengths`: the content lengths, in bytes, of some of its blocks, by index."""

    __slots__ = ("head", "id", "lengths")

    def __init__(self, id: int, head: TurnHead, lengths: dict[int, int] | None = None) -> None:
        self.id = id
        self.head = head
        self.lengths = {} if lengths is None else lengths


class KnownProject:
    """The known state of one project as of the sequence of its head. Absent entries do not exist or were not loaded.

    `id` is the id of the project's row in the backend; it is 0, and the head is at sequence 0, if the project does not
    exist yet.
    """

    __slots__ = ("done", "files", "head", "id", "sessions", "turns")

    def __init__(self, id: int, head: ProjectHead) -> None:
        self.id = id
        self.head = head
        self.files: dict[str, KnownFile] = {}
        self.sessions: dict[str, int] = {}
        """The row ids of sessions, by session id."""
        self.turns: dict[tuple[str, str], KnownTurn] = {}
        self.done: dict[str, Done] = {}

    @property
    def size(self) -> int:
        """The number of rows that are remembered."""
        return len(self.files) + len(self.sessions) + len(self.turns) + len(self.done)


def new_project(name: str, now: int) -> KnownProject:
    """Return the state of a project that does not exist yet."""
    return KnownProject(0, ProjectHead(name, new_epoch(), Sequence(0), Milliseconds(now)))


class Needs(Struct, frozen=True):
    """The state that a plan requires and that is not loaded; none of it exists in a project that does not exist."""

    paths: list[str]
    sessions: list[str]
    turns: list[tuple[str, str]]
    lengths: list[tuple[str, str, int]]
    """The growing blocks whose lengths are needed, by session, turn and index."""
    keys: list[str]

    def __bool__(self) -> bool:
        return bool(self.paths or self.sessions or self.turns or self.lengths or self.keys)


def needs(known: KnownProject, requests: Items[Request]) -> Needs:
    """Return the state that must be loaded before the requests can be planned."""
    if all(
        type(change) is AppendUpdate and change.path in known.files for request in requests for change in request
    ):  # nearly always
        return _NOTHING
    paths: dict[str, None] = {}
    sessions: dict[str, None] = {}
    turns: dict[tuple[str, str], None] = {}
    lengths: dict[tuple[str, str, int], None] = {}
    keys: dict[str, None] = {}
    for request in requests:
        for change in request:
            if isinstance(change, _FILE_CHANGES):
                if change.path not in known.files:
                    paths[change.path] = None
                continue
            if change.once is not None:
                keys[change.once.key] = None
            if isinstance(change, UpdateTurn):
                key = (change.session_id, change.turn_id)
                turn = known.turns.get(key)
                if turn is None:
                    turns[key] = None
                for block in change.grown:
                    if turn is None or block.index not in turn.lengths:
                        lengths[(*key, block.index)] = None
                continue
            if change.session_id not in known.sessions:
                sessions[change.session_id] = None
            if isinstance(change, CreateTurn) and (change.session_id, change.turn_id) not in known.turns:
                turns[change.session_id, change.turn_id] = None
    if not (paths or sessions or turns or lengths or keys):
        return _NOTHING
    return Needs(list(paths), list(sessions), list(turns), list(lengths), list(keys))


_NOTHING = Needs([], [], [], [], [])


class VersionRow(Struct, gc=False):
    """A row of the log to be stored; a tombstone has no body and no checksum."""

    file: KnownFile
    sequence: Sequence
    version: Version
    last_modified: Milliseconds
    size: int
    author: str | None
    credential: str | None
    checksum: int | None
    body: bytes | None


class PlannedTurn:
    """A turn's new state, and the rows to be stored with it."""

    __slots__ = ("blocks", "grown", "id", "is_new", "lengths", "old", "output_state", "prompt", "turn")

    def __init__(self, id: int, turn: TurnHead, *, prompt: str | None, lengths: dict[int, int]) -> None:
        self.id = id
        self.turn = turn
        self.old = turn
        """The state before the plan."""
        self.is_new = prompt is not None
        self.prompt = prompt
        self.lengths = lengths
        self.blocks: dict[int, PlannedBlock] = {}
        """New blocks by index: they follow the stored blocks."""
        self.grown: dict[int, bytes] = {}
        """The new content of blocks that are already stored."""
        self.output_state: bytes | None = None
        """None: unchanged; empty: the state is deleted."""


class PlannedBlock(Struct, gc=False):
    type: BlockType
    created_at: Milliseconds
    content: bytes
    told_from: int | None


class PastLife(Struct, frozen=True, gc=False):
    """An ended incarnation of a file, with its tombstone `head`."""

    file: KnownFile
    head: FileHead


def _newest(lengths: dict[int, int]) -> dict[int, int]:
    """Return the lengths of the newest blocks: a batch may have very many, so they are sorted only once."""
    if len(lengths) <= _KNOWN_LENGTHS:
        return lengths
    return {index: lengths[index] for index in sorted(lengths)[-_KNOWN_LENGTHS:]}


class Plan:
    """The rows to be stored for a batch of requests of one project, and the results once they are stored.

    The ids of new rows are 0 until the backend assigns them; `settle` adopts them.
    """

    def __init__(self, known: KnownProject, now: int) -> None:
        self.known = known
        self.head = known.head
        """The project after the batch."""
        self.results: list[Result] = []
        self.rows: list[VersionRow] = []
        self.new_files: dict[str, KnownFile] = {}
        """New files, each with its newest head; `first` has the sequence of the change that created the file."""
        self.first: dict[str, Sequence] = {}
        self.files: dict[str, KnownFile] = {}
        """All changed files, including new ones, each with its newest head."""
        self.past_incarnations: list[PastLife] = []
        self.new_sessions: dict[str, SessionHead] = {}
        self.session_ids: dict[str, int] = {}
        """The row ids that the backend assigned to the new sessions."""
        self.turns: dict[tuple[str, str], PlannedTurn] = {}
        self.done: dict[str, Done] = {}
        self._now = now
        self._broken: set[Line] = set()

    @property
    def stores(self) -> bool:
        """Whether anything is to be stored."""
        return self.head is not self.known.head

    @property
    def commits(self) -> tuple[Commit, ...]:
        """The commits for the listeners, in sequence order."""
        return tuple([commit for result in self.results if type(result) is tuple for commit in result])

    def add(self, request: Request) -> None:
        """Decide one request: either it will be stored, or its result is the error."""
        if self.add_next(request):
            return
        conflict = self._first_conflict(request)
        if conflict is None:
            self.results.append(tuple([self._advance(change) for change in request]))
            return
        for change in request:
            if type(change) is AppendUpdate and change.line is not None:
                self._broken.add(change.line)
        self.results.append(conflict)

    def add_next(self, request: Request) -> bool:
        """Decide a request if, as most are, it is one update that is the next version of a file whose state is loaded.

        False: nothing has changed; what `needs` names must be loaded, and then `add` decides.
        """
        if len(request) == 1 and type(change := request[0]) is AppendUpdate:
            committed = self._append(change)
            if committed is not None:
                self.results.append((committed,))
                return True
        return False

    def _append(self, change: AppendUpdate) -> Committed | None:
        """Advance the project by an update that is a request of its own.

        Returns None, and nothing has changed, unless the file exists and the update is its next version.
        """
        path, line, body = change.path, change.line, change.body
        planned = self.files.get(path)
        known = planned or self.known.files.get(path)
        if known is None or (line is not None and self._is_broken(line)):
            return None
        old, project = known.head, self.head
        if old.deleted or old.version != change.expected_version:
            return None
        if change.incarnation is not None and change.incarnation != old.incarnation:
            return None
        sequence = Sequence(project.sequence + 1)
        now = project.last_modified if project.last_modified > self._now else Milliseconds(self._now)
        version, size = Version(old.version + 1), old.size + len(body)
        head = FileHead(path, version, old.incarnation, sequence, now, size, False, old.born_version, old.born_sequence)
        if planned is None:
            planned = self.files[path] = KnownFile(known.id, head)
        else:
            planned.head = head
        self.head = ProjectHead(project.name, project.epoch, sequence, now)
        who = change.author, change.credential
        self.rows.append(VersionRow(planned, sequence, version, now, size, *who, checksum(body), body))
        return Committed(self.head, head, body)

    def settle(self) -> None:
        """Advance the known state to this plan, which was stored, and break the lines of the changes that failed."""
        known = self.known
        known.head = self.head
        known.files.update(self.files)
        known.done.update(self.done)
        known.sessions.update(self.session_ids)
        for key, planned in self.turns.items():
            known.turns[key] = KnownTurn(planned.id, planned.turn, _newest(planned.lengths))
        for line in self._broken:
            line.broken = True

    def _first_conflict(self, request: Request) -> StorageError | None:
        project = self.known.head.name
        expected: dict[str, int] = {}
        for change in request:
            if not isinstance(change, _FILE_CHANGES):
                conflict = self._turn_conflict(project, change)
                if conflict is not None:
                    return conflict
                continue
            path = change.path
            found = expected.get(path)
            head = None
            if found is None:
                file = self.files.get(path) or self.known.files.get(path)
                head = file.head if file else None
                found = head.version if head else 0
            if type(change) is AppendUpdate and change.line is not None and self._is_broken(change.line):
                return PredecessorFailed(project, path, change.expected_version, found)
            if found != change.expected_version:
                return VersionConflict(project, path, change.expected_version, found)
            if type(change) is AppendUpdate and head is not None and _is_for_another_life(change, head):
                return PredecessorFailed(project, path, change.expected_version, found)
            expected[path] = found + 1
        return None

    def _is_broken(self, line: Line) -> bool:
        return line.broken or line in self._broken

    def _turn_conflict(self, project: str, change: TurnChange) -> StorageError | None:
        if change.once is not None:
            done = self.done.get(change.once.key) or self.known.done.get(change.once.key)
            if done is not None and done.done_at > results_since(self._now):
                return AlreadyDone(project, change.once.key, done)
        session = change.session_id in self.new_sessions or change.session_id in self.known.sessions
        if isinstance(change, CreateSession):
            return TurnConflict(project, change.session_id, None, 0, 1) if session else None
        if isinstance(change, CreateTurn) and not session:
            return SessionMissing(project, change.session_id)
        turn = self._turn(change.session_id, change.turn_id)
        expected = change.expected_sequence if isinstance(change, UpdateTurn) else 0
        found = 0 if turn is None else turn.sequence
        if found == expected and (turn is not None or isinstance(change, CreateTurn)):
            return None
        return TurnConflict(project, change.session_id, change.turn_id, expected, found)

    def _turn(self, session_id: str, turn_id: str) -> TurnHead | None:
        planned = self.turns.get((session_id, turn_id))
        if planned is not None:
            return planned.turn
        known = self.known.turns.get((session_id, turn_id))
        return None if known is None else known.head

    def _advance(self, change: Change | TurnChange) -> Commit:
        """Advance the project by one change, and add the rows for it to the plan."""
        old = self.head
        head = self.head = ProjectHead(
            old.name,
            old.epoch,
            Sequence(old.sequence + 1),
            Milliseconds(max(old.last_modified, self._now)),
        )
        if isinstance(change, _FILE_CHANGES):
            return self._add_version(head, change)
        if isinstance(change, CreateSession):
            session = SessionHead(change.session_id, change.title, head.sequence, head.last_modified)
            self.new_sessions[change.session_id] = session
            self._note_done(change.once, change, None, 0)
            return CommittedSession(head, session)
        turn = self._create_turn(head, change) if isinstance(change, CreateTurn) else self._update_turn(head, change)
        self._note_done(change.once, change, change.turn_id, turn.block_count)
        return CommittedTurn(head, turn)

    def _note_done(self, once: Once | None, change: TurnChange, turn_id: str | None, block_count: int) -> None:
        if once is not None:
            now = self.head.last_modified
            self.done[once.key] = Done(once.digest, change.session_id, turn_id, block_count, now)

    def _add_version(self, head: ProjectHead, change: Change) -> Committed:
        sequence, now, path = head.sequence, head.last_modified, change.path
        planned = self.files.get(path)
        if planned is None:
            known = self.known.files.get(path)
            if known is None:
                planned = KnownFile(0, _no_file(path, now))
                self.new_files[path] = planned
                self.first[path] = sequence
            else:
                planned = KnownFile(known.id, known.head)
            self.files[path] = planned
        old = planned.head
        version = Version(old.version + 1)
        deleted = type(change) is DeleteFile
        body = change.body if type(change) is AppendUpdate else None
        size = old.size
        incarnation, born_version, born_sequence = old.incarnation, old.born_version, old.born_sequence
        if old.deleted and not deleted:
            if old.version:
                self.past_incarnations.append(PastLife(planned, old))
            size, born_version, born_sequence = 0, version, sequence
            incarnation = (type(change) is AppendUpdate and change.incarnation) or new_incarnation()
        if body is not None:
            size += len(body)
        planned.head = FileHead(path, version, incarnation, sequence, now, size, deleted, born_version, born_sequence)
        check = None if body is None else checksum(body)
        who = change.author, change.credential
        self.rows.append(VersionRow(planned, sequence, version, now, size, *who, check, body))
        return Committed(head, planned.head, body)

    def _create_turn(self, head: ProjectHead, change: CreateTurn) -> TurnHead:
        now = head.last_modified
        turn = TurnHead(
            change.session_id, change.turn_id, "pending", 0, head.sequence, now, now, None, None, None, 0, 0
        )
        self.turns[change.session_id, change.turn_id] = PlannedTurn(0, turn, prompt=change.prompt, lengths={})
        return turn

    def _update_turn(self, head: ProjectHead, change: UpdateTurn) -> TurnHead:
        key = (change.session_id, change.turn_id)
        planned = self.turns.get(key)
        if planned is None:
            known = self.known.turns[key]
            planned = PlannedTurn(known.id, known.head, prompt=None, lengths=dict(known.lengths))
            self.turns[key] = planned
        size = planned.turn.size
        for grown in change.grown:
            size += len(grown.content) - planned.lengths[grown.index]
            planned.lengths[grown.index] = len(grown.content)
            new = planned.blocks.get(grown.index)
            if new is None:
                planned.grown[grown.index] = grown.content
            else:
                new.content = grown.content
        for index, block in enumerate(change.blocks, planned.turn.block_count):
            size += len(block.content)
            planned.lengths[index] = len(block.content)
            planned.blocks[index] = PlannedBlock(block.type, head.last_modified, block.content, block.told_from)
        if change.output is not None:
            planned.output_state = change.output.state
        planned.turn = _advanced(planned.turn, head, change, size)
        return planned.turn


def plan(known: KnownProject, requests: Items[Request], now: int) -> Plan:
    """Decide requests of one project in their order.

    Args:
        known: the state of the project, with all that `needs` names loaded.
        now: milliseconds since 1970.
    """
    made = Plan(known, now)
    for request in requests:
        made.add(request)
    return made


def _no_file(path: str, now: Milliseconds) -> FileHead:
    """Return the head of a file that has no version yet."""
    return FileHead(path, Version(0), Incarnation(""), Sequence(0), now, 0, True, Version(0), Sequence(0))


def _is_for_another_life(change: AppendUpdate, head: FileHead) -> bool:
    """Return whether a change was made for another incarnation of the file than the one it would be added to."""
    return change.incarnation is not None and (change.incarnation == head.incarnation) is head.deleted


def _advanced(old: TurnHead, head: ProjectHead, change: UpdateTurn, size: int) -> TurnHead:
    """Return a turn's state after a change."""
    now = head.last_modified
    starts = old.status == "pending" and bool(change.status == "running" or change.blocks or change.output)
    result_status, result_error = old.result_status, old.result_error
    if change.result is not None:
        result_status, result_error = change.result.status, change.result.error
    return TurnHead(
        session_id=old.session_id,
        turn_id=old.turn_id,
        status=change.status,
        block_count=old.block_count + len(change.blocks),
        sequence=head.sequence,
        last_updated=now,
        created_at=old.created_at,
        started_at=now if starts else old.started_at,
        completed_at=now if change.status in FINISHED else None,
        error=change.error,
        size=size,
        output_offset=old.output_offset if change.output is None else change.output.offset,
        result_status=result_status,
        result_error=result_error,
        settling=change.settling,
        grown=change.blocks[-1].told_from is not None if change.blocks else old.grown,
    )
