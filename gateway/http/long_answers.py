"""Answers in JSON or msgpack with a list that may be long, of entries with updates that may be long: encoded and sent
in slices."""

import base64
import secrets
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Any, TypeGuard

from msgspec import Raw, Struct, msgpack
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
PLACE = b"\0"
"""Stands for the list, or for a long value. No JSON contains this byte."""
_NONE: Mapping[int, bytes] = {}
_LONG_UPDATE = 2**17
"""An update of more bytes is encoded in slices."""
_BYTES_IN_BASE64 = 3 * 2**17
"""How many bytes are encoded as base64 in one slice, in less than a millisecond. Three bytes are four characters."""

Encoded = bytes | list[bytes]
"""An encoded answer, or the parts of a long one."""


async def json_with_list(answer: Struct, field: str, apart: Mapping[int, bytes] = _NONE) -> Encoded:
    """Encode an answer of which one field holds a list, a slice of the list at a time.

    Args:
        apart: by the place of an entry in the list, a long encoded value that is not in it: it has `PLACE` there.
    """
    entries = getattr(answer, field)
    if len(entries) <= _SHORT_LIST and not apart and not _any_is_long(entries):
        return json_bytes(answer)
    head, tail = json_bytes(replace(answer, **{field: Raw(PLACE)})).split(PLACE)
    parts = _Parts()
    parts.add(head, b"[")
    async for number, entry in with_turns(enumerate(entries)):
        if number:
            parts.add(b",")
        update = getattr(entry, "update", None)
        if _is_long(update):
            before, behind = json_bytes(replace(entry, update=Raw(PLACE))).split(PLACE)
            parts.add(before, b'"')
            async for part in base64_parts(update):
                parts.add(part)
            parts.add(b'"', behind)
        elif number in apart:
            before, behind = json_bytes(entry).split(PLACE)
            parts.add(before, apart[number], behind)
        else:
            parts.add(json_bytes(entry))
    parts.add(b"]", tail)
    return parts.together()


async def msgpack_with_list(answer: Struct, field: str) -> Encoded:
    """Encode an answer as `json_with_list` does, in msgpack."""
    entries = getattr(answer, field)
    if len(entries) <= _SHORT_LIST and not _any_is_long(entries):
        return msgpack.encode(answer)
    place = secrets.token_bytes(16)
    head, tail = msgpack.encode(replace(answer, **{field: Raw(place)})).split(place)
    parts = _Parts()
    parts.add(head, b"\xdd", len(entries).to_bytes(4))
    async for entry in with_turns(entries):
        update = getattr(entry, "update", None)
        if _is_long(update):
            before, behind = msgpack.encode(replace(entry, update=Raw(place))).split(place)
            parts.add(before, b"\xc6", len(update).to_bytes(4), update, behind)
        else:
            parts.add(msgpack.encode(entry))
    parts.add(tail)
    return parts.together()


async def base64_parts(data: bytes) -> AsyncIterator[bytes]:
    """Yield the parts of the base64 (RFC 4648 §4) of bytes, one in each slice."""
    async for start in with_turns(range(0, len(data), _BYTES_IN_BASE64), 1):
        yield base64.b64encode(data[start : start + _BYTES_IN_BASE64])


def response_of(encoded: Encoded, headers: Mapping[str, str] | None = None, media_type: str = JSON) -> Response:
    """Return the response with an encoded answer."""
    if isinstance(encoded, bytes):
        return Response(encoded, headers=headers, media_type=media_type)
    return _InParts(encoded, headers, media_type)


def _any_is_long(entries: Sequence[Any]) -> bool:
    """Whether one of a few entries has a long update."""
    if not entries or not hasattr(entries[0], "update"):
        return False
    return any(_is_long(getattr(entry, "update", None)) for entry in entries)


def _is_long(update: object) -> TypeGuard[bytes]:
    return isinstance(update, bytes) and len(update) > _LONG_UPDATE


class _Parts:
    """Collects an encoded answer in parts of a suitable length for sending."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._part: list[bytes] = []
        self._size = self._total = 0

    def add(self, *encoded: bytes) -> None:
        """Add to the end. What is long is a part of its own, and not copied."""
        for each in encoded:
            if len(each) >= _PART_BYTES:
                self._end_part()
            self._part.append(each)
            self._size += len(each)
            if self._size >= _PART_BYTES:
                self._end_part()

    def _end_part(self) -> None:
        if self._part:
            self._parts.append(b"".join(self._part))
            self._total += self._size
            self._part, self._size = [], 0

    def together(self) -> Encoded:
        """Return all of the answer: joined, unless it is long."""
        self._end_part()
        return b"".join(self._parts) if self._total <= _WHOLE_BYTES else self._parts


class _InParts(Response):
    """A long answer: one part is sent per slice."""

    def __init__(self, parts: Iterable[bytes], headers: Mapping[str, str] | None, media_type: str) -> None:
        self._parts = list(parts)
        length = str(sum(map(len, self._parts)))
        super().__init__(headers={**(headers or {}), "content-length": length}, media_type=media_type)

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
