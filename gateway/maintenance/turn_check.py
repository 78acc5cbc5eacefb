"""The invariants of every stored session and turn, in a database as in a portable file; pure.

Each check returns its faults, as messages.
"""

import re
from typing import TypeAlias, get_args

import msgspec

from gateway.turns.agent_output import state_fault
from storage import FINISHED, BlockRow, BlockType, OutputPosition, SessionHead, TurnHead, TurnStatus
from storage.portable import BlockRecord, SessionRecord, TurnRecord

Session: TypeAlias = SessionHead | SessionRecord
Turn: TypeAlias = TurnHead | TurnRecord
Block: TypeAlias = BlockRow | BlockRecord

_ID = re.compile(r"[A-Za-z0-9._~-]{1,128}")


def id_fault(text: str) -> str | None:
    """Return why a text is not a valid id of a session or a turn; None if it is."""
    return None if _ID.fullmatch(text) else f"{text[:200]!r} is no id of a session or a turn"


class Places:
    """The places of a project's files, sessions and turns in its sequence, each that of the latest change."""

    def __init__(self) -> None:
        self._times: dict[int, int] = {}

    def take(self, sequence: int, time: int) -> list[str]:
        """Note the sequence and the time of a latest change."""
        if sequence < 1:
            return [f"its sequence is {sequence}"]
        if sequence in self._times:
            return [f"something else has its sequence {sequence}"]
        self._times[sequence] = time
        return []

    def finish(self) -> list[str]:
        """Return what is wrong with the order of everything noted."""
        before = 0
        for sequence, time in sorted(self._times.items()):
            if time < before:
                return [f"the change at sequence {sequence} is older than one before it"]
            before = time
        return []


class TurnCheck:
    """One turn: its status fits its times, and the number and size of its blocks are those that it states.

    Args:
        state: the state that the reader of the turn's output keeps.
    """

    def __init__(self, session: Session, turn: Turn, state: bytes) -> None:
        self._session = session
        self._turn = turn
        self._state = state
        self._count = self._size = 0
        self._time = turn.created_at
        self._grows = False
        """Whether the last block was still growing when it was checked."""

    def begin(self) -> list[str]:
        """Return what is wrong with the turn itself."""
        turn = self._turn
        faults = [fault] if (fault := id_fault(turn.turn_id)) else []
        if turn.sequence <= self._session.sequence or turn.created_at < self._session.created_at:
            faults.append("it is older than its session")
        if turn.status not in get_args(TurnStatus):
            return [*faults, f"there is no status {turn.status!r}"]
        faults += [*self._time_faults(), *self._result_faults()]
        fault = state_fault(OutputPosition(turn.output_offset, self._state), turn.block_count)
        return faults if fault is None else [*faults, fault]

    def _time_faults(self) -> list[str]:
        turn = self._turn
        started, completed = turn.started_at is not None, turn.completed_at is not None
        if completed != (turn.status in FINISHED) or (turn.status in ("running", "completed") and not started):
            return [f"its times do not fit its status, {turn.status}"]
        if not started and (turn.block_count or turn.size or turn.output_offset or self._state):
            return ["it has output, and has not started"]
        if turn.status == "pending" and started:
            return ["it is pending, and has started"]
        times = [time for time in (turn.created_at, turn.started_at, turn.completed_at) if time is not None]
        times.append(turn.last_updated)
        if times != sorted(times) or (completed and turn.completed_at != turn.last_updated):
            return ["its times do not follow each other"]
        return []

    def _result_faults(self) -> list[str]:
        turn = self._turn
        if turn.result_status is not None and turn.result_status not in FINISHED:
            return [f"its result cannot be {turn.result_status!r}"]
        if turn.settling and (turn.status != "running" or turn.result_status is None):
            return ["it is to end with a result, and has none or has ended"]
        if turn.error is not None and turn.status not in ("failed", "cancelled"):
            return [f"it has an error, and is {turn.status}"]
        return []

    def take(self, block: Block) -> list[str]:
        """Return what is wrong with the next block. Once a block is missing, later ones are not checked."""
        place, self._count = self._count, self._count + 1
        if block.index != place:
            self._count = block.index + 1
            return [f"block {place} is missing"]
        faults = []
        if isinstance(block, BlockRow):
            self._size += block.length
            if block.size != self._size:
                faults.append(f"block {place} says {block.size} bytes of content, there are {self._size}")
        else:
            self._size += len(block.content)
            faults += content_faults(place, block.content)
        if block.type not in get_args(BlockType):
            faults.append(f"block {place} is of no type, {block.type!r}")
        if not self._time <= block.created_at <= self._turn.last_updated:
            faults.append(f"the time of block {place} does not lie between those of the turn and the block before")
        self._time = max(self._time, block.created_at)
        self._grows = block.told_from is not None
        if block.told_from is not None and not 0 <= block.told_from <= place:
            faults.append(f"block {place} is to be told from a later one on")
        return faults

    def finish(self) -> list[str]:
        """Return what is wrong with the blocks as a whole."""
        turn = self._turn
        if (self._count, self._size) != (turn.block_count, turn.size):
            found = f"{self._count} of {self._size} bytes"
            return [f"it is to have {turn.block_count} blocks of {turn.size} bytes, and there are {found}"]
        if bool(turn.grown) != self._grows:
            return ["what it says of growing blocks is not what its last block says"]
        return []


def content_faults(index: int, content: bytes) -> list[str]:
    """Return what is wrong with the content of a block."""
    try:
        msgspec.json.decode(content)
    except (msgspec.DecodeError, RecursionError) as error:
        return [f"block {index} is no JSON: {error}"]
    return []
