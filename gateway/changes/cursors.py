"""Where a client stands in a project's sequence, by its cursor, and what happened to a file since."""

from msgspec import Struct

from gateway.wire.changes import ChangeType
from gateway.wire.problems import InvalidCursor
from gateway.wire.values import Cursor
from storage import FileHead, ProjectHead, Storage


class Position(Struct, frozen=True, gc=False):
    """Where a client stands in a project's sequence."""

    sequence: int | None
    """None: at the beginning."""
    reset: bool = False
    """Whether it must start over: its cursor is not of this epoch, or of before a tombstone that is not kept."""
    began: int | None = None
    """In the midst of a listing: where the sequence stood when that began."""

    def cursor(self, now: ProjectHead, sequence: int, *, more: bool) -> str:
        """The cursor of an answer that has looked up to `sequence`. One of many answers to a client that had nothing
        says so: what it has not seen it needs no tombstones of."""
        began = now.sequence if self.sequence is None else self.began
        return str(Cursor(now.epoch, sequence, began if more else None))


async def change_type_since(storage: Storage, project: str, head: FileHead, since: int) -> ChangeType:
    """What happened to a file after `since`, as seen by a client that had followed the project up to there."""
    if head.deleted:
        return "deleted"
    if head.born_sequence <= since:
        return "modified"
    existed = head.born_version > 1 and await storage.existed_at(project, head.path, since)
    return "modified" if existed else "created"


def parse_cursor(text: str) -> Cursor:
    """Raises InvalidCursor if no gateway wrote `text`."""
    try:
        return Cursor.parse(text)
    except ValueError:
        raise InvalidCursor from None


async def position_of(storage: Storage, project: str, cursor: str | None, now: ProjectHead) -> Position:
    """Where a cursor is.

    Where a cursor is above `now`, which was heard of, storage is asked: the client may have it from a read of what was
    durable and not yet heard of here, or from another gateway.
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
