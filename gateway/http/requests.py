"""Parsing of requests: path, parameters, conditions and body, or the problem that tells what is wrong."""

import asyncio
import base64
import binascii
import codecs
import functools
from hashlib import sha256
from typing import TypeVar

from starlette.requests import ClientDisconnect, Request

from gateway.asgi.requests import encoding_fault, named_headers
from gateway.files.preconditions import UNCONDITIONAL, Preconditions
from gateway.http.permission import access_of, visible_path
from gateway.pace import add_piece, join_parts, with_turns
from gateway.wire.headers import parse_http_date
from gateway.wire.json import decode_json as decode_json
from gateway.wire.json import json_bytes as json_bytes
from gateway.wire.media_types import MARKDOWN, OCTETS, TEXT
from gateway.wire.problems import (
    BodyTooLarge,
    InvalidParameter,
    InvalidPath,
    InvalidProject,
    InvalidStateVector,
    InvalidText,
    UnsupportedMediaType,
)
from gateway.wire.tags import EntityTags, Form
from gateway.wire.values import path_fault, valid_project_id
from gateway.yjs.lib0 import MalformedUpdate
from gateway.yjs.state_vectors import check_state_vector
from storage import Once, wall_clock

T = TypeVar("T")

_HASHED_AT_ONCE = 2**19
"""How many bytes are hashed in the event loop: in 1 ms."""
_DECODED_AT_ONCE = 2**19
"""How many bytes of text are decoded in one step: in less than 1 ms."""


def project_id(request: Request) -> str:
    """Return the project id in the path.

    Raises:
        InvalidProject
    """
    project: str = request.path_params["project"]
    if not valid_project_id(project):
        raise InvalidProject
    return project


def file_path(request: Request) -> str:
    """Return the file path in the URL.

    Raises:
        InvalidPath
    """
    path: str = request.path_params["path"]
    fault = path_fault(path)
    if fault is None:
        fault = encoding_fault(request.scope, path)
    if fault is not None:
        raise InvalidPath(path, fault)
    return visible_path(request, path)


def checked_path(path: str) -> str:
    """Check a path from a body and return it.

    Raises:
        InvalidPath
    """
    fault = path_fault(path)
    if fault is not None:
        raise InvalidPath(path, fault)
    return path


def whole_number(request: Request, name: str, *, least: int, most: int | None = None) -> int | None:
    """Return a query parameter that is a whole number; None if it is omitted.

    Raises:
        InvalidParameter
    """
    text = request.query_params.get(name)
    if text is None:
        return None
    bounds = f"{least} or more" if most is None else f"from {least} to {most}"
    if not (text.isascii() and text.isdigit() and len(text) <= 100):
        raise InvalidParameter(name, f"a whole number {bounds} is expected")
    number = int(text)
    if number < least or (most is not None and number > most):
        raise InvalidParameter(name, f"it must be {bounds}")
    return number


def state_vector(request: Request) -> bytes | None:
    """Return the state vector in the query, decoded from base64url and validated; None if it is omitted.

    Raises:
        InvalidStateVector
    """
    text = request.query_params.get("state_vector")
    if text is None:
        return None
    try:
        decoded = base64.b64decode(text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4), altchars=b"-_", validate=True)
        check_state_vector(decoded)
    except (binascii.Error, ValueError, MalformedUpdate) as error:
        raise InvalidStateVector(f"it is not a Yjs state vector as base64url: {error}") from None
    return decoded


def if_none_match(request: Request) -> EntityTags | None:
    value = header(request, b"if-none-match")
    return None if value is None else EntityTags.parse(value, "If-None-Match")


def if_modified_since(request: Request) -> int | None:
    """Return If-Modified-Since in seconds since 1970; None if it is absent, or If-None-Match takes precedence."""
    value = header(request, b"if-modified-since")
    if value is None or header(request, b"if-none-match") is not None:
        return None
    return parse_http_date(value)


def preconditions(request: Request) -> Preconditions:
    """Return the preconditions of a write.

    Raises:
        InvalidParameter
    """
    if _CONDITIONS.isdisjoint(named_headers(request.scope)):
        return UNCONDITIONAL
    if_match, unmodified = header(request, b"if-match"), header(request, b"if-unmodified-since")
    return Preconditions(
        if_match=None if if_match is None else EntityTags.parse(if_match, "If-Match"),
        if_none_match=if_none_match(request),
        if_unmodified_since=None if unmodified is None else parse_http_date(unmodified),
        asked_at=0 if unmodified is None else wall_clock(),
        incarnation=header(request, b"x-incarnation"),
    )


_CONDITIONS = frozenset((b"if-match", b"if-none-match", b"if-unmodified-since", b"x-incarnation"))


def header(request: Request, name: bytes) -> str | None:
    """Return a header by its lower-case name, without decoding the others; repeated lines are joined into one list."""
    value = named_headers(request.scope).get(name)
    return None if value is None else value.decode("latin-1")


def header_bytes(request: Request, name: bytes) -> bytes | None:
    """Return a header by its lower-case name, undecoded."""
    return named_headers(request.scope).get(name)


async def once(request: Request, body: bytes) -> Once | None:
    """Return the idempotency key (draft-ietf-httpapi-idempotency-key-header), which may be quoted or not.

    Raises:
        InvalidParameter
    """
    key = header(request, b"idempotency-key")
    if key is None:
        return None
    key = key.removeprefix('"').removesuffix('"')
    if not (1 <= len(key) <= 255 and key.isascii() and key.isprintable() and " " not in key):
        raise InvalidParameter("Idempotency-Key", "1 to 255 visible ASCII characters are expected")
    subject = access_of(request.scope).subject
    if subject is not None:  # keys are scoped to a subject: no subject gets the answer of another
        key = sha256(f"{subject}\0{key}".encode()).hexdigest()
    digest = sha256(request.scope["path"].encode() + b"\0")
    if len(body) <= _HASHED_AT_ONCE:
        digest.update(body)
    else:  # without the GIL
        await asyncio.to_thread(digest.update, body)
    return Once(key, digest.digest())


def states_media_type(request: Request, media_type: str) -> bool:
    """Whether the body is of a type, whatever its parameters."""
    found = header(request, b"content-type") or ""
    return found.partition(";")[0].strip().lower() == media_type


def require_media_type(request: Request, wanted: str) -> None:
    """Require a body of the type `wanted`, in UTF-8 and without a content encoding.

    A POST must state its type: a page of another site can POST a body without a type, and the browser sends no
    preflight. For PUT and PATCH the type may be omitted: browsers send a preflight, and `curl -T` sends no type.

    Raises:
        UnsupportedMediaType
    """
    encoding = header(request, b"content-encoding") or "identity"
    if encoding.lower() != "identity":
        raise UnsupportedMediaType(f"{encoding}-encoded", wanted)
    found = header(request, b"content-type")
    if found == wanted:
        return
    if found is None:
        length = header(request, b"content-length") or "0"
        if request.method == "POST" and (length != "0" or header(request, b"transfer-encoding") is not None):
            raise UnsupportedMediaType("without a type", wanted)
        return
    media_type, *parameters = (part.strip() for part in found.split(";"))
    if media_type.lower() != wanted:
        raise UnsupportedMediaType(found, wanted)
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.lower() == "charset" and value.strip('"').lower() not in ("utf-8", "utf8", "us-ascii"):
            raise UnsupportedMediaType(found, wanted)


async def read_body(request: Request, limit: int) -> bytes:
    """Read the body.

    Raises:
        BodyTooLarge: raised as soon as the size is known to exceed the limit.
    """
    length = header_bytes(request, b"content-length")
    if length is not None and length.isdigit() and int(length) > limit:
        raise BodyTooLarge(limit)
    message = await request.receive()
    if message["type"] == "http.request" and not message.get("more_body", False):  # most bodies arrive in one message
        whole: bytes = message.get("body", b"")
        if len(whole) > limit:
            raise BodyTooLarge(limit)
        return whole
    pieces, size, more = list[bytes](), 0, True
    while more:
        message = message or await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunk: bytes = message.get("body", b"")
        size += len(chunk)
        if size > limit:
            raise BodyTooLarge(limit)
        add_piece(pieces, chunk)
        more, message = message.get("more_body", False), {}
    return await join_parts(pieces)


async def text_of(body: bytes) -> str | bytes:
    """Return a body as text, and a very long one as it is once it is known to be UTF-8: to decode it makes a copy.

    Raises:
        InvalidText
    """
    try:
        if len(body) <= _DECODED_AT_ONCE:
            return body.decode()
        check = codecs.getincrementaldecoder("utf-8")()
        async for start in with_turns(range(0, len(body), _DECODED_AT_ONCE), 1):
            end = start + _DECODED_AT_ONCE
            piece = memoryview(body)[start:end]
            try:
                check.decode(piece, final=end >= len(body))
            except UnicodeDecodeError:
                return body.decode()  # whose error tells the place
    except UnicodeDecodeError as error:
        raise InvalidText(str(error)) from None
    return body


def prefers(accept: str | None, offers: tuple[str, ...]) -> str:
    """Return the offer that an Accept header prefers; the first one on a tie, or if the header accepts none."""
    if not accept:
        return offers[0]
    best, liking = offers[0], 0.0
    for offer in offers:
        quality = _quality(accept, offer)
        if quality > liking:
            best, liking = offer, quality
    return best


def accepted_form(accept: bytes | None) -> Form:
    """Return the form of a document for a client that states only an Accept header."""
    short = accept is None or len(accept) <= _REMEMBERED_BYTES
    return _known_form(accept) if short else _form(accept)


_FORMS: dict[str, Form] = {OCTETS: "update", TEXT: "text", MARKDOWN: "markdown"}


def _form(accept: bytes | None) -> Form:
    accepted = None if accept is None else accept.decode("latin-1")
    return _FORMS[prefers(accepted, tuple(_FORMS))]


_known_form = functools.lru_cache(1024)(_form)
_REMEMBERED_BYTES = 256
"""The longest `Accept` that is cached, since a client can send many different and very long ones."""


def _quality(accept: str, offer: str) -> float:
    """Return the quality that the most specific matching range gives to an offer (RFC 9110 §12.5.1)."""
    specificity, quality = -1, 0.0
    for item in accept.split(","):
        name, *parameters = (part.strip().lower() for part in item.split(";"))
        rank = {offer: 2, offer.partition("/")[0] + "/*": 1, "*/*": 0}.get(name, -1)
        if rank > specificity:
            specificity, quality = rank, _parse_quality(parameters)
    return quality


def _parse_quality(parameters: list[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0
