"""Values on the wire: the syntax of project ids, paths, cursors and times."""

import datetime
import functools
import re
import time
import unicodedata
from collections.abc import Sequence

from msgspec import Struct

_PROJECT_ID = re.compile(r"(?!\.{1,2}\Z)[A-Za-z0-9._~-]{1,128}")
_CURSOR = re.compile(r"([0-9a-z]{1,32})\.(0|[1-9][0-9]{0,18})(?:\.(0|[1-9][0-9]{0,18}))?")

_PATH_BYTES = 1024
LARGEST_INTEGER = 2**63 - 1
"""The largest version, sequence or index."""
_UNSEEN = frozenset({"Cc", "Cf", "Zl", "Zp"})
"""Categories of invisible characters that control how text is displayed."""
_JOINERS = "\u200c\u200d"
"""Characters of the category Cf that are allowed: Persian, Indic scripts and emoji need them in their spelling."""


class Cursor(Struct, frozen=True, gc=False):
    """A point in a project's sequence. Opaque to clients."""

    epoch: str
    sequence: int
    began: int | None = None
    """Within a listing that spans several answers: the sequence at its start."""

    def __str__(self) -> str:
        listing = "" if self.began is None else f".{self.began}"
        return f"{self.epoch}.{self.sequence}{listing}"

    @classmethod
    def parse(cls, text: str) -> "Cursor":
        """Parse a cursor.

        Raises:
            ValueError: `text` is not a cursor of a gateway.
        """
        match = _CURSOR.fullmatch(text)
        if match is None:
            raise ValueError("not a cursor")
        return cls(match[1], int(match[2]), None if match[3] is None else int(match[3]))


def rfc3339(milliseconds: int) -> str:
    """Format a time: `2025-01-06T10:00:00.000Z`."""
    seconds, rest = divmod(milliseconds, 1000)
    return f"{_to_the_second(seconds)}.{rest:03d}Z"


@functools.lru_cache(4096)
def _to_the_second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


def parse_rfc3339(text: str) -> int:
    """Return milliseconds since 1970.

    Raises:
        ValueError: `text` is not a time, or has no time zone.
    """
    moment = datetime.datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("it names no zone")
    try:
        return int(moment.timestamp() * 1000)
    except OverflowError as error:
        raise ValueError(str(error)) from None


def valid_project_id(text: str) -> bool:
    return _PROJECT_ID.fullmatch(text) is not None


def has_unseen(text: str) -> bool:
    """Whether a text has invisible control characters. U+200C and U+200D are allowed: they join letters and emoji."""
    if text.isprintable():
        return False
    return any(unicodedata.category(character) in _UNSEEN and character not in _JOINERS for character in text)


def path_fault(path: str) -> str | None:
    """Return why a text is not a valid file path; None if it is one."""
    if len(path) > _PATH_BYTES:  # a text of several MB takes long to hash and to encode
        return f"it has more than {_PATH_BYTES} bytes"
    if path in _known_paths:
        return None
    fault = _fault(path)
    if fault is None and len(path) <= _REMEMBERED_LENGTH:
        if len(_known_paths) >= _REMEMBERED:
            _known_paths.clear()
        _known_paths.add(path)
    return fault


def are_paths(texts: Sequence[str]) -> bool:
    """Return whether all of them are valid file paths."""
    return _known_paths.issuperset(texts) or all(path_fault(text) is None for text in texts)


def _fault(path: str) -> str | None:
    if not path:
        return "it is empty"
    try:
        size = len(path.encode())
    except UnicodeEncodeError:
        return "it is not valid Unicode"
    if size > _PATH_BYTES:
        return f"it has more than {_PATH_BYTES} bytes"
    for segment in path.split("/"):
        if segment in ("", ".", ".."):
            return f"it has the segment {segment!r}"
    if path.isascii():
        return None if path.isprintable() else "it has a control character"
    if has_unseen(path):
        return "it has a control character"
    if not unicodedata.is_normalized("NFC", path):
        return "it is not in Unicode normalisation form C"
    return None


_REMEMBERED, _REMEMBERED_LENGTH = 8192, 200
"""So many valid paths are remembered. Longer ones are checked each time: the memory has a bound in bytes."""
_known_paths: set[str] = set()
"""Valid paths: polls name the same ones again and again."""
