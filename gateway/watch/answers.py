"""Encoded answers that hold until a project changes, so that they are made once for all who ask the same."""

from msgspec import Struct

from gateway.access.grants import View
from gateway.watch.filter import ChangeFilter

_OVERHEAD = 300
"""Bytes that an answer takes beside its own and those of its question, about."""


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


class _Status(Struct, frozen=True):
    body: bytes
    sight: View | None


class _Poll(Struct, frozen=True):
    query: bytes
    sight: View | None


class _Events(Struct, frozen=True):
    filter: ChangeFilter
    since: str | None


class RememberedAnswers:
    """The answers of one project at its present cursor, by the question in its own words.

    A question includes what of the project its credential can see (`sight`; None: all), so no answer reaches a subject
    that may not see it. An answer made at another cursor than the present one is not kept.
    """

    __slots__ = ("_answers", "_budget", "_bytes", "cursor", "open")

    def __init__(self, budget: AnswerBudget) -> None:
        self._budget = budget
        self._answers: dict[_Status | _Poll | _Events, bytes] = {}
        self._bytes = 0
        self.cursor = ""
        """Where the project stands."""
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

    def close(self) -> None:
        """Forget all answers and keep none from now on: changes of the project are not heard any more."""
        self.open = False
        self.clear()

    def status(self, body: bytes, sight: View | None) -> bytes | None:
        """The answer to `POST files/status` with this body."""
        return self._answers.get(_Status(body, sight))

    def keep_status(self, body: bytes, sight: View | None, answer: bytes, cursor: str) -> None:
        self._keep(_Status(body, sight), len(body), answer, cursor)

    def poll(self, query: bytes, sight: View | None) -> bytes | None:
        """The answer to `GET changes` with this query string."""
        return self._answers.get(_Poll(query, sight))

    def keep_poll(self, query: bytes, sight: View | None, answer: bytes, cursor: str) -> None:
        self._keep(_Poll(query, sight), len(query), answer, cursor)

    def events(self, filter_: ChangeFilter, since: str | None) -> bytes | None:
        """The server-sent events after a cursor, up to the present one."""
        return self._answers.get(_Events(filter_, since))

    def keep_events(self, filter_: ChangeFilter, since: str | None, events: bytes, cursor: str) -> None:
        self._keep(_Events(filter_, since), filter_.size, events, cursor)

    def _keep(self, question: _Status | _Poll | _Events, asked: int, answer: bytes, cursor: str) -> None:
        size = len(answer) + asked + _OVERHEAD
        if (
            self.open
            and cursor == self.cursor
            and question not in self._answers
            and self._budget.take(size, self._bytes)
        ):
            self._bytes += size
            self._answers[question] = answer
