"""Cursors: the position of a client in a project's sequence, and what happened to a file since then."""

from msgspec import Struct

from gateway.wire.changes import ChangeType
from gateway.wire.problems import InvalidCursor
from gateway.wire.values import Cursor
from storage import FileHead, ProjectHead, Storage


class Position(Struct, frozen=True, gc=False):
    """The position of a client in a project's sequence."""

    sequence: int | None
    """None: at the beginning."""
    reset: bool = False
    """Whether the client must start over: its cursor is of another epoch, or older than a purged tombstone."""
    began: int | None = None
    """The sequence at the start of a first listing that is still being paged; None otherwise."""

    def cursor(self, now: ProjectHead, sequence: int, *, more: bool) -> str:
        """Return the cursor of an answer that covers the log up to `sequence`. In a paged first listing the cursor
        records where the listing began: the client needs no tombstones of files that it has not seen."""
        began = now.sequence if self.sequence is None else self.began
        return str(Cursor(now.epoch, sequence, began if more else None))


async def change_type_since(storage: Storage, project: str, head: FileHead, since: int) -> ChangeType:
    """Return what happened to a file after `since`, for a client that followed the project up to `since`."""
    if head.deleted:
        return "deleted"
    if head.born_sequence <= since:
        return "modified"
    existed = head.born_version > 1 and await storage.existed_at(project, head.path, since)
    return "modified" if existed else "created"


def parse_cursor(text: str) -> Cursor:
    """Parse a cursor; raise InvalidCursor if no gateway could have issued `text`."""
    try:
        return Cursor.parse(text)
    except ValueError:
        raise InvalidCursor from None


async def position_of(storage: Storage, project: str, cursor: str | None, now: ProjectHead) -> Position:
    """Return the position of a cursor.

    If a cursor is ahead of `now`, the known head, storage is asked: the client may have the cursor from another
    gateway, or from a read of a commit that this gateway has not been notified of yet.
    """
    if cursor is None:
        return Position(None)
    parsed = parse_cursor(cursor)
    if parsed.epoch == now.epoch and parsed.sequence > now.sequence:
        now = await storage.catch_up(project) or now
    if parsed.epoch != now.epoch or parsed.sequence > now.sequence:
        return Position(None, reset=True)
    if parsed.sequence != now.sequence:
        known = parsed.sequence if parsed.began is None else parsed.began
        if known < await storage.tombstone_floor(project):
            return Position(None, reset=True)
    return Position(parsed.sequence, began=parsed.began)
