"""The turns of the event loop, which everybody's work shares: short work for very many clients at once, and long work
in slices."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Generator

import structlog

_log = structlog.get_logger("gateway.shared_turn")

_TURN_S = 0.002
"""How long the work for all clients may take in one turn of the loop."""
_UNNOTICED_S = 0.0005
"""Work that takes less is not worth a look at when the turn ends."""
_PAUSE_S = 0.002
"""After such a pause, work is taken to be of another turn."""
_TASK_S = 0.0001
"""What a task is assumed to take that is resumed by `SharedTurn.take`."""
_SLICE_S = 0.0015
"""What a slice of long work is assumed to take."""
_MOST_BRIEF = 32
"""How many times brief work is done in a turn that is over: about a millisecond."""

Pieces = Generator[float, None, float | None]
"""Work in pieces, each of which takes a millisecond or two at most. A piece yields how many seconds of work it leaves
to tasks, which run in the next turn; the last one returns them."""


class SharedTurn:
    """Limits how long the work for all clients takes in one turn of the event loop; the rest is done in later turns.

    What one client asks for may be short, and yet hold the loop for long where hundreds of clients ask for it at once.
    Work that does not fit into a turn is queued, and is done piece by piece, each work in turn. Work that is done at
    once costs no more than a look at the clock.

    Of all long work, one slice is done in a turn (`next_slice`), and only what it leaves of the turn is for the others;
    where others wait, the turns between have no slice.

    Args:
        clock: seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._waiting: deque[Pieces] = deque()
        self._began = self._ended = float("-inf")
        """When the work began that has been going on without a pause, and when its last piece was seen."""
        self._until: float | None = None
        """When this turn is over; None: nobody watches for its end, since little has been done."""
        self._slices: deque[asyncio.Future[None]] = deque()
        """Those who wait to do a slice of long work."""
        self._has_slice = False
        """Whether a slice of long work is done in the next turn."""
        self._brief_done = 0
        """How many times brief work was done in this turn after its end."""

    def is_over(self) -> bool:
        """Whether no more is to be done in this turn: the work is to be given to `run`, which will queue it."""
        if self._waiting:
            return True
        now = self._clock()
        if self._until is None:
            if now - self._ended > _PAUSE_S:
                self._began = now
            elif now - self._began > _UNNOTICED_S:
                self._watch()
        self._ended = now
        return self._until is not None and now >= self._until

    def admits_brief(self) -> bool:
        """Whether brief work, of some 50 µs, is to be done in a turn that is over: that of the first who ask.

        Who polls for changes does not wait for a thousand others then.
        """
        self._brief_done += 1
        return self._brief_done <= _MOST_BRIEF

    def note(self, left: float = 0.0) -> None:
        """Note the end of work that was done at once, since `is_over` was False.

        Args:
            left: how many seconds of work are left to tasks, which run in the next turn.
        """
        self._ended = self._clock()
        self._began -= left

    def run(self, work: Pieces) -> None:
        """Do work piece by piece: now, as far as it fits into this turn, and the rest in later turns."""
        if not self._waiting:
            while not self.is_over():
                if self._do_piece(work):
                    return
        self._waiting.append(work)

    async def take(self) -> None:
        """Wait until the calling task may do a piece of work; the task is to call `note` after it."""
        if self.is_over():
            taken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(_resume(taken))
            await taken

    async def next_slice(self) -> None:
        """Wait for the turn in which the caller may do the next slice of its work."""
        if self._waiting or self._slices or self._has_slice:
            place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._slices.append(place)
            await place
        else:
            self._has_slice = True
            self.is_over()  # when this turn began is looked up, unless it is known
            if self._until is None:
                self._watch()
            await asyncio.sleep(0)

    def _admit_slice(self) -> None:
        """Give the next turn to the first slice of long work that still waits."""
        while self._slices and not self._has_slice:
            place = self._slices.popleft()
            if not place.done():  # it was not cancelled
                place.set_result(None)
                self._has_slice = True

    def _do_piece(self, work: Pieces) -> bool:
        """Do a piece of work; return whether it was the last one."""
        left, is_last = 0.0, True
        try:
            left, is_last = next(work), False
        except StopIteration as end:
            left = end.value or 0.0
        except Exception:
            _log.exception("work for clients failed")
        self._ended = self._clock()
        self._began -= left  # counts as done in this turn
        return is_last

    def _watch(self) -> None:
        """Notice the next turn."""
        self._until = self._began + _TURN_S
        asyncio.get_running_loop().call_soon(self._begin)

    def _begin(self) -> None:
        """Begin a turn: do what waits for it, at least one piece."""
        self._began = self._ended = self._clock()
        self._until = None
        self._brief_done = 0
        has_slice, self._has_slice = self._has_slice, False
        if has_slice or self._waiting or self._slices:
            self._watch()  # before any task is resumed: the next turn begins before the slice that is done in it
        time_left = _TURN_S - _SLICE_S if has_slice else _TURN_S
        while self._waiting:
            work = self._waiting.popleft()
            if not self._do_piece(work):
                self._waiting.append(work)
            if self._ended - self._began >= time_left:
                break
        if not (has_slice and self._waiting):
            self._admit_slice()


def _resume(task: asyncio.Future[None]) -> Pieces:
    """Let a task go on that waits for a future."""
    yield from ()
    if task.done():
        return 0.0
    task.set_result(None)
    return _TASK_S
