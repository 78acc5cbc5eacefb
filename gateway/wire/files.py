"""Structs of the requests and answers about one file and its history."""

import base64
from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from gateway.wire.values import LARGEST_INTEGER


class Receipt(Struct, frozen=True, gc=False):
    """The answer to a write."""

    path: str
    version: int
    last_modified: str
    """RFC 3339 in UTC with milliseconds."""
    cursor: str
    """The point in the project's sequence at which this version was written."""
    changed: bool
    """False if the write added nothing, so no new version was created."""
    incomplete: bool | UnsetType = UNSET
    """True if a part of the update was not applied because it builds on updates that the gateway is missing."""
    state_vector: str | UnsetType = UNSET
    """With `incomplete`: the gateway's state vector after the write, base64url."""
    merged: bool | UnsetType = UNSET
    """With a base version: true if the file had changed since that version, so the text differs from what was sent."""

    @property
    def known_state(self) -> bytes | None:
        """The gateway's state vector if a part of the update was not applied, else None."""
        if not isinstance(self.state_vector, str):
            return None
        return base64.urlsafe_b64decode(self.state_vector + "=" * (-len(self.state_vector) % 4))


class FileEntry(Struct, frozen=True, gc=False):
    path: str
    version: int
    last_modified: str
    size: int
    """Bytes of the updates stored for the file's current incarnation."""


class FileListing(Struct, frozen=True, gc=False):
    files: list[FileEntry]
    cursor: str
    next: str | None
    """The `after` of the next page; null on the last page."""


class DeletedFile(Struct, frozen=True, gc=False):
    """A deleted file that can be restored."""

    path: str
    version: int
    """The version of the tombstone; the version before it holds the last content of the file."""
    last_modified: str
    author: str | None
    """Who deleted the file, if known."""


class DeletedListing(Struct, frozen=True, gc=False):
    files: list[DeletedFile]
    cursor: str
    next: str | None
    """The `after` of the next page; null on the last page."""


class VersionEntry(Struct, frozen=True, gc=False, omit_defaults=True):
    """A version of a file or, with `group`, consecutive versions by one author."""

    version: int
    """With `group`: the newest version of the group."""
    last_modified: str
    size: int
    """Bytes of the updates stored for the file's incarnation up to this version."""
    author: str | None
    """Who wrote the version; null if unknown."""
    credential: str | UnsetType = UNSET
    """The id of the credential that the version was written with, or several ids, separated by a comma and a space."""
    deleted: bool | UnsetType = UNSET
    """True if the version is a tombstone."""
    first_version: int | UnsetType = UNSET
    """With `group`: the oldest version of the group."""


class History(Struct, frozen=True, gc=False):
    versions: list[VersionEntry]
    """Newest first."""
    next: int | None
    """The `before` of the next page; null on the last page."""


class TextEdit(Struct, frozen=True, gc=False):
    """Replaces the code points from `start` to `end` of the older text with `text`."""

    start: int
    end: int
    text: str


class TextDifference(Struct, frozen=True, gc=False, rename={"older": "from", "newer": "to"}):
    older: int
    newer: int
    edits: list[TextEdit]
    """In ascending order; positions refer to the older text."""


class RestoreRequest(Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    version: Annotated[int, Meta(ge=1, le=LARGEST_INTEGER)]


class RequestedEdit(Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """An edit, given as either `old` and `new` or `start`, `end` and `text`."""

    old: str | UnsetType = UNSET
    """The text to replace, which must occur exactly once unless `all` is set."""
    new: str | UnsetType = UNSET
    """The replacement for `old`."""
    all: bool = False
    """Replace every occurrence of `old`."""
    start: Annotated[int, Meta(ge=0, le=LARGEST_INTEGER)] | UnsetType = UNSET
    """The start of the range to replace, in UTF-16 code units, as is `end`."""
    end: Annotated[int, Meta(ge=0, le=LARGEST_INTEGER)] | UnsetType = UNSET
    text: str | UnsetType = UNSET
    """The replacement for the range."""


class EditRequest(Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    edits: Annotated[list[RequestedEdit], Meta(min_length=1, max_length=1000)]
    """All edits refer to the same text: that of `base_version` if given, else the current one."""
    base_version: Annotated[int, Meta(ge=1, le=LARGEST_INTEGER)] | None = None
    root: str | None = None
    """The name of the root. Default: `content`; with `format` markdown, the only root with rich text."""
    format: Literal["text", "markdown"] = "text"
    """Whether the edits are of the text of a `Y.Text`, or of the rich text of a `Y.XmlFragment` as Markdown."""


class MoveRequest(Struct, frozen=True, gc=False, rename={"source": "from", "target": "to"}, forbid_unknown_fields=True):
    source: str
    target: str
