"""Decoding of the blocks that a client appends. Pure: a large batch is decoded in a worker process."""

from gateway.wire.json import decode_json, json_bytes
from gateway.wire.turns import BlockBatch
from storage import NewBlock


def given_blocks(body: bytes) -> tuple[int | None, tuple[NewBlock, ...]]:
    """Return the requested index of the first block, if any, and the blocks in their stored form.

    Raises:
        InvalidBody
    """
    batch = decode_json(body, BlockBatch)
    return batch.first_index, tuple(NewBlock(block.type, json_bytes(block.content)) for block in batch.blocks)
