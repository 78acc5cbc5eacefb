"""Decoding of responses: the body as a wire struct, the entity tag and the hints, or the error to raise."""

from collections.abc import Mapping
from typing import Any, Generic, Protocol, TypeVar

import httpx
import msgspec
from msgspec import Struct

from gateway.client.errors import GatewayError, UnexpectedAnswer, problem_from
from gateway.wire.media_types import JSON
from gateway.wire.problems import ProblemDetails
from gateway.wire.tags import own_tag

T = TypeVar("T")

_PROBLEM = "application/problem+json"


class WithETag(Struct, Generic[T], frozen=True):
    """A decoded response with its entity tag, which names the state that the response describes."""

    value: T
    tag: str | None = None
    """Accepted by the `tag` and `if_match` arguments of other requests."""
    backoff_s: float | None = None
    """The gateway asks not to be polled again within this many seconds."""

    @property
    def incarnation(self) -> str | None:
        """The incarnation of the file that the response describes."""
        return self.tag.partition(".")[0] if self.tag else None

    @property
    def version(self) -> int | None:
        """The version of the file that the response describes."""
        return int(self.tag.split(".")[1]) if self.tag else None


class FileContent(Struct, frozen=True):
    """The content of a file, or an increment of it."""

    update: bytes | None
    """A Yjs update (v1); None if there is nothing new."""
    version: int
    from_version: int
    """The version that `update` builds on; 0 if `update` is the whole document."""
    incarnation: str
    tag: str
    backoff_s: float | None = None


class Sender(Protocol):
    """The interface through which requests are sent; implemented by `GatewayClient`."""

    url: str

    async def identity(self, path: str) -> dict[str, str]:
        """Return the headers that identify the client."""

    async def send(
        self,
        method: str,
        path: str,
        *,
        wait: float = 0,
        repeatable: bool = True,
        headers: Mapping[str, str | None] | None = None,
        params: Mapping[str, Any] | None = None,
        content: Any = None,
    ) -> httpx.Response: ...

    async def open(
        self, path: str, *, headers: Mapping[str, str | None], params: Mapping[str, Any]
    ) -> httpx.Response: ...


def error_from(answer: httpx.Response) -> GatewayError:
    """Return the exception for an unsuccessful response."""
    error: GatewayError
    if answer.headers.get("content-type", "").startswith(_PROBLEM):
        try:
            error = problem_from(msgspec.json.decode(answer.content, type=ProblemDetails))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as fault:
            error = UnexpectedAnswer(answer.status_code, f"{answer.reason_phrase} ({fault})")
    else:
        error = UnexpectedAnswer(answer.status_code, f"{answer.reason_phrase}; {_foreign(answer)}")
    error.retry_after_s = seconds(answer, "Retry-After")
    error.backoff_s = seconds(answer, "Backoff")
    return error


def seconds(answer: httpx.Response, header: str) -> float | None:
    """Return a header in seconds; None if it is missing or a date (RFC 9110 §10.2.3), which the gateway never sends."""
    text = answer.headers.get(header, "")
    return float(text) if text.isascii() and text.isdigit() else None


def decoded(answer: httpx.Response, shape: type[T]) -> T:
    """Decode the body of a response.

    Raises:
        UnexpectedAnswer
    """
    try:
        return msgspec.json.decode(answer.content, type=shape)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        is_json = answer.headers.get("content-type", "").startswith(JSON)
        raise UnexpectedAnswer(answer.status_code, str(error) if is_json else _foreign(answer)) from error


def _foreign(answer: httpx.Response) -> str:
    return f"what answers at {answer.url} is no yjs-gateway"


def decoded_with_etag(answer: httpx.Response, shape: type[T]) -> WithETag[T]:
    """Decode the body of a response, with its entity tag."""
    return WithETag(decoded(answer, shape), tag_of(answer), seconds(answer, "Backoff"))


def decoded_with_etag_if_changed(answer: httpx.Response, shape: type[T]) -> WithETag[T | None]:
    """Decode the body of a response to a conditional request, with its entity tag; the value is None for a 304."""
    value = None if answer.status_code == 304 else decoded(answer, shape)
    return WithETag(value, tag_of(answer), seconds(answer, "Backoff"))


def tag_of(answer: httpx.Response) -> str | None:
    """Return the entity tag as the gateway made it, unquoted: compression weakens tags, and proxies add marks."""
    tag = answer.headers.get("ETag")
    return own_tag(tag.removeprefix("W/").strip('"')) if tag is not None else None


def quoted(tag: str | None) -> str | None:
    """Quote an entity tag for a header."""
    return None if tag is None else f'"{tag}"'


def file_content(answer: httpx.Response) -> FileContent:
    """Decode a response that holds a file as a Yjs update.

    Raises:
        UnexpectedAnswer
    """
    try:
        version, builds_on = int(answer.headers["X-Version"]), int(answer.headers["X-From-Version"])
        incarnation = answer.headers["X-Incarnation"]
    except (KeyError, ValueError) as error:
        raise UnexpectedAnswer(answer.status_code, f"no header {error}") from None
    update = answer.content if answer.status_code == 200 else None
    tag = tag_of(answer) or f"{incarnation}.{version}"
    return FileContent(update, version, builds_on, incarnation, tag, seconds(answer, "Backoff"))
