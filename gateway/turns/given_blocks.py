"""The blocks that a client adds, out of JSON. Pure: a large batch is read by a worker process."""

from gateway.wire.json import decode_json, json_bytes
from gateway.wire.turns import BlockBatch
from storage import NewBlock


def given_blocks(body: bytes) -> tuple[int | None, tuple[NewBlock, ...]]:
    """The index that the first block is to have, if that is said, and the blocks as they are stored.

    Raises:
        InvalidBody
    """
    batch = decode_json(body, BlockBatch)
    return batch.first_index, tuple(NewBlock(block.type, json_bytes(block.content)) for block in batch.blocks)
