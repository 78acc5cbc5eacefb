"""Rooms over a storage, without a gateway around them."""

from gateway.files.documents import Documents
from gateway.files.store import Files
from gateway.presence.presence import Presence
from gateway.rooms.rooms import Rooms
from gateway.shared_turn import SharedTurn
from gateway.watch.hub import Hub
from storage.sqlite import SQLiteStorage


def open_rooms(
    storage: SQLiteStorage,
    *,
    queue_limit: int,
    inbox_limit: int,
    connection_limit: int,
    window: float = 0.0,
    size_limit: int | None = None,
    turn: SharedTurn | None = None,
) -> Rooms:
    """Return rooms with documents, presence and watched projects of their own. The arguments are those of `Rooms`;
    `size_limit` is that of a document."""
    limits = {} if size_limit is None else {"size_limit": size_limit}
    documents, hub = Documents(storage, memory_limit=2**24, **limits), Hub(storage)
    return Rooms(
        storage,
        Files(storage, documents, hub),
        documents,
        Presence(storage, hub),
        window=window,
        queue_limit=queue_limit,
        inbox_limit=inbox_limit,
        connection_limit=connection_limit,
        turn=turn or SharedTurn(),
    )
