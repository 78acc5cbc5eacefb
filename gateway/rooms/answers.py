"""A cache of answers to sync step 1, and a queue that computes them one at a time: each walks over a document."""

import asyncio
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, NamedTuple, TypeVar

from gateway.asgi.frames import binary_frame, binary_frame_parts
from gateway.pace import join_parts
from gateway.yjs.messages import sync_step_2, sync_step_2_parts

R = TypeVar("R", bound=Hashable)


_LARGE = 64 * 1024


class Answer(NamedTuple):
    """What a client with a state vector is sent."""

    message: bytes
    frame: bytes
    """The message as encoded by `binary_frame`, once for all clients."""
    version: int
    """The version that the client has after it."""

    @property
    def large(self) -> bool:
        """Whether it takes long to send, so that the clients who get it take turns."""
        return len(self.message) > _LARGE


async def answer_with(update: bytes, version: int) -> Answer:
    """Return the answer that holds an update. Each of the two copies of a large one is made in another thread."""
    if len(update) <= _LARGE:
        message = sync_step_2(update)
        return Answer(message, binary_frame(message), version)
    message = await join_parts(sync_step_2_parts(update))
    return Answer(message, await join_parts(binary_frame_parts(message)), version)


class _Kept(NamedTuple):
    state_vector: bytes
    answer: Answer

    @property
    def size(self) -> int:
        return len(self.state_vector) + len(self.answer.message) + len(self.answer.frame)


class Answers(Generic[R]):
    """The newest answer of each room, within one bound for all. Clients with the same state vector get the same answer.

    Args:
        limit: bytes of all answers together.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._size = 0
        self._kept: OrderedDict[R, _Kept] = OrderedDict()

    def find(self, room: R, state_vector: bytes) -> Answer | None:
        """Return the answer for a client with this state vector."""
        kept = self._kept.get(room)
        if kept is None or kept.state_vector != state_vector:
            return None
        self._kept.move_to_end(room)
        return kept.answer

    def keep(self, room: R, state_vector: bytes, answer: Answer) -> None:
        """Remember an answer; evict the least recently used answers to stay within the limit."""
        self.forget(room)
        kept = _Kept(state_vector, answer)
        if kept.size > self._limit:
            return
        self._kept[room] = kept
        self._size += kept.size
        while self._size > self._limit:
            self._size -= self._kept.popitem(last=False)[1].size

    def forget(self, room: R) -> None:
        """Forget the answer of a room: its document has changed, or the last client has left."""
        kept = self._kept.pop(room, None)
        if kept is not None:
            self._size -= kept.size


class Turns:
    """Lets callers start slow work one at a time, and yields to the event loop between them."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()

    async def take(self) -> None:
        """Wait until it is the caller's turn."""
        async with self._lock:
            await asyncio.sleep(0)
