"""The receipt of a write to a file: status, headers and body."""

import functools

from gateway.files.store import Written
from gateway.http.requests import json_bytes
from gateway.wire.headers import FILE_HEADER_NAMES, http_date
from gateway.wire.media_types import JSON
from gateway.wire.tags import version_tag

FILE_PATH = "/api/projects/{project}/files/{path:file}"
_JSON_TYPE = (b"content-type", JSON.encode())
_ETAG, _LAST_MODIFIED, _VERSION, _FROM_VERSION, _INCARNATION = (name.lower().encode() for name in FILE_HEADER_NAMES)


@functools.lru_cache(64)
def _date(seconds: int) -> bytes:
    return http_date(seconds).encode()


def receipt_answer(written: Written) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """Return the status, the headers (`version_headers` among them) and the body of a receipt."""
    head = written.head
    version, incarnation = head.version, head.incarnation
    body = json_bytes(written.receipt())
    headers = [
        (b"content-length", b"%d" % len(body)),
        _JSON_TYPE,
        (_ETAG, b'"%b"' % version_tag(incarnation, version).encode()),
        (_LAST_MODIFIED, _date(head.last_modified // 1000)),
        (_VERSION, b"%d" % version),
        (_FROM_VERSION, b"%d" % (version - 1 if written.changed else version)),
        (_INCARNATION, incarnation.encode()),
    ]
    return 201 if written.created else 200, headers, body
