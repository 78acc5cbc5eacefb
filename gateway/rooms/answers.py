"""Answers to sync steps 1 that are not made twice, and the order in which they are made: each walks over a document."""

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
    """The newest answer of each room, within a bound for all. Who asks with the same state vector is sent the same.

    Args:
        limit: bytes of all answers together.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._size = 0
        self._answers: OrderedDict[R, _Answer] = OrderedDict()

    def find(self, room: R, state_vector: bytes) -> tuple[bytes, int] | None:
        """The message for a client with a state vector, and the version that the client has then."""
        answer = self._answers.get(room)
        if answer is None or answer.state_vector != state_vector:
            return None
        self._answers.move_to_end(room)
        return answer.message, answer.version

    def keep(self, room: R, state_vector: bytes, message: bytes, version: int) -> None:
        """Remember an answer; the least recently used ones make room for it."""
        self.forget(room)
        size = len(state_vector) + len(message)
        if size > self._limit:
            return
        self._answers[room] = _Answer(state_vector, message, version)
        self._size += size
        while self._size > self._limit:
            self._drop(self._answers.popitem(last=False)[1])

    def forget(self, room: R) -> None:
        """Forget the answer of a room: its document has changed, or nobody is there."""
        answer = self._answers.pop(room, None)
        if answer is not None:
            self._drop(answer)

    def _drop(self, answer: _Answer) -> None:
        self._size -= len(answer.state_vector) + len(answer.message)


class Turns:
    """Lets those who are about to do something slow go one by one, with a turn for everybody else between them."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()

    async def take(self) -> None:
        """Wait for one's turn."""
        async with self._lock:
            await asyncio.sleep(0)
