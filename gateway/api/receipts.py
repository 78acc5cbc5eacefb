"""The receipt of a write to a file: status, headers and body."""

import functools

from gateway.files.store import Written
from gateway.http.requests import json_bytes
from gateway.wire.headers import FILE_HEADER_NAMES, http_date
from gateway.wire.media_types import JSON
from gateway.wire.tags import version_tag

FILE_PATH = "/api/projects/{project}/files/{path:file}"
_LINES = b"".join(
    (
        b"content-length: %d\r\n",
        b"content-type: " + JSON.encode() + b"\r\n",
        *(
            name.lower().encode() + b": " + value + b"\r\n"
            for name, value in zip(FILE_HEADER_NAMES, (b'"%b"', b"%b", b"%d", b"%d", b"%b"), strict=True)
        ),
    )
)


@functools.lru_cache(64)
def _date(seconds: int) -> bytes:
    return http_date(seconds).encode()


def encoded_receipt(written: Written) -> tuple[int, bytes, bytes]:
    """Return the status, the header lines (`version_headers` among them) and the body of a receipt."""
    head = written.head
    version, incarnation = head.version, head.incarnation
    body = json_bytes(written.receipt())
    lines = _LINES % (
        len(body),
        version_tag(incarnation, version).encode(),
        _date(head.last_modified // 1000),
        version,
        version - 1 if written.changed else version,
        incarnation.encode(),
    )
    return 201 if written.created else 200, lines, body


def receipt_answer(written: Written) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """Return the status, the headers and the body of a receipt."""
    status, lines, body = encoded_receipt(written)
    headers = [line.partition(b": ") for line in lines.splitlines()]
    return status, [(name, value) for name, _, value in headers], body
