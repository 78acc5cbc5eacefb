"""The life of a turn: pure. A rule takes a turn's newest state and says how it may change; time comes in from outside.

pending → running → completed | failed | cancelled; pending → failed | cancelled. What has ended never changes again.
"""

from collections import OrderedDict

from gateway.agent_output import Outcome
from gateway.problems import IllegalTransition, TurnFinished
from storage import FINISHED, NewBlock, Once, OutputPosition, TurnHead, TurnStatus, UpdateTurn

LEASE_EXPIRED = "lease expired"

_NEXT: dict[TurnStatus, frozenset[TurnStatus]] = {
    "pending": frozenset({"running", "failed", "cancelled"}),
    "running": FINISHED,
}
_ID_DIGITS = "0123456789abcdefghjkmnpqrstvwxyz"


def new_id(milliseconds: int, entropy: int) -> str:
    """26 characters that sort by time: 48 bits of it and 80 of `entropy`, in Crockford's base 32."""
    number = milliseconds << 80 | entropy
    return "".join(_ID_DIGITS[number >> shift & 31] for shift in range(125, -5, -5))


def as_created(head: TurnHead) -> TurnHead:
    """A turn as it was when it was created."""
    return TurnHead(
        session_id=head.session_id,
        turn_id=head.turn_id,
        status="pending",
        block_count=0,
        sequence=head.sequence,
        last_updated=head.created_at,
        created_at=head.created_at,
        started_at=None,
        completed_at=None,
        error=None,
        size=0,
        output_offset=0,
    )


def require_unfinished(head: TurnHead) -> None:
    """Raises TurnFinished if the turn has ended."""
    if head.status in FINISHED:
        raise TurnFinished(head.status)


def set_status(head: TurnHead, status: TurnStatus, error: str | None = None) -> UpdateTurn:
    """One step of a turn's life: pending → running → completed, failed or cancelled; pending → failed or cancelled.

    Raises:
        TurnFinished, IllegalTransition
    """
    require_unfinished(head)
    if status not in _NEXT[head.status]:
        raise IllegalTransition(head.status, status)
    return UpdateTurn(head.session_id, head.turn_id, head.sequence, status, error)


def add_blocks(head: TurnHead, blocks: tuple[NewBlock, ...], once: Once | None = None) -> UpdateTurn:
    """Blocks at the end of a turn; the first of them starts it. No blocks: a sign of life.

    Raises:
        TurnFinished
    """
    require_unfinished(head)
    return UpdateTurn(head.session_id, head.turn_id, head.sequence, "running", blocks=blocks, once=once)


def take_output(
    head: TurnHead, blocks: tuple[NewBlock, ...], position: OutputPosition, outcome: Outcome | None
) -> UpdateTurn:
    """Blocks out of the agent's own output, which is taken up to `position`, and the end that it made of the turn.

    Raises:
        TurnFinished
    """
    require_unfinished(head)
    status: TurnStatus = "running" if outcome is None else "failed" if outcome.failed else "completed"
    error = None if outcome is None else outcome.error
    return UpdateTurn(head.session_id, head.turn_id, head.sequence, status, error, blocks, position)


class Leases:
    """How long each running turn may stay silent. Times are seconds of a clock that only goes forward."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._by_turn: OrderedDict[tuple[str, str, str], tuple[float, TurnHead]] = OrderedDict()
        """The end of each lease, soonest first, and the state of the turn that began it."""

    def note(self, project: str, head: TurnHead, now: float) -> None:
        """A turn was written, as `head`: a running one has its whole lease from now on, another one has none."""
        key = (project, head.session_id, head.turn_id)
        self._by_turn.pop(key, None)
        if head.status == "running":
            self._by_turn[key] = (now + self._seconds, head)

    def adopt(self, project: str, head: TurnHead, now: float) -> None:
        """A turn was found running, written at a time that is not known."""
        if (project, head.session_id, head.turn_id) not in self._by_turn:
            self.note(project, head, now)

    def expired(self, now: float) -> list[tuple[str, TurnHead]]:
        """The turns, by project, whose lease is over; it stays so until they are noted again."""
        ended = []
        for (project, _, _), (end, head) in self._by_turn.items():
            if end > now:
                break
            ended.append((project, head))
        return ended

    def forget(self, project: str, head: TurnHead) -> None:
        """Drop the lease that `head` began, if it is the newest."""
        key = (project, head.session_id, head.turn_id)
        if self._by_turn.get(key, (0.0, None))[1] is head:
            del self._by_turn[key]


def expire(head: TurnHead) -> UpdateTurn:
    """The end of a turn that has been silent since `head` was written."""
    return UpdateTurn(head.session_id, head.turn_id, head.sequence, "failed", LEASE_EXPIRED)
