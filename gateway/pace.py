"""Long iterations in the event loop that yield to other tasks at intervals."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import TypeVar

T = TypeVar("T")

_STEPS = 512
"""How many items are processed in one turn: at a few µs each, a millisecond or two."""


async def with_turns(items: Iterable[T], steps: int = _STEPS) -> AsyncIterator[T]:
    """Iterate over items and yield to the event loop after every `steps` of them.

    Other state may change between two turns; `items` must not.
    """
    for count, item in enumerate(items, 1):
        yield item
        if count % steps == 0:
            await asyncio.sleep(0)
