"""Decoding of the blocks that a client appends. Pure: a large batch is decoded in a worker process."""

from collections.abc import Iterator, Sequence
from typing import TypeAlias

import msgspec

from gateway.wire.json import decode_json, json_bytes
from gateway.wire.turns import BlockBatch
from storage import NewBlock

_SLICE_BLOCKS, _SLICE_BYTES = 2048, 2**18
"""How many blocks, of how many bytes, are decoded in a slice: about a millisecond. A longer block is one alone."""
Slice: TypeAlias = bytes | NewBlock
"""Some blocks, encoded for `blocks_of`, or one with a long content."""
_decoder = msgspec.msgpack.Decoder(list[NewBlock])


def given_blocks(body: bytes) -> tuple[int | None, tuple[NewBlock, ...]]:
    """Return the requested index of the first block, if any, and the blocks in their stored form.

    Raises:
        InvalidBody
    """
    batch = decode_json(body, BlockBatch)
    return batch.first_index, tuple(NewBlock(block.type, json_bytes(block.content)) for block in batch.blocks)


def given_slices(body: bytes) -> tuple[int | None, list[Slice]]:
    """Return what `given_blocks` does, with the blocks in slices for `blocks_of`: 100,000 blocks are not read in one
    step of the event loop, and a long content is not copied in one.

    Raises:
        InvalidBody
    """
    first_index, blocks = given_blocks(body)
    return first_index, [
        each[0] if _is_long(each[0]) else msgspec.msgpack.encode(each) for each in _slices(blocks) if each
    ]


def blocks_of(part: Slice) -> list[NewBlock]:
    """Return the blocks of a slice."""
    return _decoder.decode(part) if isinstance(part, bytes) else [part]


def _is_long(block: NewBlock) -> bool:
    return len(block.content) > _SLICE_BYTES


def _slices(blocks: Sequence[NewBlock]) -> Iterator[list[NewBlock]]:
    part, size = list[NewBlock](), 0
    for block in blocks:
        if part and (len(part) == _SLICE_BLOCKS or size + len(block.content) > _SLICE_BYTES):
            yield part
            part, size = [], 0
        part.append(block)
        size += len(block.content)
    yield part
