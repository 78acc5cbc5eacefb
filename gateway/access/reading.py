"""Answers of other servers, read within bounds."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import httpx


class TooLarge(ValueError):
    """The body is not one that is read."""


async def read_at_most(answer: "httpx.Response", limit: int) -> bytes:
    """Return the body of an answer that is being streamed.

    A compressed body is refused: a few bytes of one may hold gigabytes.

    Raises:
        TooLarge: it has more than `limit` bytes, or is compressed.
    """
    if answer.headers.get("Content-Encoding", "identity").strip().lower() not in ("", "identity"):
        raise TooLarge("it is compressed")
    body = bytearray()
    async for chunk in answer.aiter_bytes():
        body += chunk
        if len(body) > limit:
            raise TooLarge(f"it has more than {limit} bytes")
    return bytes(body)
