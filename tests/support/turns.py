"""Turns of the event loop."""

import asyncio
from collections.abc import Callable


async def until(come: Callable[[], bool]) -> None:
    """Let others have turns of the event loop until something has come, without a sleep."""
    while True:
        if come():
            return
        await asyncio.sleep(0)
