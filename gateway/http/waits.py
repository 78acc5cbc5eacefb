"""How a handler says that a request waits: it raises, and `gateway.http.long_poll` does the rest.

A request that waits keeps nothing of the handlers alive; when something changed, it walks through them again.
"""

from collections.abc import Callable

import msgspec
from msgspec import Struct
from starlette.requests import Request

from gateway.watch.filter import ChangeFilter
from gateway.watch.project import WatchedProject
from gateway.wire.problems import InvalidParameter
from storage import ProjectHead

LONGEST_WAIT = 60
"""The longest `wait` that may be asked for, in seconds."""

SECONDS_LEFT = "gateway.seconds_left"
"""In the scope of a request that has waited: the seconds that are left."""


class WaitForChange(Exception):
    """There is nothing new for this request, and it may wait for `seconds`."""

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
        """Where the project stood before the handler looked."""
        self.filter = filter_
        self.seconds = seconds
        self.body = body
        """What the request is to bring when it walks through the handlers again."""
        self.moved = moved
        """Whether there is news since the handler looked, of what is not in the project's sequence."""


class OpenStream(Exception):
    """The request is for an event stream of `filter_`, from a position on."""

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
        """Who follows, by the name that it has for push messages."""


def parse_wait(request: Request) -> float:
    """The `wait` of a query, in seconds; 0 if it is left out.

    Raises:
        InvalidParameter
    """
    text = request.query_params.get("wait", "0")
    whole, _, fraction = text.partition(".")
    if not (text.isascii() and whole.isdigit() and (fraction.isdigit() or "." not in text) and len(text) <= 20):
        raise InvalidParameter("wait", f"a number of seconds from 0 to {LONGEST_WAIT} is expected")
    return check_wait(float(text))


def check_wait(seconds: float) -> float:
    """Raises InvalidParameter unless `seconds` may be asked for."""
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
    """Raises WaitForChange if a request that nothing is new for has time left; returns if it must be answered now.

    Args:
        question: what the body said. Only that is kept while the request waits, not the body as it came.
        moved: asked once, when the request is about to wait: whether there is news since the handler looked, of what is
            not in the project's sequence.
    """
    seconds = request.scope.get(SECONDS_LEFT, wait)
    if seconds > 0:
        body = b"" if question is None else msgspec.json.encode(question)
        raise WaitForChange(project, as_of, filter_, seconds, body, moved)


def empty_after_wait(request: Request) -> dict[str, str]:
    """The headers of an answer without news: after a wait no cache may keep it."""
    return {"Cache-Control": "no-store"} if SECONDS_LEFT in request.scope else {}
