"""Conditional requests (RFC 9110 §13) and the headers that name a state: pure."""

import functools
import re
from email.utils import formatdate

from msgspec import Struct

from gateway.problems import FileDeleted, InvalidParameter, PreconditionFailed
from storage import FileHead, ProjectHead, TurnHead

_ENTITY_TAG = re.compile(r'\s*(?:W/)?"([\x21\x23-\x7e\x80-\xff]*)"\s*(?:,|$)')
_ANY = "*"

CACHE_HEADERS = {"Cache-Control": "private, no-cache", "Vary": "Accept, Accept-Encoding, Authorization, Origin"}


class EntityTags(Struct, frozen=True):
    """The value of If-Match or If-None-Match: some tags, or any."""

    tags: frozenset[str]
    any: bool = False

    @classmethod
    def parse(cls, header: str, name: str) -> "EntityTags":
        """Weak and strong forms are one: a proxy that compresses weakens a tag without changing what it names.

        Raises:
            InvalidParameter: the value is not a list of entity tags.
        """
        if header.strip() == _ANY:
            return cls(frozenset(), any=True)
        tags, position = set(), 0
        while position < len(header):
            match = _ENTITY_TAG.match(header, position)
            if match is None:
                raise InvalidParameter(name, "it is not a list of entity tags")
            tags.add(match[1])
            position = match.end()
        return cls(frozenset(tags))

    def match(self, tag: str | None) -> bool:
        """Whether they name the state `tag` (without quotes; None: nothing is there)."""
        return tag is not None and (self.any or tag in self.tags)


class Preconditions(Struct, frozen=True):
    """What a write demands of the file before it."""

    if_match: EntityTags | None = None
    if_none_match: EntityTags | None = None
    incarnation: str | None = None
    unless_deleted: bool = False
    """A tombstone is no place to begin a new life of the file."""

    def __bool__(self) -> bool:
        return self != _NONE

    def check(self, path: str, head: FileHead | None) -> None:
        """Raises FileDeleted if another life of the file is meant, PreconditionFailed if a tag does not fit."""
        live = head if head is not None and not head.deleted else None
        if self.incarnation is not None and (live is None or live.incarnation != self.incarnation):
            raise FileDeleted(path, None if head is None else file_headers(head))
        if self.unless_deleted and head is not None and head.deleted:
            raise FileDeleted(path, file_headers(head))
        tag = None if live is None else entity_tag(live)
        if self.if_match is not None and not self.if_match.match(tag):
            raise PreconditionFailed(
                f"{path!r} does not exist" if live is None else f"{path!r} is at version {live.version} now",
                None if live is None else file_headers(live),
            )
        if self.if_none_match is not None and self.if_none_match.match(tag):
            assert live is not None
            raise PreconditionFailed(f"{path!r} is there already, at version {live.version}", file_headers(live))


_NONE = Preconditions()


def entity_tag(head: FileHead) -> str:
    """The tag of a file's state, without quotes."""
    return f"{head.incarnation}.{head.version}"


def turn_tag(project: ProjectHead, head: TurnHead) -> str:
    """The tag of a turn's state, without quotes: the place of its last change in its project's life."""
    return f"{project.epoch}.{head.sequence}"


@functools.lru_cache(4096)
def http_date(seconds: int) -> str:
    return formatdate(seconds, usegmt=True)


def version_headers(incarnation: str, version: int, last_modified: int, builds_on: int) -> dict[str, str]:
    """The headers of every answer about one file.

    Args:
        last_modified: milliseconds since 1970.
        builds_on: the version that the body builds on, 0 where it is the whole document.
    """
    return {
        "ETag": f'"{incarnation}.{version}"',
        "Last-Modified": http_date(last_modified // 1000),
        "X-Version": str(version),
        "X-From-Version": str(builds_on),
        "X-Incarnation": incarnation,
    }


def file_headers(head: FileHead, builds_on: int = 0) -> dict[str, str]:
    """`version_headers` of a file's head."""
    return version_headers(head.incarnation, head.version, head.last_modified, builds_on)
