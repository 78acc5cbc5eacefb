"""A cache of encoded answers that are valid until a project changes, shared by all identical requests."""

from collections import OrderedDict
from collections.abc import Callable

from msgspec import Struct

from gateway.access.grants import View
from gateway.watch.filter import ChangeFilter

_OVERHEAD = 300
"""The approximate overhead in bytes of an answer, beyond its own bytes and those of its question."""
_ASKED_ONCE = 8192
"""The size in bytes of the note of questions that were asked once; a quarter as many questions are noted before it is
begun anew, so that few are taken for others."""


class AnswerBudget:
    """The memory budget for the cached answers of all projects.

    Args:
        limit: the most bytes in total.
        project_limit: the most bytes for one project.
    """

    def __init__(self, limit: int, project_limit: int) -> None:
        self._limit = limit
        self._project_limit = project_limit
        self.used = 0

    def take(self, size: int, of_project: int) -> bool:
        """Reserve memory for an answer of a project that uses `of_project` bytes; False if a limit is reached."""
        if of_project + size > self._project_limit or self.used + size > self._limit:
            return False
        self.used += size
        return True

    def give_back(self, size: int) -> None:
        self.used -= size


class _Status(Struct, frozen=True, gc=False):
    body: bytes
    sight: View | None

    @property
    def size(self) -> int:
        return len(self.body)


class Poll(Struct, frozen=True, gc=False):
    """A poll of the feed: its query string, and the part of the project that its credential can see."""

    query: bytes
    sight: View | None

    @property
    def size(self) -> int:
        return len(self.query)


class _Events(Struct, frozen=True, gc=False):
    filter: ChangeFilter
    since: str | None

    @property
    def size(self) -> int:
        return self.filter.size


_Question = _Status | Poll | _Events


class RememberedAnswers:
    """The cached answers of one project at its present cursor, keyed by the literal question.

    A question includes the part of the project that its credential can see (`sight`; None: all), so no answer reaches a
    subject that may not see it. An answer made at a cursor other than the present one is not kept. If the budget is
    used up, a new answer takes the place of the oldest ones.
    """

    __slots__ = ("_answers", "_asked", "_asked_once", "_awaited", "_budget", "_bytes", "cursor", "open")

    def __init__(self, budget: AnswerBudget) -> None:
        self._budget = budget
        self._answers: OrderedDict[_Question, bytes] = OrderedDict()
        self._awaited: dict[Poll, list[Callable[[], None]]] = {}
        """The polls that are being answered, and what is called after each."""
        self._bytes = 0
        self._asked: bytearray | None = None
        """A byte for each hash value, modulo the length: 1 if a status question with this value was asked."""
        self._asked_once = 0
        self.cursor = ""
        """The present cursor of the project."""
        self.open = True

    def advance(self, cursor: str) -> None:
        """Forget all answers: the project has moved to `cursor`."""
        self.cursor = cursor
        self.clear()

    def clear(self) -> None:
        """Forget all answers."""
        self._answers.clear()
        self._budget.give_back(self._bytes)
        self._bytes = 0
        self._asked = None

    def close(self) -> None:
        """Forget all answers and keep none from now on, as changes of the project are no longer received."""
        self.open = False
        self.clear()

    def status(self, body: bytes, sight: View | None) -> bytes | None:
        """Return the cached answer to `POST files/status` with this body."""
        return self._answers.get(_Status(body, sight))

    def keep_status(self, body: bytes, sight: View | None, answer: bytes, cursor: str) -> None:
        self._keep(_Status(body, sight), answer, cursor)

    def keep_status_asked_twice(self, body: bytes, sight: View | None, answer: bytes, cursor: str) -> None:
        """Keep an answer that is quickly made once it was asked for before; at first it is only noted that it was.

        To keep what nobody asks for again would cost more than to make the answer.
        """
        asked = self._asked
        if asked is None or self._asked_once > _ASKED_ONCE // 4:
            asked = self._asked = bytearray(_ASKED_ONCE)
            self._asked_once = 0
        place = hash(body) % _ASKED_ONCE
        if asked[place]:
            self.keep_status(body, sight, answer, cursor)
        else:
            asked[place] = 1
            self._asked_once += 1

    def poll(self, poll: Poll) -> bytes | None:
        """Return the cached answer to a poll."""
        return self._answers.get(poll)

    def keep_poll(self, poll: Poll, answer: bytes, cursor: str) -> None:
        self._keep(poll, answer, cursor)

    def begin_poll(self, poll: Poll) -> bool:
        """Note that a poll is being answered, until `end_poll` is called; False if an identical one is."""
        if poll in self._awaited:
            return False
        self._awaited[poll] = []
        return True

    def after_poll(self, poll: Poll, call: Callable[[], None]) -> None:
        """Have `end_poll` of a poll that is being answered return `call`."""
        self._awaited[poll].append(call)

    def end_poll(self, poll: Poll) -> list[Callable[[], None]]:
        """Note that a poll was answered, or could not be, and return what is to be called."""
        return self._awaited.pop(poll)

    def events(self, filter_: ChangeFilter, since: str | None) -> bytes | None:
        """Return the cached server-sent events after a cursor, up to the present one."""
        return self._answers.get(_Events(filter_, since))

    def keep_events(self, filter_: ChangeFilter, since: str | None, events: bytes, cursor: str) -> None:
        self._keep(_Events(filter_, since), events, cursor)

    def _keep(self, question: _Question, answer: bytes, cursor: str) -> None:
        """Keep an answer; where there is no memory for it, forget those of the project that were kept first."""
        if not self.open or cursor != self.cursor or question in self._answers:
            return
        size = _size(question, answer)
        while not self._budget.take(size, self._bytes):
            if not self._answers:
                return
            self._forget_oldest()
        self._bytes += size
        self._answers[question] = answer

    def _forget_oldest(self) -> None:
        size = _size(*self._answers.popitem(last=False))
        self._bytes -= size
        self._budget.give_back(size)


def _size(question: _Question, answer: bytes) -> int:
    return len(answer) + question.size + _OVERHEAD
