"""A cache of answers to sync step 1, and a queue that computes them one at a time: each walks over a document."""

import asyncio
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, NamedTuple, TypeVar

R = TypeVar("R", bound=Hashable)


class _Answer(NamedTuple):
    state_vector: bytes
    message: bytes
    version: int


class Answers(Generic[R]):
    """The newest answer of each room, within one bound for all. Clients with the same state vector get the same answer.

    Args:
        limit: bytes of all answers together.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._size = 0
        self._answers: OrderedDict[R, _Answer] = OrderedDict()

    def find(self, room: R, state_vector: bytes) -> tuple[bytes, int] | None:
        """Return the message for a client with this state vector, and the version that the client has after it."""
        answer = self._answers.get(room)
        if answer is None or answer.state_vector != state_vector:
            return None
        self._answers.move_to_end(room)
        return answer.message, answer.version

    def keep(self, room: R, state_vector: bytes, message: bytes, version: int) -> None:
        """Remember an answer; evict the least recently used answers to stay within the limit."""
        self.forget(room)
        size = len(state_vector) + len(message)
        if size > self._limit:
            return
        self._answers[room] = _Answer(state_vector, message, version)
        self._size += size
        while self._size > self._limit:
            self._drop(self._answers.popitem(last=False)[1])

    def forget(self, room: R) -> None:
        """Forget the answer of a room: its document has changed, or the last client has left."""
        answer = self._answers.pop(room, None)
        if answer is not None:
            self._drop(answer)

    def _drop(self, answer: _Answer) -> None:
        self._size -= len(answer.state_vector) + len(answer.message)


class Turns:
    """Lets callers start slow work one at a time, and yields to the event loop between them."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()

    async def take(self) -> None:
        """Wait until it is the caller's turn."""
        async with self._lock:
            await asyncio.sleep(0)
