"""Entity tags of files and turns, and lists of them (RFC 9110 §8.8.3, §13.1): pure."""

import re
from typing import Literal

from msgspec import Struct

from gateway.wire.problems import InvalidParameter
from storage import FileHead, ProjectHead, TurnHead

_OWN_TAG = re.compile(r"[0-9a-z]+(?:\.[0-9]+){1,2}(?:\.[jt])?(?![0-9A-Za-z.])")


def own_tag(text: str) -> str | None:
    """The tag of this gateway that an opaque tag (without quotes) begins with; None if that is a tag of another server.

    What follows is a mark of a proxy, which may mark the tags of what it compresses: `-gzip`, `--gzip`, `;gzip`, `-br`.
    """
    match = _OWN_TAG.match(text)
    return None if match is None else match[0]


Form = Literal["update", "text", "json"]
"""How a document is written in an answer: each form is a representation of its own (RFC 9110 §3.2)."""

_ELEMENT = re.compile(r'[\s,]*(?:[Ww]/)?(?:"([^"]*)"[^\s,"]*|([^\s,"/]+))\s*(?:,|$)')
_NO_ELEMENT = re.compile(r"[\s,]*")
_ANY = "*"
_DIGITS = 20
"""No number has so many."""
_MARKS: dict[Form, str] = {"update": "", "text": ".t", "json": ".j"}


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

    def newest(self, life: str) -> int:
        """The highest number that one of the tags has in an incarnation or an epoch; 0: none is of it."""
        numbers = [tag.split(".")[1] for tag in self.tags if tag.startswith(f"{life}.")]
        return max((int(number) for number in numbers if len(number) < _DIGITS), default=0)

    def others(self, life: str) -> bool:
        """Whether there are tags, and none is of that incarnation."""
        return bool(self.tags) and not any(tag.startswith(f"{life}.") for tag in self.tags)

    def match_state(self, state: str | None) -> bool:
        """Whether one of the tags names a representation of `state`, in whatever form (None: nothing is there)."""
        return state is not None and (self.any or any(state + mark in self.tags for mark in _MARKS.values()))


def entity_tag(head: FileHead, form: Form = "update") -> str:
    """The tag of a file's newest state in a form, without quotes."""
    return version_tag(head.incarnation, head.version, form)


def version_tag(incarnation: str, version: int, form: Form = "update") -> str:
    """The tag of a version in a form, without quotes."""
    return f"{incarnation}.{version}{_MARKS[form]}"


def turn_tag(project: ProjectHead, head: TurnHead) -> str:
    """The tag of a turn's state, without quotes: the place of its last change in its project's life."""
    return f"{project.epoch}.{head.sequence}"
