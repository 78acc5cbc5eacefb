"""Structs of the list of projects."""

from msgspec import Struct


class ProjectEntry(Struct, frozen=True, gc=False):
    """A project."""

    id: str
    cursor: str
    """The newest position in the project's sequence of changes."""
    last_modified: str
    files: int | None
    """The number of files that exist; null where the credential sees only some of them."""
    size: int | None
    """Bytes of the updates stored for these files, without what is stored of deleted ones; null as for `files`."""


class ProjectListing(Struct, frozen=True, gc=False):
    projects: list[ProjectEntry]
    next: str | None
    """The `after` of the next page; null on the last page."""
