"""Entity tags of files and turns, and lists of entity tags (RFC 9110 §8.8.3, §13.1). Pure functions."""

import re
from typing import Literal

from msgspec import Struct

from gateway.wire.problems import InvalidParameter
from storage import FileHead, ProjectHead, TurnHead

_OWN_TAG = re.compile(r"[0-9a-z]+(?:\.[0-9]+){1,2}(?:\.[hjmt])?(?![0-9A-Za-z.])")


def own_tag(text: str) -> str | None:
    """Return the gateway's own tag at the start of an opaque tag (without quotes); None if another server made the tag.

    The rest is a suffix that a proxy adds to the tags of answers that it compresses: `-gzip`, `--gzip`, `;gzip`, `-br`.
    """
    match = _OWN_TAG.match(text)
    return None if match is None else match[0]


Form = Literal["update", "text", "json", "markdown", "html"]
"""The form of a document in an answer. Each form is a separate representation (RFC 9110 §3.2)."""

_ELEMENT = re.compile(r'[\s,]*(?:[Ww]/)?(?:"([^"]*)"[^\s,"]*|([^\s,"/]+))\s*(?:,|$)')
_NO_ELEMENT = re.compile(r"[\s,]*")
_ANY = "*"
_DIGITS = 20
"""Every number has fewer digits than this."""
_MARKS: dict[Form, str] = {"update": "", "text": ".t", "json": ".j", "markdown": ".m", "html": ".h"}


class EntityTags(Struct, frozen=True):
    """The value of If-Match or If-None-Match: a set of tags, or `*`."""

    tags: frozenset[str]
    any: bool = False

    @classmethod
    def parse(cls, header: str, name: str) -> "EntityTags":
        """Parse a list of tags and keep the gateway's own; tags of other servers match nothing here.

        Weak and strong tags are treated alike, and the suffix that a compressing proxy adds to a tag (`-gzip`, `;gzip`)
        is dropped, since the tag still names the same state. Missing quotes and empty elements are tolerated.

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
        """Whether one of the tags names the representation `tag` (without quotes; None: there is no representation)."""
        return tag is not None and (self.any or tag in self.tags)

    def newest(self, life: str) -> int:
        """Return the highest number among the tags of an incarnation or epoch; 0 if there is none."""
        numbers = [tag.split(".")[1] for tag in self.tags if tag.startswith(f"{life}.")]
        return max((int(number) for number in numbers if len(number) < _DIGITS), default=0)

    def others(self, life: str) -> bool:
        """Whether there are tags, but none of the given incarnation."""
        return bool(self.tags) and not any(tag.startswith(f"{life}.") for tag in self.tags)

    def match_state(self, state: str | None) -> bool:
        """Whether one of the tags names a representation of `state` in any form (None: there is no state)."""
        return state is not None and (self.any or any(state + mark in self.tags for mark in _MARKS.values()))


def entity_tag(head: FileHead, form: Form = "update") -> str:
    """Return the tag of a file's newest state in the given form, without quotes."""
    return version_tag(head.incarnation, head.version, form)


def version_tag(incarnation: str, version: int, form: Form = "update") -> str:
    """Return the tag of a version in the given form, without quotes."""
    return f"{incarnation}.{version}{_MARKS[form]}"


def turn_tag(project: ProjectHead, head: TurnHead) -> str:
    """Return the tag of a turn's state, without quotes: the project's epoch and the sequence of the last change."""
    return f"{project.epoch}.{head.sequence}"
