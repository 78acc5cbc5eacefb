"""A watched project: its position, the newest heads of its files and turns, and its waiters.

The state is bounded and can be dropped at any time.
"""

from collections import deque
from collections.abc import Callable
from typing import Any

from gateway.watch.answers import AnswerBudget, RememberedAnswers
from gateway.watch.filter import ChangeFilter, file_topic, presence_topic, turn_topic
from storage import FileHead, ProjectHead, TurnHead

_FILES_PER_PROJECT = 16_384
_TURNS_PER_PROJECT = 4096


class Waiter:
    """A request that waits for a change. `wake` is called once, for a change or at the deadline, and must not block."""

    __slots__ = ("filter", "project", "tick", "wake")

    def __init__(self, project: "WatchedProject", filter_: ChangeFilter, tick: int, wake: Callable[[], None]) -> None:
        self.project = project
        self.filter = filter_
        self.tick = tick
        self.wake = wake


NotModified = tuple[bytes, list[tuple[bytes, bytes]], bytes]
"""The tag that a client with this state sends, and the headers of the 304 response to that tag: as pairs and as encoded
lines."""


class KnownFile:
    """The newest head of a file, and its cached 304 answers (see `gateway.api.not_modified`)."""

    __slots__ = ("head", "not_modified")

    def __init__(self, head: FileHead) -> None:
        self.head = head
        self.not_modified: dict[str, NotModified] = {}
        """By the form of the document."""


class KnownTurn:
    """The newest head of a turn, and its cached 304 answer."""

    __slots__ = ("head", "not_modified")

    def __init__(self, head: TurnHead) -> None:
        self.head = head
        self.not_modified: NotModified | None = None


class WatchedProject:
    """The position of a project, its newest heads, and the requests that wait for changes."""

    __slots__ = (
        "answers",
        "by_topic",
        "complete",
        "files",
        "followed",
        "forgotten",
        "general",
        "head",
        "is_matching",
        "members",
        "turns",
        "unmatched",
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
        """The versions of those of `files` that exist, by path."""
        self.answers = RememberedAnswers(budget)
        self.by_topic: dict[str, dict[Waiter, None]] = {}
        self.general: dict[Waiter, None] = {}
        self.unmatched: deque[FileHead | TurnHead] = deque()
        """Changes for which the waiters have yet to be found."""
        self.is_matching = False
        """Whether they are being found, in several turns of the event loop."""
        self.members = 0
        """The number of requests that wait or stream, including those between two waits."""
        self.followed = False
        """Whether the project is subscribed to what other gateways store."""
        self.forgotten = False
        """Whether the hub has dropped the project, which then receives no more changes."""

    def advance(self, head: ProjectHead) -> None:
        """Advance to a head, unless it is older than the known head."""
        if self.head is None or self.head.epoch != head.epoch or self.head.sequence < head.sequence:
            self.head = head
            self.answers.advance(head.cursor)

    @property
    def cursor(self) -> str:
        """The present cursor of the project; empty if the project has not been read yet."""
        return self.answers.cursor

    def close(self) -> None:
        """Note that changes of the project are no longer received."""
        self.forgotten = True
        self.answers.close()

    def forget_files(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Forget what is known of all files, and return it: to free it may take long."""
        known = self.files, self.versions
        self.files, self.versions, self.complete = {}, {}, False
        return known

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
        """Keep all files unless there are too many, so that questions about the whole project need no query."""
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
        """Remove and return the waiters for the presence in a file."""
        wanting = self._take_general(lambda filter_: filter_.shows_presence(path)) if self.general else []
        return [*self.by_topic.pop(presence_topic(path), ()), *wanting]

    def take_waiters(self, head: FileHead | TurnHead) -> list[Waiter]:
        """Remove and return the waiters for this change."""
        topic = turn_topic(head.session_id, head.turn_id) if isinstance(head, TurnHead) else file_topic(head.path)
        waiters = list(self.by_topic.pop(topic, ()))
        if self.general:
            waiters += self._take_general(lambda filter_: filter_.matches(head))
        return waiters

    def _take_general(self, wants: Callable[[ChangeFilter], bool]) -> list[Waiter]:
        """Remove and return those of the general waiters whose filter wants a change."""
        wanting, staying = list[Waiter](), list[Waiter]()
        asked: ChangeFilter | None = None
        among = staying
        for waiter in self.general:
            if waiter.filter is not asked:  # most have one and the same
                asked = waiter.filter
                among = wanting if wants(asked) else staying
            among.append(waiter)
        if wanting:
            self.general = dict.fromkeys(staying)
        return wanting
