"""Shapes of requests and answers about one file, and about its past."""

import base64
from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType

from gateway.wire.values import LARGEST_INTEGER


class Receipt(Struct, frozen=True, gc=False):
    """What a write answers."""

    path: str
    version: int
    last_modified: str
    """RFC 3339 in UTC with milliseconds."""
    cursor: str
    """The point in the project's sequence at which this version was written."""
    changed: bool
    """False where the write added nothing: no new version was made."""
    incomplete: bool | UnsetType = UNSET
    """True where a part of the update was left out: it builds on something that the gateway lacks."""
    state_vector: str | UnsetType = UNSET
    """With `incomplete`: what the gateway has now, base64url."""
    merged: bool | UnsetType = UNSET
    """With a base version: true where the file had moved on, so that the text is not the one that was sent."""

    @property
    def known_state(self) -> bytes | None:
        """What the gateway has, as a state vector, where a part of the update was left out."""
        if not isinstance(self.state_vector, str):
            return None
        return base64.urlsafe_b64decode(self.state_vector + "=" * (-len(self.state_vector) % 4))


class FileEntry(Struct, frozen=True, gc=False):
    path: str
    version: int
    last_modified: str
    size: int
    """Bytes of the updates stored for the file's present incarnation."""


class FileListing(Struct, frozen=True, gc=False):
    files: list[FileEntry]
    cursor: str
    next: str | None
    """The `after` of the next page; null on the last."""


class DeletedFile(Struct, frozen=True, gc=False):
    """A file that was deleted and can be restored."""

    path: str
    version: int
    """That of the tombstone; the version before it is what the file was last."""
    last_modified: str
    author: str | None
    """Who deleted the file, if that was said."""


class DeletedListing(Struct, frozen=True, gc=False):
    files: list[DeletedFile]
    cursor: str
    next: str | None
    """The `after` of the next page; null on the last."""


class VersionEntry(Struct, frozen=True, gc=False, omit_defaults=True):
    """A version of a file, or with `group` a run of versions of one author."""

    version: int
    """With `group` the newest of the run."""
    last_modified: str
    size: int
    """Bytes of the updates stored for the incarnation of the file up to this version."""
    author: str | None
    """Who wrote it; null where nobody was named."""
    deleted: bool | UnsetType = UNSET
    """True where the version is a tombstone."""
    first_version: int | UnsetType = UNSET
    """With `group` the oldest of the run."""


class History(Struct, frozen=True, gc=False):
    versions: list[VersionEntry]
    """Newest first."""
    next: int | None
    """The `before` of the next page; null on the last."""


class TextEdit(Struct, frozen=True, gc=False):
    """Replace the code points from `start` to `end` of the older text with `text`."""

    start: int
    end: int
    text: str


class TextDifference(Struct, frozen=True, gc=False, rename={"older": "from", "newer": "to"}):
    older: int
    newer: int
    edits: list[TextEdit]
    """In order, positions in the older text."""


class RestoreRequest(Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    version: Annotated[int, Meta(ge=1, le=LARGEST_INTEGER)]


class RequestedEdit(Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """Either `old` and `new`, or `start`, `end` and `text`."""

    old: str | UnsetType = UNSET
    """A text that must be there exactly once."""
    new: str | UnsetType = UNSET
    """What replaces it."""
    all: bool = False
    """Replace every occurrence of `old`."""
    start: Annotated[int, Meta(ge=0, le=LARGEST_INTEGER)] | UnsetType = UNSET
    """The range to be replaced, in UTF-16 code units."""
    end: Annotated[int, Meta(ge=0, le=LARGEST_INTEGER)] | UnsetType = UNSET
    text: str | UnsetType = UNSET
    """What replaces the range."""


class EditRequest(Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    edits: Annotated[list[RequestedEdit], Meta(min_length=1, max_length=1000)]
    """All mean the same text: that of the base version, else the present one."""
    base_version: Annotated[int, Meta(ge=1, le=LARGEST_INTEGER)] | None = None
    root: str | None = None
    """The name of the root `Y.Text`; `content` unless said otherwise."""


class MoveRequest(Struct, frozen=True, gc=False, rename={"source": "from", "target": "to"}, forbid_unknown_fields=True):
    source: str
    target: str
