"""The endless change feed, by long polls or as server-sent events."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping, Sequence
from typing import Any, Literal

from gateway.client.answers import Sender, decoded
from gateway.client.errors import GatewayError, UnexpectedAnswer
from gateway.client.policy import FastLoop, PollSettings
from gateway.client.server_events import SILENCE_S, ServerEvent, decoded_data, events_of, pause_after
from gateway.wire.changes import FeedAnswer, FeedEntry

Transport = Literal["events", "wait"]

_WAIT_S = 50.0
_READY_S = 10.0
"""An event stream that is not ready within this time is presumably buffered by a proxy."""


def filters(kinds: Iterable[str] | None, prefix: str, paths: Sequence[str]) -> dict[str, Any]:
    """Return the query parameters that filter the feed."""
    return {
        "kinds": None if kinds is None else ",".join(kinds),
        "prefix": prefix or None,
        "path": list(paths) or None,
    }


async def follow(
    sender: Sender,
    path: str,
    since: str | None,
    filters: Mapping[str, Any],
    transport: Transport,
    settings: PollSettings,
) -> AsyncIterator[FeedAnswer]:
    """Yield the changes after a cursor, forever, retrying after failures with the back-off of the policy.

    Raises:
        GatewayError: an error that retrying cannot fix.
    """
    attempts = 0
    while True:
        try:
            async with contextlib.aclosing(connect(sender, path, since, filters, transport, settings)) as answers:
                async for answer in answers:
                    attempts = 0
                    if answer.changes or answer.reset:
                        yield answer
                    since = answer.cursor
        except GatewayError as error:
            attempts += 1
            await pause_after(error, attempts, settings)


def connect(
    sender: Sender,
    path: str,
    since: str | None,
    filters: Mapping[str, Any],
    transport: Transport,
    settings: PollSettings,
) -> AsyncGenerator[FeedAnswer, None]:
    """Yield the changes after a cursor until the first failure. Answers without changes are keep-alives.

    Raises:
        GatewayError
    """
    if transport == "events":
        return _events(sender, path, since, filters)
    return _long_polls(sender, path, since, filters, settings)


async def _long_polls(
    sender: Sender, path: str, since: str | None, filters: Mapping[str, Any], settings: PollSettings
) -> AsyncGenerator[FeedAnswer, None]:
    loop, fast = asyncio.get_running_loop(), FastLoop(settings)
    wait = None  # the first request is not held
    while True:
        params = {**filters, "since": since, "wait": wait}
        answer = decoded(await sender.send("GET", path, wait=wait or 0, params=params), FeedAnswer)
        yield answer
        since, wait = answer.cursor, _WAIT_S
        if answer.changes:
            fast.news()
        elif fast.empty(loop.time() * 1000):
            raise UnexpectedAnswer(503, "long polls come back at once, and bring nothing")


async def _events(
    sender: Sender, path: str, since: str | None, filters: Mapping[str, Any]
) -> AsyncGenerator[FeedAnswer, None]:
    ready, reset = False, False
    events = events_of(sender, path, since, filters, lambda: SILENCE_S if ready else _READY_S)
    async with contextlib.aclosing(events):
        async for event in events:
            ready, reset = ready or event.kind == "ready", reset or event.kind == "reset"
            if event.id is not None:
                yield _answer(event, event.id, reset)
                reset = False


def _answer(event: ServerEvent, cursor: str, reset: bool) -> FeedAnswer:
    """Convert an event to a page of the feed; an event that is not a change means that the client has caught up."""
    changes: list[FeedEntry] = []
    if event.kind == "change":
        changes.append(decoded_data(event.data, FeedEntry))
    if reset:
        return FeedAnswer(changes, cursor, bool(changes), reset=True)
    return FeedAnswer(changes, cursor, bool(changes))
