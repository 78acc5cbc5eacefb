"""Response headers: those of every answer and those that describe the state of a file; HTTP dates."""

import functools
from email.utils import formatdate, parsedate_to_datetime

from gateway.wire.tags import Form, version_tag
from storage import FileHead

CACHE_HEADERS = {"Cache-Control": "private, no-cache", "Vary": "Accept, Accept-Encoding, Authorization, Origin"}
SAFETY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
}
"""Keep the pages of other sites from executing, displaying or embedding an answer. `fetch` with CORS is unaffected."""
COMMON_HEADERS = {**CACHE_HEADERS, **SAFETY_HEADERS}
"""Headers of every answer."""


FILE_HEADER_NAMES = ("ETag", "Last-Modified", "X-Version", "X-From-Version", "X-Incarnation")
"""The headers of `version_headers`, in the same order."""


@functools.lru_cache(4096)
def http_date(seconds: int) -> str:
    return formatdate(seconds, usegmt=True)


def parse_http_date(text: str) -> int | None:
    """Return seconds since 1970, or None if `text` is not a date; such a header is ignored (RFC 9110 §13.1.3,
    §13.1.4)."""
    try:
        return int(parsedate_to_datetime(text.strip()).timestamp())
    except (ValueError, OverflowError):
        return None


def version_headers(
    incarnation: str, version: int, last_modified: int, builds_on: int, form: Form = "update"
) -> dict[str, str]:
    """Return the headers of every answer about one file.

    Args:
        last_modified: milliseconds since 1970.
        builds_on: the version that the body builds on; 0 if the body is the whole document.
    """
    return {
        "ETag": f'"{version_tag(incarnation, version, form)}"',
        "Last-Modified": http_date(last_modified // 1000),
        "X-Version": str(version),
        "X-From-Version": str(builds_on),
        "X-Incarnation": incarnation,
    }


def file_headers(head: FileHead, builds_on: int = 0, form: Form = "update") -> dict[str, str]:
    """Return the `version_headers` for the head of a file."""
    return version_headers(head.incarnation, head.version, head.last_modified, builds_on, form)
