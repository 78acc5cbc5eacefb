"""Exceptions by which a handler makes a request wait or stream; `gateway.http.long_poll` catches them.

A waiting request keeps no handler alive; after a change, the request runs through the handlers again.
"""

from collections.abc import Callable

import msgspec
from msgspec import Struct
from starlette.requests import Request

from gateway.turns.events import TurnEvents
from gateway.watch.filter import ChangeFilter
from gateway.watch.project import WatchedProject
from gateway.wire.problems import InvalidParameter
from storage import ProjectHead

LONGEST_WAIT = 60
"""The longest `wait` that may be asked for, in seconds."""

SECONDS_LEFT = "gateway.seconds_left"
"""Key of the scope of a request that has waited: the remaining seconds."""


class WaitForChange(Exception):
    """There is no news for this request, which may wait for `seconds`."""

    def __init__(
        self,
        project: WatchedProject,
        as_of: ProjectHead | None,
        filter_: ChangeFilter,
        seconds: float,
        body: bytes = b"",
        moved: Callable[[], bool] = lambda: False,
    ) -> None:
        self.project = project
        self.as_of = as_of
        """The head of the project before the handler looked."""
        self.filter = filter_
        self.seconds = seconds
        self.body = body
        """The body for the next run through the handlers."""
        self.moved = moved
        """Whether something outside the project's sequence has changed since the handler looked."""


class OpenStream(Exception):
    """The request asks for an event stream with `filter_`, starting at a position."""

    def __init__(
        self,
        project_name: str,
        project: WatchedProject,
        filter_: ChangeFilter,
        since: str | None,
        client: str | None = None,
    ) -> None:
        self.project_name = project_name
        self.project = project
        self.filter = filter_
        self.since = since
        self.client = client
        """The following client, by the name under which it receives push messages."""


class OpenTurnStream(Exception):
    """The request asks for the events of a turn, after the first `position` blocks."""

    def __init__(self, project_name: str, project: WatchedProject, events: TurnEvents, position: int) -> None:
        self.project_name = project_name
        self.project = project
        self.events = events
        self.position = position


def parse_wait(request: Request) -> float:
    """Return the `wait` parameter in seconds; 0 if it is omitted.

    Raises:
        InvalidParameter
    """
    text = request.query_params.get("wait", "0")
    whole, _, fraction = text.partition(".")
    if not (text.isascii() and whole.isdigit() and (fraction.isdigit() or "." not in text) and len(text) <= 20):
        raise InvalidParameter("wait", f"a number of seconds from 0 to {LONGEST_WAIT} is expected")
    return check_wait(float(text))


def check_wait(seconds: float) -> float:
    """Check that `seconds` is an allowed wait and return it.

    Raises:
        InvalidParameter
    """
    if not 0 <= seconds <= LONGEST_WAIT:
        raise InvalidParameter("wait", f"it must be from 0 to {LONGEST_WAIT} seconds")
    return seconds


def wait_for_change(
    request: Request,
    wait: float,
    project: WatchedProject,
    as_of: ProjectHead | None,
    filter_: ChangeFilter,
    question: Struct | None = None,
    moved: Callable[[], bool] = lambda: False,
) -> None:
    """Make a request without news wait if it has time left; return if it must be answered now.

    Args:
        question: the decoded body. It is kept while the request waits, instead of the original body.
        moved: called once, when the request is about to wait: whether something outside the project's sequence has
            changed since the handler looked.

    Raises:
        WaitForChange
    """
    seconds = request.scope.get(SECONDS_LEFT, wait)
    if seconds > 0:
        body = b"" if question is None else msgspec.json.encode(question)
        raise WaitForChange(project, as_of, filter_, seconds, body, moved)


def empty_after_wait(request: Request) -> dict[str, str]:
    """Return the headers of an answer without news: after a wait, it must not be cached."""
    return {"Cache-Control": "no-store"} if SECONDS_LEFT in request.scope else {}
