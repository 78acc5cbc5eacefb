"""Long walks in the event loop, with a turn for everybody else now and then."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import TypeVar

T = TypeVar("T")

_STEPS = 512
"""How many items are walked in one turn: a few µs each, so a millisecond or two."""


async def with_turns(items: Iterable[T], steps: int = _STEPS) -> AsyncIterator[T]:
    """The items, one by one, with a turn of the event loop after every `steps` of them.

    What the walk reads may change between two turns: `items` must not.
    """
    for count, item in enumerate(items, 1):
        yield item
        if count % steps == 0:
            await asyncio.sleep(0)
