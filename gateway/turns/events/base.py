"""The common base of the formats: notes how much of each block was sent, and finds out what is to be sent of it."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar, Literal

import msgspec
from msgspec import Raw, Struct

from storage import BlockType, StoredBlock, TurnHead

Ending = Literal["restart", "expired", "revoked"]
"""Why a stream ends before its turn: the gateway stops, or the credential is no longer valid."""

PIECE_LENGTH = 64 * 1024
"""The longest text in one event, in characters."""
PIECE_BYTES = 64 * 1024
"""How many bytes of a value are copied at once."""
PLACE = Raw(b"\0")
"""Stands for a value in an encoded event. No JSON contains this byte."""
PROSE = frozenset[BlockType]({"text", "thinking"})


class _Sent(Struct):
    """What was sent of a block that may still grow."""

    type: BlockType
    part: str
    """The id under which its text was sent; empty if the block was not sent as a text."""
    length: int
    """How many characters of its text were sent."""
    digest: int
    """The hash of the text, or of the whole content, that was sent."""
    revision: int = 0


class TurnEvents(ABC):
    """Encodes one stream of the events of a turn. The stream keeps no content, only what tells whether it has grown.

    Every method returns complete server-sent events as bytes, or yields them: a long one in parts, which may be empty.
    """

    headers: ClassVar[list[tuple[bytes, bytes]]] = []
    """Response headers in addition to those of every event stream."""
    ends_early: ClassVar[bool] = False
    """Whether a stream may end, as if it were complete, before the turn has ended: the client then asks again. Without
    it, the connection is closed in the middle of the response, which the client takes for a broken connection."""

    def __init__(self, session_id: str, turn_id: str) -> None:
        self.session_id = session_id
        self.turn_id = turn_id
        self._sent: dict[int, _Sent] = {}
        """By index. Blocks that can no longer grow are not kept."""
        self._stable = 0
        """How many of the blocks that were sent can no longer grow."""

    def blocks(self, head: TurnHead, blocks: Sequence[StoredBlock], position: int) -> Iterator[bytes]:
        """Yield the events for a page of blocks, which begins with the oldest one that may have grown.

        Args:
            head: the turn as of the read of the page.
            position: how many blocks a client has that has received this page.
        """
        first = blocks[0].index if blocks else position
        return self._events(blocks, first, first if head.grown else position)

    def _events(self, blocks: Sequence[StoredBlock], first: int, stable: int) -> Iterator[bytes]:
        yield from self._close(first)
        for block in blocks:
            if block.index >= self._stable:
                yield from self._block(block, stable)
            yield from self._close(min(stable, block.index + 1))
        yield from self._close(stable)

    def _close(self, stable: int) -> Iterator[bytes]:
        """Close the blocks before `stable`, which no longer grow."""
        self._stable = max(self._stable, stable)
        for index in [index for index in self._sent if index < stable]:
            sent = self._sent.pop(index)
            if sent.part:
                yield from self.text_ends(sent.type, sent.part)

    def _block(self, block: StoredBlock, stable: int) -> Iterator[bytes]:
        text = _text_of(block)
        sent = self._sent.get(block.index)
        if text is None or (sent is not None and not sent.part):
            digest = hash(block.content) if block.index >= stable or sent is not None else 0
            if sent is None or sent.digest != digest:
                self._sent[block.index] = _Sent(block.type, "", 0, digest)
                yield from self.value(block, growing=block.index >= stable, stable=stable)
            return
        if sent is None:
            sent = self._sent[block.index] = _Sent(block.type, f"{self.turn_id}.{block.index}", 0, hash(""))
            yield from self.text_begins(block, sent.part, text, stable)
        elif len(text) < sent.length or hash(text[: sent.length]) != sent.digest:
            yield from self.text_ends(sent.type, sent.part)
            sent.revision += 1
            sent.part, sent.length = f"{self.turn_id}.{block.index}.{sent.revision}", 0
            yield from self.text_begins(block, sent.part, text, stable)
        else:
            yield from self.text_grows(block, sent.part, text[sent.length :], stable)
        sent.length, sent.digest = len(text), hash(text)

    def end(self, head: TurnHead) -> bytes:
        """Return the events that end the stream of a finished turn."""
        return b"".join([*self._close(head.block_count), *self.ended(head)])

    # What each format does

    @abstractmethod
    def begin(self, head: TurnHead) -> bytes:
        """Return the events that begin a stream."""

    def changed(self, head: TurnHead) -> bytes:
        """Return the event that tells of a change of an unfinished turn other than of its blocks."""
        return b""

    @abstractmethod
    def value(self, block: StoredBlock, *, growing: bool, stable: int) -> Iterable[bytes]:
        """Send a block that is not a text, or its new content."""

    @abstractmethod
    def text_begins(self, block: StoredBlock, part: str, text: str, stable: int) -> Iterable[bytes]:
        """Send the text of a block under the id `part`, from its beginning."""

    @abstractmethod
    def text_grows(self, block: StoredBlock, part: str, text: str, stable: int) -> Iterable[bytes]:
        """Send what was added to a text; `text` may be empty."""

    def text_ends(self, type: BlockType, part: str) -> Iterable[bytes]:
        """Send that the text `part` is complete."""
        return ()

    @abstractmethod
    def ended(self, head: TurnHead) -> Iterable[bytes]:
        """Send how the turn has ended."""

    def heartbeat(self) -> bytes:
        """Return what is sent when there has been nothing to send for a while."""
        return b": \n\n"

    @abstractmethod
    def broken(self, reason: Ending) -> bytes:
        """Return the events that tell the client that the stream ends before the turn."""


def event(data: Any) -> bytes:
    """Return an event that consists of data only."""
    return b"data: %b\n\n" % msgspec.json.encode(data)


def event_with_value(data: dict[str, Any], name: str) -> Iterator[bytes]:
    """Yield an event in which the member `name` is encoded JSON: in parts, if that is long."""
    yield from in_parts(event({**data, name: PLACE}), data[name])


def in_parts(encoded: bytes, value: Raw) -> Iterator[bytes]:
    """Yield what was encoded with a `PLACE` for a value: each copy of a value of 10 MB takes some ms."""
    before, after = encoded.split(b"\0")
    view = memoryview(value)
    if len(view) <= PIECE_BYTES:
        yield b"".join((before, view, after))
        return
    yield before
    for start in range(0, len(view), PIECE_BYTES):
        yield bytes(view[start : start + PIECE_BYTES])
    yield after


def pieces(text: str) -> Iterator[str]:
    """Split a text into pieces for one event each."""
    for start in range(0, len(text), PIECE_LENGTH):
        yield text[start : start + PIECE_LENGTH]


def _text_of(block: StoredBlock) -> str | None:
    """Return the text of a block of prose; None if it is another value."""
    if block.type not in PROSE or not block.content.lstrip().startswith(b'"'):
        return None
    text: str = msgspec.json.decode(block.content, type=str)
    return text
