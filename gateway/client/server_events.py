"""Server-sent events (WHATWG HTML §9.2): one connection of them, and the pause before the next."""

import asyncio
import contextlib
import random
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from typing import Any, NamedTuple

import httpx
import msgspec

from gateway.client.answers import Sender
from gateway.client.errors import GatewayError, NoAnswer, UnexpectedAnswer
from gateway.client.policy import PollSettings, is_retried, retry_delay_ms

SILENCE_S = 40.0
"""The longest silence of an event stream; the gateway sends a keep-alive every 15 s."""


class ServerEvent(NamedTuple):
    """An event as it was sent."""

    kind: str
    data: str
    id: str | None


async def events_of(
    sender: Sender, path: str, last_id: str | None, params: Mapping[str, Any], patience: Callable[[], float]
) -> AsyncGenerator[ServerEvent, None]:
    """Yield the events of one connection.

    Args:
        last_id: sent as `Last-Event-ID`.
        patience: returns how many seconds of silence there may be, from now on.

    Raises:
        GatewayError: always, at the end of the connection; `retry_after_s` is what the stream asked for.
    """
    headers: dict[str, str | None] = {"Accept": "text/event-stream", "Last-Event-ID": last_id}
    try:
        async with asyncio.timeout(patience()):
            response = await sender.open(path, headers=headers, params=params)
    except TimeoutError:
        raise NoAnswer("the event stream did not begin") from None
    retry_ms, kind, id, data = 0.0, "", None, list[str]()
    try:
        if not response.headers.get("content-type", "").startswith("text/event-stream"):
            raise UnexpectedAnswer(response.status_code, "it is no event stream")
        async with contextlib.aclosing(_lines_of(response)) as lines:
            while (line := await _next_line(lines, patience())) is not None:
                name, _, value = line.partition(":")
                value = value.removeprefix(" ")
                if name == "retry":
                    retry_ms = float(value)
                elif name == "id":
                    id = value
                elif name == "event":
                    kind = value
                elif name == "data":
                    data.append(value)
                elif not line:
                    yield ServerEvent(kind, "\n".join(data), id)
                    kind, id, data = "", None, []
    finally:
        await response.aclose()
    ended = NoAnswer("the event stream has ended")
    ended.retry_after_s = retry_ms / 1000
    raise ended


def decoded_data(data: str, shape: Any) -> Any:
    """Decode the data of an event as a value of the wire.

    Raises:
        UnexpectedAnswer
    """
    try:
        return msgspec.json.decode(data, type=shape)
    except (msgspec.DecodeError, RecursionError) as error:
        raise UnexpectedAnswer(200, str(error)) from error


async def pause_after(error: GatewayError, attempts: int, settings: PollSettings) -> None:
    """Wait before the next attempt, as the policy and the gateway say.

    Raises:
        GatewayError: the error, if retrying cannot fix it.
    """
    if not is_retried(error.status):
        raise error
    delay = retry_delay_ms(settings, attempts, random.random(), error.retry_after_s) / 1000
    await asyncio.sleep(max(delay, error.backoff_s or 0))


async def _next_line(lines: AsyncIterator[str], limit: float) -> str | None:
    """Return the next line of an event stream within `limit` seconds; None at its end."""
    try:
        async with asyncio.timeout(limit):  # before Python 3.12 wait_for may swallow a cancellation
            return await anext(lines, None)
    except TimeoutError:
        raise NoAnswer(f"the event stream was silent for {limit:.0f} s") from None


async def _lines_of(response: httpx.Response) -> AsyncGenerator[str, None]:
    """Yield lines split at line feeds only: httpx would also split at U+2028, which a path may contain."""
    rest = b""
    try:
        async for chunk in response.aiter_bytes():
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                yield line.decode("utf-8", "replace").removesuffix("\r")
    except httpx.HTTPError as error:
        raise NoAnswer(f"the event stream broke off: {str(error) or type(error).__name__}") from error
