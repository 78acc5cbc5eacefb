"""How long a running turn may stay silent, and how it ends then. Pure: time comes in from outside."""

from collections import OrderedDict

from gateway.turns.lifecycle import result_of
from storage import (
    TurnHead,
    TurnResult,
    UpdateTurn,
)

LEASE_EXPIRED = "lease expired"


class Leases:
    """How long each running turn may stay silent: for a lease, or where it is settling for a grace.

    Times are seconds of a clock that only goes forward.
    """

    def __init__(self, seconds: float, grace: float) -> None:
        self._seconds = {False: seconds, True: grace}
        self._ends: dict[bool, OrderedDict[tuple[str, str, str], tuple[float, TurnHead]]]
        self._ends = {settling: OrderedDict() for settling in self._seconds}
        """By whether it is settling: the end of each turn's time, soonest first, and the state that began it."""

    def note(self, project: str, head: TurnHead, now: float) -> None:
        """A turn was written, as `head`: a running one has its whole time from now on, another one has none."""
        key = (project, head.session_id, head.turn_id)
        for ends in self._ends.values():
            ends.pop(key, None)
        if head.status == "running":
            self._ends[head.settling][key] = (now + self._seconds[head.settling], head)

    def adopt(self, project: str, head: TurnHead, now: float) -> None:
        """A turn was found running, written at a time that is not known. Where nothing newer was noted, it has its
        whole time from now on."""
        key = (project, head.session_id, head.turn_id)
        known = [ends[key][1] for ends in self._ends.values() if key in ends]
        if not known or known[0].sequence < head.sequence:
            self.note(project, head, now)

    def expired(self, now: float) -> list[tuple[str, TurnHead]]:
        """The turns, by project, whose time is over; it stays so until they are noted again."""
        ended = []
        for ends in self._ends.values():
            for (project, _, _), (end, head) in ends.items():
                if end > now:
                    break
                ended.append((project, head))
        return ended

    def forget(self, project: str, head: TurnHead) -> None:
        """Drop the time that `head` began, if it is the newest."""
        key = (project, head.session_id, head.turn_id)
        for ends in self._ends.values():
            if ends.get(key, (0.0, None))[1] is head:
                del ends[key]


def expire(head: TurnHead) -> UpdateTurn:
    """The end of a turn that has been silent since `head` was written: its last result decides, if there was one."""
    last = result_of(head) or TurnResult("failed", LEASE_EXPIRED)
    return UpdateTurn(head.session_id, head.turn_id, head.sequence, last.status, last.error)
