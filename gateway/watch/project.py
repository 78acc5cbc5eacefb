"""One project that somebody looks at: where it stands, the newest heads of its files and turns, who waits for more.

Bounded, and to be forgotten at any time.
"""

from collections.abc import Callable

import msgspec
from msgspec import Struct

from gateway.access.grants import Paths, View
from storage import FileHead, ProjectHead, TurnHead

_FILES_PER_PROJECT = 16_384
_TURNS_PER_PROJECT = 4096
_ANSWER_OVERHEAD = 300
"""Bytes that a remembered answer takes beside its own and those of its question, about."""


class AnswerBudget:
    """The memory that the remembered answers of all projects may take together.

    Args:
        limit: bytes in all.
        project_limit: bytes of one project.
    """

    def __init__(self, limit: int, project_limit: int) -> None:
        self._limit = limit
        self._project_limit = project_limit
        self.used = 0

    def take(self, size: int, of_project: int) -> bool:
        """Take room for an answer of a project that has `of_project` bytes of them; False where there is none."""
        if of_project + size > self._project_limit or self.used + size > self._limit:
            return False
        self.used += size
        return True

    def give_back(self, size: int) -> None:
        self.used -= size


class Interest(Struct, frozen=True):
    """What part of a project's changes somebody wants to hear of."""

    files: bool = True
    turns: bool = True
    prefix: str = ""
    paths: frozenset[str] | None = None
    """Only these files; None: all."""
    turn: tuple[str, str] | None = None
    """Only this turn of this session, and no files; None: all."""
    visible: Paths | None = None
    """Only files that exist for who asks; None: all."""

    @property
    def topic(self) -> str | None:
        """The one file or turn that it is about; None if it is about more."""
        if self.turn is not None:
            return turn_topic(*self.turn)
        if self.files and not self.turns and self.paths is not None and len(self.paths) == 1 and not self.prefix:
            return file_topic(next(iter(self.paths)))
        return None

    @property
    def size(self) -> int:
        """Bytes that it takes, about."""
        visible = () if self.visible is None else (*self.visible.folders, *self.visible.files)
        return len(self.prefix) + sum(map(len, self.paths or ())) + sum(map(len, visible))

    def wants(self, head: FileHead | TurnHead) -> bool:
        """Whether a change is part of it."""
        if isinstance(head, TurnHead):
            return self.turns and self.turn in (None, (head.session_id, head.turn_id))
        return (
            self.files
            and head.path.startswith(self.prefix)
            and (self.paths is None or head.path in self.paths)
            and (self.visible is None or head.path in self.visible)
        )

    def seen_by(self, view: View) -> "Interest":
        """The same without what does not exist for who asks: neither that it changes nor when may be felt."""
        if view.sight is None:
            return self
        paths = None if self.paths is None else frozenset(path for path in self.paths if view.sees(path))
        return msgspec.structs.replace(
            self,
            files=self.files and view.may("read"),
            turns=self.turns and view.sees_turns,
            paths=paths,
            visible=view.paths if paths is None else None,
        )


def file_topic(path: str) -> str:
    return f"file:{path}"


def turn_topic(session_id: str, turn_id: str) -> str:
    return f"turn:{session_id}/{turn_id}"


class TooManyWaiters(Exception):
    """There is no room for one more request that waits."""


class Waiter:
    """Somebody who waits for a change. `wake` is called once, for a change or at the deadline, and must not wait."""

    __slots__ = ("interest", "project", "tick", "wake")

    def __init__(self, project: "WatchedProject", interest: Interest, tick: int, wake: Callable[[], None]) -> None:
        self.project = project
        self.interest = interest
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
        "_answer_bytes",
        "_budget",
        "answers",
        "by_topic",
        "complete",
        "cursor",
        "files",
        "forgotten",
        "general",
        "head",
        "members",
        "turns",
        "versions",
    )

    def __init__(self, budget: AnswerBudget) -> None:
        self._budget = budget
        self.head: ProjectHead | None = None
        self.cursor = ""
        self.files: dict[str, KnownFile] = {}
        self.turns: dict[tuple[str, str], KnownTurn] = {}
        """By session and turn."""
        self.complete = False
        """Whether `files` holds every file that exists."""
        self.versions: dict[str, int] = {}
        """Of those of `files` that exist."""
        self.answers: dict[tuple[str, object], bytes] = {}
        """Answers that hold as long as nothing changes, by the kind of question and its words."""
        self._answer_bytes = 0
        self.by_topic: dict[str, dict[Waiter, None]] = {}
        self.general: dict[Waiter, None] = {}
        self.members = 0
        """Requests that wait or stream, at this moment or between two waits."""
        self.forgotten = False
        """Whether the hub has made room: nothing is heard here any more."""

    def advance(self, head: ProjectHead) -> None:
        """Take a head, unless it is older than the known one."""
        if self.head is None or self.head.epoch != head.epoch or self.head.sequence < head.sequence:
            self.head = head
            self.cursor = f"{head.epoch}.{head.sequence}"
            self.forget_answers()

    def forget_answers(self) -> None:
        self.answers.clear()
        self._budget.give_back(self._answer_bytes)
        self._answer_bytes = 0

    def remember_file(self, head: FileHead) -> None:
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

    def remember_all_files(self, heads: list[FileHead]) -> None:
        """Remember every file, if they are not too many: then questions about the whole project need no query."""
        if len(heads) <= _FILES_PER_PROJECT // 2:
            self.files = {head.path: KnownFile(head) for head in heads}
            self.versions = {head.path: head.version for head in heads if not head.deleted}
            self.complete = True

    def remember_turn(self, head: TurnHead) -> None:
        key = (head.session_id, head.turn_id)
        known = self.turns.pop(key, None)
        if known is not None and known.head.sequence >= head.sequence:
            self.turns[key] = known
            return
        if len(self.turns) >= _TURNS_PER_PROJECT:
            del self.turns[next(iter(self.turns))]
        self.turns[key] = KnownTurn(head)

    def remember_answer(self, kind: str, question: tuple[object, ...], answer: bytes, cursor: str) -> None:
        """Remember an answer that was made at `cursor`, if nothing has changed since.

        Args:
            question: its words, with what of the project exists for who asks: nobody else is to be answered so.
        """
        asked = sum(map(_size, question))
        size = len(answer) + asked + _ANSWER_OVERHEAD
        if cursor == self.cursor and not self.forgotten and self._budget.take(size, self._answer_bytes):
            self._answer_bytes += size
            self.answers[kind, question] = answer

    def take_waiters(self, head: FileHead | TurnHead) -> list[Waiter]:
        """Those who wait for this change; they do not wait any more."""
        topic = turn_topic(head.session_id, head.turn_id) if isinstance(head, TurnHead) else file_topic(head.path)
        waiters = list(self.by_topic.pop(topic, ()))
        if self.general:
            wanting = [waiter for waiter in self.general if waiter.interest.wants(head)]
            for waiter in wanting:
                del self.general[waiter]
            waiters += wanting
        return waiters


def _size(word: object) -> int:
    if isinstance(word, bytes):
        return len(word)
    return word.size if isinstance(word, Interest) else len(str(word))
