"""How a reader is sent a message: what webhooks and Web Push have in common."""

from typing import Protocol

from msgspec import Struct

from gateway.changes.feed import Batch
from gateway.readers.reader import ReaderSettings
from storage import Reader


class Sent(Struct, frozen=True):
    """What came of an attempt."""

    delivered: bool
    status: int | None = None
    error: str | None = None
    retry_after: float | None = None
    """Seconds that the receiver asks for."""
    ended: str | None = None
    """Why the receiver is to be sent nothing any more."""


class Door(Protocol):
    """Sends the messages of one kind of reader."""

    spacing_seconds: float
    """From one message to the next, but for the end of a turn."""
    most_changes: int
    """How many changes a message has."""

    async def send(self, reader: Reader, settings: ReaderSettings, batch: Batch, now: int) -> Sent:
        """One attempt. The same batch makes the same message."""
