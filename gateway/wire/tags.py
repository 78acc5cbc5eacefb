"""Conditional requests (RFC 9110 §13) and the headers that name a state: pure."""

import functools
import re
from email.utils import formatdate, parsedate_to_datetime
from typing import Literal

from msgspec import Struct

from gateway.wire.changes import own_tag
from gateway.wire.problems import FileDeleted, InvalidParameter, PreconditionFailed
from storage import FileHead, ProjectHead, TurnHead

Form = Literal["update", "text", "json"]
"""How a document is written in an answer: each form is a representation of its own (RFC 9110 §3.2)."""

_ELEMENT = re.compile(r'[\s,]*(?:[Ww]/)?(?:"([^"]*)"[^\s,"]*|([^\s,"/]+))\s*(?:,|$)')
_NO_ELEMENT = re.compile(r"[\s,]*")
_ANY = "*"
_MARKS: dict[Form, str] = {"update": "", "text": ".t", "json": ".j"}

CACHE_HEADERS = {"Cache-Control": "private, no-cache", "Vary": "Accept, Accept-Encoding, Authorization, Origin"}
SAFETY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
}
"""No page of another site runs, shows or embeds an answer. `fetch` with CORS is not concerned."""
COMMON_HEADERS = {**CACHE_HEADERS, **SAFETY_HEADERS}
"""Headers of every answer."""


class EntityTags(Struct, frozen=True):
    """The value of If-Match or If-None-Match: some tags, or any."""

    tags: frozenset[str]
    any: bool = False

    @classmethod
    def parse(cls, header: str, name: str) -> "EntityTags":
        """The gateway's own tags in a list; tags of others match nothing here and are left out.

        Weak and strong forms are one, and what a proxy adds to a tag (`-gzip`, `;gzip`) is left out: a proxy that
        compresses marks a tag without changing what the tag names. Missing quotes and empty elements are tolerated.

        Raises:
            InvalidParameter: the value is not a list of entity tags.
        """
        tags, position = set(), 0
        while _NO_ELEMENT.fullmatch(header, position) is None:
            element = _ELEMENT.match(header, position)
            if element is None:
                raise InvalidParameter(name, "it is not a list of entity tags")
            if element[2] == _ANY:
                return cls(frozenset(), any=True)
            own = own_tag(element[2] if element[1] is None else element[1])
            if own is not None:
                tags.add(own)
            position = element.end()
        return cls(frozenset(tags))

    def match(self, tag: str | None) -> bool:
        """Whether one of the tags names the representation `tag` (without quotes; None: nothing is there)."""
        return tag is not None and (self.any or tag in self.tags)

    def match_state(self, state: str | None) -> bool:
        """Whether one of the tags names a representation of `state`, in whatever form (None: nothing is there)."""
        return state is not None and (self.any or any(state + mark in self.tags for mark in _MARKS.values()))


class Preconditions(Struct, frozen=True):
    """What a write demands of the file before it."""

    if_match: EntityTags | None = None
    if_none_match: EntityTags | None = None
    if_unmodified_since: int | None = None
    """In seconds since 1970. Counts where `if_match` is None (RFC 9110 §13.2.2)."""
    incarnation: str | None = None
    tombstone: int | None = None
    """The version of the tombstone on which a new life of the file may begin; 0: on none."""

    def __bool__(self) -> bool:
        return self != _NONE

    def check(self, path: str, head: FileHead | None) -> None:
        """Raises FileDeleted if another life of the file is meant, PreconditionFailed if a tag does not fit."""
        live = head if head is not None and not head.deleted else None
        if self.incarnation is not None and (live is None or live.incarnation != self.incarnation):
            raise FileDeleted(path, None if head is None else file_headers(head))
        if self.tombstone is not None and head is not None and head.deleted and head.version != self.tombstone:
            raise FileDeleted(path, file_headers(head))
        state = None if live is None else entity_tag(live)
        if self._is_refused(live, state):
            raise PreconditionFailed(
                f"{path!r} does not exist" if live is None else f"{path!r} is at version {live.version} now",
                None if live is None else file_headers(live),
            )
        if self.if_none_match is not None and self.if_none_match.match_state(state):
            assert live is not None
            raise PreconditionFailed(f"{path!r} is there already, at version {live.version}", file_headers(live))

    def _is_refused(self, live: FileHead | None, state: str | None) -> bool:
        """Whether the file is not as the writer knows it: a date counts only where no tag is named."""
        if self.if_match is not None:
            return not self.if_match.match_state(state)
        since = self.if_unmodified_since
        return since is not None and live is not None and live.last_modified // 1000 > since


_NONE = Preconditions()


def entity_tag(head: FileHead, form: Form = "update") -> str:
    """The tag of a file's newest state in a form, without quotes."""
    return version_tag(head.incarnation, head.version, form)


def version_tag(incarnation: str, version: int, form: Form = "update") -> str:
    """The tag of a version in a form, without quotes."""
    return f"{incarnation}.{version}{_MARKS[form]}"


def turn_tag(project: ProjectHead, head: TurnHead) -> str:
    """The tag of a turn's state, without quotes: the place of its last change in its project's life."""
    return f"{project.epoch}.{head.sequence}"


@functools.lru_cache(4096)
def http_date(seconds: int) -> str:
    return formatdate(seconds, usegmt=True)


def parse_http_date(text: str) -> int | None:
    """Seconds since 1970; None where `text` is no date, which a recipient ignores (RFC 9110 §13.1.3, §13.1.4)."""
    try:
        return int(parsedate_to_datetime(text.strip()).timestamp())
    except (ValueError, OverflowError):
        return None


def version_headers(
    incarnation: str, version: int, last_modified: int, builds_on: int, form: Form = "update"
) -> dict[str, str]:
    """The headers of every answer about one file.

    Args:
        last_modified: milliseconds since 1970.
        builds_on: the version that the body builds on, 0 where it is the whole document.
    """
    return {
        "ETag": f'"{version_tag(incarnation, version, form)}"',
        "Last-Modified": http_date(last_modified // 1000),
        "X-Version": str(version),
        "X-From-Version": str(builds_on),
        "X-Incarnation": incarnation,
    }


def file_headers(head: FileHead, builds_on: int = 0, form: Form = "update") -> dict[str, str]:
    """`version_headers` of a file's head."""
    return version_headers(head.incarnation, head.version, head.last_modified, builds_on, form)
