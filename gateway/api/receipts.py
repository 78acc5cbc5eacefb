"""The receipt of a write to a file: status, headers and body."""

import functools

from gateway.files.store import Written
from gateway.http.requests import json_bytes
from gateway.wire.headers import FILE_HEADER_NAMES, http_date
from gateway.wire.media_types import JSON
from gateway.wire.tags import version_tag
from gateway.wire.values import rfc3339

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
_BODY = b'{"path":%b,"version":%d,"last_modified":"%b","cursor":"%b.%d","changed":%b}'
"""A `Receipt` without its optional fields."""


@functools.lru_cache(64)
def _times(milliseconds: int) -> tuple[bytes, bytes]:
    """Return a time as it is written in a body and in a header: many receipts have the same."""
    return rfc3339(milliseconds).encode(), http_date(milliseconds // 1000).encode()


def encoded_receipt(written: Written) -> tuple[int, bytes, bytes]:
    """Return the status, the header lines (`version_headers` among them) and the body of a receipt."""
    head, changed = written.head, written.changed
    version, incarnation = head.version, head.incarnation
    time, date = _times(head.last_modified)
    if written.merged or written.state_vector is not None:
        body = json_bytes(written.receipt())
    else:
        epoch, said = written.epoch.encode(), b"true" if changed else b"false"
        body = _BODY % (json_bytes(head.path), version, time, epoch, head.sequence, said)
    lines = _LINES % (
        len(body),
        version_tag(incarnation, version).encode(),
        date,
        version,
        version - 1 if changed else version,
        incarnation.encode(),
    )
    return 201 if written.created else 200, lines, body


def receipt_answer(written: Written) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """Return the status, the headers and the body of a receipt."""
    status, lines, body = encoded_receipt(written)
    headers = [line.partition(b": ") for line in lines.splitlines()]
    return status, [(name, value) for name, _, value in headers], body
