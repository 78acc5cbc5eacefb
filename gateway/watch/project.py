"""One project that somebody looks at: where it stands, the newest heads of its files and turns, who waits for more.

Bounded, and to be forgotten at any time.
"""

from collections.abc import Callable

from gateway.watch.answers import AnswerBudget, RememberedAnswers
from gateway.watch.filter import ChangeFilter, file_topic, presence_topic, turn_topic
from storage import FileHead, ProjectHead, TurnHead

_FILES_PER_PROJECT = 16_384
_TURNS_PER_PROJECT = 4096


class Waiter:
    """Somebody who waits for a change. `wake` is called once, for a change or at the deadline, and must not wait."""

    __slots__ = ("filter", "project", "tick", "wake")

    def __init__(self, project: "WatchedProject", filter_: ChangeFilter, tick: int, wake: Callable[[], None]) -> None:
        self.project = project
        self.filter = filter_
        self.tick = tick
        self.wake = wake


NotModified = tuple[bytes, list[tuple[bytes, bytes]]]
"""The tag, as a client that has this state sends it, and the headers of its 304."""


class KnownFile:
    """A file's newest head, and the answers made of it for who has it already (see `gateway.api.not_modified`)."""

    __slots__ = ("head", "not_modified")

    def __init__(self, head: FileHead) -> None:
        self.head = head
        self.not_modified: dict[str, NotModified] = {}
        """By the form of the document."""


class KnownTurn:
    """A turn's newest head, and the answer made of it for those who have it already."""

    __slots__ = ("head", "not_modified")

    def __init__(self, head: TurnHead) -> None:
        self.head = head
        self.not_modified: NotModified | None = None


class WatchedProject:
    """Where a project stands, and who waits for it to move."""

    __slots__ = (
        "answers",
        "by_topic",
        "complete",
        "files",
        "followed",
        "forgotten",
        "general",
        "head",
        "members",
        "turns",
        "versions",
    )

    def __init__(self, budget: AnswerBudget) -> None:
        self.head: ProjectHead | None = None
        self.files: dict[str, KnownFile] = {}
        self.turns: dict[tuple[str, str], KnownTurn] = {}
        """By session and turn."""
        self.complete = False
        """Whether `files` holds every file that exists."""
        self.versions: dict[str, int] = {}
        """Of those of `files` that exist."""
        self.answers = RememberedAnswers(budget)
        self.by_topic: dict[str, dict[Waiter, None]] = {}
        self.general: dict[Waiter, None] = {}
        self.members = 0
        """Requests that wait or stream, at this moment or between two waits."""
        self.followed = False
        """Whether storage was asked to tell what other gateways store."""
        self.forgotten = False
        """Whether the hub has made room: nothing is heard here any more."""

    def advance(self, head: ProjectHead) -> None:
        """Take a head, unless it is older than the known one."""
        if self.head is None or self.head.epoch != head.epoch or self.head.sequence < head.sequence:
            self.head = head
            self.answers.advance(head.cursor)

    @property
    def cursor(self) -> str:
        """Where the project stands; empty where that was not read yet."""
        return self.answers.cursor

    def close(self) -> None:
        """Note that changes of the project are not heard here any more."""
        self.forgotten = True
        self.answers.close()

    def update_file(self, head: FileHead) -> None:
        known = self.files.get(head.path)
        if known is not None and known.head.sequence >= head.sequence:
            return
        if known is None and len(self.files) >= _FILES_PER_PROJECT:
            oldest = next(iter(self.files))
            del self.files[oldest]
            self.versions.pop(oldest, None)
            self.complete = False
        self.files[head.path] = KnownFile(head)
        if head.deleted:
            self.versions.pop(head.path, None)
        else:
            self.versions[head.path] = head.version

    def update_all_files(self, heads: list[FileHead]) -> None:
        """Keep every file, if they are not too many: then questions about the whole project need no query."""
        if len(heads) <= _FILES_PER_PROJECT // 2:
            self.files = {head.path: KnownFile(head) for head in heads}
            self.versions = {head.path: head.version for head in heads if not head.deleted}
            self.complete = True

    def update_turn(self, head: TurnHead) -> None:
        key = (head.session_id, head.turn_id)
        known = self.turns.pop(key, None)
        if known is not None and known.head.sequence >= head.sequence:
            self.turns[key] = known
            return
        if len(self.turns) >= _TURNS_PER_PROJECT:
            del self.turns[next(iter(self.turns))]
        self.turns[key] = KnownTurn(head)

    def take_presence_waiters(self, path: str) -> list[Waiter]:
        """Those who wait to hear who is in a file; they do not wait any more."""
        wanting = [waiter for waiter in self.general if waiter.filter.shows_presence(path)]
        for waiter in wanting:
            del self.general[waiter]
        return [*self.by_topic.pop(presence_topic(path), ()), *wanting]

    def take_waiters(self, head: FileHead | TurnHead) -> list[Waiter]:
        """Those who wait for this change; they do not wait any more."""
        topic = turn_topic(head.session_id, head.turn_id) if isinstance(head, TurnHead) else file_topic(head.path)
        waiters = list(self.by_topic.pop(topic, ()))
        if self.general:
            wanting = [waiter for waiter in self.general if waiter.filter.matches(head)]
            for waiter in wanting:
                del self.general[waiter]
            waiters += wanting
        return waiters
