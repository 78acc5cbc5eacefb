"""JSON answers with a list that may be long: encoded and sent in slices."""

from collections.abc import Iterable, Mapping

from msgspec import Raw, Struct
from msgspec.structs import replace
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gateway.asgi.answers import UNSENT
from gateway.pace import next_slice, with_turns
from gateway.wire.json import json_bytes
from gateway.wire.media_types import JSON

_SHORT_LIST = 32
"""How many entries are encoded at once."""
_PART_BYTES = 64 * 2**10
_WHOLE_BYTES = 2**20
"""Answers of at most so many bytes are joined: a long one would have to be copied, and others wait meanwhile."""
_PLACE = b"\0"
"""Stands for the list. No JSON contains this byte."""

Encoded = bytes | list[bytes]
"""An encoded answer, or the parts of a long one."""


async def json_with_list(answer: Struct, field: str) -> Encoded:
    """Encode an answer of which one field holds a list, a slice of the list at a time."""
    entries = getattr(answer, field)
    if len(entries) <= _SHORT_LIST:
        return json_bytes(answer)
    head, tail = json_bytes(replace(answer, **{field: Raw(_PLACE)})).split(_PLACE)
    parts, part, size, total = list[bytes](), [head, b"["], len(head) + 1, 0
    async for number, entry in with_turns(enumerate(entries)):
        encoded = json_bytes(entry)
        part += (b",", encoded) if number else (encoded,)
        size += len(encoded) + 1
        if size >= _PART_BYTES:
            parts.append(b"".join(part))
            part, size, total = [], 0, total + size
    parts.append(b"".join((*part, b"]", tail)))
    return b"".join(parts) if total + size <= _WHOLE_BYTES else parts


def json_response(encoded: Encoded, headers: Mapping[str, str] | None = None) -> Response:
    """Return the response with an encoded answer."""
    if isinstance(encoded, bytes):
        return Response(encoded, headers=headers, media_type=JSON)
    return _InParts(encoded, headers)


class _InParts(Response):
    """A long answer: one part is sent per slice."""

    def __init__(self, parts: Iterable[bytes], headers: Mapping[str, str] | None) -> None:
        self._parts = list(parts)
        length = str(sum(map(len, self._parts)))
        super().__init__(headers={**(headers or {}), "content-length": length}, media_type=JSON)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        parts = self._parts
        parts.reverse()
        unsent = sum(map(len, parts))
        while parts:
            part = parts.pop()  # it is freed once it was sent
            scope[UNSENT] = unsent = unsent - len(part)
            await send({"type": "http.response.body", "body": part, "more_body": bool(parts)})
            await next_slice()
