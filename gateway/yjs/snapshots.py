"""The body of a stored snapshot: a whole document as one update, compressed where that saves space. Pure.

A compressed body is a prefix with which no update begins, the length of the update, and the update in the zlib format.
Every other body is the update itself, as all snapshots were stored before there were compressed ones.
"""

import io
import zlib
from collections.abc import Iterator, Sequence

from gateway.yjs.lib0 import MalformedUpdate, uint, var_uint
from gateway.yjs.updates import prove_snapshot

_COMPRESSED = b"\xff" * 7 + b"\xfe"
"""No update begins like this: it would be a number of more than 53 bits. Nor does a row that names surrogate pairs."""
_LEAST_BYTES = 1024
"""An update of at most this many bytes is not worth compressing."""
_LEAST_SAVED = 10
"""A body is stored compressed if at least one byte in this many is saved."""
_COMPRESSED_PIECE, _PIECE = 2**16, 2**18
"""How many bytes are decompressed at once, and the most bytes that these make at once."""
_LEVEL = 6
"""Level 9 of zlib takes several times as long and saves 2 % more."""


class SnapshotDamaged(ValueError):
    """A compressed snapshot cannot be restored."""


def make_snapshot(rows: Sequence[bytes]) -> bytes:
    """Return the body of a snapshot of the document built from stored rows, after a check as of `prove_snapshot`.

    Raises:
        SnapshotFault: the snapshot does not, and must not be used.
    """
    return compress(prove_snapshot(rows))


def compress(update: bytes) -> bytes:
    """Return the body of the snapshot that holds an update."""
    if len(update) <= _LEAST_BYTES:
        return update
    body = _COMPRESSED + var_uint(len(update)) + zlib.compress(update, _LEVEL)
    return body if len(body) <= len(update) - len(update) // _LEAST_SAVED else update


def update_size(body: bytes) -> int:
    """Return the number of bytes of the update in a snapshot.

    Raises:
        SnapshotDamaged
    """
    return _read_size(body)[0] if is_compressed(body) else len(body)


def is_compressed(body: bytes) -> bool:
    """Return whether the update in a snapshot is compressed."""
    return body.startswith(_COMPRESSED)


def decompress(body: bytes) -> bytes:
    """Return the update in a snapshot; it is no longer than the snapshot says.

    Raises:
        SnapshotDamaged
    """
    if not is_compressed(body):
        return body
    size, start = _read_size(body)
    stream = zlib.decompressobj()
    update = io.BytesIO()  # gives the bytes over without a copy
    try:
        for piece in _pieces_in(memoryview(body)[start:], stream):
            update.write(piece)
            if update.tell() > size:
                break
    except zlib.error as error:
        raise SnapshotDamaged(f"the snapshot cannot be decompressed ({error})") from None
    if update.tell() != size or not stream.eof or stream.unused_data:
        raise SnapshotDamaged(f"the snapshot does not hold {size} bytes")
    return update.getvalue()


def _pieces_in(compressed: memoryview, stream: "zlib._Decompress") -> Iterator[bytes]:
    """Yield what a stream decompresses, in pieces: at its end, zlib copies all that it has made in one call, and holds
    the GIL for it."""
    for start in range(0, len(compressed), _COMPRESSED_PIECE):
        if stream.eof:
            raise zlib.error("more follows its end")
        given: memoryview | bytes = compressed[start : start + _COMPRESSED_PIECE]
        made = b""
        while not stream.eof and (given or len(made) == _PIECE):
            made = stream.decompress(given, _PIECE)
            yield made
            given = stream.unconsumed_tail


def _read_size(body: bytes) -> tuple[int, int]:
    """Return the size of the update in a compressed body, and where the compressed bytes begin."""
    try:
        return uint(body, len(_COMPRESSED))
    except (IndexError, MalformedUpdate):
        raise SnapshotDamaged("the snapshot has no length") from None
