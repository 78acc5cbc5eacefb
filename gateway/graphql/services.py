"""The services that resolvers use, and the bounds of one request."""

from msgspec import Struct

from gateway.changes.feed import Feed
from gateway.changes.status import Changes
from gateway.files.history import Versions
from gateway.files.store import Files
from gateway.turns.store import Turns
from gateway.watch.hub import Hub


class Services(Struct, frozen=True):
    """The parts of the gateway that resolvers use."""

    hub: Hub
    files: Files
    versions: Versions
    changes: Changes
    feed: Feed
    turns: Turns
    prompt_limit: int
    """Bytes of a turn's prompt."""
    answer_bytes: int
    """Approximate bytes of documents, texts and blocks that one request may read."""
    body_limit: int
    """Bytes of a request."""
    heartbeat: float
    """Seconds of silence after which an event stream sends a comment."""
