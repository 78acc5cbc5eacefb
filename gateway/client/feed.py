"""The endless change feed, by long polls or as server-sent events (WHATWG HTML §9.2)."""

import asyncio
import contextlib
import random
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping, Sequence
from typing import Any, Literal

import httpx
import msgspec

from gateway.client.answers import Sender, decoded
from gateway.client.errors import GatewayError, NoAnswer, UnexpectedAnswer
from gateway.client.policy import FastLoop, PollSettings, is_retried, retry_delay_ms
from gateway.wire.changes import FeedAnswer, FeedEntry

Transport = Literal["events", "wait"]

_WAIT_S = 50.0
_READY_S = 10.0
"""An event stream that is not ready within this time is presumably buffered by a proxy."""
SILENCE_S = 40.0
"""The longest silence of an event stream; the gateway sends a keep-alive every 15 s."""


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
            if not is_retried(error.status):
                raise
            attempts += 1
            delay = retry_delay_ms(settings, attempts, random.random(), error.retry_after_s) / 1000
            await asyncio.sleep(max(delay, error.backoff_s or 0))


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


class _Event:
    """A server-sent event that is being assembled from its lines."""

    def __init__(self) -> None:
        self.kind = ""
        self.data: list[str] = []
        self.id: str | None = None


async def _events(
    sender: Sender, path: str, since: str | None, filters: Mapping[str, Any]
) -> AsyncGenerator[FeedAnswer, None]:
    headers: dict[str, str | None] = {"Accept": "text/event-stream", "Last-Event-ID": since}
    try:
        async with asyncio.timeout(_READY_S):
            response = await sender.open(path, headers=headers, params=filters)
    except TimeoutError:
        raise NoAnswer("the event stream did not begin") from None
    retry_ms: float = 0
    event, ready, reset = _Event(), False, False
    try:
        if not response.headers.get("content-type", "").startswith("text/event-stream"):
            raise UnexpectedAnswer(response.status_code, "it is no event stream")
        async with contextlib.aclosing(lines_of(response)) as lines:
            while (line := await next_line(lines, SILENCE_S if ready else _READY_S)) is not None:
                name, _, value = line.partition(":")
                value = value.removeprefix(" ")
                if name == "retry":
                    retry_ms = float(value)
                elif name == "id":
                    event.id = value
                elif name == "event":
                    event.kind = value
                elif name == "data":
                    event.data.append(value)
                elif line == "":
                    ready, reset = ready or event.kind == "ready", reset or event.kind == "reset"
                    if event.id is not None:
                        yield _answer(event, reset)
                        reset = False
                    event = _Event()
    finally:
        await response.aclose()
    ended = NoAnswer("the event stream has ended")
    ended.retry_after_s = retry_ms / 1000
    raise ended


def _answer(event: _Event, reset: bool) -> FeedAnswer:
    """Convert an event to a page of the feed; an event that is not a change means that the client has caught up."""
    assert event.id is not None
    changes: list[FeedEntry] = []
    if event.kind == "change":
        try:
            changes.append(msgspec.json.decode("\n".join(event.data), type=FeedEntry))
        except (msgspec.DecodeError, RecursionError) as error:
            raise UnexpectedAnswer(200, str(error)) from error
    if reset:
        return FeedAnswer(changes, event.id, bool(changes), reset=True)
    return FeedAnswer(changes, event.id, bool(changes))


async def next_line(lines: AsyncIterator[str], limit: float) -> str | None:
    """Return the next line of an event stream within `limit` seconds; None at its end."""
    try:
        async with asyncio.timeout(limit):  # before Python 3.12 wait_for may swallow a cancellation
            return await anext(lines, None)
    except TimeoutError:
        raise NoAnswer(f"the event stream was silent for {limit:.0f} s") from None


async def lines_of(response: httpx.Response) -> AsyncGenerator[str, None]:
    """Yield lines split at line feeds only: httpx would also split at U+2028, which a path may contain."""
    rest = b""
    try:
        async for chunk in response.aiter_bytes():
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                yield line.decode("utf-8", "replace").removesuffix("\r")
    except httpx.HTTPError as error:
        raise NoAnswer(f"the event stream broke off: {str(error) or type(error).__name__}") from error
