"""The interface for sending a reader a message, common to webhooks and Web Push."""

from typing import Protocol

from msgspec import Struct

from gateway.changes.feed import Batch
from gateway.readers.reader import ReaderSettings
from storage import Reader


class Sent(Struct, frozen=True):
    """The outcome of an attempt."""

    delivered: bool
    status: int | None = None
    error: str | None = None
    retry_after: float | None = None
    """Seconds to wait, as requested by the receiver."""
    ended: str | None = None
    """Why the receiver must not be sent anything any more; None: it may."""


class Door(Protocol):
    """Sends the messages of one kind of reader."""

    spacing_seconds: float
    """The minimum between two messages, except for the end of a turn."""
    most_changes: int
    """How many changes a message may contain."""

    async def send(self, reader: Reader, settings: ReaderSettings, batch: Batch, now: int) -> Sent:
        """Make one attempt. The same batch makes the same message."""
