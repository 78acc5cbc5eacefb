"""The frames of a WebSocket client (RFC 6455 §5.2): where they end, and the messages of the usual ones. Pure."""

import io
import sys

_FINAL_BINARY = 0x82
_MASKED = 0x80
_LONGEST_HEAD = 14
"""Bytes of the head of a large masked frame."""
_TWO_BYTES, _EIGHT_BYTES = 126, 127
"""What stands in the place of a length that has so many bytes of its own."""


def whole_message(data: bytes, at: int) -> tuple[bytes, int] | None:
    """Return the message of the frame that begins at `at`, and where the frame ends.

    None: the frame is not all there, or it is not a binary message in one masked frame of less than 64 KiB.
    """
    if len(data) < at + 6 or data[at] != _FINAL_BINARY:
        return None
    size, start = data[at + 1] - _MASKED, at + 6
    if size == _TWO_BYTES:
        size, start = int.from_bytes(data[at + 2 : at + 4]), at + 8
    elif not 0 <= size < _TWO_BYTES:
        return None
    end = start + size
    if len(data) < end:
        return None
    return _unmasked(data[start:end], data[start - 4 : start]), end


def is_part_of_head(data: bytes, at: int) -> bool:
    """Whether the head of a binary message in one masked frame begins at `at`, of which the end is not there.

    Args:
        at: no whole message begins there.
    """
    there = len(data) - at
    return 0 < there < _LONGEST_HEAD and data[at] == _FINAL_BINARY and (there == 1 or data[at + 1] >= _MASKED)


class LargeMessage:
    """A binary message in one masked frame of 64 KiB or more, which arrives in pieces."""

    __slots__ = ("_mask", "_missing", "_received")

    def __init__(self, size: int, mask: bytes) -> None:
        self._missing = size
        self._mask = mask
        self._received = io.BytesIO()  # gives the bytes over without a copy, which takes 20 ms for 15 MB

    @property
    def complete(self) -> bool:
        return not self._missing

    @property
    def received(self) -> int:
        """How many bytes of the message have arrived."""
        return self._received.tell()

    def add(self, data: bytes) -> int:
        """Add the next bytes; return how many of them are of the message."""
        piece = data[: self._missing]
        turned = self._received.tell() % len(self._mask)
        self._received.write(_unmasked(piece, self._mask[turned:] + self._mask[:turned]))
        self._missing -= len(piece)
        return len(piece)

    def message(self) -> bytes:
        """Return the message, which is complete."""
        return self._received.getvalue()


def large_message(data: bytes, at: int, most: int) -> tuple[LargeMessage, int] | None:
    """Return the large message of at most `most` bytes that begins at `at`, and where its payload begins.

    None: another frame begins there, or its head is not all there.
    """
    start = at + _LONGEST_HEAD
    if len(data) < start or data[at] != _FINAL_BINARY or data[at + 1] != _MASKED | _EIGHT_BYTES:
        return None
    size = int.from_bytes(data[at + 2 : at + 10])
    return (LargeMessage(size, data[start - 4 : start]), start) if 2**16 <= size <= most else None


def _unmasked(payload: bytes, mask: bytes) -> bytes:
    size = len(payload)
    repeated = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, sys.byteorder) ^ int.from_bytes(repeated, sys.byteorder)).to_bytes(
        size, sys.byteorder
    )


class FrameBoundaries:
    """Follows the frames of a client through the pieces in which they are read.

    Args:
        before: how many bytes come before the first frame.
    """

    __slots__ = ("_head", "_left", "between")

    def __init__(self, before: int) -> None:
        self.between = not before
        """Whether the next byte is the first one of a frame."""
        self._head = b""
        """The beginning of a frame of which the length is not known yet."""
        self._left = before
        """How many bytes are missing of the frame that was begun."""

    def end_in(self, data: bytes) -> int:
        """Return where the frame ends that was begun; 0: none was begun, or the end is not in these bytes."""
        end = self._left
        if self._head:
            size = _frame_size(self._head + data[:_LONGEST_HEAD], 0)
            end = 0 if size is None else size - len(self._head)
        return end if end <= len(data) else 0

    def follow(self, data: bytes) -> None:
        """Note the next bytes."""
        data, at = self._head + data, self._left
        while at < len(data):
            size = _frame_size(data, at)
            if size is None:
                self._head, self._left, self.between = data[at:], 0, False
                return
            at += size
        self._head, self._left = b"", at - len(data)
        self.between = not self._left


def _frame_size(data: bytes, at: int) -> int | None:
    """Return the size of the frame that begins at `at`; None: the bytes that say it are not all there."""
    if len(data) < at + 2:
        return None
    size, head = data[at + 1] & ~_MASKED, 2
    if size >= _TWO_BYTES:
        head += 2 if size == _TWO_BYTES else 8
        if len(data) < at + head:
            return None
        size = int.from_bytes(data[at + 2 : at + head])
    return head + (4 if data[at + 1] & _MASKED else 0) + size
