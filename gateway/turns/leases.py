"""Leases: how long a running turn may stay silent, and how it then ends. Pure: the caller passes the time."""

from collections import OrderedDict

from gateway.turns.lifecycle import result_of
from storage import (
    TurnHead,
    TurnResult,
    UpdateTurn,
)

LEASE_EXPIRED = "lease expired"


class Leases:
    """How long each running turn may stay silent: for the lease or, if it is settling, for the grace period.

    Times are seconds of a monotonic clock.
    """

    def __init__(self, seconds: float, grace: float) -> None:
        self._seconds = {False: seconds, True: grace}
        self._ends: dict[bool, OrderedDict[tuple[str, str, str], tuple[float, TurnHead]]]
        self._ends = {settling: OrderedDict() for settling in self._seconds}
        """By whether the turn is settling: each turn's deadline, soonest first, and the state that started it."""

    def note(self, project: str, head: TurnHead, now: float) -> None:
        """Record a written turn: if `head` is running, its full time starts now; otherwise its deadline is removed."""
        key = (project, head.session_id, head.turn_id)
        for ends in self._ends.values():
            ends.pop(key, None)
        if head.status == "running":
            self._ends[head.settling][key] = (now + self._seconds[head.settling], head)

    def adopt(self, project: str, head: TurnHead, now: float) -> None:
        """Record a turn that was found running and was last written at an unknown time. Unless a newer state was noted,
        its full time starts now."""
        key = (project, head.session_id, head.turn_id)
        known = [ends[key][1] for ends in self._ends.values() if key in ends]
        if not known or known[0].sequence < head.sequence:
            self.note(project, head, now)

    def expired(self, now: float) -> list[tuple[str, TurnHead]]:
        """Return the expired turns, each with its project. They remain expired until they are noted again."""
        ended = []
        for ends in self._ends.values():
            for (project, _, _), (end, head) in ends.items():
                if end > now:
                    break
                ended.append((project, head))
        return ended

    def forget(self, project: str, head: TurnHead) -> None:
        """Drop the deadline that `head` started, unless a newer state replaced it."""
        key = (project, head.session_id, head.turn_id)
        for ends in self._ends.values():
            if ends.get(key, (0.0, None))[1] is head:
                del ends[key]

    def forget_project(self, project: str) -> None:
        """Drop the deadlines of a project that was erased."""
        for ends in self._ends.values():
            for key in [key for key in ends if key[0] == project]:
                del ends[key]


def expire(head: TurnHead) -> UpdateTurn:
    """Return the change that ends a turn that was silent since `head`: its last result decides, if there was one."""
    last = result_of(head) or TurnResult("failed", LEASE_EXPIRED)
    return UpdateTurn(head.session_id, head.turn_id, head.sequence, last.status, last.error)
