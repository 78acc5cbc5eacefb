"""The life cycle of a turn, as pure rules: each takes the newest state and returns the allowed change.

pending → running → completed | failed | cancelled; pending → failed | cancelled. A finished turn never changes again.
The caller passes the time.
"""

from msgspec import Struct
from msgspec.structs import replace

from gateway.turns.dialects import Outcome
from gateway.wire.problems import IllegalTransition, TurnFinished
from storage import (
    FINISHED,
    GrownBlock,
    NewBlock,
    Once,
    OutputPosition,
    TurnHead,
    TurnResult,
    TurnStatus,
    UpdateTurn,
)

WITHOUT_RESULT = "the agent's output ended without a result"

_NEXT: dict[TurnStatus, frozenset[TurnStatus]] = {
    "pending": frozenset({"running", "failed", "cancelled"}),
    "running": FINISHED,
}
_ID_DIGITS = "0123456789abcdefghjkmnpqrstvwxyz"


def new_id(milliseconds: int, entropy: int) -> str:
    """Return an id of 26 characters that sorts by time: 48 bits of time and 80 of `entropy`, in Crockford's base 32."""
    number = milliseconds << 80 | entropy
    return "".join(_ID_DIGITS[number >> shift & 31] for shift in range(125, -5, -5))


def as_created(head: TurnHead) -> TurnHead:
    """Return a turn as it was when it was created."""
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
    """Raise TurnFinished if the turn has ended."""
    if head.status in FINISHED:
        raise TurnFinished(head.status)


def set_status(head: TurnHead, status: TurnStatus, error: str | None = None) -> UpdateTurn:
    """Return a change of status: pending → running → completed, failed or cancelled; pending → failed or cancelled.

    Raises:
        TurnFinished, IllegalTransition
    """
    require_unfinished(head)
    if status not in _NEXT[head.status]:
        raise IllegalTransition(head.status, status)
    return UpdateTurn(head.session_id, head.turn_id, head.sequence, status, error)


def add_blocks(head: TurnHead, blocks: tuple[NewBlock, ...], once: Once | None = None) -> UpdateTurn:
    """Return the change that appends blocks to a turn; the first block starts the turn.

    Raises:
        TurnFinished
    """
    require_unfinished(head)
    return UpdateTurn(head.session_id, head.turn_id, head.sequence, "running", blocks=blocks, once=once)


def renew(head: TurnHead, *, settling: bool) -> UpdateTurn:
    """Return the change that renews the lease of a turn.

    Raises:
        TurnFinished
    """
    require_unfinished(head)
    return UpdateTurn(head.session_id, head.turn_id, head.sequence, "running", settling=settling and head.settling)


class Output(Struct, frozen=True):
    """The result of reading a piece of an agent's output up to `position`."""

    position: OutputPosition
    blocks: tuple[NewBlock, ...] = ()
    grown: tuple[GrownBlock, ...] = ()
    outcome: Outcome | None = None
    """The outcome of the last result in the piece."""


def take_output(head: TurnHead, output: Output, *, settling: bool = False) -> UpdateTurn:
    """Return the change for output of an unfinished run.

    Args:
        settling: whether the run ends with its last result unless more output comes within the grace period.

    Raises:
        TurnFinished
    """
    require_unfinished(head)
    outcome = output.outcome
    return UpdateTurn(
        head.session_id,
        head.turn_id,
        head.sequence,
        "running",
        blocks=output.blocks,
        output=output.position,
        grown=output.grown,
        result=None if outcome is None else TurnResult(outcome.status, outcome.error),
        settling=settling and (outcome is not None or head.result_status is not None),
    )


def end_output(head: TurnHead, output: Output, *, needs_result: bool) -> UpdateTurn:
    """Return the change for the last output of a run: the run's own last result decides how the turn ends.

    Args:
        needs_result: whether a run without a result has failed.

    Raises:
        TurnFinished
    """
    change = take_output(head, output)
    last = change.result or result_of(head)
    if last is None:
        last = TurnResult("failed", WITHOUT_RESULT) if needs_result else TurnResult("completed")
    position = OutputPosition(output.position.offset)
    return replace(change, status=last.status, error=last.error, output=position, result=None)


def result_of(head: TurnHead) -> TurnResult | None:
    """Return the last result in a turn's output, if any."""
    return None if head.result_status is None else TurnResult(head.result_status, head.result_error)
